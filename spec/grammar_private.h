/* Private to spec/: the words of a refusal, and tables that are picked by a word. */
#ifndef SPEC_GRAMMAR_PRIVATE_H
#define SPEC_GRAMMAR_PRIVATE_H

#include <string.h>

#include "spec/language.h"

#define SPEC_COUNT_MAX  1e12
#define SPEC_REAL_MAX   1e300
#define SPEC_PATH_MAX   1023               /* bytes of a path, made absolute or not */
#define SPEC_WHOLE_MAX  9007199254740992.0 /* 2^53: whole numbers that every JSON keeps */
#define SPEC_SHARDS_MAX 1024

/* One of several tables under the same key: {name: sgd, …}, {format: csv, …}. */
struct spec_variant {
    const char *name;
    const struct field *fields;
    const char *doc;
};

/* Where something is, for messages. */
struct spec_place {
    struct schema_source source;
    const char *where; /* "training.optimizer" */
};

/* Refuses with "file:line:column: …" of `at`. */
enum status spec_refuse(struct schema_source source, const struct value *at, struct err *err,
                        const char *format, ...) PRINTF(4, 5);

/* "an integer", "a map" */
const char *spec_kind_words(const struct value *v);

/* Finds the variant that map[key] names and checks the map against its table. `rows` ends with a
 * name of NULL. */
enum status spec_pick(const struct spec_variant *rows, const struct value *map, const char *key,
                      struct spec_place place, int *out, struct err *err) MUST_USE;

/* What today's language refuses and version 1 let through. */
static inline bool spec_strict(struct schema_source source) {
    return source.language != 1;
}

/* Whether, where a file does not say, the last evaluation counts and the best is not kept. */
#define SPEC_KEEP_PATH "checkpoint.keep"
static inline bool spec_keeps_last(int language) {
    return language < 3;
}
/* Where nothing says which evaluation counts: one whose weights are kept. `keep` may be NULL. */
static inline bool spec_ranks_last(int language, const struct value *keep) {
    return spec_keeps_last(language) ||
           (keep != NULL && keep->kind == VALUE_STRING && strcmp(keep->string, "last") == 0);
}

#endif
