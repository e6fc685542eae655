/* Batch norm on the GPU: the shard's statistics by itself, as kernels/cpu/norm.c says. In
 * evaluation the first shard's scale and shift hold what the running statistics come to. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/norm_kernels.h"

struct batch_norm {
    bool bf16;
    float *stats;     /* (shards, NORM_STATS, C) */
    double *sums;     /* (shards, chunks, 2, C); NULL: one chunk */
    float *gradients; /* (shards, param_end − param_begin) */
};

static int64_t pixels_of(const struct node *n) {
    return shape_pixels(&n->in);
}

static void batch_norm_release(struct device *d, struct node *n) {
    struct batch_norm *s = n->state;
    d->backend->memory->release(d, s->stats);
    d->backend->memory->release(d, s->sums);
    d->backend->memory->release(d, s->gradients);
    free(s);
}

static enum status batch_norm_prepare(struct device *d, struct node *n, const struct extent *e,
                                      struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    int64_t positions = e->shard_rows * pixels_of(n), channels = n->in.dim[0];
    size_t column = (size_t)e->shards * (size_t)channels;
    (void)d;
    if (positions < 2)
        return err_set(err, STATUS_INVALID,
                       "a shard has one value per feature, too few for statistics: use a larger "
                       "global_batch_size or fewer virtual_shards");
    TRY(cuda_state_new(n, sizeof(struct batch_norm), &p, err));
    struct batch_norm *s = p;
    s->bf16 = e->precision == PRECISION_BF16;
    TRY(cuda_part(n, column * NORM_STATS * sizeof(float), (void **)&s->stats, err));
    int chunks = norm_chunks(s->bf16, channels, positions);
    if (chunks > 1)
        TRY(cuda_part(n, column * 2 * (size_t)chunks * sizeof(double), (void **)&s->sums, err));
    TRY(cuda_part(n, (size_t)(e->shards * (n->param_end - n->param_begin)) * sizeof(float),
                  (void **)&s->gradients, err));
out:
    return st;
}

static struct norm_call call_of(const struct node *n, const float *weights) {
    const struct batch_norm *s = n->state;
    struct norm_call c = {.bf16 = s->bf16,
                          .relu = n->relu,
                          .channels = n->in.dim[0],
                          .eps = (double)n->layer->eps,
                          .gamma = weights + n->param[0],
                          .beta = weights + n->param[1],
                          .mean = weights + n->param[2],
                          .variance = weights + n->param[3],
                          .stats = s->stats,
                          .sums = s->sums,
                          .gradients = s->gradients,
                          .stride = n->param_end - n->param_begin};
    for (int i = 0; i < 4; i++)
        c.at[i] = n->param[i] - n->param_begin;
    return c;
}

static struct norm_call pass_call(const struct node *n, const struct pass *p, void *out) {
    struct norm_call c = call_of(n, p->weights);
    c.shards = p->shards;
    c.positions = p->shard_rows * pixels_of(n);
    c.x = p->x[0];
    c.dy = p->dy;
    c.out = out;
    return c;
}

static void batch_norm_refresh(const struct node *n, const float *weights, bool training) {
    if (training)
        return;
    struct norm_call c = call_of(n, weights);
    norm_recall(cuda_stream(n->device), &c);
    cuda_launched(n->device, "batch_norm: running statistics");
}

static void batch_norm_forward(const struct node *n, const struct pass *p) {
    struct norm_call c = pass_call(n, p, p->y);
    if (p->training)
        norm_measure(cuda_stream(n->device), &c);
    norm_apply(cuda_stream(n->device), &c);
    cuda_launched(n->device, "batch_norm: forward");
}

static void batch_norm_backward_weights(const struct node *n, const struct pass *p) {
    struct norm_call c = pass_call(n, p, NULL);
    norm_slopes(cuda_stream(n->device), &c);
    cuda_launched(n->device, "batch_norm: gradients");
    cuda_fold_shards(n->device, p->fold, n->param_begin, c.gradients, c.stride, p->shards,
                     c.stride);
}

static void batch_norm_backward_data(const struct node *n, const struct pass *p) {
    struct norm_call c = pass_call(n, p, p->dx[0]);
    norm_data(cuda_stream(n->device), &c);
    cuda_launched(n->device, "batch_norm: backward");
}

const struct operation cuda_batch_norm = {
    .prepare = batch_norm_prepare,
    .release = batch_norm_release,
    .refresh = batch_norm_refresh,
    .forward = batch_norm_forward,
    .backward_weights = batch_norm_backward_weights,
    .backward_data = batch_norm_backward_data,
};
