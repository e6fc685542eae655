/* Batch norm's kernels: the formulas of kernels/cpu/norm.c.
 *
 * Sums over the positions of a shard, channels side by side so that reads are whole lines:
 *
 *     a block:  `bundles` bundles of W channels × `chunk` positions, `lanes` positions at a time
 *     a thread: one bundle, every lanes-th position: float over RUN of them, double over runs
 *     then:     lanes in a tree in shared memory, chunks in GROUPS chains and a tree
 *
 * All of it follows from the shape of one shard; shards only add blocks. Where a shard is one chunk
 * the same launch finishes it. Moments are taken about a provisional mean of SAMPLES positions, so
 * that one pass is as good as two. */
#include <math.h>

#include "kernels/cuda/bundle.cuh"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/norm_kernels.h"

#define TILE_BUNDLES 32 /* a warp reads 512 bytes of a position at most */
#define RUN          8  /* positions that a thread adds in float */
#define RUNS         2  /* of a thread at least, where there is more than one chunk */
#define SAMPLES      32 /* positions that the provisional mean is made of */
#define BATCH        4  /* positions that a thread asks memory for at once */
#define RESIDENT     2  /* blocks that fit on a multiprocessor at once, at least: by registers */
#define ROUNDS       2  /* batches of a thread, element by element */
#define COLUMNS      32 /* channels of a block that adds chunks */
#define GROUPS       (BLOCK / COLUMNS)

static_assert(BLOCK / TILE_BUNDLES * RUN * RUNS == NORM_CHUNK_MIN, "the planner counts with it");
static_assert(RUN % BATCH == 0, "a run is made of whole batches");

/* How a shard is cut among blocks. */
struct cut {
    int width, bundles, lanes, half; /* half: the largest power of two under `lanes` */
    int64_t tiles, chunks, chunk;    /* chunk: positions */
};

static struct cut cut_across(bool bf16, int64_t channels) {
    struct cut t = {};
    t.width = bundle_width(bf16, channels);
    int64_t bundles = channels / t.width;
    t.bundles = bundles < TILE_BUNDLES ? (int)bundles : TILE_BUNDLES;
    t.tiles = (bundles + t.bundles - 1) / t.bundles;
    t.lanes = BLOCK / t.bundles;
    for (t.half = 1; t.half * 2 < t.lanes;)
        t.half *= 2;
    return t;
}

/* Few long chunks: for sums. */
static struct cut cut_for_sums(bool bf16, int64_t channels, int64_t positions) {
    struct cut t = cut_across(bf16, channels);
    int64_t least = (int64_t)t.lanes * RUN * RUNS;
    int64_t chunks = (positions + least - 1) / least;
    chunks = chunks < NORM_CHUNKS ? chunks : NORM_CHUNKS;
    int64_t run = (int64_t)t.lanes * RUN; /* whole runs, so that only the last chunk has a rest */
    t.chunk = ((positions + chunks - 1) / chunks + run - 1) / run * run;
    t.chunks = (positions + t.chunk - 1) / t.chunk;
    return t;
}

/* Many short chunks: for work element by element. */
static struct cut cut_for_elements(const struct norm_call *c) {
    struct cut t = cut_across(c->bf16, c->channels);
    t.chunk = (int64_t)t.lanes * BATCH * ROUNDS;
    t.chunks = (c->positions + t.chunk - 1) / t.chunk;
    return t;
}

/* Where a thread is. */
struct place {
    bool active;
    int lane;
    int64_t shard, chunk, channel; /* the first of the bundle */
    int64_t begin, end;            /* positions of the chunk */
    int64_t at;                    /* of the bundle in position 0 of the shard */
};

__device__ static inline struct place place_of(const struct norm_call &c, const struct cut &t) {
    struct place p;
    int64_t block = blockIdx.x;
    int64_t bundle = block % t.tiles * t.bundles + threadIdx.x % (unsigned)t.bundles;
    block /= t.tiles;
    p.lane = (int)(threadIdx.x / (unsigned)t.bundles);
    p.chunk = block % t.chunks;
    p.shard = block / t.chunks;
    p.channel = bundle * t.width;
    p.active = p.lane < t.lanes && p.channel < c.channels;
    p.begin = p.chunk * t.chunk;
    p.end = p.begin + t.chunk < c.positions ? p.begin + t.chunk : c.positions;
    p.at = p.shard * c.positions * c.channels + p.channel;
    return p;
}

__device__ static inline float *stat(const struct norm_call &c, int64_t shard, enum norm_stat k) {
    return c.stats + (shard * NORM_STATS + k) * c.channels;
}

template <int W> __device__ static inline void load_floats(float (&v)[W], const float *p) {
    for (int k = 0; k < W; k++)
        v[k] = p[k];
}

template <class T, int W> struct pair { bundle<T, W> x, dy; };

/* dy behind the relu. NaN lets it pass, as everywhere. */
__device__ static inline float behind(bool relu, float x, float a, float b, float dy) {
    return relu && a * x + b <= 0.0f ? 0.0f : dy;
}

/* ---- sums ---- */

/* v: this thread's, and afterwards that of all lanes, in shared[k][bundle]. All threads come. */
template <int N>
__device__ static inline void add_lanes(const double (&v)[N], double (*shared)[BLOCK],
                                        const struct place &p, const struct cut &t) {
    __syncthreads();
    for (int k = 0; k < N; k++)
        shared[k][threadIdx.x] = p.active ? v[k] : 0.0;
    for (int half = t.half; half > 0; half /= 2) {
        __syncthreads();
        if (p.lane < half && p.lane + half < t.lanes)
            for (int k = 0; k < N; k++)
                shared[k][threadIdx.x] += shared[k][threadIdx.x + (unsigned)(half * t.bundles)];
    }
    __syncthreads();
}

/* total[] += what term(fetch(i), …) adds into N floats, for this thread's positions i of the chunk.
 * BATCH fetches go out together: a thread waits for memory once for all of them. */
template <int N, class Fetch, class Term>
__device__ static inline void add_positions(double (&total)[N], const struct place &p,
                                            const struct cut &t, Fetch fetch, Term term) {
    const int64_t step = t.lanes;
    for (int64_t i = p.begin + p.lane; i < p.end; i += RUN * step) {
        float sum[N] = {0};
        for (int64_t at = i; at < p.end && at < i + RUN * step; at += BATCH * step) {
            decltype(fetch(at)) in[BATCH];
            for (int r = 0; r < BATCH; r++)
                in[r] = fetch(at + r * step < p.end ? at + r * step : at);
            for (int r = 0; r < BATCH; r++)
                if (at + r * step < p.end)
                    term(in[r], sum);
        }
        for (int k = 0; k < N; k++)
            total[k] += (double)sum[k];
    }
}

/* The mean of a few positions all over the shard: the same in all its chunks. */
template <class T, int W>
__device__ static inline void provisional_mean(float (&about)[W], double (*shared)[BLOCK],
                                               const T *x, const struct norm_call &c,
                                               const struct place &p, const struct cut &t) {
    int64_t samples = c.positions < SAMPLES ? c.positions : SAMPLES;
    double sum[W] = {0};
    if (p.active)
        for (int64_t i = p.lane; i < samples; i += t.lanes) {
            bundle<T, W> in = load_bundle<T, W>(x + p.at + i * c.positions / samples * c.channels);
            for (int k = 0; k < W; k++)
                sum[k] += (double)load(&in.v[k]);
        }
    add_lanes<W>(sum, shared, p, t);
    for (int k = 0; k < W; k++)
        about[k] = (float)(shared[k][threadIdx.x % (unsigned)t.bundles] / (double)samples);
}

__device__ static void finish_moments(const struct norm_call &c, int64_t shard, int64_t channel,
                                      double about, double first, double second) {
    double count = (double)c.positions;
    double gamma = (double)c.gamma[channel], beta = (double)c.beta[channel];
    double offset = first / count, mean = about + offset;
    double spread = second - first * offset; /* Σ (x − μ)² */
    if (spread < 0)
        spread = 0;
    double inverse = 1.0 / sqrt(spread / count + c.eps);
    stat(c, shard, NORM_MEAN)[channel] = (float)mean;
    stat(c, shard, NORM_VARIANCE)[channel] = (float)(spread / (count - 1));
    stat(c, shard, NORM_INVERSE)[channel] = (float)inverse;
    stat(c, shard, NORM_SCALE)[channel] = (float)(gamma * inverse);
    stat(c, shard, NORM_SHIFT)[channel] = (float)(beta - mean * gamma * inverse);
}

__device__ static void finish_slopes(const struct norm_call &c, int64_t shard, int64_t channel,
                                     double first, double second) {
    double count = (double)c.positions;
    float mean = stat(c, shard, NORM_MEAN)[channel];
    double scale = (double)stat(c, shard, NORM_SCALE)[channel];
    double inverse = (double)stat(c, shard, NORM_INVERSE)[channel];
    double k1 = scale * second * inverse * inverse / count;
    float *gradient = c.gradients + shard * c.stride + channel;
    stat(c, shard, NORM_K1)[channel] = (float)k1;
    stat(c, shard, NORM_K0)[channel] = (float)(k1 * (double)mean - scale * first / count);
    gradient[c.at[0]] = (float)(second * inverse);
    gradient[c.at[1]] = (float)first;
    gradient[c.at[2]] = mean;
    gradient[c.at[3]] = stat(c, shard, NORM_VARIANCE)[channel];
}

/* A chunk's two sums of a channel. */
__device__ static inline double *chunk_sums(const struct norm_call &c, const struct cut &t,
                                            int64_t shard, int64_t chunk) {
    return c.sums + (shard * t.chunks + chunk) * 2 * c.channels;
}

/* Sums of x − about and its square. In several chunks the provisional mean waits in NORM_MEAN. */
template <class T, int W>
static __global__ void __launch_bounds__(BLOCK, RESIDENT)
    moments(struct norm_call c, struct cut t) {
    __shared__ double shared[2 * W][BLOCK];
    const struct place p = place_of(c, t);
    const T *x = static_cast<const T *>(c.x);
    float about[W];
    double total[2 * W] = {0};
    provisional_mean<T, W>(about, shared, x, c, p, t);
    if (p.active)
        add_positions(
            total, p, t, [&](int64_t i) { return load_bundle<T, W>(x + p.at + i * c.channels); },
            [&](const bundle<T, W> &in, float *sum) {
                for (int k = 0; k < W; k++) {
                    float v = load(&in.v[k]) - about[k];
                    sum[k] += v;
                    sum[W + k] += v * v;
                }
            });
    add_lanes<2 * W>(total, shared, p, t);
    if (!p.active || p.lane > 0)
        return;
    for (int k = 0; k < W; k++) {
        int64_t channel = p.channel + k;
        double first = shared[k][threadIdx.x], second = shared[W + k][threadIdx.x];
        if (t.chunks == 1) {
            finish_moments(c, p.shard, channel, (double)about[k], first, second);
            continue;
        }
        double *sums = chunk_sums(c, t, p.shard, p.chunk);
        sums[channel] = first;
        sums[c.channels + channel] = second;
        if (p.chunk == 0)
            stat(c, p.shard, NORM_MEAN)[channel] = about[k];
    }
}

/* Sums of dy behind the relu, and of dy·(x − μ). */
template <class T, int W>
static __global__ void __launch_bounds__(BLOCK, RESIDENT) slopes(struct norm_call c, struct cut t) {
    __shared__ double shared[2 * W][BLOCK];
    const struct place p = place_of(c, t);
    const T *x = static_cast<const T *>(c.x), *dy = static_cast<const T *>(c.dy);
    double total[2 * W] = {0};
    if (p.active) {
        float mean[W], a[W], b[W];
        load_floats(mean, stat(c, p.shard, NORM_MEAN) + p.channel);
        load_floats(a, stat(c, p.shard, NORM_SCALE) + p.channel);
        load_floats(b, stat(c, p.shard, NORM_SHIFT) + p.channel);
        add_positions(
            total, p, t,
            [&](int64_t i) {
                const int64_t at = p.at + i * c.channels;
                return pair<T, W>{load_bundle<T, W>(x + at), load_bundle<T, W>(dy + at)};
            },
            [&](const pair<T, W> &in, float *sum) {
                for (int k = 0; k < W; k++) {
                    float v = load(&in.x.v[k]);
                    float g = behind(c.relu, v, a[k], b[k], load(&in.dy.v[k]));
                    sum[k] += g;
                    sum[W + k] += g * (v - mean[k]);
                }
            });
    }
    add_lanes<2 * W>(total, shared, p, t);
    if (!p.active || p.lane > 0)
        return;
    for (int k = 0; k < W; k++) {
        int64_t channel = p.channel + k;
        double first = shared[k][threadIdx.x], second = shared[W + k][threadIdx.x];
        if (t.chunks == 1) {
            finish_slopes(c, p.shard, channel, first, second);
            continue;
        }
        double *sums = chunk_sums(c, t, p.shard, p.chunk);
        sums[channel] = first;
        sums[c.channels + channel] = second;
    }
}

/* Adds the chunks: a block is COLUMNS channels of a shard, in GROUPS chains. */
template <bool backward> static __global__ void finish(struct norm_call c, struct cut t) {
    __shared__ double first[GROUPS][COLUMNS], second[GROUPS][COLUMNS];
    const int64_t tiles = (c.channels + COLUMNS - 1) / COLUMNS, shard = blockIdx.x / tiles;
    const unsigned column = threadIdx.x % COLUMNS, group = threadIdx.x / COLUMNS;
    const int64_t channel = blockIdx.x % tiles * COLUMNS + column;
    double f = 0, s = 0;
    if (channel < c.channels)
        for (int64_t i = group; i < t.chunks; i += GROUPS) {
            const double *sums = chunk_sums(c, t, shard, i);
            f += sums[channel];
            s += sums[c.channels + channel];
        }
    first[group][column] = f;
    second[group][column] = s;
    for (unsigned half = GROUPS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (group < half) {
            first[group][column] += first[group + half][column];
            second[group][column] += second[group + half][column];
        }
    }
    if (group > 0 || channel >= c.channels)
        return;
    f = first[0][column];
    s = second[0][column];
    if (backward)
        finish_slopes(c, shard, channel, f, s);
    else
        finish_moments(c, shard, channel, (double)stat(c, shard, NORM_MEAN)[channel], f, s);
}

/* ---- element by element ---- */

template <class T, int W> static __global__ void apply(struct norm_call c, struct cut t) {
    const struct place p = place_of(c, t);
    const T *x = static_cast<const T *>(c.x);
    T *y = static_cast<T *>(c.out);
    const int64_t step = t.lanes;
    float a[W], b[W];
    if (!p.active)
        return;
    load_floats(a, stat(c, p.shard, NORM_SCALE) + p.channel);
    load_floats(b, stat(c, p.shard, NORM_SHIFT) + p.channel);
    for (int64_t i = p.begin + p.lane; i < p.end; i += BATCH * step) {
        bundle<T, W> v[BATCH];
        for (int r = 0; r < BATCH; r++)
            if (i + r * step < p.end)
                v[r] = load_bundle<T, W>(x + p.at + (i + r * step) * c.channels);
        for (int r = 0; r < BATCH; r++) {
            if (i + r * step >= p.end)
                break;
            for (int k = 0; k < W; k++) {
                float z = load(&v[r].v[k]) * a[k] + b[k];
                store(&v[r].v[k], c.relu && z < 0.0f ? 0.0f : z);
            }
            store_bundle(y + p.at + (i + r * step) * c.channels, v[r]);
        }
    }
}

template <class T, int W> static __global__ void data(struct norm_call c, struct cut t) {
    const struct place p = place_of(c, t);
    const T *x = static_cast<const T *>(c.x), *dy = static_cast<const T *>(c.dy);
    T *dx = static_cast<T *>(c.out);
    const int64_t step = t.lanes;
    float a[W], b[W], k0[W], k1[W];
    if (!p.active)
        return;
    load_floats(a, stat(c, p.shard, NORM_SCALE) + p.channel);
    load_floats(b, stat(c, p.shard, NORM_SHIFT) + p.channel);
    load_floats(k0, stat(c, p.shard, NORM_K0) + p.channel);
    load_floats(k1, stat(c, p.shard, NORM_K1) + p.channel);
    for (int64_t i = p.begin + p.lane; i < p.end; i += BATCH * step) {
        pair<T, W> in[BATCH];
        for (int r = 0; r < BATCH; r++)
            if (i + r * step < p.end) {
                in[r].x = load_bundle<T, W>(x + p.at + (i + r * step) * c.channels);
                in[r].dy = load_bundle<T, W>(dy + p.at + (i + r * step) * c.channels);
            }
        for (int r = 0; r < BATCH; r++) {
            if (i + r * step >= p.end)
                break;
            for (int k = 0; k < W; k++) {
                float v = load(&in[r].x.v[k]);
                float g = behind(c.relu, v, a[k], b[k], load(&in[r].dy.v[k]));
                store(&in[r].dy.v[k], a[k] * g + (k0[k] - v * k1[k]));
            }
            store_bundle(dx + p.at + (i + r * step) * c.channels, in[r].dy);
        }
    }
}

static __global__ void recall(struct norm_call c) {
    EACH(channel, c.channels) {
        double gamma = (double)c.gamma[channel], beta = (double)c.beta[channel];
        double inverse = 1.0 / sqrt((double)c.variance[channel] + c.eps);
        stat(c, 0, NORM_SCALE)[channel] = (float)(gamma * inverse);
        stat(c, 0, NORM_SHIFT)[channel] = (float)(beta - (double)c.mean[channel] * gamma * inverse);
    }
}

/* ---- launchers ---- */

typedef void norm_kernel(struct norm_call, struct cut);

/* The kernel for each type and width of bundle. */
#define FAMILY(kernel)                                                                             \
    { kernel<float, 1>, kernel<float, 4>, kernel<__nv_bfloat16, 1>, kernel<__nv_bfloat16, 8> }

static void launch(cudaStream_t stream, const struct norm_call *c, const struct cut *t,
                   const struct family<norm_kernel> &family) {
    unsigned blocks = (unsigned)(c->shards * t->tiles * t->chunks);
    LAUNCH(family.pick(c->bf16, c->channels), blocks, BLOCK, stream)(*c, *t);
}

static void launch_finish(cudaStream_t stream, const struct norm_call *c, const struct cut *t,
                          norm_kernel *kernel) {
    unsigned blocks = (unsigned)(c->shards * ((c->channels + COLUMNS - 1) / COLUMNS));
    if (t->chunks > 1)
        LAUNCH(kernel, blocks, BLOCK, stream)(*c, *t);
}

int norm_chunks(bool bf16, int64_t channels, int64_t positions) {
    return (int)cut_for_sums(bf16, channels, positions).chunks;
}

void norm_measure(cudaStream_t stream, const struct norm_call *c) {
    struct cut t = cut_for_sums(c->bf16, c->channels, c->positions);
    launch(stream, c, &t, FAMILY(moments));
    launch_finish(stream, c, &t, finish<false>);
}

void norm_recall(cudaStream_t stream, const struct norm_call *c) {
    LAUNCH(recall, blocks_for(c->channels), BLOCK, stream)(*c);
}

void norm_apply(cudaStream_t stream, const struct norm_call *c) {
    struct cut t = cut_for_elements(c);
    launch(stream, c, &t, FAMILY(apply));
}

void norm_slopes(cudaStream_t stream, const struct norm_call *c) {
    struct cut t = cut_for_sums(c->bf16, c->channels, c->positions);
    launch(stream, c, &t, FAMILY(slopes));
    launch_finish(stream, c, &t, finish<true>);
}

void norm_data(cudaStream_t stream, const struct norm_call *c) {
    struct cut t = cut_for_elements(c);
    launch(stream, c, &t, FAMILY(data));
}
