/* (B, C, H, W) ↔ (B, H, W, C): a transpose of (C, H·W) for each sample. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/layout_kernels.h"

#include <stdlib.h>

struct layout {
    bool bf16;
};

static enum status prepare(struct device *d, struct node *n, const struct extent *e,
                           struct err *err) {
    void *p = NULL;
    enum status st = cuda_state_new(n, sizeof(struct layout), &p, err);
    (void)d;
    if (st == STATUS_OK)
        ((struct layout *)p)->bf16 = e->precision == PRECISION_BF16;
    return st;
}

static void release(struct device *d, struct node *n) {
    (void)d;
    free(n->state);
}

static void samples(const struct node *n, int64_t count, bool to_nhwc, const void *x, void *y) {
    const struct layout *s = n->state;
    int64_t channels = n->in.dim[0], pixels = n->in.dim[1] * n->in.dim[2];
    if (cuda_failed(n->device))
        return;
    layout_transpose(s->bf16, x, y, count, to_nhwc ? channels : pixels, to_nhwc ? pixels : channels,
                     cuda_stream(n->device));
    cuda_launched(n->device, "layout: launch of the transpose");
}

static void to_nhwc_forward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, true, p->x[0], p->y);
}

static void to_nhwc_backward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, false, p->dy, p->dx[0]);
}

static void to_nchw_forward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, false, p->x[0], p->y);
}

static void to_nchw_backward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, true, p->dy, p->dx[0]);
}

const struct operation cuda_to_nhwc = {
    .prepare = prepare,
    .release = release,
    .forward = to_nhwc_forward,
    .backward_data = to_nhwc_backward,
};
const struct operation cuda_to_nchw = {
    .prepare = prepare,
    .release = release,
    .forward = to_nchw_forward,
    .backward_data = to_nchw_backward,
};
