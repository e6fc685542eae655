/* A sweep file as a whole: what is read out of it, and the checks across its sections. */
#include "spec/sweep.h"

#include <stdio.h>
#include <string.h>

#include "core/yaml.h"
#include "spec/check.h"
#include "spec/space.h"

#define SEARCHERS       "single|grid|random"
#define LATER_SEARCHERS "|sobol|tpe|gp|asha|hyperband|bohb|pbt|"
#define SCRATCH_MAX     ((size_t)64 << 20)

/* ---- resources, reproducibility, searcher ---- */

static enum status parse_searcher(struct sweep *s, struct err *err) {
    const struct value *map = value_get(s->root, "searcher");
    const struct value *name = value_get(map, "name");
    char near[64], padded[40];
    s->searcher = name->string;
    s->metric = value_get_string(map, "metric", "val_error");
    s->smaller_is_better = value_get_bool(map, "smaller_is_better", true);
    s->max_trials = value_get_int(map, "max_trials", 0);
    s->max_time = value_get_real(map, "max_time", 0.0);
    s->time_metric = value_get_string(map, "time_metric", "epochs");
    for (const char *c = SEARCHERS; *c != '\0';) {
        size_t len = strcspn(c, "|");
        if (len == name->count && memcmp(c, name->string, len) == 0)
            return STATUS_OK;
        c += len + (c[len] == '|');
    }
    (void)snprintf(padded, sizeof padded, "|%s|", name->string);
    if (strstr(LATER_SEARCHERS, padded) != NULL)
        return sweep_refuse(s->file, name, err,
                            "searcher.name: %s is planned but not built yet; use one of %s",
                            name->string, SEARCHERS);
    const char *guess = schema_nearest(SEARCHERS, name->string, near);
    return sweep_refuse(s->file, name, err, "searcher.name must be one of %s, not '%s'%s%s",
                        SEARCHERS, name->string, guess != NULL ? "; nearest is " : "",
                        guess != NULL ? guess : "");
}

static enum status parse_resources(struct sweep *s, struct err *err) {
    const struct value *r = value_get(s->root, "resources");
    const struct value *slots = value_get(r, "slots_per_trial"), *max = value_get(r, "max_slots");
    s->slots_per_trial = value_get_int(r, "slots_per_trial", 1);
    s->max_slots = value_get_int(r, "max_slots", s->slots_per_trial);
    s->priority = value_get_int(r, "priority", 42);
    s->slots_per_gpu = value_get_int(r, "slots_per_gpu", 1);
    s->max_restarts = value_get_int(s->root, "max_restarts", 5);
    if (s->max_slots < s->slots_per_trial)
        return sweep_refuse(s->file, max, err,
                            "resources.max_slots (%lld) is less than slots_per_trial (%lld): no "
                            "trial could ever start",
                            (long long)s->max_slots, (long long)s->slots_per_trial);
    const struct value *p = value_get(s->root, "reproducibility");
    s->experiment_seed = (uint64_t)value_get_int(p, "experiment_seed", 0);
    s->virtual_shards = value_get_int(p, "virtual_shards", 8);
    s->bitwise = value_get_bool(p, "bitwise", true);
    if ((s->virtual_shards & (s->virtual_shards - 1)) != 0)
        return sweep_refuse(s->file, value_get(p, "virtual_shards"), err,
                            "reproducibility.virtual_shards must be a power of two, not %lld",
                            (long long)s->virtual_shards);
    if (s->virtual_shards % s->slots_per_trial != 0)
        return sweep_refuse(s->file, slots, err,
                            "resources.slots_per_trial is %lld, which does not divide "
                            "reproducibility.virtual_shards (%lld); use a power of two up to it",
                            (long long)s->slots_per_trial, (long long)s->virtual_shards);
    s->device = value_get_string(s->root, "device", "auto");
    if (!s->bitwise && strcmp(s->device, "cpu") == 0)
        return sweep_refuse(s->file, value_get(p, "bitwise"), err,
                            "reproducibility.bitwise: false is for GPUs; the CPU's sums have one "
                            "order at no cost: leave it out, or take another device");
    return STATUS_OK;
}

static enum status plan_grid(struct sweep *s, struct err *err) {
    for (int i = 0; i < s->param_count; i++) {
        const struct hyperparameter *p = &s->params[i];
        if ((p->kind == SPACE_DOUBLE || p->kind == SPACE_LOG) && p->count == 0)
            return sweep_refuse(s->file, p->at, err,
                                "hyperparameters.%s needs `count: N`, the number of points along "
                                "this axis of the grid",
                                p->name);
    }
    s->grid_size = sweep_grid_size(s);
    if (s->grid_size > SWEEP_TRIALS_MAX && s->max_trials == 0)
        return sweep_refuse(s->file, value_get(s->root, "hyperparameters"), err,
                            "the grid has more than %d points; lower the counts or set "
                            "searcher.max_trials",
                            SWEEP_TRIALS_MAX);
    if (s->max_trials == 0 || s->max_trials > s->grid_size)
        s->max_trials = s->grid_size;
    return STATUS_OK;
}

static enum status plan(struct sweep *s, struct err *err) {
    if (strcmp(s->searcher, "grid") == 0)
        return plan_grid(s, err);
    if (strcmp(s->searcher, "single") == 0 && s->max_trials > 1)
        return sweep_refuse(s->file, value_at(s->root, "searcher.max_trials"), err,
                            "searcher single runs one trial, not %lld; use random or grid",
                            (long long)s->max_trials);
    if (s->max_trials == 0)
        s->max_trials = 1;
    return STATUS_OK;
}

/* ---- every kind of trial configuration ----
 * All at their first value, then one parameter after the other at each of its extremes, with the
 * conditions above it made true. */

static struct value *extreme(struct arena *a, const struct hyperparameter *p, size_t i) {
    if (p->kind == SPACE_CATEGORICAL)
        return i < p->vals->count ? value_copy(a, p->vals->items[i]) : NULL;
    if (p->kind == SPACE_CONST)
        return i == 0 ? value_copy(a, p->vals) : NULL;
    double v = i == 0 ? p->minval : p->maxval;
    if (i > 1)
        return NULL;
    return p->kind == SPACE_INT ? value_int(a, (int64_t)v) : value_real(a, v);
}

/* The point in which parameter `which` (-1: none) has its i-th extreme; NULL: there is no such. */
static struct value *corner(struct arena *a, const struct sweep *s, int which, size_t i) {
    struct value *chosen[SWEEP_PARAMS_MAX];
    bool on[SWEEP_PARAMS_MAX] = {false};
    for (int k = 0; k < s->param_count; k++)
        chosen[k] = extreme(a, &s->params[k], k == which ? i : 0);
    if (which >= 0 && chosen[which] == NULL)
        return NULL;
    for (int k = which; k >= 0 && s->params[k].when_index >= 0; k = s->params[k].when_index)
        chosen[s->params[k].when_index] = value_copy(a, s->params[k].when_value);
    struct value *point = value_map(a);
    for (int k = 0; k < s->param_count; k++) {
        const struct hyperparameter *p = &s->params[s->order[k]];
        on[s->order[k]] = p->when_index < 0 ||
                          (on[p->when_index] && value_equal(chosen[p->when_index], p->when_value));
        if (on[s->order[k]])
            value_set(a, point, p->name, chosen[s->order[k]]);
    }
    return point;
}

static enum status check_corner(const struct sweep *s, struct arena *scratch,
                                const struct value *point, struct err *err) {
    struct value *config = NULL;
    enum status st = sweep_trial_config(scratch, s, point, 0, NULL, &config, err);
    return st == STATUS_OK ? sweep_check_config(s, config, err) : st;
}

static enum status check_corners(const struct sweep *s, struct err *err) {
    enum status st = STATUS_OK;
    struct arena scratch;
    arena_init(&scratch, SCRATCH_MAX);
    TRY(check_corner(s, &scratch, corner(&scratch, s, -1, 0), err));
    for (int k = 0; k < s->param_count; k++) {
        for (size_t i = 0;; i++) {
            arena_clear(&scratch);
            struct value *point = corner(&scratch, s, k, i);
            if (point == NULL)
                break;
            TRY(check_corner(s, &scratch, point, err));
        }
    }
out:
    arena_release(&scratch);
    return st;
}

/* ---- the whole ---- */

enum status sweep_parse(struct arena *a, const struct value *root, struct schema_source source,
                        struct sweep **out, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep *s = arena_take(a, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a sweep was read");
    s->root = root;
    s->language = source.language;
    s->file = source.file != NULL ? arena_strdup(a, source.file) : NULL;
    if (source.file != NULL && s->file == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a sweep was read");
    TRY(schema_check(sweep_root_fields, root, s->file, "", err));
    s->name = value_get_string(root, "name", "");
    TRY(parse_searcher(s, err));
    TRY(parse_resources(s, err));
    TRY(sweep_parse_params(s, err));
    TRY(plan(s, err));
    TRY(check_corners(s, err));
    *out = s;
out:
    return st;
}

/* ---- files and overrides ---- */

/* A value given on the command line stood nowhere in the file. */
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

enum status sweep_load(struct arena *a, const char *path, const char *const *sets, size_t set_count,
                       struct sweep **out, struct err *err) {
    struct value *root = NULL;
    enum status st = STATUS_OK;
    TRY(yaml_load(a, path, &root, err));
    if (root->kind != VALUE_MAP)
        return err_set(err, STATUS_INVALID, "%s: a sweep file is a map, not a %s", path,
                       value_kind_name(root->kind));
    for (size_t i = 0; i < set_count; i++)
        TRY(apply_set(a, root, sets[i], err));
    TRY(sweep_parse(a, root, SPEC_TODAY(path), out, err));
out:
    return st;
}
