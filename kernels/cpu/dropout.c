/* Dropout: y = x · m / (1 − rate), m from Philox keyed by what the element *is*, never by who works
 * on it: key = seed, stream = (tag, layer, step), counter = global row · ⌈F/4⌉ + f / 4, word f
 * mod 4. */
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/graph/random_stream.h"
#include "kernels/host/random.h"
#include "kernels/host/simd.h"

struct dropout {
    uint8_t *keep; /* (rows, F) */
    uint64_t seed;
};

static void dropout_release(struct device *d, struct node *n) {
    struct dropout *s = n->state;
    (void)d;
    cpu_free(s->keep);
    cpu_free(s);
}

static enum status dropout_prepare(struct device *d, struct node *n, const struct extent *e,
                                   struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    (void)d;
    TRY(cpu_state(n, sizeof(struct dropout), &p, err));
    struct dropout *s = p;
    s->seed = e->seed;
    TRY(cpu_part(n, e->shards * e->shard_rows * n->out_count, 1, (void **)&s->keep, err));
out:
    return st;
}

static void keep_row(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t threshold,
                     uint8_t *keep, int64_t features) {
    uint32_t word[4][RANDOM_BLOCK];
    for (int64_t f = 0; f < features; f += 4 * RANDOM_BLOCK, counter += RANDOM_BLOCK) {
        int64_t n = features - f < 4 * RANDOM_BLOCK ? features - f : 4 * RANDOM_BLOCK;
        random_block(seed, stream, counter, word);
        for (int64_t i = 0; i < n; i++)
            keep[f + i] = word[i % 4][i / 4] >= threshold;
    }
}

CLONES(static, apply, (const float *x, const uint8_t *keep, float scale, float *y, int64_t n),
       (x, keep, scale, y, n)) {
    for (int64_t i = 0; i < n; i++)
        y[i] = keep[i] ? x[i] * scale : 0.0f;
}

static void dropout_forward(const struct node *n, const struct pass *p) {
    const struct dropout *s = n->state;
    int64_t features = n->out_count;
    if (!p->training) {
        if (p->y != p->x[0])
            memcpy(p->y, p->x[0], (size_t)(p->rows * features) * sizeof(float));
        return;
    }
    double rate = (double)n->layer->rate;
    uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    uint64_t stream = STREAM_DROPOUT | (uint64_t)n->layer->index << STREAM_STEP_BITS |
                      ((uint64_t)p->step & STREAM_STEP_MASK);
    for (int64_t r = 0; r < p->rows; r++)
        keep_row(s->seed, stream, (uint64_t)p->rows_global[r] * (uint64_t)((features + 3) / 4),
                 threshold, s->keep + r * features, features);
    apply(p->x[0], s->keep, (float)(1.0 / (1.0 - rate)), p->y, p->rows * features);
}

static void dropout_backward(const struct node *n, const struct pass *p) {
    const struct dropout *s = n->state;
    apply(p->dy, s->keep, (float)(1.0 / (1.0 - (double)n->layer->rate)), p->dx[0],
          p->rows * n->out_count);
}

const struct operation cpu_dropout = {
    .prepare = dropout_prepare,
    .release = dropout_release,
    .forward = dropout_forward,
    .backward_data = dropout_backward,
};
