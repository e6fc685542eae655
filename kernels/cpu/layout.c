/* (B, C, H, W) ↔ (B, H, W, C): a transpose of (C, H·W) for each sample. */
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/ops.h"

static void samples(const struct node *n, int64_t count, bool to_nhwc, const float *x, float *y) {
    int64_t channels = n->in.dim[0], pixels = n->in.dim[1] * n->in.dim[2];
    for (int64_t i = 0; i < count; i++, x += n->in_count, y += n->in_count)
        if (to_nhwc)
            cpu_transpose(x, pixels, channels, pixels, y, channels);
        else
            cpu_transpose(x, channels, pixels, channels, y, pixels);
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

const struct operation cpu_to_nhwc = {
    .forward = to_nhwc_forward,
    .backward_data = to_nhwc_backward,
};
const struct operation cpu_to_nchw = {
    .forward = to_nchw_forward,
    .backward_data = to_nchw_backward,
};
