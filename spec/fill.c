/* From a sweep and a point to the configuration of one trial: ${name} filled in, what is inactive left
 * out, paths made absolute. */
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/path.h"
#include "spec/data.h"
#include "spec/sweep_private.h"

struct fill {
    struct arena *a;
    const struct sweep *sweep;
    const struct value *chosen;
    struct err *err;
    bool inactive; /* the last node mentioned an inactive hyperparameter */
};

static enum status fill_value(struct fill *f, const struct value *v, const char *where, int depth,
                              struct value **out);

static enum status no_memory(struct err *err) {
    return err_set(err, STATUS_NOMEM, "out of memory while a trial configuration was built");
}

/* ---- ${name} ---- */

static enum status undefined(const struct fill *f, const struct value *at, const char *where,
                             const char *name, size_t len) {
    char word[65], near[64];
    struct buf names = BUF_INIT(8192);
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < 64 ? len : 64), name);
    for (int i = 0; i < f->sweep->param_count; i++)
        buf_addf(&names, "%s%s", i > 0 ? "|" : "", f->sweep->params[i].name);
    const char *guess = schema_nearest(buf_text(&names), word, near);
    enum status st = spec_refuse(f->sweep->source, at, f->err,
                                 "%s mentions ${%s}, which is not in hyperparameters%s%s%s", where,
                                 word, guess != NULL ? "; nearest is '" : "",
                                 guess != NULL ? guess : "", guess != NULL ? "'" : "");
    buf_release(&names);
    return st;
}

/* The value of `name`; *out NULL where it is inactive. */
static enum status look_up(struct fill *f, const struct value *at, const char *where,
                           const char *name, size_t len, const struct value **out) {
    for (int i = 0; i < f->sweep->param_count; i++) {
        const char *n = f->sweep->params[i].name;
        if (strlen(n) != len || memcmp(n, name, len) != 0)
            continue;
        *out = value_get(f->chosen, n);
        f->inactive = f->inactive || *out == NULL;
        return STATUS_OK;
    }
    return undefined(f, at, where, name, len);
}

static enum status add_text(struct buf *text, const struct value *v, struct err *err) {
    if (v->kind == VALUE_STRING) {
        buf_add(text, v->string, v->count);
        return STATUS_OK;
    }
    return json_dump(v, JSON_COMPACT, text, err);
}

/* A string with ${…} in it. */
static enum status fill_text(struct fill *f, const struct value *v, const char *where,
                             struct value **out) {
    enum status st = STATUS_OK;
    struct buf text = BUF_INIT(65536);
    const char *p = v->string, *end = v->string + v->count;
    while (p < end) {
        const char *open = strstr(p, "${");
        if (open == NULL) {
            buf_add(&text, p, (size_t)(end - p));
            break;
        }
        const char *close = strchr(open, '}');
        if (close == NULL) {
            st = spec_refuse(f->sweep->source, v, f->err, "%s has a '${' without its '}'", where);
            goto out;
        }
        const struct value *x = NULL;
        TRY(look_up(f, v, where, open + 2, (size_t)(close - open - 2), &x));
        if (x != NULL && open == v->string && close + 1 == end) {
            *out = value_copy(f->a, x); /* the whole scalar: the value's own type */
            if (*out != NULL) {
                (*out)->line = v->line;
                (*out)->column = v->column;
            }
            goto out;
        }
        buf_add(&text, p, (size_t)(open - p));
        if (x != NULL)
            TRY(add_text(&text, x, f->err));
        p = close + 1;
    }
    TRY(buf_status(&text, where, f->err));
    *out = value_bytes(f->a, buf_text(&text), text.len);
    if (*out != NULL) {
        (*out)->line = v->line;
        (*out)->column = v->column;
    }
out:
    buf_release(&text);
    return st != STATUS_OK || *out != NULL ? st : no_memory(f->err);
}

/* ---- trees ---- */

static enum status fill_list(struct fill *f, const struct value *v, const char *where, int depth,
                             struct value *list) {
    bool layer = strncmp(where, "model[", 6) == 0, any = false;
    for (size_t i = 0; i < v->count; i++) {
        char at[128];
        struct value *item = NULL;
        (void)snprintf(at, sizeof at, "%.100s[%zu]", where, i);
        f->inactive = false;
        enum status st = fill_value(f, v->items[i], at, depth + 1, &item);
        if (st != STATUS_OK)
            return st;
        /* A layer that is null or mentions what is inactive is left out. */
        if (!f->inactive && !(depth == 0 && item->kind == VALUE_NULL))
            value_push(f->a, list, item);
        any = any || f->inactive;
    }
    f->inactive = layer && any;
    return STATUS_OK;
}

/* Within a layer, inactivity travels up to the list; elsewhere it ends with the member. */
static enum status fill_map(struct fill *f, const struct value *v, const char *where, int depth,
                            struct value *map) {
    bool layer = strncmp(where, "model[", 6) == 0, any = false;
    for (size_t i = 0; i < v->count; i++) {
        const struct member *m = &v->members[i];
        char at[128];
        struct value *item = NULL;
        (void)snprintf(at, sizeof at, "%.60s.%.60s", where, m->key);
        f->inactive = false;
        enum status st = fill_value(f, m->value, at, depth + 1, &item);
        if (st != STATUS_OK)
            return st;
        if (!f->inactive)
            value_append_like(f->a, map, m, item);
        any = any || f->inactive;
    }
    f->inactive = layer && any;
    return STATUS_OK;
}

static enum status fill_value(struct fill *f, const struct value *v, const char *where, int depth,
                              struct value **out) {
    if (depth > VALUE_DEPTH_MAX)
        return err_set(f->err, STATUS_TOO_LARGE, "%s is nested deeper than %d levels", where,
                       VALUE_DEPTH_MAX);
    if (v->kind == VALUE_STRING && strstr(v->string, "${") != NULL)
        return fill_text(f, v, where, out);
    if (v->kind != VALUE_LIST && v->kind != VALUE_MAP) {
        *out = value_copy(f->a, v);
        return *out != NULL ? STATUS_OK : no_memory(f->err);
    }
    *out = v->kind == VALUE_LIST ? value_list(f->a) : value_map(f->a);
    if (*out == NULL)
        return no_memory(f->err);
    (*out)->line = v->line;
    (*out)->column = v->column;
    return v->kind == VALUE_LIST ? fill_list(f, v, where, depth, *out)
                                 : fill_map(f, v, where, depth, *out);
}

/* ---- paths ---- */

struct placing {
    struct arena *a;
    struct schema_source source;
    const char *base; /* NULL: relative paths stay */
    struct err *err;
};

static bool is_path(const struct value *v) {
    return v != NULL && v->kind == VALUE_STRING && v->count > 0 && v->count <= SPEC_PATH_MAX;
}

/* What is no path is left for the check to refuse. */
static enum status absolute(const struct placing *p, struct value *map, const char *key) {
    char path[PATH_TEXT_MAX];
    struct value *v = value_get(map, key);
    if (!is_path(v) || v->string[0] == '/' || p->base == NULL)
        return STATUS_OK;
    if (path_join(path, p->base, v->string, p->err) != STATUS_OK)
        return spec_refuse(p->source, v, p->err,
                           "%s: with the folder that it starts from the path is longer than %d "
                           "bytes",
                           key, PATH_TEXT_MAX - 1);
    const char *text = arena_strdup(p->a, path);
    if (text == NULL)
        return no_memory(p->err);
    v->string = text;
    v->count = strlen(text);
    return STATUS_OK;
}

enum status spec_place_data(struct arena *a, struct value *data, struct schema_source source,
                            const char *base, struct err *err) {
    static const char *const files[] = {"images", "labels", "file"};
    struct placing p = {.a = a, .source = source, .base = base, .err = err};
    enum status st = STATUS_OK;
    const struct value *dir = value_get(data, "dir");
    if (dir != NULL && !is_path(dir) && spec_strict(source))
        return STATUS_OK;
    TRY(absolute(&p, data, "dir"));
    p.base = value_get_string(data, "dir", base);
    for (size_t i = 0; i < SPEC_PARTS; i++)
        for (size_t k = 0; k < 3; k++)
            TRY(absolute(&p, value_get(data, spec_part_names[i]), files[k]));
    value_remove(data, "dir");
out:
    return st;
}

static enum status place_files(struct arena *a, const struct sweep *s, struct value *config,
                               const char *base, struct err *err) {
    struct placing p = {.a = a, .source = s->source, .base = base, .err = err};
    enum status st = spec_place_data(a, value_get(config, "data"), s->source, base, err);
    return st == STATUS_OK ? absolute(&p, value_get(config, "training"), "initial_weights") : st;
}

/* ---- the configuration ---- */

/* The searched metric, with its place in the file for whoever cannot find it among the results. */
static void set_metric(struct arena *a, const struct sweep *s, struct value *config) {
    const struct value *at = value_at(s->root, "searcher.metric");
    struct value *v = value_string(a, s->metric);
    if (at == NULL)
        at = value_get(s->root, "searcher");
    if (v != NULL) {
        v->line = at->line;
        v->column = at->column;
    }
    value_set(a, config, "metric", v);
}

static void set_checkpoint(struct arena *a, const struct sweep *s, struct value *config) {
    const struct value *given = value_get(s->root, "checkpoint");
    bool epochs = strcmp(s->time_metric, "epochs") == 0;
    struct value *c = value_map(a);
    value_set_int(a, c, "every", value_get_int(given, "every", epochs ? 1 : (int64_t)s->max_time));
    value_set_string(
        a, c, "keep",
        value_get_string(given, "keep", spec_keeps_last(s->source.language) ? "last" : "best"));
    value_set(a, config, "checkpoint", c);
}

/* With its place in the file, for the worker's refusals; `otherwise` where the file does not say. */
static void set_placed(struct arena *a, struct value *config, const char *key,
                       const struct value *given, struct value *otherwise) {
    value_set(a, config, key, given != NULL ? value_copy(a, given) : otherwise);
}

enum status sweep_trial_config(struct arena *a, const struct sweep *s, const struct value *chosen,
                               uint64_t trial_seed, const char *base, struct value **out,
                               struct err *err) {
    static const char *const sections[] = {"data", "model", "training"};
    enum status st = STATUS_OK;
    struct fill f = {.a = a, .sweep = s, .chosen = chosen, .err = err};
    struct value *config = value_map(a);
    if (s->source.language > 1) /* absent: 1 */
        value_set_int(a, config, "language", s->source.language);
    value_set_string(a, config, "name", s->name);
    value_set(a, config, "hyperparameters", value_copy(a, chosen));
    value_set_int(a, config, "seed", (int64_t)trial_seed);
    value_set_int(a, config, "experiment_seed", (int64_t)s->experiment_seed);
    value_set_int(a, config, "virtual_shards", s->virtual_shards);
    set_placed(a, config, "bitwise", value_at(s->root, "reproducibility.bitwise"),
               value_bool(a, s->bitwise));
    set_placed(a, config, "device", value_get(s->root, "device"), value_string(a, "auto"));
    value_set_string(a, config, "time_metric", s->time_metric);
    value_set_int(a, config, "max_time", (int64_t)s->max_time);
    set_metric(a, s, config);
    value_set_bool(a, config, "smaller_is_better", s->smaller_is_better);
    if (!spec_keeps_last(s->source.language) || !s->metric_of_last)
        value_set_string(a, config, "metric_of", s->metric_of_last ? "last" : "best");
    value_set_int(a, config, "digest_every", value_get_int(s->root, "digest_every", 100));
    set_checkpoint(a, s, config);
    for (size_t i = 0; i < 3; i++) {
        struct value *section = NULL;
        TRY(fill_value(&f, value_get(s->root, sections[i]), sections[i], 0, &section));
        value_set(a, config, sections[i], section);
    }
    /* By steps, an evaluation after each one would be most of the work. */
    struct value *training = value_get(config, "training");
    if (value_get(training, "eval_every") == NULL)
        value_set_int(a, training, "eval_every",
                      strcmp(s->time_metric, "epochs") == 0 ? 1 : (int64_t)s->max_time);
    TRY(place_files(a, s, config, base, err));
    if (config == NULL || config->broken)
        return no_memory(err);
    *out = config;
out:
    return st;
}
