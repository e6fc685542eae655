/* Random trials and sweeps, valid and broken, for test_grammar.c.
 *
 * A case is one tree in the trial's form ({data, model, training, max_time, …}), some of whose
 * scalars are hyperparameters. From it come, each in its own way and without spec/'s help:
 *
 *     the sweep file      keys moved into searcher and reproducibility, scalars as "${h0}"
 *     each trial          scalars filled in, inactive layers and members left out */
#ifndef TESTS_GRAMMAR_FILES_H
#define TESTS_GRAMMAR_FILES_H

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "tests/fuzz/fuzz.h"

#define HOLES_MAX 2
#define VALS_MAX  3

struct hole {
    struct value *at;   /* the scalar in the tree: a string "${h0}" */
    struct value *vals; /* 1 to VALS_MAX values; more than one: categorical */
    bool conditional;   /* counts only where h0 has its first value */
    bool in_layer;      /* of `model`: what goes is the layer, else the member */
};

struct made {
    struct fuzz *f;
    struct arena *a;
    struct value *trial; /* with "${h0}" */
    struct hole holes[HOLES_MAX];
    int hole_count;
    bool broken; /* something was changed; it may still be valid */
};

/* ---- bricks ---- */

static size_t pick(struct made *m, size_t n) {
    return fuzz_below(m->f, n);
}

static bool chance(struct made *m, size_t one_in) {
    return fuzz_chance(m->f, one_in);
}

static struct value *word(struct made *m, const char *const *words, size_t n) {
    return value_string(m->a, words[pick(m, n)]);
}
#define WORD(m, ...)                                                                               \
    word(m, (const char *const[]){__VA_ARGS__},                                                    \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static struct value *whole(struct made *m, int64_t lo, int64_t hi) {
    return value_int(m->a, lo + (int64_t)pick(m, (size_t)(hi - lo + 1)));
}

static struct value *real(struct made *m, double lo, double hi) {
    return value_real(m->a, lo + (hi - lo) * (double)pick(m, 1001) / 1000);
}

/* N, or [N, N] */
static struct value *pair(struct made *m, int64_t lo, int64_t hi) {
    if (chance(m, 2))
        return whole(m, lo, hi);
    struct value *list = value_list(m->a);
    value_push(m->a, list, whole(m, lo, hi));
    return value_push(m->a, list, whole(m, lo, hi));
}

static void set(struct made *m, struct value *map, const char *key, struct value *v) {
    value_set(m->a, map, key, v);
}

/* Once in `one_in`. */
#define MAYBE(m, one_in, map, key, v)                                                              \
    do {                                                                                           \
        if (chance(m, one_in))                                                                     \
            set(m, map, key, v);                                                                   \
    } while (0)

static struct value *wrap(struct made *m, const char *key, struct value *v) {
    struct value *map = value_map(m->a);
    set(m, map, key, v);
    return map;
}

/* ---- sections ---- */

static struct value *make_layer(struct made *m) {
    struct value *keys = value_map(m->a);
    switch (pick(m, 9)) {
    case 0:
        MAYBE(m, 3, keys, "bias", value_bool(m->a, chance(m, 2)));
        set(m, keys, "out", whole(m, 1, 40));
        return wrap(m, "dense", chance(m, 3) ? value_get(keys, "out") : keys);
    case 1:
        set(m, keys, "out", whole(m, 1, 8));
        MAYBE(m, 2, keys, "kernel", pair(m, 1, 3));
        MAYBE(m, 3, keys, "stride", pair(m, 1, 2));
        MAYBE(m, 3, keys, "padding", chance(m, 2) ? pair(m, 0, 2) : WORD(m, "same", "valid"));
        return wrap(m, "conv2d", chance(m, 5) ? value_get(keys, "out") : keys);
    case 2:
        MAYBE(m, 2, keys, "eps", real(m, 1e-6, 1e-2));
        MAYBE(m, 2, keys, "momentum", real(m, 0, 1));
        return chance(m, 3)   ? value_string(m->a, "batch_norm")
               : chance(m, 6) ? wrap(m, "batch_norm", value_null(m->a))
                              : wrap(m, "batch_norm", keys);
    case 3:
        MAYBE(m, 2, keys, "kernel", pair(m, 1, 3));
        MAYBE(m, 3, keys, "stride", pair(m, 1, 3));
        return chance(m, 3)   ? WORD(m, "max_pool", "avg_pool")
               : chance(m, 3) ? wrap(m, "max_pool", pair(m, 1, 3))
                              : wrap(m, chance(m, 2) ? "max_pool" : "avg_pool", keys);
    case 4:
        return wrap(m, "dropout",
                    chance(m, 2) ? real(m, 0, 0.999) : wrap(m, "rate", real(m, 0, 0.9)));
    case 5:
        return wrap(m, "relu", chance(m, 2) ? value_null(m->a) : keys);
    default:
        return WORD(m, "relu", "gelu", "tanh", "sigmoid", "flatten");
    }
}

static struct value *make_model(struct made *m) {
    struct value *list = value_list(m->a);
    for (size_t n = 1 + pick(m, 5); n > 0; n--)
        value_push(m->a, list, make_layer(m));
    return list;
}

static struct value *make_numbers(struct made *m, double lo, double hi) {
    if (chance(m, 2))
        return real(m, lo, hi);
    struct value *list = value_list(m->a);
    for (size_t n = 1 + pick(m, 3); n > 0; n--)
        value_push(m->a, list, real(m, lo, hi));
    return list;
}

static struct value *make_transform(struct made *m) {
    struct value *both = value_map(m->a);
    switch (pick(m, 4)) {
    case 0:
        return wrap(m, "scale", real(m, -2, 2));
    case 1:
        return wrap(m, "shift", whole(m, -9, 9));
    case 2:
        return wrap(m, "normalize", value_string(m->a, "fit"));
    default:
        set(m, both, "mean", make_numbers(m, -1, 1));
        set(m, both, "std", make_numbers(m, 0.1, 2));
        return wrap(m, "normalize", both);
    }
}

/* What only a table, and only the training part, has. */
static void make_table(struct made *m, struct value *part) {
    struct value *columns = value_list(m->a);
    value_push(m->a, columns, chance(m, 2) ? whole(m, 0, 9) : WORD(m, "a", "b"));
    MAYBE(m, 4, part, chance(m, 2) ? "exclude" : "columns", columns);
    MAYBE(m, 4, part, "missing", chance(m, 2) ? WORD(m, "error", "mean", "drop") : real(m, -1, 1));
    MAYBE(m, 4, part, "types", wrap(m, "a", WORD(m, "number", "words")));
    if (!chance(m, 4))
        return;
    set(m, part, "separator", WORD(m, ";", "tab", "|"));
    MAYBE(m, 2, part, "decimal", WORD(m, ".", ","));
}

static struct value *make_part(struct made *m, bool train) {
    struct value *part = value_map(m->a), *shape = value_list(m->a);
    const char *format = ((const char *const[]){"idx", "npy", "csv"})[pick(m, 3)];
    value_set_string(m->a, part, "format", format);
    if (format[0] == 'c') {
        value_set_string(m->a, part, "file", "/d/f.csv");
        set(m, part, "label", chance(m, 2) ? whole(m, 0, 9) : WORD(m, "y", "price"));
        MAYBE(m, 3, part, "header", value_bool(m->a, chance(m, 2)));
        if (train)
            make_table(m, part);
    } else {
        value_set_string(m->a, part, "images", "/d/images");
        value_set_string(m->a, part, "labels", "/d/labels");
    }
    if (format[0] != 'i')
        MAYBE(m, 3, part, "task", WORD(m, "classify", "regress"));
    for (int i = chance(m, 2) ? 1 : 3; i > 0; i--)
        value_push(m->a, shape, whole(m, 1, 28));
    MAYBE(m, 4, part, "shape", shape);
    return part;
}

static struct value *make_data(struct made *m) {
    struct value *data = value_map(m->a), *list = value_list(m->a);
    set(m, data, "train", make_part(m, true));
    if (chance(m, 4))
        set(m, data, "validation", make_part(m, false));
    else
        set(m, data, "validation_split", real(m, 0.05, 0.9));
    MAYBE(m, 4, data, "test", make_part(m, false));
    MAYBE(m, 4, data, "shuffle", value_bool(m->a, chance(m, 2)));
    for (size_t n = pick(m, 3); n > 0; n--)
        value_push(m->a, list, make_transform(m));
    MAYBE(m, 2, data, "transforms", list);
    return data;
}

static struct value *make_optimizer(struct made *m) {
    struct value *o = value_map(m->a), *betas = value_list(m->a);
    set(m, o, "lr", real(m, 0, 2));
    MAYBE(m, 3, o, "weight_decay", real(m, 0, 0.1));
    if (chance(m, 2)) {
        value_set_string(m->a, o, "name", "sgd");
        MAYBE(m, 2, o, "momentum", real(m, 0.1, 0.9));
        if (value_get(o, "momentum") != NULL)
            MAYBE(m, 2, o, "nesterov", value_bool(m->a, chance(m, 2)));
        return o;
    }
    set(m, o, "name", WORD(m, "adam", "adamw"));
    value_push(m->a, betas, real(m, 0, 0.95));
    value_push(m->a, betas, real(m, 0, 0.999));
    MAYBE(m, 3, o, "betas", betas);
    MAYBE(m, 3, o, "eps", value_real(m->a, 1e-7));
    return o;
}

static struct value *make_schedule(struct made *m) {
    struct value *s = value_map(m->a);
    set(m, s, "name", WORD(m, "constant", "step", "cosine"));
    MAYBE(m, 3, s, "warmup_steps", whole(m, 0, 50));
    const char *name = value_get_string(s, "name", "");
    if (strcmp(name, "step") == 0) {
        set(m, s, "every", whole(m, 1, 5));
        set(m, s, "factor", real(m, 0, 1));
    } else if (strcmp(name, "cosine") == 0) {
        MAYBE(m, 2, s, "min_lr", real(m, 0, 0.1));
    }
    return s;
}

static void make_trial(struct made *m) {
    struct value *t = value_map(m->a), *training = value_map(m->a);
    m->trial = t;
    set(m, t, "data", make_data(m));
    set(m, t, "model", make_model(m));
    set(m, training, "loss", WORD(m, "cross_entropy", "mse"));
    set(m, training, "optimizer", make_optimizer(m));
    set(m, training, "global_batch_size", whole(m, 1, 4));
    value_get(training, "global_batch_size")->integer *= 8;
    MAYBE(m, 3, training, "schedule", make_schedule(m));
    MAYBE(m, 4, training, "precision", WORD(m, "fp32", "fp32", "tf32", "bf16"));
    MAYBE(m, 4, training, "clip_norm", real(m, 0.1, 5));
    MAYBE(m, 4, training, "eval_every", whole(m, 1, 5));
    MAYBE(m, 5, training, "initial_weights",
          chance(m, 2) ? value_null(m->a) : value_string(m->a, "/d/w.safetensors"));
    set(m, t, "training", training);
    set(m, t, "max_time", whole(m, 1, 9));
    set(m, t, "metric",
        chance(m, 3) ? WORD(m, "val_error", "test_loss", "train_loss")
                     : value_string(m->a, "val_loss"));
    MAYBE(m, 3, t, "metric_of", WORD(m, "best", "last"));
    MAYBE(m, 3, t, "virtual_shards", value_int(m->a, INT64_C(1) << pick(m, 4)));
    MAYBE(m, 3, t, "time_metric", WORD(m, "epochs", "steps"));
    MAYBE(m, 4, t, "smaller_is_better", value_bool(m->a, chance(m, 2)));
    MAYBE(m, 5, t, "bitwise", value_bool(m->a, chance(m, 2)));
    MAYBE(m, 4, t, "device", WORD(m, "auto", "cuda", "cpu"));
    MAYBE(m, 4, t, "digest_every", whole(m, 1, 500));
    MAYBE(m, 4, t, "checkpoint",
          chance(m, 2) ? wrap(m, "every", whole(m, 1, 5))
                       : wrap(m, "keep", WORD(m, "best", "last", "all")));
}

/* ---- breaking ---- */

/* A node at random below v (maps and lists are entered half of the time), with its container. */
struct spot {
    struct value *parent;
    size_t i;
};

static struct spot find_spot(struct made *m, struct value *v) {
    struct spot s = {v, pick(m, v->count)};
    for (;;) {
        struct value *child =
            s.parent->kind == VALUE_MAP ? s.parent->members[s.i].value : s.parent->items[s.i];
        bool inner = (child->kind == VALUE_MAP || child->kind == VALUE_LIST) && child->count > 0;
        if (!inner || (s.parent != v && chance(m, 3)))
            return s;
        s = (struct spot){child, pick(m, child->count)};
    }
}

static struct value **slot_of_spot(struct spot s) {
    return s.parent->kind == VALUE_MAP ? &s.parent->members[s.i].value : &s.parent->items[s.i];
}

/* Values at and around every bound that there is, and of every kind. */
static struct value *junk(struct made *m) {
    static const double reals[] = {0,         -1,         1,      1.5,   0.999,    0.9995,
                                   0.9999999, 0.99999995, 1e-12,  1e-13, 1e-30,    1e-31,
                                   1e6,       1e7,        3.5e38, 1e300, 0.999999, 0.9999995};
    static const int64_t wholes[] = {0,  -1,   1,       2,          3,         63,      64,
                                     65, 1000, 1024,    1025,       1048576,   1048577, 16777216,
                                     7,  99,   1000001, 1000000000, 1000000001};
    struct value *list = value_list(m->a);
    switch (pick(m, 9)) {
    case 0:
        return value_null(m->a);
    case 1:
        return value_bool(m->a, chance(m, 2));
    case 2:
    case 3:
        return value_real(m->a, reals[pick(m, sizeof reals / sizeof reals[0])]);
    case 4:
    case 5:
        return value_int(m->a, wholes[pick(m, sizeof wholes / sizeof wholes[0])]);
    case 6:
        return WORD(m, "", "same", "valid", "fit", "sgd", "adam", "relu", "dense", "max_pool",
                    "conv2d", "dropout", "cosine", "step", "csv", "npy", "val_error", "test_error",
                    "steps", "tf32", "cpu", "x");
    case 7:
        for (size_t n = pick(m, 4); n > 0; n--)
            value_push(m->a, list, chance(m, 2) ? whole(m, 0, 65) : real(m, 0, 1));
        return list;
    default:
        return chance(m, 2) ? value_map(m->a) : wrap(m, "x", whole(m, 0, 3));
    }
}

static const char *const keys[] = {
    "out",       "bias",        "kernel",     "stride", "padding",      "eps",     "momentum",
    "rate",      "nesterov",    "betas",      "lr",     "name",         "every",   "factor",
    "min_lr",    "scale",       "shift",      "mean",   "std",          "task",    "label",
    "header",    "shape",       "file",       "images", "warmup_steps", "shuffle", "clip_norm",
    "colour",    "precision",   "max_trails", "dir",    "batch_norm",   "dense",   "relu",
    "normalize", "weight_decay"};

static void rename_member(struct made *m, struct spot s) {
    struct value *map = s.parent;
    const char *key = chance(m, 2) ? keys[pick(m, sizeof keys / sizeof keys[0])]
                                   : arena_printf(m->a, "%sx", map->members[s.i].key);
    if (value_get(map, key) == NULL)
        map->members[s.i].key = key;
}

static void break_once(struct made *m) {
    struct value *within = m->trial;
    static const char *const sections[] = {"data", "model", "training"};
    struct value *section = value_get(m->trial, sections[pick(m, 3)]);
    if (!chance(m, 5) && section != NULL && section->count > 0 &&
        (section->kind == VALUE_MAP || section->kind == VALUE_LIST))
        within = section;
    struct spot s = find_spot(m, within);
    struct value **slot = slot_of_spot(s);
    m->broken = true;
    switch (pick(m, 6)) {
    case 0: /* gone */
        if (s.parent->kind == VALUE_MAP)
            value_remove(s.parent, s.parent->members[s.i].key);
        else
            s.parent->items[s.i] = s.parent->items[--s.parent->count];
        break;
    case 1:
        if (s.parent->kind == VALUE_MAP)
            rename_member(m, s);
        break;
    case 2: /* one more */
        if (s.parent->kind == VALUE_MAP)
            set(m, s.parent, keys[pick(m, sizeof keys / sizeof keys[0])], junk(m));
        else
            value_push(m->a, s.parent, chance(m, 2) ? junk(m) : value_copy(m->a, *slot));
        break;
    case 3: { /* deeper */
        struct value *list = value_list(m->a);
        value_push(m->a, list, *slot);
        if (chance(m, 2))
            value_push(m->a, list, value_copy(m->a, *slot));
        *slot = list;
        break;
    }
    default:
        *slot = junk(m);
    }
}

/* ---- hyperparameters ---- */

static bool scalar(const struct value *v) {
    return v->kind != VALUE_MAP && v->kind != VALUE_LIST;
}

/* Takes a scalar of data, model or training out of the tree; values like it or not take turns. */
static void make_hole(struct made *m) {
    static const char *const sections[] = {"data", "model", "training"};
    const char *name = sections[pick(m, 3)];
    struct value *section = value_get(m->trial, name);
    if (section == NULL || scalar(section) || section->count == 0)
        return;
    struct spot s = find_spot(m, section);
    struct value **slot = slot_of_spot(s);
    if (!scalar(*slot) || (*slot)->kind == VALUE_NULL)
        return;
    struct hole *h = &m->holes[m->hole_count];
    *h = (struct hole){.vals = value_list(m->a), .in_layer = name[0] == 'm'};
    value_push(m->a, h->vals, *slot);
    for (size_t n = pick(m, VALS_MAX); n > 0; n--) {
        struct value *v = chance(m, 3)                    ? junk(m)
                          : (*slot)->kind == VALUE_INT    ? whole(m, 1, 64)
                          : (*slot)->kind == VALUE_REAL   ? real(m, 0, 0.99)
                          : (*slot)->kind == VALUE_STRING ? WORD(m, "relu", "same", "sgd", "adam")
                                                          : value_bool(m->a, true);
        bool fresh = scalar(v) && v->kind != VALUE_NULL;
        for (size_t k = 0; k < h->vals->count; k++)
            fresh = fresh && !value_equal(v, h->vals->items[k]);
        if (fresh)
            value_push(m->a, h->vals, v);
    }
    h->at = value_string(m->a, m->hole_count == 0 ? "${h0}" : "${h1}");
    /* An item of a list would leave a hole that only a layer closes. */
    bool droppable = h->in_layer || s.parent->kind == VALUE_MAP;
    h->conditional = m->hole_count > 0 && droppable && chance(m, 3);
    *slot = h->at;
    m->hole_count++;
}

static void make_case(struct made *m, struct fuzz *f, struct arena *a) {
    *m = (struct made){.f = f, .a = a};
    make_trial(m);
    for (size_t n = pick(m, 5) < 2 ? 0 : 1 + pick(m, 2); n > 0; n--)
        break_once(m);
    for (size_t n = pick(m, 3); n > 0; n--)
        make_hole(m);
}

/* ---- the sweep file ---- */

static const char *home_of(const char *key) {
    static const char *const of_searcher[] = {"max_time", "time_metric", "metric",
                                              "smaller_is_better", "metric_of"};
    for (size_t i = 0; i < 5; i++)
        if (strcmp(of_searcher[i], key) == 0)
            return "searcher";
    return strcmp(key, "virtual_shards") == 0 || strcmp(key, "bitwise") == 0 ? "reproducibility"
                                                                             : NULL;
}

static struct value *hyperparameters_of(struct made *m) {
    struct value *map = value_map(m->a);
    for (int i = 0; i < m->hole_count; i++) {
        struct value *h = value_map(m->a);
        bool one = m->holes[i].vals->count == 1;
        value_set_string(m->a, h, "type", one ? "const" : "categorical");
        set(m, h, one ? "val" : "vals", one ? m->holes[i].vals->items[0] : m->holes[i].vals);
        if (m->holes[i].conditional)
            set(m, h, "when", wrap(m, "h0", m->holes[0].vals->items[0]));
        set(m, map, i == 0 ? "h0" : "h1", h);
    }
    return map;
}

static struct value *sweep_of_case(struct made *m) {
    struct value *root = value_map(m->a), *searcher = value_map(m->a), *r = value_map(m->a);
    value_set_string(m->a, root, "name", "t");
    if (m->hole_count > 0)
        set(m, root, "hyperparameters", hyperparameters_of(m));
    value_set_string(m->a, searcher, "name", "grid");
    for (size_t i = 0; i < m->trial->count; i++) {
        const char *key = m->trial->members[i].key, *home = home_of(key);
        struct value *to = home == NULL ? root : home[0] == 's' ? searcher : r;
        set(m, to, key, m->trial->members[i].value);
    }
    set(m, root, "searcher", searcher);
    if (r->count > 0)
        set(m, root, "reproducibility", r);
    return root;
}

/* Block style at the top, one line a key below it: YAML that JSON's values fit into. */
static void write_yaml(const struct value *root, struct buf *out) {
    struct err err;
    for (size_t i = 0; i < root->count; i++) {
        buf_addf(out, "%s: ", root->members[i].key);
        if (json_dump(root->members[i].value, JSON_COMPACT, out, &err) != STATUS_OK)
            fail_msg("%s", err.text);
        buf_addc(out, '\n');
    }
}

/* ---- trials ---- */

struct filling {
    struct made *m;
    const struct value *values[HOLES_MAX]; /* NULL: inactive */
    bool dropped;                          /* the last node was an inactive hole */
};

static struct value *fill(struct filling *f, const struct value *v, bool in_model, int depth) {
    struct arena *a = f->m->a;
    for (int i = 0; i < f->m->hole_count; i++)
        if (v == f->m->holes[i].at) {
            f->dropped = f->values[i] == NULL;
            return f->dropped ? value_null(a) : value_copy(a, f->values[i]);
        }
    if (scalar(v))
        return value_copy(a, v);
    struct value *out = v->kind == VALUE_MAP ? value_map(a) : value_list(a);
    bool any = false;
    for (size_t i = 0; i < v->count; i++) {
        const struct value *child = v->kind == VALUE_MAP ? v->members[i].value : v->items[i];
        f->dropped = false;
        struct value *item = fill(f, child, in_model, depth + 1);
        any = any || f->dropped;
        bool null_layer = in_model && depth == 0 && item->kind == VALUE_NULL;
        if (f->dropped || null_layer)
            continue;
        if (v->kind == VALUE_MAP)
            value_set(a, out, v->members[i].key, item);
        else
            value_push(a, out, item);
    }
    /* Within a layer it is the layer that goes. */
    f->dropped = in_model && depth > 0 && any;
    return out;
}

/* The trial with the picked values; NULL where a hole would be inactive and `which` picks it. */
static struct value *trial_of_case(struct made *m, const size_t which[HOLES_MAX]) {
    struct filling f = {.m = m};
    for (int i = 0; i < m->hole_count; i++)
        f.values[i] =
            m->holes[i].conditional && which[0] != 0 ? NULL : m->holes[i].vals->items[which[i]];
    struct value *root = value_map(m->a);
    value_set_int(m->a, root, "language", SPEC_LANGUAGE);
    value_set_int(m->a, root, "seed", 1);
    if (value_get(m->trial, "metric") == NULL) /* a sweep always searches by one */
        value_set_string(m->a, root, "metric", "val_error");
    for (size_t i = 0; i < m->trial->count; i++) {
        const struct member *at = &m->trial->members[i];
        set(m, root, at->key, fill(&f, at->value, strcmp(at->key, "model") == 0, 0));
    }
    return root;
}

#endif
