/* Dense: y = x·Wᵀ + b, W (out, in). Products are batches over shards, the weight being the same for
 * all of them:
 *
 *     forward           Y_s (rows, out) = X_s · Wᵀ + b, relu at once       for each shard s
 *     backward weights  dW_s (out, in)  = dY_sᵀ · X_s in float32
 *     backward data     dX_s (rows, in) = dY_s · W
 *
 * A shard's gradients lie as the layer lies in the flat vector, so that one fold takes W and b:
 *
 *     partials:  [ dW_0 | db_0 ] [ dW_1 | db_1 ] …      (side by side, stretch)
 *
 * In bf16 the products see a bfloat16 copy of the stretch, made once a step. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dense_kernels.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/partials.h"

struct dense {
    struct matmul *forward, *weights;
    struct matmul *data; /* NULL where no dx is needed */
    void *rounded;       /* bf16: (stretch) */
    float *partials;     /* (side_by_side, stretch) */
    float *levels;       /* (levels, stretch): see partials.h */
    int64_t stretch;     /* floats of the layer in the flat vector */
    int64_t shard_rows;
    int side_by_side; /* shards */
    bool bf16;
    uint64_t seed;
};

/* ---- creation ---- */

static void dense_release(struct device *d, struct node *n) {
    struct dense *s = n->state;
    matmul_release(s->forward);
    matmul_release(s->weights);
    matmul_release(s->data);
    d->backend->memory->release(d, s->rounded);
    d->backend->memory->release(d, s->partials);
    d->backend->memory->release(d, s->levels);
    free(s);
    n->state = NULL;
}

static enum status new_products(struct device *d, const struct node *n, const struct extent *e,
                                struct dense *s, struct err *err) {
    enum status st = STATUS_OK;
    int64_t rows = e->shard_rows, in = n->in_count, out = n->out_count;
    struct matmul_spec forward = {.m = rows,
                                  .n = out,
                                  .k = in,
                                  .transpose_b = true,
                                  .a_stride = rows * in,
                                  .d_stride = rows * out,
                                  .batch_max = e->shards,
                                  .precision = e->precision,
                                  .bias = n->param[1] >= 0,
                                  .relu = n->relu};
    struct matmul_spec weights = {.m = out,
                                  .n = in,
                                  .k = rows,
                                  .transpose_a = true,
                                  .a_stride = rows * out,
                                  .b_stride = rows * in,
                                  .d_stride = s->stretch,
                                  .batch_max = s->side_by_side,
                                  .precision = e->precision,
                                  .d_float = true};
    struct matmul_spec data = {.m = rows,
                               .n = in,
                               .k = out,
                               .a_stride = rows * out,
                               .d_stride = rows * in,
                               .batch_max = e->shards,
                               .precision = e->precision};
    TRY(matmul_new(d, &forward, &s->forward, err));
    TRY(matmul_new(d, &weights, &s->weights, err));
    if (n->needs_dx)
        TRY(matmul_new(d, &data, &s->data, err));
out:
    return st;
}

static enum status dense_prepare(struct device *d, struct node *n, const struct extent *e,
                                 struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    struct dense *s;
    TRY(cuda_state_new(n, sizeof *s, &p, err));
    s = p;
    s->stretch = n->param_end - n->param_begin;
    s->shard_rows = e->shard_rows;
    s->side_by_side = partials_side_by_side(s->stretch, e->shards);
    s->bf16 = e->precision == PRECISION_BF16;
    s->seed = e->seed;
    size_t floats = (size_t)s->stretch * sizeof(float);
    int levels = partials_levels(s->stretch, e->shards);
    TRY(new_products(d, n, e, s, err));
    TRY(cuda_part(n, (size_t)s->side_by_side * floats, &p, err));
    s->partials = p;
    if (levels > 0) {
        TRY(cuda_part(n, (size_t)levels * floats, &p, err));
        s->levels = p;
    }
    if (s->bf16)
        TRY(cuda_part(n, floats / 2, &s->rounded, err));
out:
    return st;
}

/* ---- forward ---- */

/* A layer's tensor as the products see it. */
static const void *operand(const struct node *n, const float *weights, int64_t param) {
    const struct dense *s = n->state;
    if (s->bf16)
        return (const uint16_t *)s->rounded + (param - n->param_begin);
    return weights + param;
}

static void dense_refresh(const struct node *n, const float *weights, bool training) {
    const struct dense *s = n->state;
    struct device *d = n->device;
    if (!s->bf16 || cuda_failed(d))
        return;
    dense_round(weights + n->param_begin, s->rounded, s->stretch, s->seed, n->layer->index,
                training ? &cuda_state(d)->terms.step : NULL, cuda_stream(d));
    cuda_launched(d, "dense: rounding of weights");
}

/* In evaluation the last shard may have fewer rows than the rest: what follows them in the buffers
 * is multiplied too, and nobody looks at it. */
static void dense_forward(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    int shards = (int)((p->rows + s->shard_rows - 1) / s->shard_rows);
    const void *bias = n->param[1] >= 0 ? operand(n, p->weights, n->param[1]) : NULL;
    matmul_run(s->forward, shards, p->x[0], operand(n, p->weights, n->param[0]), p->y, bias);
}

/* ---- backward ---- */

/* Where part `part` of `parts` of a call's shards goes: to a level, or with the last one to where
 * the call's own fold says. Pointers are moved to the layer's stretch. */
static struct fold fold_part(const struct node *n, const struct pass *p, int part, int parts) {
    const struct dense *s = n->state;
    bool last = part == parts - 1;
    struct fold fold = {.adds = __builtin_ctz(last ? (unsigned)parts : ~(unsigned)part)};
    for (int i = 0; i < fold.adds; i++)
        fold.add[i] = s->levels + i * s->stretch;
    fold.dst = last ? p->fold->dst + n->param_begin : s->levels + fold.adds * s->stretch;
    for (int i = 0; last && i < p->fold->adds; i++)
        fold.add[fold.adds++] = p->fold->add[i] + n->param_begin;
    return fold;
}

/* Shard `shard` of (shards, rows, elements). */
static void *at(const struct node *n, const void *base, int shard, int64_t elements) {
    const struct dense *s = n->state;
    size_t offset = (size_t)(shard * s->shard_rows * elements) * (s->bf16 ? 2 : sizeof(float));
    return (char *)(uintptr_t)base + offset;
}

static void mask_and_sum(const struct node *n, const struct pass *p, int first, int shards) {
    const struct dense *s = n->state;
    bool bias = n->param[1] >= 0;
    if ((!n->relu && !bias) || cuda_failed(n->device))
        return;
    dense_mask_and_sum(s->bf16, at(n, p->dy, first, n->out_count),
                       n->relu ? at(n, p->y, first, n->out_count) : NULL,
                       bias ? s->partials + (n->param[1] - n->param_begin) : NULL, s->stretch,
                       shards, s->shard_rows, n->out_count, cuda_stream(n->device));
    cuda_launched(n->device, "dense: mask and bias gradient");
}

static void dense_backward_weights(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    int shards = p->shards < s->side_by_side ? p->shards : s->side_by_side;
    for (int part = 0; part < p->shards / shards; part++) {
        int first = part * shards;
        struct fold fold = fold_part(n, p, part, p->shards / shards);
        mask_and_sum(n, p, first, shards);
        matmul_run(s->weights, shards, at(n, p->dy, first, n->out_count),
                   at(n, p->x[0], first, n->in_count), s->partials + (n->param[0] - n->param_begin),
                   NULL);
        cuda_fold_shards(n->device, &fold, 0, s->partials, s->stretch, shards, s->stretch);
    }
}

static void dense_backward_data(const struct node *n, const struct pass *p) {
    const struct dense *s = n->state;
    matmul_run(s->data, p->shards, p->dy, operand(n, p->weights, n->param[0]), p->dx[0], NULL);
}

/* ---- what is said of it ---- */

static bool dense_self_check(const struct node *n) {
    const struct dense *s = n->state;
    return matmul_self_check(s->forward) && matmul_self_check(s->weights) &&
           (s->data == NULL || matmul_self_check(s->data));
}

static struct value *dense_describe(struct arena *a, const struct node *n) {
    const struct dense *s = n->state;
    struct value *out = value_map(a);
    value_set(a, out, "forward", matmul_describe(a, s->forward));
    value_set(a, out, "weights", matmul_describe(a, s->weights));
    if (s->data != NULL)
        value_set(a, out, "data", matmul_describe(a, s->data));
    return out;
}

const struct operation cuda_dense = {
    .prepare = dense_prepare,
    .release = dense_release,
    .refresh = dense_refresh,
    .forward = dense_forward,
    .backward_weights = dense_backward_weights,
    .backward_data = dense_backward_data,
    .self_check = dense_self_check,
    .describe = dense_describe,
};
