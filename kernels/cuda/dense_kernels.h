/* Launchers of dense.cu, for dense.c. */
#ifndef KERNELS_CUDA_DENSE_KERNELS_H
#define KERNELS_CUDA_DENSE_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* dy: (shards, rows, columns) of float32 or bfloat16. Where y (as dy; NULL: no relu) is ≤ 0, dy
 * becomes 0. Then sums[s·stride + c] = the sum of column c over the rows of shard s, in an order
 * that depends on `rows` only (sums: NULL where none are wanted). */
void dense_mask_and_sum(bool bf16, void *dy, const void *y, float *sums, int64_t stride, int shards,
                        int64_t rows, int64_t columns, cudaStream_t stream);

/* w: (count) float32 to bfloat16, both aligned to 16 bytes, count a multiple of 8.
 *
 * `step`, in device memory: stochastically, up with the probability that leaves the expectation
 * unchanged, by Philox: key = seed, stream = (tag, layer, *step), counter = element / 8. NULL: to
 * nearest even, as in evaluation. */
void dense_round(const float *w, void *out, int64_t count, uint64_t seed, int layer,
                 const int64_t *step, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
