/* A row of the loss is the work of a team of threads: a warp, or a block where it is wide.
 *
 *     x (rows, width) ─ team ─▶ a row's loss, right or not; its gradient
 *                               │ small shards: summed at once, one block for each shard
 *                               └ others: to row_sums, then a second kernel sums each shard
 *
 * How wide a team is depends on the width alone, and how a shard is summed on its rows and width
 * alone: never on the number of shards. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/loss_kernels.h"
#include "kernels/run/device.h"

#define WARP       32
#define WARPS      32             /* of a block, at most */
#define WIDE       (WARPS * WARP) /* threads of such a block */
#define FULL       0xffffffffu
#define WARP_WIDTH 1024 /* rows up to here are a warp's */

/* Shards up to here are one block's: two rows for a warp, eight elements for a lane. */
#define SMALL_ROWS  64
#define SMALL_WIDTH 256

/* ---- sums over a team, in a fixed order; the result is in every thread ---- */

/* The largest so far, and the first place where it is. */
struct largest {
    float value;
    int32_t at;
};

__device__ static inline float join(float a, float b) {
    return a + b;
}
__device__ static inline double join(double a, double b) {
    return a + b;
}
__device__ static inline struct loss_sum join(struct loss_sum a, struct loss_sum b) {
    return {a.loss + b.loss, a.correct + b.correct};
}
__device__ static inline struct largest join(struct largest a, struct largest b) {
    return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

template <class V> __device__ static inline V partner(V v, int mask) {
    return __shfl_xor_sync(FULL, v, mask);
}
__device__ static inline struct loss_sum partner(struct loss_sum v, int mask) {
    return {partner(v.loss, mask), (int64_t)partner((long long)v.correct, mask)};
}
__device__ static inline struct largest partner(struct largest v, int mask) {
    return {partner(v.value, mask), partner(v.at, mask)};
}

template <class V> __device__ static inline V join_warp(V v) {
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        v = join(v, partner(v, mask));
    return v;
}

/* Of a block of whole warps. Warps that are not there count as `none`. */
template <class V> __device__ static inline V join_block(V v, V none, V *slots) {
    const unsigned lane = threadIdx.x % WARP;
    v = join_warp(v);
    __syncthreads(); /* the slots of the call before have been read */
    if (lane == 0)
        slots[threadIdx.x / WARP] = v;
    __syncthreads();
    return join_warp(lane < blockDim.x / WARP ? slots[lane] : none);
}

struct scratch {
    struct largest largest[WARPS];
    float sums[WARPS];
    double losses[WARPS];
    struct loss_sum totals[WARPS];
};

/* TEAM threads: a warp, or the whole block. */
template <int TEAM, class V> __device__ static inline V join_team(V v, V none, V *slots) {
    return TEAM == WARP ? join_warp(v) : join_block(v, none, slots);
}

/* ---- one row ---- */

/* See row_loss in kernels/cpu/loss.c. */
__device__ static inline double on_grid(double loss, bool training) {
    if (training || !(fabs(loss) < 0x1p22))
        return loss;
    return nearbyint(loss * 0x1p30) * 0x1p-30;
}

/* NaN in x is not seen by the search for the largest, and carried by the sum. */
struct cross_entropy {
    template <int TEAM, class T>
    __device__ static struct loss_sum row(const struct loss_call &call, int64_t row, int t,
                                          struct scratch *s) {
        const int32_t width = (int32_t)call.width, label = call.labels[row];
        const T *x = (const T *)call.x + row * call.width;
        struct largest top = {-INFINITY, INT32_MAX}, nothing = top;
        for (int32_t c = t; c < width; c += TEAM) {
            float v = load(x + c);
            if (v > top.value)
                top = {v, c};
        }
        top = join_team<TEAM>(top, nothing, s->largest);
        float total = 0.0f;
        for (int32_t c = t; c < width; c += TEAM)
            total += expf(load(x + c) - top.value);
        total = join_team<TEAM>(total, 0.0f, s->sums);
        if (call.dx != nullptr) {
            T *dx = (T *)call.dx + row * call.width;
            float scale = 1.0f / total;
            for (int32_t c = t; c < width; c += TEAM) {
                float softmax = expf(load(x + c) - top.value) * scale;
                store(dx + c, c == label ? softmax - 1.0f : softmax);
            }
        }
        bool sound = isfinite(total) && isfinite(top.value) && label >= 0 && label < width;
        if (!sound)
            return {(double)NAN, 0};
        if (t != 0)
            return {0.0, 0};
        double loss = log((double)total) - ((double)load(x + label) - (double)top.value);
        return {on_grid(loss, call.dx), top.at == label};
    }
};

struct mse {
    template <int TEAM, class T>
    __device__ static struct loss_sum row(const struct loss_call &call, int64_t row, int t,
                                          struct scratch *s) {
        const T *x = (const T *)call.x + row * call.width;
        const float *target = call.targets + row * call.width;
        T *dx = call.dx != nullptr ? (T *)call.dx + row * call.width : nullptr;
        const double scale = 1.0 / (double)call.width;
        double loss = 0.0;
        for (int64_t c = t; c < call.width; c += TEAM) {
            float diff = load(x + c) - target[c];
            loss += (double)diff * (double)diff;
            if (dx != nullptr)
                store(dx + c, 2.0f * diff * (float)scale);
        }
        loss = join_team<TEAM>(loss, 0.0, s->losses);
        return {on_grid(loss * scale, call.dx), 0};
    }
};

/* ---- all rows ---- */

/* Block s takes shard s, its warps the rows in turn. */
template <class LOSS, class T>
__global__ void __launch_bounds__(WIDE) loss_shards(struct loss_call call) {
    __shared__ struct scratch s;
    const int lane = (int)(threadIdx.x % WARP), warps = (int)(blockDim.x / WARP);
    struct loss_sum sum = {0.0, 0};
    for (int64_t r = threadIdx.x / WARP; r < call.shard_rows; r += warps)
        sum = join(sum,
                   LOSS::template row<WARP, T>(call, blockIdx.x * call.shard_rows + r, lane, &s));
    struct loss_sum none = {0.0, 0};
    sum = join_block(lane == 0 ? sum : none, none, s.totals);
    if (threadIdx.x == 0)
        call.losses[blockIdx.x] = sum;
}

template <class LOSS, int TEAM, class T>
__global__ void __launch_bounds__(WIDE) loss_rows(struct loss_call call) {
    __shared__ struct scratch s;
    const int teams = (int)blockDim.x / TEAM, t = (int)threadIdx.x % TEAM;
    const int64_t rows = call.shards * call.shard_rows;
    for (int64_t r = (int64_t)blockIdx.x * teams + threadIdx.x / TEAM; r < rows;
         r += (int64_t)gridDim.x * teams) {
        struct loss_sum one = LOSS::template row<TEAM, T>(call, r, t, &s);
        if (t == 0)
            call.row_sums[r] = one;
    }
}

/* Block s sums shard s. */
__global__ void __launch_bounds__(WIDE)
    loss_totals(const struct loss_sum *row_sums, int64_t shard_rows, struct loss_sum *losses) {
    __shared__ struct loss_sum slots[WARPS];
    struct loss_sum sum = {0.0, 0}, none = sum;
    for (int64_t r = threadIdx.x; r < shard_rows; r += blockDim.x)
        sum = join(sum, row_sums[blockIdx.x * shard_rows + r]);
    sum = join_block(sum, none, slots);
    if (threadIdx.x == 0)
        losses[blockIdx.x] = sum;
}

/* ---- launches ---- */

template <class LOSS, class T>
static void launch(const struct loss_call *call, cudaStream_t stream) {
    const unsigned shards = (unsigned)call->shards;
    const int64_t rows = call->shards * call->shard_rows;
    if (call->shard_rows <= SMALL_ROWS && call->width <= SMALL_WIDTH) {
        unsigned warps = (unsigned)(call->shard_rows < WARPS ? call->shard_rows : WARPS);
        LAUNCH((loss_shards<LOSS, T>), shards, warps * WARP, stream)(*call);
        return;
    }
    if (call->width <= WARP_WIDTH)
        LAUNCH((loss_rows<LOSS, WARP, T>), blocks_for(rows * WARP), BLOCK, stream)(*call);
    else
        LAUNCH((loss_rows<LOSS, WIDE, T>), blocks_for(rows * BLOCK), WIDE, stream)
    (*call);
    LAUNCH(loss_totals, shards, WIDE, stream)
    ((const struct loss_sum *)call->row_sums, call->shard_rows, call->losses);
}

void loss_cross_entropy(const struct loss_call *call, cudaStream_t stream) {
    if (call->bf16)
        launch<cross_entropy, __nv_bfloat16>(call, stream);
    else
        launch<cross_entropy, float>(call, stream);
}

void loss_mse(const struct loss_call *call, cudaStream_t stream) {
    if (call->bf16)
        launch<mse, __nv_bfloat16>(call, stream);
    else
        launch<mse, float>(call, stream);
}
