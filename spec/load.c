/* Sweep files with what the command line sets. */
#include <string.h>

#include "core/yaml.h"
#include "spec/sweep_private.h"

/* A value given on the command line has no place in the file. */
static void forget_places(struct value *v, int depth) {
    v->line = v->column = 0;
    for (size_t i = 0; depth < VALUE_DEPTH_MAX && v->kind == VALUE_LIST && i < v->count; i++)
        forget_places(v->items[i], depth + 1);
    for (size_t i = 0; depth < VALUE_DEPTH_MAX && v->kind == VALUE_MAP && i < v->count; i++)
        forget_places(v->members[i].value, depth + 1);
}

static enum status apply_set(struct arena *a, struct value *root, const char *set,
                             struct err *err) {
    const char *eq = strchr(set, '=');
    if (eq == NULL || eq == set)
        return err_set(err, STATUS_INVALID,
                       "--set %s: must be key=value, such as "
                       "training.optimizer.lr=0.1",
                       set);
    if (eq[1] == '\0')
        return err_set(err, STATUS_INVALID, "--set %s: the value is missing (null for none)", set);
    char *path = arena_copy(a, set, (size_t)(eq - set));
    if (path == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    struct value *item = NULL;
    enum status st = yaml_parse(a, eq + 1, strlen(eq + 1), NULL, &item, err);
    if (st == STATUS_OK) {
        forget_places(item, 0);
        st = value_put(a, root, path, item, err);
    }
    return st == STATUS_OK ? st : err_wrap(err, st, "--set %s", set);
}

/* Which of the file's hyperparameters are mentioned, and which `--set` took the last mention. */
struct mentions {
    const char *name[SWEEP_PARAMS_MAX];
    bool before[SWEEP_PARAMS_MAX];
    const char *cut[SWEEP_PARAMS_MAX];
    size_t count;
};

static void note_mentions(struct mentions *m, const struct value *root) {
    const struct value *map = value_get(root, "hyperparameters");
    *m = (struct mentions){0};
    if (map == NULL || map->kind != VALUE_MAP)
        return;
    for (; m->count < map->count && m->count < SWEEP_PARAMS_MAX; m->count++) {
        m->name[m->count] = map->members[m->count].key;
        m->before[m->count] = sweep_mentions(root, m->name[m->count]);
    }
}

static void note_cuts(struct mentions *m, const struct value *root, const char *set) {
    for (size_t i = 0; i < m->count; i++) {
        bool there = sweep_mentions(root, m->name[i]);
        if (m->before[i] && !there && m->cut[i] == NULL)
            m->cut[i] = set;
        else if (there)
            m->cut[i] = NULL;
    }
}

/* What a hint may repeat of a set: a plain value, and neither null nor all of a section. */
static const char *plain_value(const char *set) {
    const char *v = strchr(set, '=') + 1;
    static const char *const nothing[] = {"", "null", "Null", "NULL", "~"};
    v += strspn(v, " ");
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++)
        if (strcmp(v, nothing[i]) == 0)
            return "VALUE";
    return *v == '{' || *v == '[' ? "VALUE" : v;
}

static enum status refuse_cuts(const struct mentions *m, const struct value *root,
                               struct err *err) {
    const struct value *map = value_get(root, "hyperparameters");
    for (size_t i = 0; i < m->count; i++)
        if (m->cut[i] != NULL && value_get(map, m->name[i]) != NULL)
            return err_set(err, STATUS_INVALID,
                           "--set %s: nothing would use hyperparameters.%s any more; give it the "
                           "value in its own place: --set hyperparameters.%s=%s",
                           m->cut[i], m->name[i], m->name[i], plain_value(m->cut[i]));
    return STATUS_OK;
}

enum status sweep_load(struct arena *a, const char *path, const char *const *sets, size_t set_count,
                       struct sweep **out, struct err *err) {
    struct value *root = NULL;
    struct mentions mentions;
    enum status st = STATUS_OK;
    TRY(yaml_load(a, path, &root, err));
    if (root->kind != VALUE_MAP)
        return spec_refuse(SPEC_TODAY(path), root, err, "a sweep file is a map, not %s",
                           spec_kind_words(root));
    note_mentions(&mentions, root);
    for (size_t i = 0; i < set_count; i++) {
        TRY(apply_set(a, root, sets[i], err));
        note_cuts(&mentions, root, sets[i]);
    }
    TRY(refuse_cuts(&mentions, root, err));
    TRY(sweep_parse(a, root, SPEC_TODAY(path), out, err));
out:
    return st;
}
