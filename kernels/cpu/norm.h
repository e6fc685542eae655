/* The statistics of one shard, each (C): norm.c makes them, lanes.c uses them too. */
#ifndef KERNELS_CPU_NORM_H
#define KERNELS_CPU_NORM_H

struct cpu_channel_stats {
    float *mean, *scale, *shift, *inverse; /* μ, a, b, 1/√(σ² + ε) */
    float *variance;                       /* unbiased */
    float *k0, *k1;                        /* dx = a·dy + (k0 − k1·x) */
};

#define STATS 7

#endif
