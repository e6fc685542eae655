/* The launchers of conv.cu: what a convolution needs beside the library's. For C and C++. Errors
 * wait for cudaGetLastError.
 *
 * Filters are (K, C, R, S) in the flat vector and (K, R, S, C) where cuDNN sees them; `area` is
 * R · S. Data is (rows · pixels, channels). */
#ifndef KERNELS_CUDA_CONV_KERNELS_H
#define KERNELS_CUDA_CONV_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/cuda/limits.h"

struct conv_filter {
    int64_t k, c, area;
};

/* How weights become bfloat16. Stochastically: up or down with the odds of what is cut off, by word
 * e mod 4 of Philox with key = seed, stream = (tag, layer, step), counter = e / 4, for element e of
 * the layer as it lies in the flat vector. */
struct conv_rounding {
    bool stochastic;                  /* else to nearest even */
    uint64_t seed, stream, step_mask; /* the stream without the step; the bits that hold it */
    const int64_t *step;              /* device memory */
    int64_t first;                    /* the tensor's first element within the layer */
};

/* dy of some shards, one after another. */
struct conv_gradient {
    bool bf16;
    void *dy;      /* (shards · pixels, channels); masked in place where y ≤ 0 */
    const void *y; /* the relu's output; NULL: no mask */
    int shards;
    int64_t pixels; /* of a shard: rows · H · W */
    int64_t channels;
    float *partial; /* scratch: (shards, ⌈pixels / CONV_CHUNK⌉, channels); NULL: no bias */
    float *out;     /* (shards, stride): the sums at the start of each stride */
    int64_t stride;
};

static inline int64_t conv_chunks(int64_t pixels) {
    return (pixels + CONV_CHUNK - 1) / CONV_CHUNK;
}

#ifdef __cplusplus
extern "C" {
#endif

/* out: (K, R, S, C), float or bfloat16 (then with a rounding). */
void conv_weights(const float *w, float *out, const struct conv_filter *f, cudaStream_t stream);
void conv_weights_bf16(const float *w, void *out, const struct conv_filter *f,
                       const struct conv_rounding *rounding, cudaStream_t stream);

/* dw: (shards, dw_stride), float or bfloat16, a (K, R, S, C) at the start of each; out: (shards,
 * stride), a (K, C, R, S) at the start of each. */
void conv_weight_gradients(const void *dw, bool bf16, int64_t dw_stride, float *out, int64_t stride,
                           int shards, const struct conv_filter *f, cudaStream_t stream);

/* y += bias (NULL: none), then max(0, ·) where asked. y: (count / channels, channels). */
void conv_bias_relu(void *y, bool bf16, const float *bias, bool relu, int64_t count,
                    int64_t channels, cudaStream_t stream);

/* The mask and the bias gradient, in one reading of dy. The order of additions is a function of
 * pixels and channels. */
void conv_bias_gradients(const struct conv_gradient *g, cudaStream_t stream);

/* x[i] = a number in [−1, 1) that is a function of (key, first + i). */
void conv_fill(void *x, bool bf16, int64_t count, uint64_t key, int64_t first, cudaStream_t stream);

/* *out |= 1 where the bytes of a and b differ. bytes: even. */
void conv_differ(const void *a, const void *b, int64_t bytes, uint32_t *out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
