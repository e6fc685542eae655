/* Max and average pooling on the GPU. Rows do not know of each other. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/pool_kernels.h"

struct pool {
    bool bf16;
    void *from; /* max pool: (rows, out) uint8_t or uint16_t; average: NULL */
};

static struct pool_window window_of(const struct node *n) {
    const struct layer *l = n->layer;
    return (struct pool_window){.channels = (int)n->in.dim[0],
                                .in_h = (int)n->in.dim[1],
                                .in_w = (int)n->in.dim[2],
                                .out_h = (int)n->out.dim[1],
                                .out_w = (int)n->out.dim[2],
                                .kernel_h = (int)l->kernel[0],
                                .kernel_w = (int)l->kernel[1],
                                .stride_h = (int)l->stride[0],
                                .stride_w = (int)l->stride[1]};
}

static void pool_release(struct device *d, struct node *n) {
    struct pool *s = n->state;
    d->backend->memory->release(d, s->from);
    free(s);
}

static enum status avg_pool_prepare(struct device *d, struct node *n, const struct extent *e,
                                    struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    (void)d;
    if (n->in_count > INT32_MAX)
        return err_set(err, STATUS_INVALID,
                       "a sample of %lld elements is more than a pool on a GPU can number: make "
                       "its input smaller",
                       (long long)n->in_count);
    TRY(cuda_state_new(n, sizeof(struct pool), &p, err));
    struct pool *s = p;
    s->bf16 = e->precision == PRECISION_BF16;
out:
    return st;
}

static enum status max_pool_prepare(struct device *d, struct node *n, const struct extent *e,
                                    struct err *err) {
    enum status st = STATUS_OK;
    TRY(avg_pool_prepare(d, n, e, err));
    struct pool *s = n->state;
    size_t count = (size_t)(e->shards * e->shard_rows * n->out_count);
    bool narrow = n->layer->kernel[0] * n->layer->kernel[1] <= POOL_NARROW;
    TRY(cuda_part(n, count * (narrow ? sizeof(uint8_t) : sizeof(uint16_t)), &s->from, err));
out:
    return st;
}

static struct pool_call call_of(const struct node *n, const struct pass *p, const void *in,
                                void *out) {
    const struct pool *s = n->state;
    return (struct pool_call){.bf16 = s->bf16,
                              .rows = p->rows,
                              .window = window_of(n),
                              .in = in,
                              .out = out,
                              .from = s->from};
}

static void max_pool_forward(const struct node *n, const struct pass *p) {
    struct pool_call c = call_of(n, p, p->x[0], p->y);
    pool_max(cuda_stream(n->device), &c);
    cuda_launched(n->device, "max_pool: forward");
}

static void max_pool_backward(const struct node *n, const struct pass *p) {
    struct pool_call c = call_of(n, p, p->dy, p->dx[0]);
    pool_max_backward(cuda_stream(n->device), &c);
    cuda_launched(n->device, "max_pool: backward");
}

static void avg_pool_forward(const struct node *n, const struct pass *p) {
    struct pool_call c = call_of(n, p, p->x[0], p->y);
    pool_average(cuda_stream(n->device), &c);
    cuda_launched(n->device, "avg_pool: forward");
}

static void avg_pool_backward(const struct node *n, const struct pass *p) {
    struct pool_call c = call_of(n, p, p->dy, p->dx[0]);
    pool_average_backward(cuda_stream(n->device), &c);
    cuda_launched(n->device, "avg_pool: backward");
}

const struct operation cuda_max_pool = {
    .prepare = max_pool_prepare,
    .release = pool_release,
    .forward = max_pool_forward,
    .backward_data = max_pool_backward,
};

const struct operation cuda_avg_pool = {
    .prepare = avg_pool_prepare,
    .release = pool_release,
    .forward = avg_pool_forward,
    .backward_data = avg_pool_backward,
};
