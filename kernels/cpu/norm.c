/* Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) on (B, H, W, C) or (B, F), statistics of each
 * shard by itself ("ghost" batch norm, Hoffer et al. 2017, arXiv 1705.08741).
 *
 *     forward   a = γ/√(σ² + ε), b = β − μ·a, y = a·x + b
 *     backward  S = Σ dy, Q = Σ dy·(x − μ);  dβ = S, dγ = Q/√(σ² + ε)
 *               dx = a·(dy − S/n − (x − μ)·Q / (n (σ² + ε))) = a·dy + (k0 − k1·x)
 *
 * n is the number of positions of a channel in a shard. Sums run in float over BLOCK positions and
 * in double over blocks, in order, a lane a channel. Moments are taken about a provisional mean, so
 * that one pass is enough. The "gradient" of running_mean and running_var is the shard's mean and
 * unbiased variance (the optimizer averages them). A fused relu recomputes its mask from a·x + b.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/ops.h"
#include "kernels/host/simd.h"

#define BLOCK   64 /* positions: of usual channel counts they stay in L1 */
#define LANES   16
#define CHAINS  4  /* running sums of a block: additions need not wait for each other */
#define SAMPLES 32 /* positions that the provisional mean is made of */

struct batch_norm {
    float *stats;  /* (shards, STATS, C) */
    double *sums;  /* (2, C) */
    float *fold;   /* (levels + 1, param_end − param_begin) */
    float *chosen; /* (rows, out): with a fused pool, the x that won */
    uint8_t *from; /* (rows, out) */
};

static struct cpu_window window_of(const struct node *n) {
    return (struct cpu_window){.channels = n->in.dim[0],
                               .in_h = n->in.dim[1],
                               .in_w = n->in.dim[2],
                               .out_h = n->out.dim[1],
                               .out_w = n->out.dim[2],
                               .kernel_h = n->pool->kernel[0],
                               .kernel_w = n->pool->kernel[1]};
}

static struct cpu_channel_stats stats_of(const struct node *n, int shard) {
    const struct batch_norm *s = n->state;
    int64_t c = n->in.dim[0];
    float *p = s->stats + shard * STATS * c;
    return (struct cpu_channel_stats){p,         p + c,     p + 2 * c, p + 3 * c,
                                      p + 4 * c, p + 5 * c, p + 6 * c};
}

static int64_t pixels_of(const struct node *n) {
    return shape_pixels(&n->in);
}

/* ---- sums over positions, `width` channels side by side ----
 *
 * All loops take BLOCK positions of every channel before they go on, so that memory is read once.
 */

static inline __attribute__((always_inline)) void moments_lanes(const float *x, int64_t positions,
                                                                int64_t channels,
                                                                const float *about, double *first,
                                                                double *second, int width) {
    float s1[CHAINS][LANES] = {0}, s2[CHAINS][LANES] = {0};
    int64_t i = 0;
    for (; i + CHAINS <= positions; i += CHAINS)
        for (int k = 0; k < CHAINS; k++)
            for (int c = 0; c < width; c++) {
                float v = x[(i + k) * channels + c] - about[c];
                s1[k][c] += v;
                s2[k][c] += v * v;
            }
    for (; i < positions; i++)
        for (int c = 0; c < width; c++) {
            float v = x[i * channels + c] - about[c];
            s1[0][c] += v;
            s2[0][c] += v * v;
        }
    for (int c = 0; c < width; c++) {
        first[c] += (double)((s1[0][c] + s1[1][c]) + (s1[2][c] + s1[3][c]));
        second[c] += (double)((s2[0][c] + s2[1][c]) + (s2[2][c] + s2[3][c]));
    }
}

CLONES(static, moments,
       (const float *x, int64_t positions, int64_t channels, const float *about, double *first,
        double *second),
       (x, positions, channels, about, first, second)) {
    for (int64_t at = 0, n; at < positions; at += n) {
        n = positions - at < BLOCK ? positions - at : BLOCK;
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            moments_lanes(x + c, n, channels, about + c, first + c, second + c, LANES);
        if (c < channels)
            moments_lanes(x + c, n, channels, about + c, first + c, second + c,
                          (int)(channels - c));
        x += n * channels;
    }
}

static inline __attribute__((always_inline)) void
slopes_lanes(const float *x, const float *dy, int64_t positions, int64_t channels,
             const struct cpu_channel_stats *st, int64_t from, bool relu, double *first,
             double *second, int width) {
    float s1[LANES] = {0}, s2[LANES] = {0};
    float mean[LANES], scale[LANES], shift[LANES];
    for (int c = 0; c < width; c++) {
        mean[c] = st->mean[from + c];
        scale[c] = st->scale[from + c];
        shift[c] = st->shift[from + c];
    }
    for (int64_t i = 0; i < positions; i++)
        for (int c = 0; c < width; c++) {
            float v = x[i * channels + c], g = dy[i * channels + c];
            if (relu)
                g = v * scale[c] + shift[c] <= 0.0f ? 0.0f : g;
            s1[c] += g;
            s2[c] += g * (v - mean[c]);
        }
    for (int c = 0; c < width; c++) {
        first[c] += (double)s1[c];
        second[c] += (double)s2[c];
    }
}

CLONES(static, slopes,
       (const float *x, const float *dy, int64_t positions, int64_t channels,
        const struct cpu_channel_stats *st, bool relu, double *first, double *second),
       (x, dy, positions, channels, st, relu, first, second)) {
    for (int64_t at = 0, n; at < positions; at += n) {
        n = positions - at < BLOCK ? positions - at : BLOCK;
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            slopes_lanes(x + c, dy + c, n, channels, st, c, relu, first + c, second + c, LANES);
        if (c < channels)
            slopes_lanes(x + c, dy + c, n, channels, st, c, relu, first + c, second + c,
                         (int)(channels - c));
        x += n * channels;
        dy += n * channels;
    }
}

/* ---- element by element ---- */

static inline __attribute__((always_inline)) void apply_lanes(const float *x, int64_t positions,
                                                              int64_t channels, const float *scale,
                                                              const float *shift, bool relu,
                                                              float *y, int width) {
    float a[LANES], b[LANES];
    for (int c = 0; c < width; c++) {
        a[c] = scale[c];
        b[c] = shift[c];
    }
    for (int64_t i = 0; i < positions; i++)
        for (int c = 0; c < width; c++) {
            float v = x[i * channels + c] * a[c] + b[c];
            y[i * channels + c] = relu && v < 0.0f ? 0.0f : v;
        }
}

CLONES(static, apply,
       (const float *x, int64_t positions, int64_t channels, const float *scale, const float *shift,
        bool relu, float *y),
       (x, positions, channels, scale, shift, relu, y)) {
    for (int64_t at = 0, n; at < positions; at += n) {
        n = positions - at < BLOCK ? positions - at : BLOCK;
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            apply_lanes(x + c, n, channels, scale + c, shift + c, relu, y + c, LANES);
        if (c < channels)
            apply_lanes(x + c, n, channels, scale + c, shift + c, relu, y + c, (int)(channels - c));
        x += n * channels;
        y += n * channels;
    }
}

static inline __attribute__((always_inline)) void
data_lanes(const float *x, const float *dy, int64_t positions, int64_t channels,
           const struct cpu_channel_stats *st, int64_t from, bool relu, float *dx, int width) {
    float a[LANES], b[LANES], k0[LANES], k1[LANES];
    for (int c = 0; c < width; c++) {
        a[c] = st->scale[from + c];
        b[c] = st->shift[from + c];
        k0[c] = st->k0[from + c];
        k1[c] = st->k1[from + c];
    }
    for (int64_t i = 0; i < positions; i++)
        for (int c = 0; c < width; c++) {
            float v = x[i * channels + c], g = dy[i * channels + c];
            if (relu)
                g = v * a[c] + b[c] <= 0.0f ? 0.0f : g;
            dx[i * channels + c] = a[c] * g + (k0[c] - v * k1[c]);
        }
}

CLONES(static, data,
       (const float *x, const float *dy, int64_t positions, int64_t channels,
        const struct cpu_channel_stats *st, bool relu, float *dx),
       (x, dy, positions, channels, st, relu, dx)) {
    for (int64_t at = 0, n; at < positions; at += n) {
        n = positions - at < BLOCK ? positions - at : BLOCK;
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES)
            data_lanes(x + c, dy + c, n, channels, st, c, relu, dx + c, LANES);
        if (c < channels)
            data_lanes(x + c, dy + c, n, channels, st, c, relu, dx + c, (int)(channels - c));
        x += n * channels;
        dy += n * channels;
        dx += n * channels;
    }
}

/* ---- the operator ---- */

static void batch_norm_release(struct device *d, struct node *n) {
    struct batch_norm *s = n->state;
    (void)d;
    cpu_free(s->stats);
    cpu_free(s->sums);
    cpu_free(s->fold);
    cpu_free(s->chosen);
    cpu_free(s->from);
    cpu_free(s);
}

static enum status batch_norm_prepare(struct device *d, struct node *n, const struct extent *e,
                                      struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    int64_t channels = n->in.dim[0], levels = cpu_log2(e->shards) + 1;
    (void)d;
    if (e->shard_rows * pixels_of(n) < 2)
        return err_set(err, STATUS_INVALID,
                       "a shard has one value per feature, too few for statistics: use a larger "
                       "global_batch_size or fewer virtual_shards");
    TRY(cpu_state(n, sizeof(struct batch_norm), &p, err));
    struct batch_norm *s = p;
    TRY(cpu_part(n, e->shards * STATS * channels, sizeof(float), (void **)&s->stats, err));
    TRY(cpu_part(n, 2 * channels, sizeof(double), (void **)&s->sums, err));
    TRY(cpu_part(n, (levels + 1) * (n->param_end - n->param_begin), sizeof(float),
                 (void **)&s->fold, err));
    if (n->pool != NULL) {
        int64_t count = e->shards * e->shard_rows * n->out_count;
        TRY(cpu_part(n, count, sizeof(float), (void **)&s->chosen, err));
        TRY(cpu_part(n, count, 1, (void **)&s->from, err));
    }
out:
    return st;
}

/* Fills the shard's statistics from its activations. */
static void measure(const struct node *n, const struct pass *p, const float *x,
                    const struct cpu_channel_stats *st) {
    const struct batch_norm *s = n->state;
    int64_t channels = n->in.dim[0], count = p->shard_rows * pixels_of(n);
    int64_t samples = count < SAMPLES ? count : SAMPLES;
    const float *gamma = p->weights + n->param[0], *beta = p->weights + n->param[1];
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t i = 0; i < samples; i++)
            sum += (double)x[i * count / samples * channels + c];
        st->mean[c] = (float)(sum / (double)samples);
    }
    double *first = s->sums, *second = s->sums + channels;
    memset(first, 0, (size_t)(2 * channels) * sizeof *first);
    moments(x, count, channels, st->mean, first, second);
    for (int64_t c = 0; c < channels; c++) {
        double offset = first[c] / (double)count, mean = (double)st->mean[c] + offset;
        double spread = second[c] - first[c] * offset; /* Σ (x − μ)² */
        if (spread < 0)
            spread = 0;
        double inverse = 1.0 / sqrt(spread / (double)count + (double)n->layer->eps);
        st->mean[c] = (float)mean;
        st->variance[c] = (float)(spread / (double)(count - 1));
        st->inverse[c] = (float)inverse;
        st->scale[c] = (float)((double)gamma[c] * inverse);
        st->shift[c] = (float)((double)beta[c] - mean * (double)gamma[c] * inverse);
    }
}

/* The statistics of evaluation, in the first shard's place. */
static void recall(const struct node *n, const struct pass *p, const struct cpu_channel_stats *st) {
    const float *w = p->weights;
    for (int64_t c = 0; c < n->in.dim[0]; c++) {
        double gamma = (double)w[n->param[0] + c], beta = (double)w[n->param[1] + c];
        double mean = (double)w[n->param[2] + c], variance = (double)w[n->param[3] + c];
        double inverse = 1.0 / sqrt(variance + (double)n->layer->eps);
        st->scale[c] = (float)(gamma * inverse);
        st->shift[c] = (float)(beta - mean * gamma * inverse);
    }
}

static void pool(const struct node *n, const struct pass *p, int shard,
                 const struct cpu_channel_stats *st) {
    const struct batch_norm *s = n->state;
    struct cpu_window w = window_of(n);
    for (int64_t r = shard * p->shard_rows; r < (shard + 1) * p->shard_rows; r++)
        cpu_norm_pool_forward(pass_x(p) + r * n->in_count, &w, st, n->relu,
                              pass_y(p) + r * n->out_count, s->chosen + r * n->out_count,
                              s->from + r * n->out_count);
}

static void batch_norm_forward(const struct node *n, const struct pass *p) {
    int64_t pixels = pixels_of(n), channels = n->in.dim[0];
    for (int shard = 0; shard < p->shards; shard++) {
        struct cpu_channel_stats st = stats_of(n, shard);
        int64_t at = shard * p->shard_rows * n->in_count;
        if (p->training)
            measure(n, p, pass_x(p) + at, &st);
        else
            recall(n, p, &st);
        if (n->pool != NULL)
            pool(n, p, shard, &st);
        else
            apply(pass_x(p) + at, p->shard_rows * pixels, channels, st.scale, st.shift, n->relu,
                  pass_y(p) + at);
    }
}

static void batch_norm_backward_weights(const struct node *n, const struct pass *p) {
    const struct batch_norm *s = n->state;
    int64_t channels = n->in.dim[0], count = p->shard_rows * pixels_of(n);
    int64_t stretch = n->param_end - n->param_begin;
    float *leaf = s->fold + (cpu_log2(p->shards) + 1) * stretch;
    double *first = s->sums, *second = s->sums + channels;
    struct cpu_tree tree = {p->fold, s->fold, stretch, n->param_begin, p->shards};
    for (int shard = 0; shard < p->shards; shard++) {
        struct cpu_channel_stats st = stats_of(n, shard);
        int64_t at = shard * p->shard_rows * n->out_count;
        struct cpu_sum sum;
        memset(first, 0, (size_t)(2 * channels) * sizeof *first);
        slopes((n->pool != NULL ? s->chosen : pass_x(p)) + at, pass_dy(p) + at,
               p->shard_rows * n->out_count / channels, channels, &st, n->relu, first, second);
        for (int64_t c = 0; c < channels; c++) {
            double inverse = (double)st.inverse[c];
            double k1 = (double)st.scale[c] * second[c] * inverse * inverse / (double)count;
            st.k1[c] = (float)k1;
            st.k0[c] =
                (float)(k1 * (double)st.mean[c] - (double)st.scale[c] * first[c] / (double)count);
            leaf[n->param[0] - n->param_begin + c] = (float)(second[c] * inverse);
            leaf[n->param[1] - n->param_begin + c] = (float)first[c];
            leaf[n->param[2] - n->param_begin + c] = st.mean[c];
            leaf[n->param[3] - n->param_begin + c] = st.variance[c];
        }
        cpu_sum_plan(&tree, shard, &sum);
        cpu_sum_apply(&sum, leaf, stretch);
    }
}

static void unpool(const struct node *n, const struct pass *p, int shard,
                   const struct cpu_channel_stats *st) {
    const struct batch_norm *s = n->state;
    struct cpu_window w = window_of(n);
    for (int64_t r = shard * p->shard_rows; r < (shard + 1) * p->shard_rows; r++)
        cpu_norm_pool_data(pass_x(p) + r * n->in_count, pass_dy(p) + r * n->out_count,
                           s->from + r * n->out_count, &w, st, pass_dx(p) + r * n->in_count);
}

static void batch_norm_backward_data(const struct node *n, const struct pass *p) {
    int64_t channels = n->in.dim[0], count = p->shard_rows * pixels_of(n);
    for (int shard = 0; shard < p->shards; shard++) {
        struct cpu_channel_stats st = stats_of(n, shard);
        int64_t at = shard * p->shard_rows * n->in_count;
        if (n->pool == NULL)
            data(pass_x(p) + at, pass_dy(p) + at, count, channels, &st, n->relu, pass_dx(p) + at);
        else
            unpool(n, p, shard, &st);
    }
}

const struct operation cpu_batch_norm = {
    .prepare = batch_norm_prepare,
    .release = batch_norm_release,
    .forward = batch_norm_forward,
    .backward_weights = batch_norm_backward_weights,
    .backward_data = batch_norm_backward_data,
};
