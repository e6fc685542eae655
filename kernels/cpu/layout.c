/* (B, C, H, W) ↔ (B, H, W, C): a transpose of (C, H·W) for each sample. */
#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

#define TILE 16

CLONES(static, transpose, (const float *x, int64_t rows, int64_t columns, float *y),
       (x, rows, columns, y)) {
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < columns; c0 += TILE) {
            int64_t r1 = r0 + TILE < rows ? r0 + TILE : rows;
            int64_t c1 = c0 + TILE < columns ? c0 + TILE : columns;
            for (int64_t c = c0; c < c1; c++)
                for (int64_t r = r0; r < r1; r++)
                    y[c * rows + r] = x[r * columns + c];
        }
}

static void samples(const struct node *n, int64_t count, bool to_nhwc, const float *x, float *y) {
    int64_t channels = n->in.dim[0], pixels = n->in.dim[1] * n->in.dim[2];
    for (int64_t i = 0; i < count; i++, x += n->in_count, y += n->in_count)
        transpose(x, to_nhwc ? channels : pixels, to_nhwc ? pixels : channels, y);
}

static void to_nhwc_forward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, true, p->x, p->y);
}

static void to_nhwc_backward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, false, p->dy, p->dx);
}

static void to_nchw_forward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, false, p->x, p->y);
}

static void to_nchw_backward(const struct node *n, const struct pass *p) {
    samples(n, p->rows, true, p->dy, p->dx);
}

const struct operation cpu_to_nhwc = {
    .name = "to nhwc",
    .forward = to_nhwc_forward,
    .backward_data = to_nhwc_backward,
};
const struct operation cpu_to_nchw = {
    .name = "to nchw",
    .forward = to_nchw_forward,
    .backward_data = to_nchw_backward,
};
