/* The tree: builders, readers, dotted paths. */
#include "core/value.h"

#include <stdio.h>
#include <string.h>

/* Recursion below goes as deep as the tree: at most VALUE_DEPTH_MAX for what came from text, twice
 * that after value_put. Lists and maps grow by doubling; the arena keeps the outgrown arrays, which
 * together are smaller than the last one. */

static struct value *make(struct arena *a, enum value_kind kind) {
    struct value *v = arena_take(a, sizeof *v);
    if (v != NULL)
        v->kind = kind;
    return v;
}

struct value *value_null(struct arena *a) {
    return make(a, VALUE_NULL);
}

struct value *value_bool(struct arena *a, bool b) {
    struct value *v = make(a, VALUE_BOOL);
    if (v != NULL)
        v->boolean = b;
    return v;
}

struct value *value_int(struct arena *a, int64_t i) {
    struct value *v = make(a, VALUE_INT);
    if (v != NULL)
        v->integer = i;
    return v;
}

struct value *value_real(struct arena *a, double d) {
    struct value *v = make(a, VALUE_REAL);
    if (v != NULL)
        v->real = d;
    return v;
}

struct value *value_string(struct arena *a, const char *s) {
    return s != NULL ? value_bytes(a, s, strlen(s)) : NULL;
}

struct value *value_bytes(struct arena *a, const char *s, size_t len) {
    struct value *v = make(a, VALUE_STRING);
    char *copy = v != NULL ? arena_copy(a, s, len) : NULL;
    if (copy == NULL)
        return NULL;
    v->string = copy;
    v->count = len;
    return v;
}

struct value *value_list(struct arena *a) {
    return make(a, VALUE_LIST);
}

struct value *value_map(struct arena *a) {
    return make(a, VALUE_MAP);
}

/* Room for one more element of `size` bytes; the array, moved or not, or NULL. */
static void *grown(struct arena *a, struct value *v, void *old, size_t size) {
    if (v->count < v->cap)
        return old;
    size_t cap = v->cap == 0 ? 4 : v->cap * 2;
    void *bigger = arena_array(a, cap, size);
    if (bigger == NULL)
        return NULL;
    if (v->count > 0)
        memcpy(bigger, old, v->count * size);
    v->cap = cap;
    return bigger;
}

struct value *value_push(struct arena *a, struct value *list, struct value *item) {
    if (list == NULL || list->kind != VALUE_LIST)
        return NULL;
    struct value **items = item != NULL ? grown(a, list, list->items, sizeof *items) : NULL;
    if (items == NULL) {
        list->broken = true;
        return list;
    }
    list->items = items;
    items[list->count++] = item;
    list->broken |= item->broken;
    return list;
}

static struct member *find(const struct value *map, const char *key, size_t len) {
    if (map == NULL || map->kind != VALUE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++) {
        const char *k = map->members[i].key;
        if (strncmp(k, key, len) == 0 && k[len] == '\0')
            return &map->members[i];
    }
    return NULL;
}

struct value *value_append(struct arena *a, struct value *map, const char *key, size_t key_len,
                           struct value *item) {
    if (map == NULL || map->kind != VALUE_MAP)
        return NULL;
    struct member *members = item != NULL ? grown(a, map, map->members, sizeof *members) : NULL;
    char *copy = members != NULL ? arena_copy(a, key, key_len) : NULL;
    if (members != NULL)
        map->members = members;
    if (copy == NULL) {
        map->broken = true;
        return map;
    }
    members[map->count++] = (struct member){.key = copy, .value = item};
    map->broken |= item->broken;
    return map;
}

struct value *value_append_like(struct arena *a, struct value *map, const struct member *like,
                                struct value *item) {
    size_t count = map != NULL ? map->count : 0;
    value_append(a, map, like->key, strlen(like->key), item);
    if (map != NULL && map->count > count) {
        map->members[count].line = like->line;
        map->members[count].column = like->column;
    }
    return map;
}

static struct value *set(struct arena *a, struct value *map, const char *key, size_t key_len,
                         struct value *item) {
    struct member *m = find(map, key, key_len);
    if (m == NULL || item == NULL)
        return value_append(a, map, key, key_len, item);
    m->value = item;
    map->broken |= item->broken;
    return map;
}

struct value *value_set(struct arena *a, struct value *map, const char *key, struct value *item) {
    return set(a, map, key, strlen(key), item);
}

void value_set_string(struct arena *a, struct value *map, const char *key, const char *s) {
    if (s != NULL)
        value_set(a, map, key, value_string(a, s));
}

void value_set_int(struct arena *a, struct value *map, const char *key, int64_t i) {
    value_set(a, map, key, value_int(a, i));
}

void value_set_real(struct arena *a, struct value *map, const char *key, double d) {
    value_set(a, map, key, value_real(a, d));
}

void value_set_bool(struct arena *a, struct value *map, const char *key, bool b) {
    value_set(a, map, key, value_bool(a, b));
}

bool value_remove(struct value *map, const char *key) {
    struct member *m = find(map, key, strlen(key));
    if (m == NULL)
        return false;
    size_t behind = map->count - (size_t)(m - map->members) - 1;
    memmove(m, m + 1, behind * sizeof *m);
    map->count--;
    return true;
}

static struct value *copy_children(struct arena *a, struct value *to, const struct value *v) {
    for (size_t i = 0; i < v->count; i++) {
        if (v->kind == VALUE_LIST)
            value_push(a, to, value_copy(a, v->items[i]));
        else
            value_append_like(a, to, &v->members[i], value_copy(a, v->members[i].value));
        if (to->broken && !v->broken)
            return NULL; /* the arena is exhausted: no use in going on */
    }
    return to;
}

struct value *value_copy(struct arena *a, const struct value *v) {
    if (v == NULL)
        return NULL;
    struct value *to = make(a, v->kind);
    if (to == NULL)
        return NULL;
    to->broken = v->broken;
    to->line = v->line;
    to->column = v->column;
    switch (v->kind) {
    case VALUE_NULL:
        return to;
    case VALUE_BOOL:
        to->boolean = v->boolean;
        return to;
    case VALUE_INT:
        to->integer = v->integer;
        return to;
    case VALUE_REAL:
        to->real = v->real;
        return to;
    case VALUE_STRING:
        to->count = v->count;
        to->string = arena_copy(a, v->string, v->count);
        return to->string != NULL ? to : NULL;
    case VALUE_LIST:
    case VALUE_MAP:
        return copy_children(a, to, v);
    }
    return NULL;
}

static bool equal_lists(const struct value *a, const struct value *b) {
    for (size_t i = 0; i < a->count; i++)
        if (!value_equal(a->items[i], b->items[i]))
            return false;
    return true;
}

static bool equal_maps(const struct value *a, const struct value *b) {
    for (size_t i = 0; i < a->count; i++) {
        /* Most often the order is the same, and then no search is needed. */
        const struct member *m = &a->members[i];
        const struct value *other =
            strcmp(m->key, b->members[i].key) == 0 ? b->members[i].value : value_get(b, m->key);
        if (other == NULL || !value_equal(m->value, other))
            return false;
    }
    return true;
}

bool value_equal(const struct value *a, const struct value *b) {
    if (a == NULL || b == NULL)
        return a == b;
    if (a->kind != b->kind || a->count != b->count)
        return false;
    switch (a->kind) {
    case VALUE_NULL:
        return true;
    case VALUE_BOOL:
        return a->boolean == b->boolean;
    case VALUE_INT:
        return a->integer == b->integer;
    case VALUE_REAL:
        return memcmp(&a->real, &b->real, sizeof a->real) == 0; /* the same bits */
    case VALUE_STRING:
        return memcmp(a->string, b->string, a->count) == 0;
    case VALUE_LIST:
        return equal_lists(a, b);
    case VALUE_MAP:
        return equal_maps(a, b);
    }
    return false;
}

struct value *value_get(const struct value *map, const char *key) {
    struct member *m = find(map, key, strlen(key));
    return m != NULL ? m->value : NULL;
}

const char *value_get_string(const struct value *map, const char *key, const char *fallback) {
    const struct value *v = value_get(map, key);
    return v != NULL && v->kind == VALUE_STRING ? v->string : fallback;
}

int64_t value_get_int(const struct value *map, const char *key, int64_t fallback) {
    const struct value *v = value_get(map, key);
    return v != NULL && v->kind == VALUE_INT ? v->integer : fallback;
}

double value_get_real(const struct value *map, const char *key, double fallback) {
    const struct value *v = value_get(map, key);
    if (v != NULL && v->kind == VALUE_INT)
        return (double)v->integer;
    return v != NULL && v->kind == VALUE_REAL ? v->real : fallback;
}

bool value_get_bool(const struct value *map, const char *key, bool fallback) {
    const struct value *v = value_get(map, key);
    return v != NULL && v->kind == VALUE_BOOL ? v->boolean : fallback;
}

/* ---- paths: key ( '.' key | '.' index | '[' index ']' )* ---- */

struct step {
    const char *key; /* NULL: an index */
    size_t len;
    size_t index;
};

/* Reads the step at *p and moves *p behind it, to '.', '[' or the end. `first`: no dot before it.
 */
static bool next_step(const char **p, bool first, struct step *out) {
    const char *s = *p;
    if (*s == '[') {
        size_t index = 0, digits = 0;
        for (s++; *s >= '0' && *s <= '9' && digits < 9; s++, digits++)
            index = index * 10 + (size_t)(*s - '0');
        if (digits == 0 || *s != ']')
            return false;
        *out = (struct step){.index = index};
        *p = s + 1;
        return **p == '\0' || **p == '.' || **p == '[';
    }
    if (!first && *s++ != '.')
        return false;
    size_t len = strcspn(s, ".[");
    *out = (struct step){.key = s, .len = len};
    *p = s + len;
    return len > 0;
}

/* In a list, a key of digits is an index: "model.2.dense". */
static struct step step_into(const struct value *v, struct step step) {
    size_t index = 0;
    if (v == NULL || v->kind != VALUE_LIST || step.key == NULL || step.len > 9)
        return step;
    for (size_t i = 0; i < step.len; i++) {
        if (step.key[i] < '0' || step.key[i] > '9')
            return step;
        index = index * 10 + (size_t)(step.key[i] - '0');
    }
    return (struct step){.index = index};
}

/* Where the node at `step` hangs: the slot in its container, or NULL. */
static struct value **slot_at(const struct value *v, const struct step *step) {
    if (v == NULL)
        return NULL;
    if (step->key != NULL) {
        struct member *m = find(v, step->key, step->len);
        return m != NULL ? &m->value : NULL;
    }
    return v->kind == VALUE_LIST && step->index < v->count ? &v->items[step->index] : NULL;
}

struct value *value_at(const struct value *root, const char *path) {
    const char *p = path;
    struct value **slot = NULL;
    struct step step;
    for (const struct value *v = root; *p != '\0'; v = *slot) {
        if (!next_step(&p, v == root, &step))
            return NULL;
        step = step_into(v, step);
        slot = slot_at(v, &step);
        if (slot == NULL)
            return NULL;
    }
    return slot != NULL ? *slot : NULL;
}

/* Why path[0 … upto) cannot be made below `v`, which is at path[0 … above). */
static enum status no_place(const struct value *v, const struct step *step, const char *path,
                            int above, int upto, struct err *err) {
    if (v->kind == VALUE_LIST && step->key == NULL && v->count == 0)
        return err_set(err, STATUS_INVALID, "there is no '%.*s': the list is empty", upto, path);
    if (v->kind == VALUE_LIST && step->key == NULL)
        return err_set(err, STATUS_INVALID, "there is no '%.*s': the list has items 0 to %zu", upto,
                       path, v->count - 1);
    if (v->kind == VALUE_LIST && v->count > 0)
        return err_set(err, STATUS_INVALID,
                       "there is no '%.*s': '%.*s' is a list; its items are 0 to %zu", upto, path,
                       above, path, v->count - 1);
    return err_set(err, STATUS_INVALID, "there is no '%.*s': '%.*s' is %s %s, not a %s", upto, path,
                   above, path, v->kind == VALUE_INT ? "an" : "a", value_kind_name(v->kind),
                   step->key != NULL ? "map" : "list");
}

enum status value_put(struct arena *a, struct value *root, const char *path, struct value *item,
                      struct err *err) {
    if (root == NULL || item == NULL)
        return err_set(err, STATUS_NOMEM, "set '%s': out of memory", path);
    const char *p = path;
    struct value *v = root;
    struct step step;
    for (int depth = 0; depth < VALUE_DEPTH_MAX; depth++) {
        int above = (int)(p - path);
        if (!next_step(&p, depth == 0, &step))
            return err_set(err, STATUS_INVALID, "'%s' is not a path like a.b.0.c", path);
        step = step_into(v, step);
        struct value **slot = slot_at(v, &step);
        if (slot == NULL && (v->kind != VALUE_MAP || step.key == NULL))
            return no_place(v, &step, path, above, (int)(p - path), err);
        bool last = *p == '\0';
        struct value *next = last ? item : slot != NULL ? *slot : NULL;
        if (next == NULL || (!last && next->kind == VALUE_NULL))
            next = value_map(a);
        if (next == NULL)
            return err_set(err, STATUS_NOMEM, "set '%s': out of memory", path);
        if (slot != NULL) {
            *slot = next;
        } else {
            size_t before = v->count;
            value_append(a, v, step.key, step.len, next);
            if (v->count == before)
                return err_set(err, STATUS_NOMEM, "set '%s': out of memory", path);
        }
        if (last)
            return STATUS_OK;
        v = next;
    }
    return err_set(err, STATUS_INVALID, "'%s' has more than %d parts", path, VALUE_DEPTH_MAX);
}

const char *value_kind_name(enum value_kind kind) {
    static const char *const names[] = {
        [VALUE_NULL] = "null",   [VALUE_BOOL] = "boolean",  [VALUE_INT] = "integer",
        [VALUE_REAL] = "number", [VALUE_STRING] = "string", [VALUE_LIST] = "list",
        [VALUE_MAP] = "map",
    };
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}
