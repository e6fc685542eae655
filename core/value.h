/* A tree of values: what YAML and JSON texts become, what message headers, sweep files and
 * manifests are made of. One type for all of them, so that one validator (schema.h) serves all of
 * them.
 *
 * Every node lives in an arena and knows where it was in its source (line and column from 1; 0
 * when it came from a program). Maps keep the order of insertion; keys are unique. Strings are NUL-
 * terminated and their length excludes the NUL.
 *
 * Builders return NULL when the arena is exhausted and accept NULL as input, so that a tree may be
 * built in one go and checked once at the end: value_set(a, m, "k", value_int(a, 3)) on a NULL m or
 * a NULL value marks the map as `broken`; json_dump refuses a broken tree with NOMEM.
 *
 * Depth is bounded by VALUE_DEPTH_MAX wherever a tree is read from text. Not thread-safe. */
#ifndef CORE_VALUE_H
#define CORE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"

#define VALUE_DEPTH_MAX 32

enum value_kind {
    VALUE_NULL,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_REAL,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_MAP,
};

struct value;

struct member {
    const char *key;
    struct value *value;
    uint32_t line, column; /* of the key; 0 when it came from no text */
};

struct value {
    enum value_kind kind;
    bool broken;           /* read-only: a builder below it ran out of memory */
    uint32_t line, column; /* read-only: 0 when it came from no text */
    size_t count;          /* LIST: items; MAP: members; STRING: bytes */
    size_t cap;            /* private */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *string;
        struct value **items;   /* LIST */
        struct member *members; /* MAP */
    };
};

struct value *value_null(struct arena *a);
struct value *value_bool(struct arena *a, bool b);
struct value *value_int(struct arena *a, int64_t i);
struct value *value_real(struct arena *a, double d);
struct value *value_string(struct arena *a, const char *s);
struct value *value_bytes(struct arena *a, const char *s, size_t len);
struct value *value_list(struct arena *a);
struct value *value_map(struct arena *a);

/* Append to a list; set (or replace) a member. They return the container, for chaining. */
struct value *value_push(struct arena *a, struct value *list, struct value *item);
struct value *value_set(struct arena *a, struct value *map, const char *key, struct value *item);

/* As value_set, where the caller knows that the key (key_len bytes, no NUL) is new: no search. */
struct value *value_append(struct arena *a, struct value *map, const char *key, size_t key_len,
                           struct value *item);
/* The same under another member's key, which keeps its place. */
struct value *value_append_like(struct arena *a, struct value *map, const struct member *like,
                                struct value *item);

/* Shorthands of value_set. A NULL string sets nothing. */
void value_set_string(struct arena *a, struct value *map, const char *key, const char *s);
void value_set_int(struct arena *a, struct value *map, const char *key, int64_t i);
void value_set_real(struct arena *a, struct value *map, const char *key, double d);
void value_set_bool(struct arena *a, struct value *map, const char *key, bool b);

/* Removes a member; false where there is none. */
bool value_remove(struct value *map, const char *key);

/* A deep copy into another arena. */
struct value *value_copy(struct arena *a, const struct value *v);

/* Same kind, same content, maps in any order. 1 and 1.0 differ. */
bool value_equal(const struct value *a, const struct value *b);

/* Readers: NULL or the fallback where the key is missing or of another kind. value_get_real also
 * takes an INT. None follows a path; value_at does: "training.optimizer.lr", "model.2.dense.out" or, the same,
 * "model[2].dense.out". */
struct value *value_get(const struct value *map, const char *key);
const char *value_get_string(const struct value *map, const char *key, const char *fallback);
int64_t value_get_int(const struct value *map, const char *key, int64_t fallback);
double value_get_real(const struct value *map, const char *key, double fallback);
bool value_get_bool(const struct value *map, const char *key, bool fallback);
struct value *value_at(const struct value *root, const char *path);

/* Sets the node at a dotted path (`--set training.optimizer.lr=0.1`), making maps on the way; a list
 * is not made longer: INVALID says which items there are. */
enum status value_put(struct arena *a, struct value *root, const char *path, struct value *item,
                      struct err *err) MUST_USE;

const char *value_kind_name(enum value_kind kind); /* "integer", "list", … */

#endif
