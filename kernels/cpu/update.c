/* The optimizer on owned slices: at once, bucket by bucket, as they are reduced. */
#include "kernels/run/update.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/optimizer.h"

#define CLIP_EPS 1e-6 /* as PyTorch's clip_grad_norm_ */

struct cpu_update {
    struct update base; /* first */
    float *slots[2];
    double *norms; /* (owned_blocks) */
    float scale;   /* of this step */
    double grad_norm;
    bool gate; /* the norm was finite */
};

static struct cpu_update *of(struct update *u) {
    return (struct cpu_update *)u;
}

static void release(struct update *u) {
    struct cpu_update *c = of(u);
    for (int i = 0; i < 2; i++)
        cpu_free(c->slots[i]);
    cpu_free(c->norms);
    update_fini(u);
    free(c);
}

static enum status create(struct device *d, const struct update_spec *spec, struct update **out,
                          struct err *err) {
    struct cpu_update *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    enum status st = update_init(&c->base, d, spec, err);
    bool ok = true;
    size_t floats = (size_t)(c->base.owned_blocks * NORM_BLOCK);
    for (int i = 0; st == STATUS_OK && i < spec->optimizer->slots; i++)
        ok &= (c->slots[i] = cpu_alloc(floats * sizeof(float))) != NULL;
    if (st == STATUS_OK)
        ok &= (c->norms = cpu_alloc((size_t)c->base.owned_blocks * sizeof(double))) != NULL;
    if (st == STATUS_OK && !ok)
        st = err_set(err, STATUS_NOMEM, "no memory for the optimizer's state: %zu bytes",
                     floats * sizeof(float) * (size_t)spec->optimizer->slots);
    if (st != STATUS_OK) {
        release(&c->base);
        return st;
    }
    c->gate = true;
    *out = &c->base;
    return STATUS_OK;
}

static float *slot(struct update *u, int i) {
    return of(u)->slots[i];
}

/* The sum of squares of block `at` without statistics and scalars. */
static double mixed_block(const struct update *u, int64_t at) {
    const struct model *m = u->spec.model;
    float block[NORM_BLOCK] = {0};
    double out = 0;
    int64_t end = at + NORM_BLOCK < m->flat_count ? at + NORM_BLOCK : m->flat_count;
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        int64_t from = p->offset > at ? p->offset : at;
        int64_t to = p->offset + p->count < end ? p->offset + p->count : end;
        if (p->kind != PARAM_STAT && from < to)
            memcpy(block + (from - at), u->spec.gradient + from,
                   (size_t)(to - from) * sizeof(float));
    }
    (void)cpu_norm_blocks(block, NORM_BLOCK, &out); /* what is not finite shows in the sum */
    return out;
}

static double *norms(struct update *u, int bucket) {
    struct cpu_update *c = of(u);
    struct slice s = u->spec.owned[bucket];
    int64_t k = u->packed[bucket] / NORM_BLOCK;
    (void)cpu_norm_blocks(u->spec.gradient + s.begin, s.count, c->norms + k);
    for (int64_t at = s.begin; at < s.begin + s.count; at += NORM_BLOCK, k++)
        if (u->mixed[k])
            c->norms[k] = mixed_block(u, at);
    return c->norms;
}

/* The norm of the mean gradient: blocks of all ranks, added in the order of the vector. */
static void clip(struct update *u, const double *norms) {
    struct cpu_update *c = of(u);
    double sum = 0;
    for (int64_t i = 0; i < u->spec.blocks; i++)
        sum += norms[i];
    c->grad_norm = sqrt(sum) / (double)u->spec.batch;
    double share = u->spec.clip_norm / (c->grad_norm + CLIP_EPS);
    c->scale = (float)(1.0 / (double)u->spec.batch * (share < 1 ? share : 1));
    c->gate = isfinite(c->grad_norm) != 0;
}

static double norm(struct update *u) {
    return of(u)->grad_norm;
}

static bool apply_slice(struct cpu_update *c, const struct step_terms *terms, int bucket) {
    const struct update_spec *spec = &c->base.spec;
    struct slice s = spec->owned[bucket];
    int64_t flat = spec->model->flat_count;
    const float *g = spec->gradient + s.begin;
    bool finite = true;
    if (s.count > 0 && s.begin + s.count > flat) {
        finite = isfinite(g[flat + SCALAR_LOSS - s.begin]) != 0;
        s.count = flat > s.begin ? flat - s.begin : 0;
    }
    if (s.count == 0 || !finite)
        return finite;
    struct cpu_stretch at = {
        .begin = s.begin, .count = s.count, .weights = spec->weights + s.begin, .gradient = g};
    struct cpu_step step = {.rates = {terms->rates[0], terms->rates[1]},
                            .scale = spec->clip_norm > 0 ? c->scale : terms->scale,
                            .stat_scale = 1.0 / (double)spec->shards};
    for (int i = 0; i < spec->optimizer->slots; i++)
        at.slots[i] = c->slots[i] + c->base.packed[bucket];
    return cpu_optimizer_step(spec->optimizer, spec->model, &at, &step);
}

static void apply(struct update *u, int first, int count) {
    struct cpu_update *c = of(u);
    const struct step_terms *terms = &cpu_of(u->device)->terms;
    for (int b = first; b < first + count; b++)
        if (!c->gate || !apply_slice(c, terms, b))
            cpu_of(u->device)->flags |= OUTCOME_NONFINITE;
}

/* ---- a step, and the table ---- */

static void begin_step(struct device *d, const struct step_terms *terms) {
    struct cpu_device *cpu = cpu_of(d);
    cpu->terms = *terms;
    cpu->flags = 0;
}

static void resume(struct device *d) {
    cpu_of(d)->flags = 0;
}

static uint32_t *flags(struct device *d) {
    return &cpu_of(d)->flags;
}

const struct device_update cpu_update_table = {
    .begin_step = begin_step,
    .flags = flags,
    .resume = resume,
    .create = create,
    .release = release,
    .slot = slot,
    .norms = norms,
    .clip = clip,
    .norm = norm,
    .apply = apply,
};
