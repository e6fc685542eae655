/* What a convolution needs beside cuDNN: filters on their way to it and back, bias and relu where
 * no engine joins them on, and the gradient of the bias, whose order of additions is ours. */
#include "core/philox.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/launch.cuh"

#define COLUMNS 32 /* channels that a block of the bias gradient takes, at most */

/* ---- filters ---- */

/* Where element i of (K, R, S, C) is in (K, C, R, S). */
__device__ static inline int64_t in_vector(int64_t i, const struct conv_filter &f) {
    int64_t c = i % f.c, rest = i / f.c;
    int64_t a = rest % f.area, k = rest / f.area;
    return (k * f.c + c) * f.area + a;
}

__global__ void conv_gather_weights(const float *w, float *out, struct conv_filter f) {
    EACH(i, f.k * f.area * f.c) out[i] = w[in_vector(i, f)];
}

/* The sixteen bits that bfloat16 cuts off, plus sixteen random ones: the carry rounds up as often
 * as it should. What is not finite has no such bits. */
__device__ static inline __nv_bfloat16 round_by(float v, uint32_t word) {
    union {
        float value;
        uint32_t bits;
    } u = {v};
    if ((u.bits & 0x7f800000u) == 0x7f800000u)
        return __float2bfloat16_rn(v);
    u.bits = (u.bits + (word & 0xffffu)) & 0xffff0000u;
    return __float2bfloat16_rn(u.value); /* exact */
}

__global__ void conv_round_weights(const float *w, __nv_bfloat16 *out, struct conv_filter f,
                                   struct conv_rounding r) {
    const uint64_t stream = r.stochastic ? r.stream | ((uint64_t)*r.step & r.step_mask) : 0;
    EACH(i, f.k * f.area * f.c) {
        int64_t at = in_vector(i, f), e = r.first + at;
        if (r.stochastic)
            out[i] = round_by(w[at], philox(r.seed, stream, (uint64_t)(e / 4)).v[e % 4]);
        else
            out[i] = __float2bfloat16_rn(w[at]);
    }
}

/* A thread for each element of the result: neighbours write side by side, and what they read is
 * shared by the lines of the cache. */
template <class T>
__global__ void scatter_gradients(const T *dw, int64_t dw_stride, float *out, int64_t stride,
                                  int shards, struct conv_filter f) {
    const int64_t count = f.k * f.c * f.area;
    EACH(i, shards * count) {
        int64_t shard = i / count, e = i - shard * count;
        int64_t a = e % f.area, rest = e / f.area;
        int64_t c = rest % f.c, k = rest / f.c;
        out[shard * stride + e] = load(dw + shard * dw_stride + (k * f.area + a) * f.c + c);
    }
}

void conv_weights(const float *w, float *out, const struct conv_filter *f, cudaStream_t stream) {
    LAUNCH(conv_gather_weights, blocks_for(f->k * f->area * f->c), BLOCK, stream)(w, out, *f);
}

void conv_weights_bf16(const float *w, void *out, const struct conv_filter *f,
                       const struct conv_rounding *rounding, cudaStream_t stream) {
    LAUNCH(conv_round_weights, blocks_for(f->k * f->area * f->c), BLOCK, stream)
    (w, (__nv_bfloat16 *)out, *f, *rounding);
}

void conv_weight_gradients(const void *dw, bool bf16, int64_t dw_stride, float *out, int64_t stride,
                           int shards, const struct conv_filter *f, cudaStream_t stream) {
    unsigned blocks = blocks_for(shards * f->k * f->c * f->area);
    if (bf16) {
        LAUNCH(scatter_gradients<__nv_bfloat16>, blocks, BLOCK, stream)
        ((const __nv_bfloat16 *)dw, dw_stride, out, stride, shards, *f);
    } else {
        LAUNCH(scatter_gradients<float>, blocks, BLOCK, stream)
        ((const float *)dw, dw_stride, out, stride, shards, *f);
    }
}

/* ---- bias ---- */

template <class T>
__global__ void bias_relu(T *y, const float *bias, bool relu, int64_t count, int64_t channels) {
    EACH(i, count) {
        float v = load(y + i);
        if (bias)
            v += bias[i % channels];
        store(y + i, relu && v < 0.0f ? 0.0f : v);
    }
}

void conv_bias_relu(void *y, bool bf16, const float *bias, bool relu, int64_t count,
                    int64_t channels, cudaStream_t stream) {
    if (bf16) {
        LAUNCH(bias_relu<__nv_bfloat16>, blocks_for(count), BLOCK, stream)
        ((__nv_bfloat16 *)y, bias, relu, count, channels);
    } else {
        LAUNCH(bias_relu<float>, blocks_for(count), BLOCK, stream)
        ((float *)y, bias, relu, count, channels);
    }
}

/* A block takes a chunk of one shard's pixels and `columns` channels:
 *
 *     thread = lane · columns + column        each adds every (BLOCK / columns)-th pixel,
 *                                             then lane 0 adds the lanes in order */
template <class T> __global__ void mask_and_add(struct conv_gradient g, int columns) {
    __shared__ float sums[BLOCK];
    const int64_t chunks = (g.pixels + CONV_CHUNK - 1) / CONV_CHUNK;
    const int column = (int)threadIdx.x % columns, lane = (int)threadIdx.x / columns;
    const int lanes = BLOCK / columns;
    const int64_t channel = (int64_t)blockIdx.y * columns + column;
    const int64_t shard = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const int64_t begin = chunk * CONV_CHUNK;
    const int64_t end = begin + CONV_CHUNK < g.pixels ? begin + CONV_CHUNK : g.pixels;
    T *dy = (T *)g.dy + shard * g.pixels * g.channels;
    const T *y = g.y ? (const T *)g.y + shard * g.pixels * g.channels : nullptr;
    float sum = 0.0f;
    if (channel < g.channels)
        for (int64_t p = begin + lane; p < end; p += lanes) {
            int64_t i = p * g.channels + channel;
            float v = load(dy + i);
            if (y && load(y + i) <= 0.0f) {
                v = 0.0f;
                store(dy + i, 0.0f);
            }
            sum += v;
        }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || channel >= g.channels || !g.partial)
        return;
    for (int other = 1; other < lanes; other++)
        sum += sums[other * columns + column];
    g.partial[(shard * chunks + chunk) * g.channels + channel] = sum;
}

/* The chunks of a shard, in the same manner. */
__global__ void conv_add_chunks(struct conv_gradient g) {
    __shared__ float sums[BLOCK];
    const int64_t chunks = (g.pixels + CONV_CHUNK - 1) / CONV_CHUNK;
    const int column = (int)threadIdx.x % COLUMNS, lane = (int)threadIdx.x / COLUMNS;
    const int lanes = BLOCK / COLUMNS;
    const int64_t channel = (int64_t)blockIdx.y * COLUMNS + column, shard = blockIdx.x;
    const float *partial = g.partial + shard * chunks * g.channels;
    float sum = 0.0f;
    if (channel < g.channels)
        for (int64_t chunk = lane; chunk < chunks; chunk += lanes)
            sum += partial[chunk * g.channels + channel];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || channel >= g.channels)
        return;
    for (int other = 1; other < lanes; other++)
        sum += sums[other * COLUMNS + column];
    g.out[shard * g.stride + channel] = sum;
}

void conv_bias_gradients(const struct conv_gradient *g, cudaStream_t stream) {
    int columns = g->channels <= 8 ? 8 : g->channels <= 16 ? 16 : COLUMNS;
    dim3 grid((unsigned)(g->shards * conv_chunks(g->pixels)),
              (unsigned)((g->channels + columns - 1) / columns));
    if (g->bf16)
        LAUNCH(mask_and_add<__nv_bfloat16>, grid, BLOCK, stream)(*g, columns);
    else
        LAUNCH(mask_and_add<float>, grid, BLOCK, stream)(*g, columns);
    if (!g->partial)
        return;
    dim3 shards((unsigned)g->shards, (unsigned)((g->channels + COLUMNS - 1) / COLUMNS));
    LAUNCH(conv_add_chunks, shards, BLOCK, stream)(*g);
}

/* ---- the proof of place ---- */

template <class T> __global__ void fill(T *x, int64_t count, uint64_t key, int64_t first) {
    EACH(i, count) {
        uint32_t word = philox(key, 0, (uint64_t)(first + i)).v[0];
        store(x + i, (float)(int32_t)word * 0x1p-31f);
    }
}

void conv_fill(void *x, bool bf16, int64_t count, uint64_t key, int64_t first,
               cudaStream_t stream) {
    if (bf16) {
        LAUNCH(fill<__nv_bfloat16>, blocks_for(count), BLOCK, stream)
        ((__nv_bfloat16 *)x, count, key, first);
    } else {
        LAUNCH(fill<float>, blocks_for(count), BLOCK, stream)((float *)x, count, key, first);
    }
}

__global__ void conv_words_differ(const uint16_t *a, const uint16_t *b, int64_t count,
                                  uint32_t *out) {
    EACH(i, count) {
        if (a[i] != b[i])
            atomicOr(out, 1u);
    }
}

void conv_differ(const void *a, const void *b, int64_t bytes, uint32_t *out, cudaStream_t stream) {
    LAUNCH(conv_words_differ, blocks_for(bytes / 2), BLOCK, stream)
    ((const uint16_t *)a, (const uint16_t *)b, bytes / 2, out);
}
