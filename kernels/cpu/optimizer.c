/* Element by element, in vectors: the rules of run/optimizer_rule.h. */
#include "kernels/cpu/optimizer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/host/simd.h"

#define LANES 16

/* Sixteen running sums in double, then a fixed tree over them. */
CLONES(static, block_squares, (const float *g, int64_t count, double *out), (g, count, out)) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)g[i + j] * (double)g[i + j];
    for (int j = 0; i + j < count; j++)
        lane[j] += (double)g[i + j] * (double)g[i + j];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    *out = lane[0];
}

bool cpu_norm_blocks(const float *g, int64_t count, double *blocks) {
    bool finite = true;
    for (int64_t i = 0; i < count; i += NORM_BLOCK) {
        int64_t n = count - i < NORM_BLOCK ? count - i : NORM_BLOCK;
        double *block = &blocks[i / NORM_BLOCK];
        block_squares(g + i, n, block);
        finite &= isfinite(*block) != 0; /* squares of floats cannot overflow a double */
    }
    return finite;
}

/* Inf and NaN are the floats whose exponent is all ones. */
CLONES(static, find_nonfinite, (const float *g, int64_t count, uint32_t *found),
       (g, count, found)) {
    uint32_t seen = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &g[i], sizeof bits);
        seen |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    *found = seen;
}

/* ---- updates ---- */

CLONES(static, update_plain,
       (float *w, const float *g, int64_t n, float scale, struct optimizer_rates r),
       (w, g, n, scale, r)) {
    for (int64_t i = 0; i < n; i++)
        rule_plain(&w[i], g[i], scale, r);
}

CLONES(static, update_momentum,
       (float *restrict w, const float *restrict g, float *restrict v, int64_t n, float scale,
        struct optimizer_rates r),
       (w, g, v, n, scale, r)) {
    for (int64_t i = 0; i < n; i++)
        rule_momentum(&w[i], &v[i], g[i], scale, r);
}

CLONES(static, update_nesterov,
       (float *restrict w, const float *restrict g, float *restrict v, int64_t n, float scale,
        struct optimizer_rates r),
       (w, g, v, n, scale, r)) {
    for (int64_t i = 0; i < n; i++)
        rule_nesterov(&w[i], &v[i], g[i], scale, r);
}

CLONES(static, update_adam,
       (float *restrict w, const float *restrict g, float *restrict m, float *restrict v, int64_t n,
        float scale, struct optimizer_rates r),
       (w, g, m, v, n, scale, r)) {
    for (int64_t i = 0; i < n; i++)
        rule_adam(&w[i], &m[i], &v[i], g[i], scale, r);
}

CLONES(static, update_stat, (float *w, const float *g, int64_t n, float keep, float take),
       (w, g, n, keep, take)) {
    for (int64_t i = 0; i < n; i++)
        rule_stat(&w[i], g[i], keep, take);
}

/* The elements `part` of the stretch, which are the tensor's. */
static void step_param(const struct spec_optimizer *o, const struct param *p,
                       const struct cpu_stretch *at, const struct cpu_step *step,
                       struct slice part) {
    float *w = at->weights + part.begin;
    const float *g = at->gradient + part.begin;
    float *s0 = o->slots > 0 ? at->slots[0] + part.begin : NULL;
    float *s1 = o->slots > 1 ? at->slots[1] + part.begin : NULL;
    struct optimizer_rates r = step->rates[p->kind == PARAM_WEIGHT ? 0 : 1];
    if (p->kind == PARAM_STAT)
        update_stat(w, g, part.count, (float)(1.0 - (double)p->momentum),
                    (float)((double)p->momentum * step->stat_scale));
    else if (o->kind != OPTIMIZER_SGD)
        update_adam(w, g, s0, s1, part.count, step->scale, r);
    else if (o->slots == 0)
        update_plain(w, g, part.count, step->scale, r);
    else if (o->nesterov)
        update_nesterov(w, g, s0, part.count, step->scale, r);
    else
        update_momentum(w, g, s0, part.count, step->scale, r);
}

bool cpu_optimizer_step(const struct spec_optimizer *o, const struct model *model,
                        const struct cpu_stretch *at, const struct cpu_step *step) {
    uint32_t nonfinite = 0;
    int64_t end = at->begin + at->count;
    assert(at->begin >= 0 && at->count >= 0 && end <= model->vector_count);
    find_nonfinite(at->gradient, at->count, &nonfinite);
    if (nonfinite)
        return false;
    for (int i = 0; i < model->param_count; i++) {
        const struct param *p = &model->params[i];
        int64_t from = p->offset > at->begin ? p->offset : at->begin;
        int64_t to = p->offset + p->count < end ? p->offset + p->count : end;
        if (from < to)
            step_param(o, p, at, step, (struct slice){from - at->begin, to - from});
    }
    return true;
}
