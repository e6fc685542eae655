/* A hyperparameter that nothing mentions would be searched in vain: it is an error, since version 2
 * of the language. */
#include <string.h>

#include "spec/sweep_private.h"

/* Whether a text has ${name} in it. */
static bool text_mentions(const char *text, const char *name) {
    size_t len = strlen(name);
    for (const char *p = strstr(text, "${"); p != NULL; p = strstr(p + 2, "${"))
        if (strncmp(p + 2, name, len) == 0 && p[2 + len] == '}')
            return true;
    return false;
}

static bool tree_mentions(const struct value *v, const char *name, int depth) {
    if (v == NULL || depth > VALUE_DEPTH_MAX)
        return false;
    if (v->kind == VALUE_STRING)
        return text_mentions(v->string, name);
    for (size_t i = 0; v->kind == VALUE_LIST && i < v->count; i++)
        if (tree_mentions(v->items[i], name, depth + 1))
            return true;
    for (size_t i = 0; v->kind == VALUE_MAP && i < v->count; i++)
        if (tree_mentions(v->members[i].value, name, depth + 1))
            return true;
    return false;
}

/* What counts beside the sections: conditions. (Later: zip, constraints.) */
static bool search_mentions(const struct value *root, const char *name) {
    const struct value *map = value_get(root, "hyperparameters");
    for (size_t i = 0; map != NULL && map->kind == VALUE_MAP && i < map->count; i++)
        if (value_get(value_get(map->members[i].value, "when"), name) != NULL)
            return true;
    return false;
}

bool sweep_mentions(const struct value *root, const char *name) {
    static const char *const sections[] = {"data", "model", "training"};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (tree_mentions(value_get(root, sections[i]), name, 0))
            return true;
    return search_mentions(root, name);
}

enum status sweep_check_mentions(const struct sweep *s, struct err *err) {
    for (int i = 0; i < s->param_count; i++) {
        const char *name = s->params[i].name;
        if (!sweep_mentions(s->root, name))
            return spec_refuse(s->source, s->params[i].at, err,
                               "hyperparameters.%s is not used: write ${%s} in data, model or "
                               "training, name it in a `when`, or take it out",
                               name, name);
    }
    return STATUS_OK;
}
