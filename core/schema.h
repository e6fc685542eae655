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
    FIELD_LIST, /* `min` to `max` items (0: SCHEMA_COUNT_DEFAULT); each checked against fields[0] */
    FIELD_MAP,  /* checked against `fields` where it is not NULL, free otherwise; keys as items */
    FIELD_ANY,
};

enum { REQUIRED = 1, NULLABLE = 2 };

#define SCHEMA_COUNT_DEFAULT 4096 /* items of a list, keys of a map, where no `max` is given */

struct field {
    const char *name; /* NULL ends a table */
    enum field_type type;
    unsigned flags;
    double min, max;
    const char *choices;        /* ENUM */
    const struct field *fields; /* MAP: a NULL-terminated table; LIST: of one field, its item */
    const char *doc;            /* one line, for people */
};

#define FIELD_END                                                                                  \
    { .name = NULL }

/* Checks `map` against `fields`. `file` (may be NULL) and `where` ("searcher", "" at the root) go
 * into messages. Unknown keys are errors; messages from a newer minor version are not our concern.
 */
enum status schema_check(const struct field *fields, const struct value *map, const char *file,
                         const char *where, struct err *err) MUST_USE;

/* The name in "a|b|c" nearest to `word` by edit distance, or NULL when none is near (> 1/2 of its
 * length). Also for commands and models: "did you mean". `out` holds 64 bytes. */
const char *schema_nearest(const char *choices, const char *word, char out[64]);

/* "file:line:column: " or "" — for messages that other modules write about a node. */
#define SCHEMA_PLACE_MAX 256
const char *schema_place(const char *file, const struct value *v, char out[SCHEMA_PLACE_MAX]);

#endif
