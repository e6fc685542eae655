/* Element by element: relu, tanh and sigmoid know their gradient from y and work in place; gelu
 * (the erf form, Hendrycks & Gimpel 2016, arXiv 1606.08415) needs x. */
#include "kernels/cpu/ops.h"
#include "kernels/cpu/vmath.h"
#include "kernels/host/simd.h"

CLONES(static, relu_apply, (const float *x, float *y, int64_t n), (x, y, n)) {
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

CLONES(static, tanh_apply, (const float *x, float *y, int64_t n), (x, y, n)) {
    for (int64_t i = 0; i < n; i++)
        y[i] = vtanh(x[i]);
}

CLONES(static, sigmoid_apply, (const float *x, float *y, int64_t n), (x, y, n)) {
    for (int64_t i = 0; i < n; i++)
        y[i] = vsigmoid(x[i]);
}

CLONES(static, gelu_apply, (const float *x, float *y, int64_t n), (x, y, n)) {
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * vnormal_cdf(x[i]);
}

CLONES(static, tanh_slope, (const float *y, const float *dy, float *dx, int64_t n),
       (y, dy, dx, n)) {
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1.0f - y[i] * y[i]);
}

CLONES(static, sigmoid_slope, (const float *y, const float *dy, float *dx, int64_t n),
       (y, dy, dx, n)) {
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (y[i] * (1.0f - y[i]));
}

CLONES(static, gelu_slope, (const float *x, const float *dy, float *dx, int64_t n),
       (x, dy, dx, n)) {
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (vnormal_cdf(x[i]) + x[i] * vnormal_pdf(x[i]));
}

static void relu_forward(const struct node *n, const struct pass *p) {
    relu_apply(p->x[0], p->y, p->rows * n->out_count);
}

static void relu_backward(const struct node *n, const struct pass *p) {
    cpu_relu_mask(p->dx[0], p->y, p->rows * n->out_count); /* dx is dy */
}

static void tanh_forward(const struct node *n, const struct pass *p) {
    tanh_apply(p->x[0], p->y, p->rows * n->out_count);
}

static void tanh_backward(const struct node *n, const struct pass *p) {
    tanh_slope(p->y, p->dy, p->dx[0], p->rows * n->out_count);
}

static void sigmoid_forward(const struct node *n, const struct pass *p) {
    sigmoid_apply(p->x[0], p->y, p->rows * n->out_count);
}

static void sigmoid_backward(const struct node *n, const struct pass *p) {
    sigmoid_slope(p->y, p->dy, p->dx[0], p->rows * n->out_count);
}

static void gelu_forward(const struct node *n, const struct pass *p) {
    gelu_apply(p->x[0], p->y, p->rows * n->out_count);
}

static void gelu_backward(const struct node *n, const struct pass *p) {
    gelu_slope(p->x[0], p->dy, p->dx[0], p->rows * n->out_count);
}

const struct operation cpu_relu = {
    .forward = relu_forward,
    .backward_data = relu_backward,
};
const struct operation cpu_tanh = {
    .forward = tanh_forward,
    .backward_data = tanh_backward,
};
const struct operation cpu_sigmoid = {
    .forward = sigmoid_forward,
    .backward_data = sigmoid_backward,
};
const struct operation cpu_gelu = {
    .forward = gelu_forward,
    .backward_data = gelu_backward,
};
