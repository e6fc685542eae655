/* One description for everything that comes from outside: message headers, sweep files, optimizer
 * maps. A schema is a table of fields; from it come validation, documentation (docs/WIRE.md) and
 * the fuzzer's grammar.
 *
 * Messages of a failed check name the place and the way out:
 *     fashion.yaml:12:5: unknown key 'max_trails' in searcher; nearest known key is 'max_trials'
 *     fashion.yaml:7:20: training.optimizer.lr must be a number of at least 0, not -1 */
#ifndef CORE_SCHEMA_H
#define CORE_SCHEMA_H

#include "core/value.h"

enum field_type {
    FIELD_BOOL,
    FIELD_INT,    /* min ≤ v ≤ max where min < max */
    FIELD_REAL,   /* INT accepted; finite; min ≤ v ≤ max where min < max */
    FIELD_STRING, /* at most `max` bytes (0: 256) and at least `min` */
    FIELD_ULID,   /* 26 characters of the alphabet */
    FIELD_PREFIX, /* 1 to 26 characters of the alphabet */
    FIELD_DIGEST, /* 64 hex digits */
    FIELD_ENUM,   /* one of `choices`, "a|b|c" */
    FIELD_LIST, /* `min` to `max` items (0: SCHEMA_COUNT_DEFAULT), each checked against fields[0] */
    FIELD_MAP,  /* checked against `fields` where it is not NULL, free otherwise; keys as items */
    FIELD_ANY,
};

enum {
    REQUIRED = 1,
    NULLABLE = 2,
    OR_PAIR = 4,  /* also a list of exactly two such values, one for each side: [H, W] */
    OR_LIST = 8,  /* also a list of such values */
    OR_TEXT = 16, /* also any string */
};

#define SCHEMA_COUNT_DEFAULT 4096 /* items of a list, keys of a map, where no `max` is given */
#define SCHEMA_NEWEST        0    /* a language: all bounds hold as they are written */

/* What a row fills in a struct (schema_read); SCHEMA_STORE tells it from the member's own type. */
enum field_store {
    STORE_NOTHING,
    STORE_BOOL,  /* of an ENUM: any word but the first */
    STORE_COUNT, /* int */
    STORE_INT,   /* int64_t, uint64_t */
    STORE_PAIR,  /* int64_t[2]: one value for both, or a list of two */
    STORE_REAL,  /* double */
    STORE_REALS, /* double[f->max]: a LIST of numbers */
    STORE_FLOAT, /* a double rounded once */
    STORE_TEXT,  /* const char *, which lives as long as the tree */
    STORE_ENUM,  /* an enum whose values count the words of `choices` from 0 */
    STORE_NODE,  /* const struct value *: the node itself, for whom it takes more than a type */
};

struct field {
    const char *name; /* NULL ends a table */
    enum field_type type;
    unsigned flags;
    double min, max;
    const char *choices;        /* ENUM; INT, REAL, MAP: words that will do as well */
    const struct field *fields; /* MAP: a NULL-terminated table; LIST: of one field, its item */
    const char *doc;            /* one line, for people */
    const char *fallback;       /* what holds where the key is missing, as the reference shows it */
    int since;                  /* min and max hold since this version of the language… */
    double old_min, old_max;    /* …and before it these did */
    enum field_store store;     /* and where: */
    size_t offset;
};

/* Rows of a table. A row ends with its line of documentation, behind which may follow a default, the
 * bounds of an older language, and the member of a struct that the key fills:
 *
 *     F_INT("every", REQUIRED, 1, 1e12, "units of time_metric between two steps down"),
 *     F_REAL("eps", 0, 1e-12, 1, "added to the variance", DEFAULT("1e-5"), SINCE(2, 0, 1),
 *            INTO(struct spec_layer, eps)), */
#define F_ANY(n, req, ...)                                                                         \
    { .name = n, .type = FIELD_ANY, .flags = req, .doc = __VA_ARGS__ }
#define F_BOOL(n, req, ...)                                                                        \
    { .name = n, .type = FIELD_BOOL, .flags = req, .doc = __VA_ARGS__ }
#define F_INT(n, req, lo, hi, ...)                                                                 \
    { .name = n, .type = FIELD_INT, .flags = req, .min = lo, .max = hi, .doc = __VA_ARGS__ }
#define F_REAL(n, req, lo, hi, ...)                                                                \
    { .name = n, .type = FIELD_REAL, .flags = req, .min = lo, .max = hi, .doc = __VA_ARGS__ }
#define F_STRING(n, req, lo, hi, ...)                                                              \
    { .name = n, .type = FIELD_STRING, .flags = req, .min = lo, .max = hi, .doc = __VA_ARGS__ }
#define F_ULID(n, req, ...)                                                                        \
    { .name = n, .type = FIELD_ULID, .flags = req, .doc = __VA_ARGS__ }
#define F_PREFIX(n, req, ...)                                                                      \
    { .name = n, .type = FIELD_PREFIX, .flags = req, .doc = __VA_ARGS__ }
#define F_DIGEST(n, req, ...)                                                                      \
    { .name = n, .type = FIELD_DIGEST, .flags = req, .doc = __VA_ARGS__ }
#define F_ENUM(n, req, words, ...)                                                                 \
    { .name = n, .type = FIELD_ENUM, .flags = req, .choices = words, .doc = __VA_ARGS__ }
#define F_LIST(n, req, lo, hi, item, ...)                                                          \
    {                                                                                              \
        .name = n, .type = FIELD_LIST, .flags = req, .min = lo, .max = hi, .fields = item,         \
        .doc = __VA_ARGS__                                                                         \
    }
#define F_MAP(n, req, lo, hi, ...)                                                                 \
    { .name = n, .type = FIELD_MAP, .flags = req, .min = lo, .max = hi, .doc = __VA_ARGS__ }
#define F_TABLE(n, req, table, ...)                                                                \
    { .name = n, .type = FIELD_MAP, .flags = req, .fields = table, .doc = __VA_ARGS__ }
#define FIELD_END                                                                                  \
    { .name = NULL }

#define DEFAULT(text)          .fallback = text
#define WORDS(words)           .choices = words
#define SINCE(version, lo, hi) .since = version, .old_min = lo, .old_max = hi

#define INTO(type, member)                                                                         \
    .store = SCHEMA_STORE(((type *)0)->member), .offset = offsetof(type, member)
#define SCHEMA_STORE(x)                                                                            \
    _Generic((x), bool                                                                             \
             : STORE_BOOL, int                                                                     \
             : STORE_COUNT, int64_t                                                                \
             : STORE_INT, uint64_t                                                                 \
             : STORE_INT, int64_t *                                                                \
             : STORE_PAIR, double                                                                  \
             : STORE_REAL, double *                                                                \
             : STORE_REALS, float                                                                  \
             : STORE_FLOAT, const char *                                                           \
             : STORE_TEXT, unsigned                                                                \
             : STORE_ENUM, const struct value *                                                    \
             : STORE_NODE)

/* Where a tree comes from and which version of the language it is written in. */
struct schema_source {
    const char *file; /* for messages; may be NULL */
    int language;     /* SCHEMA_NEWEST, or a version from 1 */
};

/* Checks `map` against `fields`. `file` (may be NULL) and `where` ("searcher", "" at the root) go
 * into messages. Unknown keys are errors; messages from a newer minor version are not our concern.
 */
enum status schema_check(const struct field *fields, const struct value *map, const char *file,
                         const char *where, struct err *err) MUST_USE;

/* The same by the bounds of an older version of the language. */
enum status schema_check_since(const struct field *fields, const struct value *map,
                               struct schema_source source, const char *where,
                               struct err *err) MUST_USE;

/* Fills the members that the rows name in the struct at `out` from a map that was checked (NULL: an
 * empty one): the value, or else the default. Where a default is not a value but words about one
 * ("the kernel"), the member becomes 0 or NULL. */
void schema_read(const struct field *fields, const struct value *map, void *out);

/* The row of a name, or NULL. */
const struct field *schema_field(const struct field *fields, const char *name);

/* What a field takes, in words: "an integer from 1 to 64". */
#define SCHEMA_WORDS_MAX 320
void schema_words(const struct field *f, char out[SCHEMA_WORDS_MAX]);

/* The name in "a|b|c" nearest to `word` by edit distance, or NULL when none is near (> 1/2 of its
 * length). Also for commands and models: "did you mean". `out` holds 64 bytes. */
const char *schema_nearest(const char *choices, const char *word, char out[64]);

/* "file:line:column: " or "" — for messages that other modules write about a node. */
#define SCHEMA_PLACE_MAX 256
const char *schema_place(const char *file, const struct value *v, char out[SCHEMA_PLACE_MAX]);

#endif
