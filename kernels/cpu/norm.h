/* The statistics of one shard, each (C): norm.c makes them, lanes.c uses them too. */
#ifndef KERNELS_CPU_NORM_H
#define KERNELS_CPU_NORM_H

struct channel_stats {
    float *mean, *scale, *shift, *inverse; /* μ, a, b, 1/√(σ² + ε) */
    float *variance;                       /* unbiased */
    float *s, *q;                          /* S/n, Q/(n (σ² + ε)) */
};

#define STATS 7

#endif
