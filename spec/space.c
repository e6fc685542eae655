/* Points of the search space: drawn by counter, or walked like an odometer. */
#include "spec/space.h"

#include <math.h>
#include <string.h>

#include "core/philox.h"

/* Streams of Philox that search uses; training has its own keys (the trial's seed). */
#define STREAM_DRAW (UINT64_C(0x53454152) << 32) /* "SEAR" | parameter index */
#define STREAM_SEED (UINT64_C(0x53454544) << 32) /* "SEED" */
#define SEED_BITS   53

uint64_t sweep_trial_seed(uint64_t experiment_seed, int64_t trial) {
    struct philox4 r = philox(experiment_seed, STREAM_SEED, (uint64_t)trial);
    uint64_t bits = ((uint64_t)r.v[0] << 32) | r.v[1];
    return bits >> (64 - SEED_BITS);
}

/* ---- one parameter ---- */

int64_t sweep_axis_count(const struct hyperparameter *p) {
    switch (p->kind) {
    case SPACE_CONST:
        return 1;
    case SPACE_CATEGORICAL:
        return (int64_t)p->vals->count;
    case SPACE_INT: {
        int64_t all = (int64_t)(p->maxval - p->minval) + 1;
        return p->count == 0 || p->count > all ? all : p->count;
    }
    case SPACE_DOUBLE:
    case SPACE_LOG:
        return p->count;
    }
    return 0;
}

/* t in [0, 1] of the way from minval to maxval. Both ends come out exactly. */
static double between(const struct hyperparameter *p, double t) {
    if (t <= 0)
        return p->minval;
    if (t >= 1)
        return p->maxval;
    double v = p->kind == SPACE_LOG ? exp(log(p->minval) + t * (log(p->maxval) - log(p->minval)))
                                    : p->minval + t * (p->maxval - p->minval);
    return fmin(fmax(v, p->minval), p->maxval);
}

struct value *sweep_axis_value(struct arena *a, const struct hyperparameter *p, int64_t i) {
    if (p->kind == SPACE_CONST)
        return value_copy(a, p->vals);
    if (p->kind == SPACE_CATEGORICAL)
        return value_copy(a, p->vals->items[i]);
    int64_t n = sweep_axis_count(p);
    double v = between(p, n > 1 ? (double)i / (double)(n - 1) : 0.0);
    return p->kind == SPACE_INT ? value_int(a, llround(v)) : value_real(a, v);
}

struct value *sweep_draw(struct arena *a, const struct hyperparameter *p, double u) {
    switch (p->kind) {
    case SPACE_CONST:
        return value_copy(a, p->vals);
    case SPACE_CATEGORICAL:
        return value_copy(a, p->vals->items[(size_t)(u * (double)p->vals->count)]);
    case SPACE_INT: {
        double v = floor(p->minval + u * (p->maxval - p->minval + 1));
        return value_int(a, (int64_t)fmin(v, p->maxval));
    }
    case SPACE_DOUBLE:
    case SPACE_LOG:
        return value_real(a, between(p, u));
    }
    return NULL;
}

/* ---- which parameters count ---- */

/* `chosen[i]` must be set for everything that parameter i depends on. */
static bool active(const struct sweep *s, int i, struct value *const *chosen, const bool *on) {
    const struct hyperparameter *p = &s->params[i];
    return p->when_index < 0 ||
           (on[p->when_index] && value_equal(chosen[p->when_index], p->when_value));
}

/* The map of the active ones, in the order of the file. */
static struct value *gather(struct arena *a, const struct sweep *s, struct value *const *chosen) {
    bool on[SWEEP_PARAMS_MAX] = {false};
    struct value *point = value_map(a);
    for (int k = 0; k < s->param_count; k++)
        on[s->order[k]] = active(s, s->order[k], chosen, on);
    for (int i = 0; i < s->param_count; i++)
        if (on[i])
            value_set(a, point, s->params[i].name, chosen[i]);
    return point == NULL || point->broken ? NULL : point;
}

/* ---- random ---- */

static struct value *random_point(struct arena *a, const struct sweep *s, int64_t trial) {
    struct value *chosen[SWEEP_PARAMS_MAX] = {NULL};
    for (int i = 0; i < s->param_count; i++) {
        struct philox4 r = philox(s->experiment_seed, STREAM_DRAW | (uint64_t)i, (uint64_t)trial);
        chosen[i] = sweep_draw(a, &s->params[i], philox_double(r.v[0], r.v[1]));
        if (chosen[i] == NULL)
            return NULL;
    }
    return gather(a, s, chosen);
}

/* ---- grid ----
 * An odometer: one digit a parameter. An inactive parameter's digit stays at 0, so that it
 * contributes one point. */

/* Whether parameter i counts at these digits; a CATEGORICAL or CONST value is compared in place and
 * an INT by its number, so that nothing is allocated. */
static bool digit_active(const struct sweep *s, int i, const struct sweep_grid *g) {
    for (int depth = 0; depth < s->param_count; depth++) {
        const struct hyperparameter *p = &s->params[i];
        if (p->when_index < 0)
            return true;
        const struct hyperparameter *on = &s->params[p->when_index];
        int64_t d = g->digit[p->when_index];
        if (on->kind == SPACE_CATEGORICAL && !value_equal(on->vals->items[d], p->when_value))
            return false;
        if (on->kind == SPACE_CONST && !value_equal(on->vals, p->when_value))
            return false;
        if (on->kind == SPACE_INT) {
            int64_t n = sweep_axis_count(on);
            double v = between(on, n > 1 ? (double)d / (double)(n - 1) : 0.0);
            if (llround(v) != p->when_value->integer)
                return false;
        }
        i = p->when_index;
    }
    return false;
}

void sweep_grid_first(struct sweep_grid *grid) {
    memset(grid, 0, sizeof *grid);
}

bool sweep_grid_next(const struct sweep *s, struct sweep_grid *g) {
    for (int k = s->param_count - 1; k >= 0; k--) {
        int i = s->order[k];
        /* Those behind k are 0 by now: whether i counts depends on earlier digits only. */
        if (digit_active(s, i, g) && g->digit[i] + 1 < sweep_axis_count(&s->params[i])) {
            g->digit[i]++;
            return true;
        }
        g->digit[i] = 0;
    }
    return false;
}

struct value *sweep_grid_point(struct arena *a, const struct sweep *s, const struct sweep_grid *g) {
    struct value *chosen[SWEEP_PARAMS_MAX] = {NULL};
    for (int i = 0; i < s->param_count; i++) {
        chosen[i] = sweep_axis_value(a, &s->params[i], g->digit[i]);
        if (chosen[i] == NULL)
            return NULL;
    }
    return gather(a, s, chosen);
}

static bool has_conditionals(const struct sweep *s) {
    for (int i = 0; i < s->param_count; i++)
        if (s->params[i].when_index >= 0)
            return true;
    return false;
}

int64_t sweep_grid_size(const struct sweep *s) {
    int64_t n = 1;
    if (has_conditionals(s)) {
        struct sweep_grid g;
        sweep_grid_first(&g);
        while (n <= SWEEP_TRIALS_MAX && sweep_grid_next(s, &g))
            n++;
        return n;
    }
    for (int i = 0; i < s->param_count; i++) {
        int64_t axis = sweep_axis_count(&s->params[i]);
        if (axis > SWEEP_TRIALS_MAX || n * axis > SWEEP_TRIALS_MAX)
            return SWEEP_TRIALS_MAX + 1;
        n *= axis;
    }
    return n;
}

static struct value *grid_point(struct arena *a, const struct sweep *s, int64_t trial) {
    struct sweep_grid g;
    sweep_grid_first(&g);
    if (has_conditionals(s)) {
        for (int64_t n = 1; n < trial; n++)
            if (!sweep_grid_next(s, &g))
                break;
        return sweep_grid_point(a, s, &g);
    }
    int64_t rest = trial - 1;
    for (int k = s->param_count - 1; k >= 0; k--) {
        int64_t axis = sweep_axis_count(&s->params[s->order[k]]);
        g.digit[s->order[k]] = rest % axis;
        rest /= axis;
    }
    return sweep_grid_point(a, s, &g);
}

struct value *sweep_point(struct arena *a, const struct sweep *s, int64_t trial) {
    return strcmp(s->searcher, "grid") == 0 ? grid_point(a, s, trial) : random_point(a, s, trial);
}
