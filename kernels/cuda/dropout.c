/* Dropout, as kernels/cpu/dropout.c: y = x · m / (1 − rate), m from Philox keyed by what the
 * element *is*: key = seed, stream = (tag, layer, step), counter = global row · ⌈F/4⌉ + f / 4, word
 * f mod 4. The same masks as the CPU's. */
#include "kernels/cuda/dropout_kernels.h"

#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/graph/random_stream.h"

struct dropout {
    uint64_t seed;
    bool bf16;
};

static enum status prepare(struct device *d, struct node *n, const struct extent *e,
                           struct err *err) {
    void *p = NULL;
    enum status st = cuda_state_new(n, sizeof(struct dropout), &p, err);
    (void)d;
    if (st == STATUS_OK)
        *(struct dropout *)p =
            (struct dropout){.seed = e->seed, .bf16 = e->precision == PRECISION_BF16};
    return st;
}

static void release(struct device *d, struct node *n) {
    (void)d;
    free(n->state);
}

static void apply(const struct node *n, const struct pass *p, const void *from, void *to,
                  const char *what) {
    const struct dropout *s = n->state;
    double rate = (double)n->layer->rate;
    struct dropout_call call = {
        .from = from,
        .to = to,
        .bf16 = s->bf16,
        .rows = p->rows,
        .features = n->out_count,
        .rows_global = p->rows_global,
        .step = &cuda_state(n->device)->terms.step,
        .seed = s->seed,
        .stream = STREAM_DROPOUT | (uint64_t)n->layer->index << STREAM_STEP_BITS,
        .step_mask = STREAM_STEP_MASK,
        .threshold = (uint32_t)(rate * 4294967296.0),
        .scale = (float)(1.0 / (1.0 - rate)),
    };
    if (cuda_failed(n->device))
        return;
    dropout_apply(&call, cuda_stream(n->device));
    cuda_launched(n->device, what);
}

static void forward(const struct node *n, const struct pass *p) {
    const struct dropout *s = n->state;
    if (p->training) {
        apply(n, p, p->x[0], p->y, "dropout: launch of forward");
    } else if (p->y != p->x[0]) {
        size_t bytes =
            (size_t)(p->rows * n->out_count) * (s->bf16 ? sizeof(uint16_t) : sizeof(float));
        n->device->backend->memory->copy(n->device, QUEUE_COMPUTE, p->y, p->x[0], bytes);
    }
}

static void backward(const struct node *n, const struct pass *p) {
    apply(n, p, p->dy, p->dx[0], "dropout: launch of backward");
}

const struct operation cuda_dropout = {
    .prepare = prepare,
    .release = release,
    .forward = forward,
    .backward_data = backward,
};
