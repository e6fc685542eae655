/* Element by element, as kernels/cpu/activation.c: relu, tanh and sigmoid know their gradient from
 * y and work in place; gelu (the erf form) needs x. */
#include "kernels/cuda/activation_kernels.h"

#include <stdlib.h>

#include "kernels/cuda/cuda.h"

struct activation_state {
    bool bf16;
};

static enum status prepare(struct device *d, struct node *n, const struct extent *e,
                           struct err *err) {
    void *p = NULL;
    enum status st = cuda_state_new(n, sizeof(struct activation_state), &p, err);
    (void)d;
    if (st == STATUS_OK)
        ((struct activation_state *)p)->bf16 = e->precision == PRECISION_BF16;
    return st;
}

static void release(struct device *d, struct node *n) {
    (void)d;
    free(n->state);
}

static void forward(const struct node *n, const struct pass *p, enum activation kind) {
    const struct activation_state *s = n->state;
    if (cuda_failed(n->device))
        return;
    activation_forward(kind, s->bf16, p->x[0], p->y, p->rows * n->out_count,
                       cuda_stream(n->device));
    cuda_launched(n->device, "activation: launch of forward");
}

static void backward(const struct node *n, const struct pass *p, enum activation kind) {
    const struct activation_state *s = n->state;
    const void *kept = kind == ACTIVATION_GELU ? p->x[0] : p->y;
    if (cuda_failed(n->device))
        return;
    activation_backward(kind, s->bf16, kept, p->dy, p->dx[0], p->rows * n->out_count,
                        cuda_stream(n->device));
    cuda_launched(n->device, "activation: launch of backward");
}

static void relu_forward(const struct node *n, const struct pass *p) {
    forward(n, p, ACTIVATION_RELU);
}

static void relu_backward(const struct node *n, const struct pass *p) {
    backward(n, p, ACTIVATION_RELU);
}

static void gelu_forward(const struct node *n, const struct pass *p) {
    forward(n, p, ACTIVATION_GELU);
}

static void gelu_backward(const struct node *n, const struct pass *p) {
    backward(n, p, ACTIVATION_GELU);
}

static void tanh_forward(const struct node *n, const struct pass *p) {
    forward(n, p, ACTIVATION_TANH);
}

static void tanh_backward(const struct node *n, const struct pass *p) {
    backward(n, p, ACTIVATION_TANH);
}

static void sigmoid_forward(const struct node *n, const struct pass *p) {
    forward(n, p, ACTIVATION_SIGMOID);
}

static void sigmoid_backward(const struct node *n, const struct pass *p) {
    backward(n, p, ACTIVATION_SIGMOID);
}

const struct operation cuda_relu = {
    .prepare = prepare,
    .release = release,
    .forward = relu_forward,
    .backward_data = relu_backward,
};
const struct operation cuda_gelu = {
    .prepare = prepare,
    .release = release,
    .forward = gelu_forward,
    .backward_data = gelu_backward,
};
const struct operation cuda_tanh = {
    .prepare = prepare,
    .release = release,
    .forward = tanh_forward,
    .backward_data = tanh_backward,
};
const struct operation cuda_sigmoid = {
    .prepare = prepare,
    .release = release,
    .forward = sigmoid_forward,
    .backward_data = sigmoid_backward,
};
