/* The plain twin: a model's forward pass in float64, one loop per formula, (B, C, H, W) throughout.
 * It shares no code with kernels/ but the parsed model and Philox. Gradients come from differences
 * of it. */
#ifndef TESTS_UNIT_KERNELS_TWIN_H
#define TESTS_UNIT_KERNELS_TWIN_H

#include "tests/unit/kernels/net.h"

struct twin {
    const struct model *model;
    enum loss_kind loss;
    double *w;     /* flat vector */
    double *stats; /* flat vector: what running statistics receive, summed over shards */
    bool training;
    uint64_t seed;
    int64_t step;
};

static inline int64_t volume(const struct shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

static inline void twin_dense(const struct layer *l, const double *w, const double *bias,
                              const double *x, double *y) {
    int64_t in = volume(&l->in);
    for (int64_t o = 0; o < l->out.dim[0]; o++) {
        double sum = bias ? bias[o] : 0;
        for (int64_t i = 0; i < in; i++)
            sum += w[o * in + i] * x[i];
        y[o] = sum;
    }
}

/* What every sliding window needs: the input at (c, i·stride + a − padding, …), or `outside`. */
static inline double at(const struct layer *l, const double *x, int64_t c, int64_t i, int64_t j,
                        int64_t a, int64_t b) {
    int64_t h = i * l->stride[0] + a - l->padding[0], v = j * l->stride[1] + b - l->padding[1];
    if (h < 0 || v < 0 || h >= l->in.dim[1] || v >= l->in.dim[2])
        return 0;
    return x[(c * l->in.dim[1] + h) * l->in.dim[2] + v];
}

static inline void twin_conv(const struct layer *l, const double *w, const double *bias,
                             const double *x, double *y) {
    int64_t in = l->in.dim[0];
    for (int64_t o = 0; o < l->out.dim[0]; o++)
        for (int64_t i = 0; i < l->out.dim[1]; i++)
            for (int64_t j = 0; j < l->out.dim[2]; j++) {
                double sum = bias ? bias[o] : 0;
                for (int64_t c = 0; c < in; c++)
                    for (int64_t a = 0; a < l->kernel[0]; a++)
                        for (int64_t b = 0; b < l->kernel[1]; b++)
                            sum += w[((o * in + c) * l->kernel[0] + a) * l->kernel[1] + b] *
                                   at(l, x, c, i, j, a, b);
                *y++ = sum;
            }
}

static inline void twin_pool(const struct layer *l, bool max, const double *x, double *y) {
    for (int64_t c = 0; c < l->out.dim[0]; c++)
        for (int64_t i = 0; i < l->out.dim[1]; i++)
            for (int64_t j = 0; j < l->out.dim[2]; j++) {
                double best = -(double)INFINITY, sum = 0;
                for (int64_t a = 0; a < l->kernel[0]; a++)
                    for (int64_t b = 0; b < l->kernel[1]; b++) {
                        best = fmax(best, at(l, x, c, i, j, a, b));
                        sum += at(l, x, c, i, j, a, b);
                    }
                *y++ = max ? best : sum / (double)(l->kernel[0] * l->kernel[1]);
            }
}

static inline void twin_norm(const struct twin *t, const struct layer *l, int64_t rows,
                             const double *x, double *y) {
    const struct param *p = &t->model->params[l->param_first];
    int64_t channels = l->in.dim[0], pixels = volume(&l->in) / channels, n = rows * pixels;
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, var = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < pixels; i++)
                mean += x[(r * channels + c) * pixels + i] / (double)n;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < pixels; i++)
                var += pow(x[(r * channels + c) * pixels + i] - mean, 2) / (double)n;
        if (t->training) {
            t->stats[p[2].offset + c] += mean;
            t->stats[p[3].offset + c] += var * (double)n / (double)(n - 1);
        } else {
            mean = t->w[p[2].offset + c];
            var = t->w[p[3].offset + c];
        }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < pixels; i++) {
                int64_t k = (r * channels + c) * pixels + i;
                y[k] = (x[k] - mean) / sqrt(var + (double)l->eps) * t->w[p[0].offset + c] +
                       t->w[p[1].offset + c];
            }
    }
}

/* Element f of a sample as it lies in the engine: channels last behind an operator on images. */
static inline int64_t stored_place(const struct shape *s, bool nhwc, int64_t f) {
    if (s->rank == 1 || !nhwc)
        return f;
    int64_t pixels = s->dim[1] * s->dim[2];
    return f % pixels * s->dim[0] + f / pixels;
}

static inline void twin_dropout(const struct twin *t, const struct layer *l, bool nhwc, int32_t row,
                                const double *x, double *y) {
    int64_t features = volume(&l->in);
    uint64_t hi = UINT64_C(2) << 56 | (uint64_t)l->index << 40 | (uint64_t)t->step;
    for (int64_t f = 0; f < features; f++) {
        int64_t e = stored_place(&l->in, nhwc, f);
        uint64_t lo = (uint64_t)row * (uint64_t)((features + 3) / 4) + (uint64_t)e / 4;
        bool keep =
            (double)philox(t->seed, hi, lo).v[e % 4] >= floor((double)l->rate * 4294967296.0);
        y[f] = !t->training ? x[f] : keep ? x[f] / (1.0 - (double)l->rate) : 0.0;
    }
}

static inline double twin_point(enum layer_kind kind, double x) {
    if (kind == LAYER_RELU)
        return x > 0 ? x : 0;
    if (kind == LAYER_GELU)
        return 0.5 * x * erfc(-x / sqrt(2));
    if (kind == LAYER_TANH)
        return tanh(x);
    return kind == LAYER_SIGMOID ? 1 / (1 + exp(-x)) : x;
}

/* One shard (or, in evaluation, any rows): returns the summed loss; *y, malloced, the outputs. */
static inline double twin_forward(const struct twin *t, const float *input, const int32_t *labels,
                                  const float *targets, const int32_t *rows_global, int64_t rows,
                                  double **outputs) {
    const struct model *m = t->model;
    int64_t n = volume(&m->in), out = volume(&m->out);
    double *x = malloc((size_t)(rows * n) * sizeof *x), loss = 0;
    bool nhwc = false;
    for (int64_t i = 0; i < rows * n; i++)
        x[i] = (double)input[i];
    for (int i = 0; i < m->layer_count; i++) {
        const struct layer *l = &m->layers[i];
        const struct param *p = &m->params[l->param_first];
        int64_t from = volume(&l->in), to = volume(&l->out);
        double *y = malloc((size_t)(rows * to) * sizeof *y);
        if (l->kind == LAYER_BATCH_NORM)
            twin_norm(t, l, rows, x, y);
        for (int64_t r = 0; r < rows; r++) {
            const double *a = x + r * from;
            double *b = y + r * to;
            const double *bias = l->bias ? t->w + p[1].offset : NULL;
            if (l->kind == LAYER_DENSE)
                twin_dense(l, t->w + p[0].offset, bias, a, b);
            else if (l->kind == LAYER_CONV2D)
                twin_conv(l, t->w + p[0].offset, bias, a, b);
            else if (l->kind == LAYER_MAX_POOL || l->kind == LAYER_AVG_POOL)
                twin_pool(l, l->kind == LAYER_MAX_POOL, a, b);
            else if (l->kind == LAYER_DROPOUT)
                twin_dropout(t, l, nhwc, rows_global[r], a, b);
            else if (l->kind != LAYER_BATCH_NORM)
                for (int64_t k = 0; k < to; k++)
                    b[k] = twin_point(l->kind, a[k]);
        }
        if (l->kind == LAYER_CONV2D || l->kind == LAYER_BATCH_NORM || l->kind == LAYER_MAX_POOL ||
            l->kind == LAYER_AVG_POOL)
            nhwc = true;
        if (l->kind == LAYER_FLATTEN || l->kind == LAYER_DENSE)
            nhwc = false;
        free(x);
        x = y;
    }
    for (int64_t r = 0; r < rows; r++) {
        const double *y = x + r * out;
        double max = -(double)INFINITY, sum = 0;
        for (int64_t c = 0; c < out; c++)
            max = fmax(max, y[c]);
        for (int64_t c = 0; c < out; c++)
            sum += exp(y[c] - max);
        if (t->loss == LOSS_CROSS_ENTROPY)
            loss += log(sum) + max - y[labels[r]];
        for (int64_t c = 0; t->loss == LOSS_MSE && c < out; c++)
            loss += pow(y[c] - (double)targets[r * out + c], 2) / (double)out;
    }
    if (outputs)
        *outputs = x;
    else
        free(x);
    return loss;
}

static inline struct twin twin_open(const struct net *net, int64_t step) {
    size_t n = (size_t)net->model->vector_count;
    struct twin t = {.model = net->model,
                     .loss = net->spec.loss,
                     .w = calloc(n, sizeof(double)),
                     .stats = calloc(n, sizeof(double)),
                     .training = true,
                     .seed = net->spec.seed,
                     .step = step};
    for (size_t i = 0; i < n; i++)
        t.w[i] = (double)net->weights[i];
    return t;
}

static inline void twin_close(struct twin *t) {
    free(t->w);
    free(t->stats);
}

/* The summed loss of the net's whole batch, shard by shard. */
static inline double twin_loss(const struct twin *t, const struct net *net) {
    int64_t n = net->spec.shard_rows, in = volume(&net->model->in), out = volume(&net->model->out);
    double loss = 0;
    memset(t->stats, 0, (size_t)net->model->vector_count * sizeof(double));
    for (int64_t row = 0; row < net->rows; row += n)
        loss += twin_forward(t, net->x + row * in, net->labels + row, net->targets + row * out,
                             net->rows_global + row, n, NULL);
    return loss;
}

#endif
