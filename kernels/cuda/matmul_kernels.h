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

/* As matmul_spec has it. */
struct matmul_call {
    int64_t m, n, k;
    bool transpose_a, transpose_b, relu;
    bool bf16, d_float; /* operands; D is float32 even so. Else all is float32 */
    int64_t a_stride, b_stride, d_stride;
    const void *a, *b, *bias; /* bias: of D's type, or NULL */
    void *d;
};

/* One chain over k for each element, whatever the shape: some ten times slower than the library. */
void matmul_plain(const struct matmul_call *call, int batch, cudaStream_t stream);

/* d = max(0, d), and NaN where it was NaN; entries of `count` elements, `stride` apart. */
void matmul_relu(void *d, bool bf16, int entries, int64_t stride, int64_t count,
                 cudaStream_t stream);

/* *lost |= 1 where one of d's `count` elements is a number. Device memory. */
void matmul_numbers(const void *d, bool bf16, int64_t count, uint32_t *lost, cudaStream_t stream);

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
