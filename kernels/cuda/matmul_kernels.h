/* Launchers of matmul.cu, for matmul.c: products that the library refuses, and what a self-check
 * needs. */
#ifndef KERNELS_CUDA_MATMUL_KERNELS_H
#define KERNELS_CUDA_MATMUL_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As matmul_spec has it, in bfloat16. */
struct matmul_call {
    int64_t m, n, k;
    bool transpose_a, transpose_b, d_float, relu;
    int64_t a_stride, b_stride, d_stride;
    const void *a, *b, *bias; /* bias: of D's type, or NULL */
    void *d;
};

/* One chain over k for each element, whatever the shape: some ten times slower than the library. */
void matmul_plain(const struct matmul_call *call, int batch, cudaStream_t stream);

/* x: (count) numbers, uniform in [−1, 1), of float32 or bfloat16, the same again after each
 * `period`. Another `seed`, other numbers. */
void matmul_fill(void *x, bool bf16, int64_t count, int64_t period, uint64_t seed,
                 cudaStream_t stream);

/* all: entries, `stride` words of two bytes apart; alone: (count) words. *differs |= 1 where an
 * entry is not what it is alone. Device memory. */
void matmul_compare(const uint16_t *all, int64_t stride, int entries, const uint16_t *alone,
                    int64_t count, uint32_t *differs, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
