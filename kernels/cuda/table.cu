/* Batches on a GPU: the order of samples, the transforms and the conversion in one kernel.
 *
 *     row 0   lane 0 1 2 3 …     a thread block makes several rows of few features, or a stretch
 *     row 1   lane 0 1 2 3 …     of one row of many: its first threads find the samples of the
 *                                rows (core/order.h), then each lane makes groups of elements
 *
 * Each element goes through the same IEEE operations as on the host (worker/data/transform.c), none of
 * them fused: float32 has the same bits. */
#include "kernels/cuda/table_kernels.h"

#include "core/order.h"
#include "kernels/cuda/launch.cuh"

#define WIDE    4            /* elements of a group where rows allow it */
#define STRETCH (16 * BLOCK) /* elements of a row for one thread block, at most */

/* Neighbours that travel together. */
template <class T, int W> struct alignas(W * sizeof(T)) group { T v[W]; };

__device__ static inline int64_t sample_at(const struct table_view &t,
                                           const struct step_terms *terms, int64_t position) {
    if (terms != NULL)
        position = order_at(terms->seed, terms->epoch, terms->first + position, t.count,
                            terms->shuffle != 0);
    return t.ids != NULL ? t.ids[position] : position;
}

/* Elements e … e + W − 1 of a sample, through all transforms. */
template <int W>
__device__ static inline void transform(const struct table_view &t, int64_t e, float *v) {
    for (int k = 0; k < t.transform_count; k++) {
        const struct table_transform step = t.transforms[k];
        if (step.kind == TABLE_NORMALIZE) {
            const group<float, W> mean = *(const group<float, W> *)(step.mean + e);
            const group<float, W> inverse = *(const group<float, W> *)(step.inverse + e);
            for (int i = 0; i < W; i++)
                v[i] = (v[i] - mean.v[i]) * inverse.v[i];
        } else {
            for (int i = 0; i < W; i++)
                v[i] = step.kind == TABLE_SCALE ? v[i] * step.by : v[i] + step.by;
        }
    }
}

/* `lanes`: threads of a row, a power of two. Grid: (rows, stretches of features). Indices within a
 * row have 32 bits: by 64 the compiler loses sight of what is aligned, and takes groups apart. */
template <class X, class Y, int W>
__global__ static void __launch_bounds__(BLOCK)
    gather(struct table_view t, const struct step_terms *terms, int64_t first, int64_t rows,
           int lanes, struct batch out) {
    __shared__ int64_t samples[BLOCK];
    const int me = (int)threadIdx.x, lane = me % lanes, per_block = BLOCK / lanes;
    const int64_t base = (int64_t)blockIdx.x * per_block, row = base + me / lanes;
    if (me < per_block && base + me < rows)
        samples[me] = sample_at(t, terms, first + base + me);
    __syncthreads();
    if (row >= rows)
        return;
    const int64_t sample = samples[me / lanes];
    const X *x = (const X *)t.x + sample * t.features;
    Y *y = (Y *)out.x + row * t.features;
    const int begin = (int)blockIdx.y * STRETCH;
    const int end = begin + STRETCH < t.features ? begin + STRETCH : (int)t.features;
    for (int e = begin + lane * W; e < end; e += lanes * W) {
        const group<X, W> from = *(const group<X, W> *)(x + e);
        group<Y, W> to;
        float v[W];
        for (int i = 0; i < W; i++)
            v[i] = (float)from.v[i];
        transform<W>(t, e, v);
        for (int i = 0; i < W; i++)
            store(&to.v[i], v[i]);
        *(group<Y, W> *)(y + e) = to;
    }
    if (blockIdx.y != 0)
        return;
    if (lane == 0 && t.labels != NULL && out.labels != NULL)
        out.labels[row] = t.labels[sample];
    if (t.targets != NULL && out.targets != NULL)
        for (int64_t k = lane; k < t.outputs; k += lanes)
            out.targets[row * t.outputs + k] = t.targets[sample * t.outputs + k];
}

template <class X, class Y, int W>
static void launch(cudaStream_t stream, const struct table_view &t, const struct step_terms *terms,
                   int64_t first, int64_t rows, const struct batch &out) {
    const int64_t groups = (t.features + W - 1) / W;
    int lanes = 1;
    while (lanes < BLOCK && lanes < groups)
        lanes *= 2;
    const int64_t per_block = BLOCK / lanes;
    const dim3 grid((unsigned)((rows + per_block - 1) / per_block),
                    (unsigned)((t.features + STRETCH - 1) / STRETCH));
    LAUNCH((gather<X, Y, W>), grid, BLOCK, stream)(t, terms, first, rows, lanes, out);
}

template <class X, class Y>
static void launch_width(cudaStream_t stream, const struct table_view &t,
                         const struct step_terms *terms, int64_t first, int64_t rows,
                         const struct batch &out) {
    const bool aligned = (uintptr_t)out.x % (WIDE * sizeof(Y)) == 0;
    if (t.features % WIDE == 0 && aligned)
        launch<X, Y, WIDE>(stream, t, terms, first, rows, out);
    else
        launch<X, Y, 1>(stream, t, terms, first, rows, out);
}

void table_launch_gather(cudaStream_t stream, const struct table_view *table,
                         const struct step_terms *terms, int64_t first, int64_t rows, bool bf16,
                         const struct batch *out) {
    if (table->bytes && bf16)
        launch_width<uint8_t, __nv_bfloat16>(stream, *table, terms, first, rows, *out);
    else if (table->bytes)
        launch_width<uint8_t, float>(stream, *table, terms, first, rows, *out);
    else if (bf16)
        launch_width<float, __nv_bfloat16>(stream, *table, terms, first, rows, *out);
    else
        launch_width<float, float>(stream, *table, terms, first, rows, *out);
}
