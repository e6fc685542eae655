/* Launchers of max and average pooling (pool.cu), for pool.c, on (rows, H, W, C). */
#ifndef KERNELS_CUDA_POOL_KERNELS_H
#define KERNELS_CUDA_POOL_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Without padding; windows may overlap, and may leave a margin that none covers. A sample has less
 * than 2^31 elements. */
struct pool_window {
    int channels, in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w;
};

/* Device memory: x, dx (rows, in_h, in_w, C), y, dy (rows, out_h, out_w, C), float32 or bfloat16,
 * aligned to 16 bytes; from (rows, out_h, out_w, C), uint8_t or uint16_t. */
struct pool_call {
    bool bf16;
    int64_t rows;
    struct pool_window window;
    const void *in; /* x or dy */
    void *out;      /* y or dx */
    void *from;     /* max pool: which element won; uint8_t up to POOL_NARROW (limits.h) */
};

/* y = the largest of each window: the first of equals; NaN wins over everything. */
void pool_max(cudaStream_t stream, const struct pool_call *c);

/* dx: each pixel takes the dy of the windows it won, added in their order. */
void pool_max_backward(cudaStream_t stream, const struct pool_call *c);

/* y = the mean of each window; and back. */
void pool_average(cudaStream_t stream, const struct pool_call *c);
void pool_average_backward(cudaStream_t stream, const struct pool_call *c);

#ifdef __cplusplus
}
#endif

#endif
