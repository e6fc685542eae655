/* Positions of a tree, as a list of numbers in reading order. */
#include "core/places.h"

static void collect(struct arena *a, const struct value *v, int depth, struct value *list) {
    value_push(a, list, value_int(a, v->line));
    value_push(a, list, value_int(a, v->column));
    if (depth == VALUE_DEPTH_MAX)
        return;
    for (size_t i = 0; v->kind == VALUE_LIST && i < v->count; i++)
        collect(a, v->items[i], depth + 1, list);
    for (size_t i = 0; v->kind == VALUE_MAP && i < v->count; i++) {
        value_push(a, list, value_int(a, v->members[i].line));
        value_push(a, list, value_int(a, v->members[i].column));
        collect(a, v->members[i].value, depth + 1, list);
    }
}

struct value *places_collect(struct arena *a, const struct value *v) {
    struct value *list = value_list(a);
    if (v != NULL && list != NULL)
        collect(a, v, 0, list);
    return list;
}

/* The next number of the list; 0 (no position) where there is none or it is not one. */
static uint32_t next(const struct value *places, size_t *at) {
    if (places == NULL || places->kind != VALUE_LIST || *at >= places->count)
        return 0;
    const struct value *n = places->items[(*at)++];
    return n->kind == VALUE_INT && n->integer > 0 && n->integer <= UINT32_MAX ? (uint32_t)n->integer
                                                                              : 0;
}

static void apply(struct value *v, const struct value *places, int depth, size_t *at) {
    v->line = next(places, at);
    v->column = next(places, at);
    if (depth == VALUE_DEPTH_MAX)
        return;
    for (size_t i = 0; v->kind == VALUE_LIST && i < v->count; i++)
        apply(v->items[i], places, depth + 1, at);
    for (size_t i = 0; v->kind == VALUE_MAP && i < v->count; i++) {
        v->members[i].line = next(places, at);
        v->members[i].column = next(places, at);
        apply(v->members[i].value, places, depth + 1, at);
    }
}

void places_apply(struct value *v, const struct value *places) {
    size_t at = 0;
    if (v != NULL)
        apply(v, places, 0, &at);
}
