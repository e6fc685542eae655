/* Optimizers, element by element. The rates that are the same for a whole slice are made in double
 * and rounded once; every element then sees the same float operations, so that a slice may begin
 * and end anywhere. */
#include "kernels/optimizer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/schema.h"
#include "kernels/cpu/simd.h"

static const struct field beta_item[] = {
    {"beta", FIELD_REAL, 0, 0.0, 0.9999999, NULL, NULL, "decay"},
    FIELD_END,
};
static const struct field optimizer_fields[] = {
    {"name", FIELD_ENUM, REQUIRED, 0, 0, "sgd|adam|adamw", NULL, "which"},
    {"lr", FIELD_REAL, REQUIRED, 0, 1e6, NULL, NULL, "learning rate"},
    {"momentum", FIELD_REAL, 0, 0, 0.9999999, NULL, NULL, "sgd only (default 0)"},
    {"nesterov", FIELD_BOOL, 0, 0, 0, NULL, NULL, "sgd only (default false)"},
    {"betas", FIELD_LIST, 0, 2, 2, NULL, beta_item, "adam, adamw (default [0.9, 0.999])"},
    {"eps", FIELD_REAL, 0, 1e-30, 1, NULL, NULL, "adam, adamw (default 1e-8)"},
    {"weight_decay", FIELD_REAL, 0, 0, 1e6, NULL, NULL, "default 0; adamw 0.01"},
    FIELD_END,
};

static double beta_at(const struct value *betas, size_t i, double fallback) {
    if (!betas || betas->count != 2)
        return fallback;
    const struct value *v = betas->items[i];
    return v->kind == VALUE_INT ? (double)v->integer : v->real;
}

static enum status refuse_foreign(const struct value *map, const char *file, const char *name,
                                  const char *const *keys, struct err *err) {
    for (; *keys; keys++) {
        const struct value *v = value_get(map, *keys);
        char place[SCHEMA_PLACE_MAX];
        if (v)
            return err_set(err, STATUS_INVALID, "%straining.optimizer: '%s' is no key of %s",
                           schema_place(file, v, place), *keys, name);
    }
    return STATUS_OK;
}

enum status optimizer_parse(const struct value *map, const char *file, struct optimizer *out,
                            struct err *err) {
    static const char *const of_adam[] = {"betas", "eps", NULL};
    static const char *const of_sgd[] = {"momentum", "nesterov", NULL};
    enum status st = STATUS_OK;
    TRY(schema_check(optimizer_fields, map, file, "training.optimizer", err));
    const char *name = value_get_string(map, "name", "");
    struct optimizer o = {
        .kind = !strcmp(name, "sgd")    ? OPTIMIZER_SGD
                : !strcmp(name, "adam") ? OPTIMIZER_ADAM
                                        : OPTIMIZER_ADAMW,
        .lr = value_get_real(map, "lr", 0),
        .momentum = value_get_real(map, "momentum", 0),
        .nesterov = value_get_bool(map, "nesterov", false),
        .beta1 = beta_at(value_get(map, "betas"), 0, 0.9),
        .beta2 = beta_at(value_get(map, "betas"), 1, 0.999),
        .eps = value_get_real(map, "eps", 1e-8),
    };
    o.weight_decay = value_get_real(map, "weight_decay", o.kind == OPTIMIZER_ADAMW ? 0.01 : 0.0);
    o.slots = o.kind != OPTIMIZER_SGD ? 2 : o.momentum > 0.0 ? 1 : 0;
    TRY(refuse_foreign(map, file, name, o.kind == OPTIMIZER_SGD ? of_adam : of_sgd, err));
    if (o.nesterov && o.slots == 0) {
        char place[SCHEMA_PLACE_MAX];
        return err_set(err, STATUS_INVALID,
                       "%straining.optimizer: nesterov needs a momentum greater than 0",
                       schema_place(file, map, place));
    }
    *out = o;
out:
    return st;
}

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

struct rates {
    float scale, lr, decay, momentum;
    float b1, b2, c1, c2;  /* betas and one minus them */
    float step, root, eps; /* lr / (1 − b1^t), 1 / sqrt(1 − b2^t) */
};

CLONES(static, update_plain, (float *w, const float *g, int64_t n, struct rates r), (w, g, n, r)) {
    for (int64_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        w[i] = w[i] - r.lr * d;
    }
}

CLONES(static, update_momentum, (float *w, const float *g, float *v, int64_t n, struct rates r),
       (w, g, v, n, r)) {
    for (int64_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        v[i] = r.momentum * v[i] + d;
        w[i] = w[i] - r.lr * v[i];
    }
}

CLONES(static, update_nesterov, (float *w, const float *g, float *v, int64_t n, struct rates r),
       (w, g, v, n, r)) {
    for (int64_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        v[i] = r.momentum * v[i] + d;
        w[i] = w[i] - r.lr * (d + r.momentum * v[i]);
    }
}

/* r.decay: λ added to g (adam); r.lr: the product lr·λ taken off w first (adamw). One of them is 0.
 */
CLONES(static, update_adam,
       (float *restrict w, const float *restrict g, float *restrict m, float *restrict v, int64_t n,
        struct rates r),
       (w, g, m, v, n, r)) {
    for (int64_t i = 0; i < n; i++) {
        float d = g[i] * r.scale + r.decay * w[i];
        float mi = r.b1 * m[i] + r.c1 * d;
        float vi = r.b2 * v[i] + r.c2 * (d * d);
        m[i] = mi;
        v[i] = vi;
        float kept = w[i] - r.lr * w[i];
        w[i] = kept - r.step * mi / (__builtin_sqrtf(vi) * r.root + r.eps);
    }
}

CLONES(static, update_stat, (float *w, const float *g, int64_t n, float keep, float take),
       (w, g, n, keep, take)) {
    for (int64_t i = 0; i < n; i++)
        w[i] = keep * w[i] + take * g[i];
}

static struct rates make_rates(const struct optimizer *o, enum param_kind kind, int64_t t,
                               double lr, double scale) {
    double decay = kind == PARAM_WEIGHT ? o->weight_decay : 0.0;
    struct rates r = {.scale = (float)scale, .lr = (float)lr, .decay = (float)decay};
    if (o->kind == OPTIMIZER_SGD) {
        r.momentum = (float)o->momentum;
        return r;
    }
    double bias1 = 1.0 - pow(o->beta1, (double)t), bias2 = 1.0 - pow(o->beta2, (double)t);
    bool decoupled = o->kind == OPTIMIZER_ADAMW;
    r.lr = decoupled ? (float)(lr * decay) : 0.0f;
    r.decay = decoupled ? 0.0f : (float)decay;
    r.b1 = (float)o->beta1;
    r.c1 = (float)(1.0 - o->beta1);
    r.b2 = (float)o->beta2;
    r.c2 = (float)(1.0 - o->beta2);
    r.step = (float)(lr / bias1);
    r.root = (float)(1.0 / sqrt(bias2));
    r.eps = (float)o->eps;
    return r;
}

bool optimizer_update(const struct optimizer *o, const struct model *model, int64_t begin,
                      int64_t count, float *w, const float *g, float *const *slots, int64_t t,
                      double lr, double scale, double stat_scale) {
    uint32_t nonfinite = 0;
    assert(begin >= 0 && count >= 0 && begin + count <= model->vector_count && t >= 1);
    find_nonfinite(g, count, &nonfinite);
    if (nonfinite)
        return false;
    struct rates rates[2];
    for (int kind = 0; kind < 2; kind++)
        rates[kind] = make_rates(o, kind ? PARAM_PLAIN : PARAM_WEIGHT, t, lr, scale);
    for (int i = 0; i < model->param_count; i++) {
        const struct param *p = &model->params[i];
        int64_t from = p->offset > begin ? p->offset : begin;
        int64_t to = p->offset + p->count < begin + count ? p->offset + p->count : begin + count;
        if (from >= to)
            continue;
        int64_t at = from - begin, n = to - from;
        struct rates r = rates[p->kind == PARAM_WEIGHT ? 0 : 1];
        if (p->kind == PARAM_STAT)
            update_stat(w + at, g + at, n, (float)(1.0 - (double)p->momentum),
                        (float)((double)p->momentum * stat_scale));
        else if (o->kind != OPTIMIZER_SGD)
            update_adam(w + at, g + at, slots[0] + at, slots[1] + at, n, r);
        else if (o->slots == 0)
            update_plain(w + at, g + at, n, r);
        else if (o->nesterov)
            update_nesterov(w + at, g + at, slots[0] + at, n, r);
        else
            update_momentum(w + at, g + at, slots[0] + at, n, r);
    }
    return true;
}
