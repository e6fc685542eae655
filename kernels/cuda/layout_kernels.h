/* The launcher of layout.cu. For C and C++. Errors wait for cudaGetLastError. */
#ifndef KERNELS_CUDA_LAYOUT_KERNELS_H
#define KERNELS_CUDA_LAYOUT_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y (samples, columns, rows) = x (samples, rows, columns), each sample transposed; elements of
 * float or bfloat16. y is not x. */
void layout_transpose(bool bf16, const void *x, void *y, int64_t samples, int64_t rows,
                      int64_t columns, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
