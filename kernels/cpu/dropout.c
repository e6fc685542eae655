/* Dropout: y = x · m / (1 − rate), m from Philox keyed by what the element *is*, never by who works
 * on it: key = seed, stream = (tag, layer, step), counter = global row · ⌈F/4⌉ + f / 4, word f
 * mod 4. */
#include <string.h>

#include "core/philox.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

#define STREAM_DROPOUT (UINT64_C(2) << 56) /* see STREAM_INIT in model_init.c */
#define STEP_BITS      40
#define BLOCK          16 /* counters that run side by side */

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

/* philox() of core/philox.h for BLOCK neighbouring counters, written so that it goes into lanes.
 * word[w][j]: word w of counter lo + j. */
CLONES(static, philox_block, (uint64_t key, uint64_t hi, uint64_t lo, uint32_t word[4][BLOCK]),
       (key, hi, lo, word)) {
    uint32_t c0[BLOCK], c1[BLOCK], c2[BLOCK], c3[BLOCK];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t j = 0; j < BLOCK; j++) {
        c0[j] = (uint32_t)(lo + j);
        c1[j] = (uint32_t)((lo + j) >> 32);
        c2[j] = (uint32_t)hi;
        c3[j] = (uint32_t)(hi >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int j = 0; j < BLOCK; j++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[j];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[j];
            c0[j] = (uint32_t)(p1 >> 32) ^ c1[j] ^ k0;
            c2[j] = (uint32_t)(p0 >> 32) ^ c3[j] ^ k1;
            c1[j] = (uint32_t)p1;
            c3[j] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(word[0], c0, sizeof c0);
    memcpy(word[1], c1, sizeof c1);
    memcpy(word[2], c2, sizeof c2);
    memcpy(word[3], c3, sizeof c3);
}

static void keep_row(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t threshold,
                     uint8_t *keep, int64_t features) {
    uint32_t word[4][BLOCK];
    for (int64_t f = 0; f < features; f += 4 * BLOCK, counter += BLOCK) {
        int64_t n = features - f < 4 * BLOCK ? features - f : 4 * BLOCK;
        philox_block(seed, stream, counter, word);
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
        if (p->y != p->x)
            memcpy(p->y, p->x, (size_t)(p->rows * features) * sizeof(float));
        return;
    }
    double rate = (double)n->layer->rate;
    uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    uint64_t stream = STREAM_DROPOUT | (uint64_t)n->layer->index << STEP_BITS |
                      ((uint64_t)p->step & ((UINT64_C(1) << STEP_BITS) - 1));
    for (int64_t r = 0; r < p->rows; r++)
        keep_row(s->seed, stream, (uint64_t)p->rows_global[r] * (uint64_t)((features + 3) / 4),
                 threshold, s->keep + r * features, features);
    apply(p->x, s->keep, (float)(1.0 / (1.0 - rate)), p->y, p->rows * features);
}

static void dropout_backward(const struct node *n, const struct pass *p) {
    const struct dropout *s = n->state;
    apply(p->dy, s->keep, (float)(1.0 / (1.0 - (double)n->layer->rate)), p->dx,
          p->rows * n->out_count);
}

const struct operation cpu_dropout = {
    .name = "dropout",
    .prepare = dropout_prepare,
    .release = dropout_release,
    .forward = dropout_forward,
    .backward_data = dropout_backward,
    .can_work_in_place = true,
    .dx_in_place = true,
};
