/* Launchers of matmul.cu, for matmul.c: what a self-check of products needs. */
#ifndef KERNELS_CUDA_MATMUL_KERNELS_H
#define KERNELS_CUDA_MATMUL_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* x: (count) numbers, uniform in [−1, 1), of float32 or bfloat16; another `seed`, other numbers. */
void matmul_fill(void *x, bool bf16, int64_t count, uint64_t seed, cudaStream_t stream);

/* *differs |= 1 where a and b, (count) words of two bytes, are not the same. Device memory. */
void matmul_compare(const uint16_t *a, const uint16_t *b, int64_t count, uint32_t *differs,
                    cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
