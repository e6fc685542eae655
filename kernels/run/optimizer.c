/* Optimizers, element by element. The rates that are the same for a whole slice are made in double
 * and rounded once; every element then sees the same float operations, so that a slice may begin
 * and end anywhere. */
#include "kernels/run/optimizer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/simd.h"

/* ---- gradient norm ---- */

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

bool gradient_norm_blocks(const float *g, int64_t count, double *blocks) {
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

void optimizer_rates(const struct spec_optimizer *o, enum param_kind kind, int64_t t, double lr,
                     struct optimizer_rates *out) {
    double decay = kind == PARAM_WEIGHT ? o->weight_decay : 0.0;
    *out = (struct optimizer_rates){.lr = (float)lr, .decay = (float)decay};
    if (o->kind == OPTIMIZER_SGD) {
        out->momentum = (float)o->momentum;
        return;
    }
    double bias1 = 1.0 - pow(o->betas[0], (double)t), bias2 = 1.0 - pow(o->betas[1], (double)t);
    bool decoupled = o->kind == OPTIMIZER_ADAMW;
    out->lr = decoupled ? (float)(lr * decay) : 0.0f;
    out->decay = decoupled ? 0.0f : (float)decay;
    out->b1 = (float)o->betas[0];
    out->c1 = (float)(1.0 - o->betas[0]);
    out->b2 = (float)o->betas[1];
    out->c2 = (float)(1.0 - o->betas[1]);
    out->step = (float)(lr / bias1);
    out->root = (float)(1.0 / sqrt(bias2));
    out->eps = (float)o->eps;
}

bool optimizer_update(const struct spec_optimizer *o, const struct model *model, int64_t begin,
                      int64_t count, float *w, const float *g, float *const *slots,
                      const struct optimizer_rates rates[2], float scale, double stat_scale) {
    uint32_t nonfinite = 0;
    assert(begin >= 0 && count >= 0 && begin + count <= model->vector_count);
    find_nonfinite(g, count, &nonfinite);
    if (nonfinite)
        return false;
    for (int i = 0; i < model->param_count; i++) {
        const struct param *p = &model->params[i];
        int64_t from = p->offset > begin ? p->offset : begin;
        int64_t to = p->offset + p->count < begin + count ? p->offset + p->count : begin + count;
        if (from >= to)
            continue;
        int64_t at = from - begin, n = to - from;
        struct optimizer_rates r = rates[p->kind == PARAM_WEIGHT ? 0 : 1];
        if (p->kind == PARAM_STAT)
            update_stat(w + at, g + at, n, (float)(1.0 - (double)p->momentum),
                        (float)((double)p->momentum * stat_scale));
        else if (o->kind != OPTIMIZER_SGD)
            update_adam(w + at, g + at, slots[0] + at, slots[1] + at, n, scale, r);
        else if (o->slots == 0)
            update_plain(w + at, g + at, n, scale, r);
        else if (o->nesterov)
            update_nesterov(w + at, g + at, slots[0] + at, n, scale, r);
        else
            update_momentum(w + at, g + at, slots[0] + at, n, scale, r);
    }
    return true;
}
