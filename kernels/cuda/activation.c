/* Element by element, as kernels/cpu/activation.c: activations that know their gradient from y work in
 * place; the others (gelu, the erf form) need x. */
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

static void backward(const struct node *n, const struct pass *p, enum activation kind,
                     const void *kept) {
    const struct activation_state *s = n->state;
    if (cuda_failed(n->device))
        return;
    activation_backward(kind, s->bf16, kept, p->dy, p->dx[0], p->rows * n->out_count,
                        cuda_stream(n->device));
    cuda_launched(n->device, "activation: launch of backward");
}

#define KEPT_x p->x[0]
#define KEPT_y p->y

#define ACTIVATION_ROW(kind, name, kept)                                                           \
    static void name##_forward(const struct node *n, const struct pass *p) {                       \
        forward(n, p, ACTIVATION_##kind);                                                          \
    }                                                                                              \
    static void name##_backward(const struct node *n, const struct pass *p) {                      \
        backward(n, p, ACTIVATION_##kind, KEPT_##kept);                                            \
    }                                                                                              \
    const struct operation cuda_##name = {                                                         \
        .prepare = prepare,                                                                        \
        .release = release,                                                                        \
        .forward = name##_forward,                                                                 \
        .backward_data = name##_backward,                                                          \
    };
ACTIVATIONS(ACTIVATION_ROW)
