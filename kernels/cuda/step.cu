/* A step's terms, flags and outcome, and the sums in the fixed tree. A tree over N neighbours is
 * unrolled at compile time, so that its partial sums are registers:
 *
 *     tree<4>: (at[0] + at[1]) + (at[2] + at[3])
 *
 * Every element is added by itself: where a vector is cut, and whether four elements travel
 * together, is not seen in the result. */
#include "kernels/cuda/step.h"

#include "kernels/cuda/launch.cuh"

#define SUMS (SCALAR_ROWS + 1) /* scalars that the tree adds: loss, correct, rows */

/* ---- one element, or four side by side ---- */

__device__ static inline float add(float a, float b) {
    return a + b;
}
__device__ static inline float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ static inline bool wild(float v) {
    return (__float_as_uint(v) & 0x7f800000u) == 0x7f800000u; /* infinite or no number */
}
__device__ static inline bool wild(float4 v) {
    return wild(v.x) || wild(v.y) || wild(v.z) || wild(v.w);
}

template <class T> __device__ static inline T at(const float *p, int64_t i) {
    return reinterpret_cast<const T *>(p)[i];
}
template <class T> __device__ static inline void put(float *p, int64_t i, T v) {
    reinterpret_cast<T *>(p)[i] = v;
}

__device__ static inline uint64_t now_ns(void) {
    uint64_t t = 0;
#ifdef __CUDA_ARCH__
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
#endif
    return t;
}

/* ---- a step ---- */

__global__ static void probe(struct step_state *state) {
    state->found = 0;
}

__global__ static void begin(struct step_state *state, struct step_terms terms) {
    state->terms = terms;
    state->flags = 0;
    state->scale = terms.scale;
    state->grad_norm = 0;
    state->begin_ns = now_ns();
    state->work_ns = 0;
}

__global__ static void stamp(struct step_state *state) {
    if (state->work_ns == 0)
        state->work_ns = now_ns();
}

__global__ static void resume(struct step_state *state) {
    state->flags = 0;
    state->halted = 0;
}

void step_probe(struct step_state *state, cudaStream_t stream) {
    LAUNCH(probe, 1, 1, stream)(state);
}

void step_begin(struct step_state *state, const struct step_terms *terms, cudaStream_t stream) {
    LAUNCH(begin, 1, 1, stream)(state, *terms);
}

void step_stamp(struct step_state *state, cudaStream_t stream) {
    LAUNCH(stamp, 1, 1, stream)(state);
}

void step_resume(struct step_state *state, cudaStream_t stream) {
    LAUNCH(resume, 1, 1, stream)(state);
}

/* ---- the fold of whole vectors ---- */

template <int N, class T> __device__ static inline T tree(const float *const *srcs, int64_t i) {
    if constexpr (N == 1)
        return at<T>(srcs[0], i);
    else
        return add(tree<N / 2, T>(srcs, i), tree<N / 2, T>(srcs + N / 2, i));
}

template <int N, class T>
__global__ static void fold(uint32_t *flags, float *dst, struct step_sources srcs, int64_t count) {
    constexpr int wide = sizeof(T) / sizeof(float);
    bool found = false;
    EACH(i, count / wide) {
        T v = tree<N, T>(srcs.at, i);
        found |= wild(v);
        put<T>(dst, i, v);
    }
    int64_t rest = count - count % wide + threadIdx.x;
    if (blockIdx.x == 0 && rest < count) {
        float v = tree<N, float>(srcs.at, rest);
        found |= wild(v);
        put<float>(dst, rest, v);
    }
    if (found)
        atomicOr(flags, (uint32_t)OUTCOME_NONFINITE);
}

static bool aligned(const void *p) {
    return (uintptr_t)p % sizeof(float4) == 0;
}

template <int N>
static void fold_of(struct step_state *state, float *dst, const struct step_sources *srcs, int n,
                    int64_t count, cudaStream_t stream) {
    if constexpr (N < STEP_SOURCES) {
        if (n > N) {
            fold_of<2 * N>(state, dst, srcs, n, count, stream);
            return;
        }
    }
    bool wide = aligned(dst);
    for (int i = 0; i < N; i++)
        wide = wide && aligned(srcs->at[i]);
    if (wide)
        LAUNCH((fold<N, float4>), blocks_for(count / 4), BLOCK, stream)
    (&state->flags, dst, *srcs, count);
    else LAUNCH((fold<N, float>), blocks_for(count), BLOCK, stream)(&state->flags, dst, *srcs,
                                                                    count);
}

void step_fold(struct step_state *state, float *dst, const struct step_sources *srcs, int n,
               int64_t count, cudaStream_t stream) {
    fold_of<1>(state, dst, srcs, n, count, stream);
}

/* ---- the fold of shards, and on into what earlier groups left ---- */

/* Partial sums of N neighbours each, of which there may be many: levels of a binary counter. */
template <int N, class T>
__device__ static inline T tree_of_shards(const float *p, int64_t stride, int shards, int64_t i) {
    if constexpr (N == 1) {
        return at<T>(p, i);
    } else if constexpr (N < STEP_SOURCES) {
        T left = tree_of_shards<N / 2, T>(p, stride, N / 2, i);
        return add(left, tree_of_shards<N / 2, T>(p + N / 2 * stride, stride, N / 2, i));
    } else {
        T level[FOLD_MAX], sum = {};
        for (int k = 0; k < shards / N; k++, p += N * stride) {
            sum = tree_of_shards<N / 2, T>(p, stride, N / 2, i);
            sum = add(sum, tree_of_shards<N / 2, T>(p + N / 2 * stride, stride, N / 2, i));
            int full = 0;
            for (; k >> full & 1; full++)
                sum = add(level[full], sum);
            level[full] = sum;
        }
        return sum;
    }
}

template <int N, class T>
__device__ static inline bool fold_shards_at(const struct fold *to, int64_t offset,
                                             const float *partials, int64_t stride, int shards,
                                             int64_t i) {
    T v = tree_of_shards<N, T>(partials, stride, shards, i);
    for (int k = 0; k < to->adds; k++)
        v = add(at<T>(to->add[k] + offset, i), v);
    put<T>(to->dst + offset, i, v);
    return wild(v);
}

template <int N, class T>
__global__ static void fold_shards(uint32_t *flags, struct fold to, int64_t offset,
                                   const float *partials, int64_t stride, int shards,
                                   int64_t count) {
    constexpr int wide = sizeof(T) / sizeof(float);
    bool found = false;
    EACH(i, count / wide) {
        found |= fold_shards_at<N, T>(&to, offset, partials, stride, shards, i);
    }
    int64_t rest = count - count % wide + threadIdx.x;
    if (blockIdx.x == 0 && rest < count)
        found |= fold_shards_at<N, float>(&to, offset, partials, stride, shards, rest);
    if (found)
        atomicOr(flags, (uint32_t)OUTCOME_NONFINITE);
}

template <int N>
static void fold_shards_of(struct step_state *state, const struct fold *to, int64_t offset,
                           const float *partials, int64_t stride, int shards, int64_t count,
                           cudaStream_t stream) {
    if constexpr (N < STEP_SOURCES) {
        if (shards > N) {
            fold_shards_of<2 * N>(state, to, offset, partials, stride, shards, count, stream);
            return;
        }
    }
    bool wide = aligned(to->dst + offset) && aligned(partials) && (N == 1 || stride % 4 == 0);
    for (int k = 0; k < to->adds; k++)
        wide = wide && aligned(to->add[k] + offset);
    if (wide)
        LAUNCH((fold_shards<N, float4>), blocks_for(count / 4), BLOCK, stream)
    (&state->flags, *to, offset, partials, stride, shards, count);
    else LAUNCH((fold_shards<N, float>), blocks_for(count), BLOCK,
                stream)(&state->flags, *to, offset, partials, stride, shards, count);
}

void step_fold_shards(struct step_state *state, const struct fold *fold, int64_t offset,
                      const float *partials, int64_t stride, int shards, int64_t count,
                      cudaStream_t stream) {
    fold_shards_of<1>(state, fold, offset, partials, stride, shards, count, stream);
}

/* ---- the scalars at the tail ---- */

/* The tree over `n` neighbours, a power of two, by one thread. */
__device__ static void sum_losses(const struct loss_sum *losses, int n, float rows,
                                  float out[SUMS]) {
    float level[FOLD_MAX][SUMS];
    for (int i = 0; i < n; i++) {
        float leaf[SUMS] = {(float)losses[i].loss, (float)losses[i].correct, rows};
        int full = 0;
        for (; i >> full & 1; full++)
            for (int j = 0; j < SUMS; j++)
                leaf[j] = level[full][j] + leaf[j];
        for (int j = 0; j < SUMS; j++)
            out[j] = level[full][j] = leaf[j];
    }
}

/* One block: each thread folds a subtree of its own, then neighbours join. */
__global__ static void scalars(struct step_state *state, const struct loss_sum *losses, int shards,
                               int64_t shard_rows, float *tail) {
    __shared__ float sum[BLOCK][SUMS];
    int t = (int)threadIdx.x, threads = min(shards, BLOCK), each = shards / threads;
    if (t < threads)
        sum_losses(losses + (int64_t)t * each, each, (float)shard_rows, sum[t]);
    __syncthreads();
    for (int gap = 1; gap < threads; gap *= 2) {
        if (t < threads && t % (2 * gap) == 0)
            for (int j = 0; j < SUMS; j++)
                sum[t][j] = sum[t][j] + sum[t + gap][j];
        __syncthreads();
    }
    if (t < SCALARS)
        tail[t] = t < SUMS ? sum[0][t] : t == SCALAR_STOP ? state->terms.stop : 0.0f;
    if (t == SCALAR_LOSS && wild(sum[0][SCALAR_LOSS]))
        atomicOr(&state->flags, (uint32_t)OUTCOME_NONFINITE);
}

void step_scalars(struct step_state *state, const struct loss_sum *losses, int shards,
                  int64_t shard_rows, float *tail, cudaStream_t stream) {
    LAUNCH(scalars, 1, BLOCK, stream)(state, losses, shards, shard_rows, tail);
}

/* ---- finite, convert ---- */

template <class T>
__global__ static void find(struct step_state *state, const T *x, int64_t count) {
    bool found = false;
    EACH(i, count) {
        found |= wild(load(x + i));
    }
    if (found)
        atomicOr(&state->found, 1u);
}

void step_find(struct step_state *state, const void *x, int64_t count, bool bf16,
               cudaStream_t stream) {
    LAUNCH(probe, 1, 1, stream)(state); /* lowers it */
    if (bf16)
        LAUNCH(find<__nv_bfloat16>, blocks_for(count), BLOCK, stream)
    (state, (const __nv_bfloat16 *)x, count);
    else LAUNCH(find<float>, blocks_for(count), BLOCK, stream)(state, (const float *)x, count);
}

__global__ static void convert(const float *src, __nv_bfloat16 *dst, int64_t count) {
    EACH(i, count) {
        store(dst + i, src[i]);
    }
}

void step_convert_bf16(const float *src, void *dst, int64_t count, cudaStream_t stream) {
    LAUNCH(convert, blocks_for(count), BLOCK, stream)(src, (__nv_bfloat16 *)dst, count);
}

/* ---- the outcome ---- */

/* One block. All ranks see the same words and the same tail, so they halt together. */
__global__ static void outcome(struct step_state *state, const float *tail, const uint32_t *words,
                               int ranks, struct step_outcome *ring) {
    __shared__ uint32_t raised;
    int t = (int)threadIdx.x;
    if (t == 0)
        raised = wild(tail[SCALAR_LOSS]) ? OUTCOME_NONFINITE : 0;
    __syncthreads();
    for (int r = t; r < ranks; r += BLOCK)
        if (words[r])
            atomicOr(&raised, words[r]);
    __syncthreads();
    struct step_outcome *out = &ring[state->terms.slot];
    if (t < SCALARS)
        out->scalars[t] = tail[t];
    if (t == 0) {
        state->halted |= raised;
        out->flags = state->halted;
        out->grad_norm = state->grad_norm;
        out->begin_ns = state->begin_ns;
        out->end_ns = now_ns();
        out->work_ns = state->work_ns ? state->work_ns : out->end_ns;
    }
    __threadfence_system(); /* the host reads once an event after this kernel is reached */
}

void step_outcome_write(struct step_state *state, const float *tail, const uint32_t *words,
                        int ranks, struct step_outcome *ring, cudaStream_t stream) {
    LAUNCH(outcome, 1, BLOCK, stream)(state, tail, words, ranks, ring);
}
