/* Launchers of batch norm's kernels (norm.cu), for norm.c.
 *
 * A shard is (positions, channels): H·W pixels of each row, or the row itself. Its statistics,
 * gradients and dx depend on the shard alone, whatever the number of shards in a call. */
#ifndef KERNELS_CUDA_NORM_KERNELS_H
#define KERNELS_CUDA_NORM_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is kept of a shard, (C) float32 each: μ, a = γ/√(σ² + ε), b = β − μ·a, 1/√(σ² + ε), the
 * unbiased variance, and dx = a·dy + (k0 − k1·x). */
enum norm_stat {
    NORM_MEAN,
    NORM_SCALE,
    NORM_SHIFT,
    NORM_INVERSE,
    NORM_VARIANCE,
    NORM_K0,
    NORM_K1,
    NORM_STATS
};

/* Device memory. x, dy and out are (shards, positions, channels) of float32 or bfloat16, aligned
 * to 16 bytes. */
struct norm_call {
    bool bf16, relu;
    int shards;
    int64_t channels, positions; /* of one shard */
    double eps;
    const float *gamma, *beta;
    const float *mean, *variance; /* running, for norm_recall */
    const void *x, *dy;
    void *out;        /* y or dx; dx may be dy */
    float *stats;     /* (shards, NORM_STATS, C) */
    double *sums;     /* (shards, chunks, 2, C): scratch; unused where a shard is one chunk */
    float *gradients; /* (shards, stride): γ, β, mean and variance at `at` */
    int64_t stride, at[4];
};

/* Into how many chunks the positions of a shard are cut: a matter of its shape alone. */
int norm_chunks(bool bf16, int64_t channels, int64_t positions);

/* x → stats, up to and including the variance. */
void norm_measure(cudaStream_t stream, const struct norm_call *c);

/* Running statistics → a and b of the first shard. */
void norm_recall(cudaStream_t stream, const struct norm_call *c);

/* out = a·x + b, and relu. */
void norm_apply(cudaStream_t stream, const struct norm_call *c);

/* x, dy, stats → k0, k1 and gradients. */
void norm_slopes(cudaStream_t stream, const struct norm_call *c);

/* out = ∂loss/∂x, after norm_slopes. */
void norm_data(cudaStream_t stream, const struct norm_call *c);

#ifdef __cplusplus
}
#endif

#endif
