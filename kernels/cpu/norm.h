/* What norm.c and norm_pool.c share. */
#ifndef KERNELS_CPU_NORM_H
#define KERNELS_CPU_NORM_H

#include "kernels/cpu/ops.h"

struct channel_stats {                     /* of a shard, each (C) */
    float *mean, *scale, *shift, *inverse; /* μ, a, b, 1/√(σ² + ε) */
    float *variance;                       /* unbiased */
    float *s, *q;                          /* S/n, Q/(n (σ² + ε)) */
};

#define STATS 7

/* A max pool whose windows neither overlap nor leave gaps inside. */
struct grid {
    int64_t channels, in_h, in_w, out_h, out_w, kernel_h, kernel_w;
};

/* One sample: y = max over the window of a·x + b (and relu); `chosen` keeps the x that won, `from`
 * its index in the window (the first of equals; NaN wins). */
void norm_pool_forward(const float *x, const struct grid *g, const struct channel_stats *st,
                       bool relu, float *y, float *chosen, uint8_t *from);

/* One sample: dx from the gradient of the pooled output. */
void norm_pool_data(const float *x, const float *dy, const uint8_t *from, const struct grid *g,
                    const struct channel_stats *st, bool relu, float *dx);

#endif
