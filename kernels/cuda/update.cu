/* The optimizer on a GPU: the formulas are optimizer_rule.h's, element by element, so that the bits
 * are the CPU's. What is here is the walk: one thread block for each chunk of the table, four
 * elements at a time. */
#include "kernels/cuda/update_kernels.h"

#include <math.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/step.h"

#define CLIP_EPS     1e-6 /* as PyTorch's clip_grad_norm_ */
#define CLIP_THREADS 1024

/* ---- a step ---- */

/* One element, or one field of each vector of four. */
template <enum update_rule R>
__device__ static inline void element(const struct update_chunk &c, const struct optimizer_rates &r,
                                      float scale, float *w, float g, float *a, float *b) {
    if (c.kind == PARAM_STAT)
        rule_stat(w, g, c.keep, c.take);
    else if (R == UPDATE_PLAIN)
        rule_plain(w, g, scale, r);
    else if (R == UPDATE_MOMENTUM)
        rule_momentum(w, a, g, scale, r);
    else if (R == UPDATE_NESTEROV)
        rule_nesterov(w, a, g, scale, r);
    else
        rule_adam(w, a, b, g, scale, r);
}

/* Chunks begin at multiples of MODEL_ALIGN, so that vectors of four are aligned; elements that a
 * tensor leaves over are done alone, since what follows them is padding and has to stay zero. */
template <enum update_rule R>
__global__ static void __launch_bounds__(BLOCK)
    apply(const struct update_chunk *chunks, struct update_vectors v, const struct step_state *s) {
    if ((s->flags | s->halted) != 0)
        return;
    const struct update_chunk c = chunks[blockIdx.x];
    const struct optimizer_rates r = s->terms.rates[c.kind == PARAM_WEIGHT ? 0 : 1];
    const float scale = s->scale;
    const bool has_a = R != UPDATE_PLAIN, has_b = R == UPDATE_ADAM;
    float *w = v.weights + c.flat, *a = has_a ? v.slots[0] + c.packed : NULL;
    float *b = has_b ? v.slots[1] + c.packed : NULL;
    const float *g = v.gradient + c.flat;
    for (int i = 4 * (int)threadIdx.x; i + 4 <= c.count; i += 4 * BLOCK) {
        const float4 g4 = *(const float4 *)(g + i);
        float4 w4 = *(const float4 *)(w + i), a4 = {}, b4 = {};
        if (has_a)
            a4 = *(const float4 *)(a + i);
        if (has_b)
            b4 = *(const float4 *)(b + i);
        element<R>(c, r, scale, &w4.x, g4.x, &a4.x, &b4.x);
        element<R>(c, r, scale, &w4.y, g4.y, &a4.y, &b4.y);
        element<R>(c, r, scale, &w4.z, g4.z, &a4.z, &b4.z);
        element<R>(c, r, scale, &w4.w, g4.w, &a4.w, &b4.w);
        *(float4 *)(w + i) = w4;
        if (has_a)
            *(float4 *)(a + i) = a4;
        if (has_b)
            *(float4 *)(b + i) = b4;
    }
    const int i = c.count / 4 * 4 + (int)threadIdx.x;
    if (i < c.count)
        element<R>(c, r, scale, w + i, g[i], has_a ? a + i : NULL, has_b ? b + i : NULL);
}

template <enum update_rule R>
static void launch(cudaStream_t stream, const struct update_chunk *chunks, int64_t count,
                   struct update_vectors vectors, const struct step_state *state) {
    LAUNCH(apply<R>, (unsigned)count, BLOCK, stream)(chunks, vectors, state);
}

void update_launch_apply(cudaStream_t stream, enum update_rule rule,
                         const struct update_chunk *chunks, int64_t count,
                         struct update_vectors vectors, const struct step_state *state) {
    switch (rule) {
    case UPDATE_PLAIN:
        launch<UPDATE_PLAIN>(stream, chunks, count, vectors, state);
        break;
    case UPDATE_MOMENTUM:
        launch<UPDATE_MOMENTUM>(stream, chunks, count, vectors, state);
        break;
    case UPDATE_NESTEROV:
        launch<UPDATE_NESTEROV>(stream, chunks, count, vectors, state);
        break;
    case UPDATE_ADAM:
        launch<UPDATE_ADAM>(stream, chunks, count, vectors, state);
        break;
    }
}

/* ---- the gradient's norm ---- */

#define LANES     16 /* running sums of a norm block, one thread each */
#define RUNS      (NORM_BLOCK / LANES)
#define PER_BLOCK (BLOCK / LANES) /* norm blocks of a thread block */

static_assert(LANES == MODEL_ALIGN && RUNS == 64, "a mask has one bit for each run of lanes");

/* What block_squares of optimizer.c does: lane j sums elements j, j + 16, j + 32 …, then comes a
 * tree over lanes. A run that does not count adds nothing where the CPU adds zero. */
__global__ static void __launch_bounds__(BLOCK)
    norms(const float *gradient, const uint64_t *masks, int64_t blocks, double *out) {
    const int64_t k = (int64_t)blockIdx.x * PER_BLOCK + threadIdx.x / LANES;
    const int lane = (int)(threadIdx.x % LANES);
    const uint64_t mask = k < blocks ? masks[k] : 0;
    const float *g = gradient + k * NORM_BLOCK + lane;
    double sum = 0;
    for (int run = 0; run < RUNS; run++) {
        const double x = (mask >> run & 1) != 0 ? (double)g[run * LANES] : 0.0;
        sum += x * x;
    }
    for (int width = LANES / 2; width > 0; width /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, (unsigned)width, LANES);
    if (lane == 0 && k < blocks)
        out[k] = sum;
}

void update_launch_norms(cudaStream_t stream, const float *gradient, const uint64_t *masks,
                         int64_t blocks, double *out) {
    const unsigned grid = (unsigned)((blocks + PER_BLOCK - 1) / PER_BLOCK);
    LAUNCH(norms, grid, BLOCK, stream)(gradient, masks, blocks, out);
}

/* One thread block: thread t sums norms t, t + 1024, …, then comes a tree over threads. Ten
 * million weights have ten thousand blocks: a few microseconds. */
__global__ static void __launch_bounds__(CLIP_THREADS)
    clip(const double *blocks, int64_t count, double batch, double clip_norm,
         struct step_state *s) {
    __shared__ double sums[CLIP_THREADS];
    const int t = (int)threadIdx.x;
    double sum = 0;
    for (int64_t i = t; i < count; i += CLIP_THREADS)
        sum += blocks[i];
    sums[t] = sum;
    for (int width = CLIP_THREADS / 2; width > 0; width /= 2) {
        __syncthreads();
        if (t < width)
            sums[t] += sums[t + width];
    }
    if (t != 0)
        return;
    const double norm = sqrt(sums[0]) / batch;
    const double share = clip_norm / (norm + CLIP_EPS);
    s->grad_norm = norm;
    s->scale = (float)(1.0 / batch * (share < 1 ? share : 1));
    if (!isfinite(norm))
        atomicOr(&s->flags, (uint32_t)OUTCOME_NONFINITE);
}

void update_launch_clip(cudaStream_t stream, const double *norms, int64_t blocks, int64_t batch,
                        double clip_norm, struct step_state *state) {
    LAUNCH(clip, 1, CLIP_THREADS, stream)(norms, blocks, (double)batch, clip_norm, state);
}
