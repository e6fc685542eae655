/* Every kind of trial that a sweep can come to is read before one starts: all hyperparameters at
 * their first value, then one after the other at each of its extremes (an int: at each value), with the conditions above it
 * made true; since version 2 of the language also two at a time, as far as PAIRS_MAX goes, for what
 * is wrong only together: `padding: same` and an even kernel. */
#include <string.h>

#include "spec/space.h"
#include "spec/sweep_private.h"
#include "spec/trial.h"

#define SCRATCH_MAX ((size_t)64 << 20)
#define PAIRS_MAX   2000 /* configurations; each takes some 20 µs */
#define VALUES_MAX  256  /* of an int */

/* A hyperparameter at its i-th extreme; which -1: none. */
struct pick {
    int which;
    size_t i;
};

/* The i-th of an int's values: both ends, then the others from below, VALUES_MAX in all. A grid has
 * only the values of its axis. Version 1 looked at the ends alone. */
static struct value *whole(struct arena *a, const struct sweep *s, const struct hyperparameter *p,
                           size_t i) {
    bool grid = strcmp(s->searcher, "grid") == 0, old = s->source.language == 1;
    int64_t n = grid && !old ? sweep_axis_count(p) : (int64_t)(p->maxval - p->minval) + 1;
    int64_t k = i == 0 ? 0 : i == 1 ? n - 1 : (int64_t)i - 1;
    if (old ? i > 1 : (i > 0 && (int64_t)i >= n) || i >= VALUES_MAX)
        return NULL;
    return grid && !old ? sweep_axis_value(a, p, k) : value_int(a, (int64_t)p->minval + k);
}

static struct value *extreme(struct arena *a, const struct sweep *s, int which, size_t i) {
    const struct hyperparameter *p = &s->params[which];
    if (p->kind == SPACE_INT)
        return whole(a, s, p, i);
    if (p->kind == SPACE_CATEGORICAL)
        return i < p->vals->count ? value_copy(a, p->vals->items[i]) : NULL;
    if (p->kind == SPACE_CONST)
        return i == 0 ? value_copy(a, p->vals) : NULL;
    double v = i == 0 ? p->minval : p->maxval;
    if (i > 1)
        return NULL;
    return value_real(a, v);
}

static void make_active(struct arena *a, const struct sweep *s, int which, struct value **chosen) {
    for (int k = which; k >= 0 && s->params[k].when_index >= 0; k = s->params[k].when_index)
        chosen[s->params[k].when_index] = value_copy(a, s->params[k].when_value);
}

/* The point with one or two picks; NULL: a parameter has no such extreme. */
static struct value *corner(struct arena *a, const struct sweep *s, struct pick one,
                            struct pick two) {
    struct value *chosen[SWEEP_PARAMS_MAX];
    bool on[SWEEP_PARAMS_MAX] = {false};
    for (int k = 0; k < s->param_count; k++)
        chosen[k] = extreme(a, s, k, k == one.which ? one.i : k == two.which ? two.i : 0);
    if ((one.which >= 0 && chosen[one.which] == NULL) ||
        (two.which >= 0 && chosen[two.which] == NULL))
        return NULL;
    make_active(a, s, one.which, chosen);
    make_active(a, s, two.which, chosen);
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

static enum status check_point(const struct sweep *s, struct arena *scratch,
                               const struct value *point, struct err *err) {
    struct value *config = NULL;
    struct spec_trial *trial = arena_take(scratch, sizeof *trial);
    if (trial == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a sweep was checked");
    enum status st = sweep_trial_config(scratch, s, point, 0, NULL, &config, err);
    if (st != STATUS_OK)
        return st;
    const struct value *model = value_get(config, "model");
    if (model->kind == VALUE_LIST && model->count == 0)
        return spec_refuse(s->source, value_get(s->root, "model"), err,
                           "model has no layer left for some choice of hyperparameters");
    st = spec_trial_check(scratch, config, s->source, trial, err);
    return st == STATUS_OK ? spec_trial_measures(trial, s->source, err) : st;
}

/* With `one` fixed, every extreme of parameter k; *count: configurations so far. */
static enum status check_extremes(const struct sweep *s, struct arena *scratch, struct pick one,
                                  int k, int *count, struct err *err) {
    for (size_t i = one.which >= 0; *count < PAIRS_MAX || one.which < 0; i++) {
        arena_clear(scratch);
        struct value *point = corner(scratch, s, one, (struct pick){k, i});
        if (point == NULL)
            break;
        enum status st = check_point(s, scratch, point, err);
        if (st != STATUS_OK)
            return st;
        (*count)++;
    }
    return STATUS_OK;
}

/* The first extreme of each is in all the others: pairs begin with the second. */
static enum status check_pairs(const struct sweep *s, struct arena *scratch, struct err *err) {
    enum status st = STATUS_OK;
    int count = 0;
    for (int k = 0; k < s->param_count; k++)
        for (size_t i = 1; count < PAIRS_MAX; i++) {
            arena_clear(scratch);
            if (extreme(scratch, s, k, i) == NULL)
                break;
            for (int other = k + 1; other < s->param_count; other++)
                TRY(check_extremes(s, scratch, (struct pick){k, i}, other, &count, err));
            count++;
        }
out:
    return st;
}

enum status sweep_check_trials(const struct sweep *s, struct err *err) {
    const struct pick none = {.which = -1};
    enum status st = STATUS_OK;
    int count = 0;
    struct arena scratch;
    arena_init(&scratch, SCRATCH_MAX);
    TRY(check_point(s, &scratch, corner(&scratch, s, none, none), err));
    for (int k = 0; k < s->param_count; k++)
        TRY(check_extremes(s, &scratch, none, k, &count, err));
    if (s->source.language > 1)
        TRY(check_pairs(s, &scratch, err));
out:
    arena_release(&scratch);
    return st;
}
