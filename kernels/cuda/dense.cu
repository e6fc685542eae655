/* The mask of a fused relu with the gradient of the bias; rounding weights to bfloat16. */
#include "kernels/cuda/dense_kernels.h"

#include "core/philox.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/graph/random_stream.h"

/* ---- the mask of a fused relu, and the gradient of the bias ---- */

#define COLUMNS 32 /* of a block: neighbours in memory */
#define LANES   16 /* rows r, r + 16, r + 32 … of a shard are one chain */

/* One block: COLUMNS columns of one shard.
 *
 *     lane 0:  row 0, 16, 32 …  ─┐
 *     lane 1:  row 1, 17, 33 …  ─┤ a tree over the lanes ──▶ sums
 *     …                          │                                  */
template <class T>
static __global__ void mask_and_sum(T *dy, const T *y, float *sums, int64_t stride, int64_t rows,
                                    int64_t columns, int64_t blocks) {
    __shared__ float lanes[LANES][COLUMNS];
    int64_t shard = blockIdx.x / blocks;
    int at = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    int64_t column = blockIdx.x % blocks * COLUMNS + at;
    float sum = 0.0f;
    for (int64_t r = lane; r < rows && column < columns; r += LANES) {
        int64_t i = (shard * rows + r) * columns + column;
        float v = load(&dy[i]);
        if (y && load(&y[i]) <= 0.0f) {
            v = 0.0f;
            store(&dy[i], v);
        }
        sum += v;
    }
    lanes[lane][at] = sum;
    for (int half = LANES / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half)
            lanes[lane][at] += lanes[lane + half][at];
    }
    if (sums && lane == 0 && column < columns)
        sums[shard * stride + column] = lanes[0][at];
}

template <class T>
static void launch_mask_and_sum(T *dy, const T *y, float *sums, int64_t stride, int shards,
                                int64_t rows, int64_t columns, cudaStream_t stream) {
    int64_t blocks = (columns + COLUMNS - 1) / COLUMNS;
    LAUNCH(mask_and_sum<T>, (unsigned)(blocks * shards), COLUMNS * LANES, stream)
    (dy, y, sums, stride, rows, columns, blocks);
}

extern "C" void dense_mask_and_sum(bool bf16, void *dy, const void *y, float *sums, int64_t stride,
                                   int shards, int64_t rows, int64_t columns, cudaStream_t stream) {
    if (bf16)
        launch_mask_and_sum((__nv_bfloat16 *)dy, (const __nv_bfloat16 *)y, sums, stride, shards,
                            rows, columns, stream);
    else
        launch_mask_and_sum((float *)dy, (const float *)y, sums, stride, shards, rows, columns,
                            stream);
}

/* ---- weights as products see them in bfloat16 ---- */

/* Adds 16 random bits below the last one that stays, and cuts. Not finite: as it is. */
__device__ static inline __nv_bfloat16 round_stochastically(float w, uint32_t random) {
    uint32_t bits;
    memcpy(&bits, &w, sizeof bits);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return __float2bfloat16_rn(w);
    __nv_bfloat16_raw raw;
    raw.x = (unsigned short)((bits + random) >> 16);
    return __nv_bfloat16(raw);
}

/* A thread takes eight weights: one call of Philox, four words, 16 bits for each. */
static __global__ void round_weights(const float *w, __nv_bfloat16 *out, int64_t packs,
                                     uint64_t seed, uint64_t stream, const int64_t *step) {
    uint64_t mask = STREAM_STEP_MASK;
    uint64_t high = step ? stream | ((uint64_t)*step & mask) : 0;
    EACH(i, packs) {
        pack<float> in[2] = {load_pack(w + 8 * i), load_pack(w + 8 * i + 4)};
        struct philox4 random = {};
        if (step)
            random = philox(seed, high, (uint64_t)i);
        pack<__nv_bfloat16> result;
        for (int j = 0; j < 8; j++) {
            float v = in[j / 4].v[j % 4];
            uint32_t bits = random.v[j / 2] >> (j % 2 * 16) & 0xffff;
            result.v[j] = step ? round_stochastically(v, bits) : __float2bfloat16_rn(v);
        }
        store_pack(out + 8 * i, result);
    }
}

extern "C" void dense_round(const float *w, void *out, int64_t count, uint64_t seed, int layer,
                            const int64_t *step, cudaStream_t stream) {
    uint64_t high = STREAM_ROUND | (uint64_t)layer << STREAM_STEP_BITS;
    int64_t packs = count / 8;
    LAUNCH(round_weights, blocks_for(packs), BLOCK, stream)
    (w, (__nv_bfloat16 *)out, packs, seed, high, step);
}
