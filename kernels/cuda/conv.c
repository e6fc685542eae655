/* Convolution by cuDNN on (B, H, W, C), a shard a call, as kernels/cpu/conv.c: every call has the
 * shape of one shard and its engine is chosen for that shape alone, so no bit can depend on the
 * walk or on the number of ranks. Bias gradient and fold are ours: the library is not trusted with
 * an order.
 *
 *     refresh:   w (K, C, R, S) float ─▶ w (K, R, S, C) in the precision      where they differ
 *     forward:   [x ∗ w, + bias, relu] one fused graph, or as much of it as the library has and
 *                keeps NaN in, and a kernel of ours
 *     backward:  [mask dy, Σ dy] ─▶ dw (K, R, S, C) of each shard ─▶ (K, C, R, S) ─▶ fold
 *
 * In bf16, weights and bias are rounded stochastically for a training step and to nearest in
 * evaluation; a shard's weight gradient is summed in float32, leaves the library as bfloat16 (its
 * engines write nothing wider) and is folded in float32.
 *
 * Evaluation runs in units of a shard's rows, the last one padded by rows nobody looks at. prepare
 * proves that a row's bits do not depend on its place in the unit, or else evaluation goes row by
 * row. A row's company never matters: no product mixes rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/partials.h"
#include "kernels/graph/random_stream.h"

#define ALIGNMENT 16 /* bytes: more does not help the library's kernels */

/* PLAIN: nothing, a kernel of ours comes after it. WITH_BIAS: and our relu after it, because the
 * library's makes numbers of NaN. */
enum joined { PLAIN, WITH_BIAS, WITH_RELU };

struct conv {
    bool bf16;
    enum precision precision;
    uint64_t seed;
    int64_t unit, pixels, stretch; /* rows of a shard; of dy, H · W; floats of the layer */
    int side, levels;              /* shards whose gradients lie side by side; see partials.h */
    int64_t filter_stride;         /* elements from one shard's dw to the next */
    struct conv_filter filter;
    struct dnn_graph *forward, *row, *weights, *data; /* row: forward of one, where it is needed */
    enum joined joined; /* what `forward` and `row` do beside the convolution */
    bool row_by_row;
    void *w;    /* in the library's layout and the precision; NULL: the flat vector serves */
    void *dw;   /* (side, K, R, S, C); NULL: the same as `partials` */
    void *bias; /* what a fused graph adds: of bf16, or zeros; NULL: the flat vector's, or none */
    float *partials; /* (side, stretch) */
    float *level;    /* (levels, stretch): sums that wait for their neighbours */
    float *sums;     /* scratch of the bias gradient; NULL: no bias */
};

/* ---- graphs ---- */

/* (rows, H, W, C) as cuDNN names it. It begins whole calls behind the start of a block of memory:
 * so many rows decide what it is aligned to, not one, which in bfloat16 may have an odd number of
 * elements, and fused engines want 4 bytes. */
static struct dnn_tensor data_tensor(const struct conv *s, int64_t rows, const struct shape *shape,
                                     bool inside) {
    int64_t c = shape->dim[0], h = shape->dim[1], w = shape->dim[2];
    int64_t bytes = (int64_t)precision_bytes(s->precision) * rows * c * h * w;
    return (struct dnn_tensor){.type = s->bf16 && !inside ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT,
                               .dim = {rows, c, h, w},
                               .stride = {c * h * w, 1, w * c, c},
                               .alignment = bytes % ALIGNMENT == 0 ? ALIGNMENT : bytes & -bytes,
                               .inside = inside};
}

static struct dnn_tensor filter_tensor(const struct node *n, const struct conv *s) {
    int64_t k = n->out.dim[0], c = n->in.dim[0];
    int64_t r = n->layer->kernel[0], q = n->layer->kernel[1];
    return (struct dnn_tensor){.type = s->bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT,
                               .dim = {k, c, r, q},
                               .stride = {r * q * c, 1, q * c, c},
                               .alignment = ALIGNMENT};
}

static struct dnn_tensor bias_tensor(const struct node *n, const struct conv *s) {
    int64_t channels = n->out.dim[0];
    return (struct dnn_tensor){.type = s->bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT,
                               .dim = {1, channels, 1, 1},
                               .stride = {channels, 1, channels, channels},
                               .alignment = ALIGNMENT};
}

static enum status new_graph(struct device *d, const struct node *n, const struct conv *s,
                             const char *what, int64_t rows, struct dnn_graph **out,
                             struct err *err) {
    char text[160];
    (void)snprintf(
        text, sizeof text, "%s of (%lld, %lld, %lld, %lld) by %lld filters of %lld × %lld in %s",
        what, (long long)rows, (long long)n->in.dim[0], (long long)n->in.dim[1],
        (long long)n->in.dim[2], (long long)n->out.dim[0], (long long)n->layer->kernel[0],
        (long long)n->layer->kernel[1], precision_name(s->precision));
    return dnn_graph_new(d, text, out, err);
}

static struct dnn_window window_of(const struct node *n) {
    const struct layer *l = n->layer;
    return (struct dnn_window){.stride = {l->stride[0], l->stride[1]},
                               .padding = {l->padding[0], l->padding[1]}};
}

static bool has_bias(const struct node *n) {
    return n->param[1] >= 0;
}

static bool joins_relu(const struct node *n, enum joined joined) {
    return n->relu && joined == WITH_RELU;
}

/* Whether a graph adds a bias: the library's need one in front of a relu, if only zeros. */
static bool adds_bias(const struct node *n, enum joined joined) {
    return joined != PLAIN && (has_bias(n) || joins_relu(n, joined));
}

/* Tensors in memory, in order: x, w, y; fused with a bias: x, w, bias, y. */
static enum status compile_forward(struct device *d, const struct node *n, int64_t rows,
                                   enum joined joined, struct dnn_graph **out, struct err *err) {
    const struct conv *s = n->state;
    struct dnn_graph *g = NULL;
    enum status st = new_graph(d, n, s, "a convolution", rows, &g, err);
    if (st != STATUS_OK)
        return st;
    struct dnn_window window = window_of(n);
    struct dnn_tensor t = data_tensor(s, rows, &n->in, false);
    int x = dnn_tensor(g, &t);
    t = filter_tensor(n, s);
    int w = dnn_tensor(g, &t), y;
    struct dnn_tensor inside = data_tensor(s, rows, &n->out, true);
    struct dnn_tensor last = data_tensor(s, rows, &n->out, false);
    bool bias = adds_bias(n, joined), relu = joins_relu(n, joined);
    y = dnn_tensor(g, bias ? &inside : &last);
    dnn_convolve(g, DNN_FORWARD, &window, x, w, y);
    if (bias) {
        t = bias_tensor(n, s);
        int b = dnn_tensor(g, &t), sum = dnn_tensor(g, relu ? &inside : &last);
        dnn_pointwise(g, CUDNN_POINTWISE_ADD, y, b, sum);
        y = sum;
    }
    if (relu)
        dnn_pointwise(g, CUDNN_POINTWISE_RELU_FWD, y, -1, dnn_tensor(g, &last));
    st = dnn_compile(g, s->precision, err);
    if (st == STATUS_OK)
        *out = g;
    else
        dnn_graph_release(g);
    return st;
}

/* Tensors: x, w, y with the gradient of the one that the direction names in its place. */
static enum status make_backward(struct device *d, const struct node *n, const struct conv *s,
                                 enum dnn_direction direction, struct dnn_graph **out,
                                 struct err *err) {
    struct dnn_graph *g = NULL;
    bool weights = direction == DNN_BACKWARD_WEIGHTS;
    enum status st = new_graph(d, n, s,
                               weights ? "the weight gradient of a convolution"
                                       : "the data gradient of a convolution",
                               s->unit, &g, err);
    if (st != STATUS_OK)
        return st;
    struct dnn_window window = window_of(n);
    struct dnn_tensor x = data_tensor(s, s->unit, &n->in, false);
    struct dnn_tensor w = filter_tensor(n, s);
    struct dnn_tensor y = data_tensor(s, s->unit, &n->out, false);
    int xi = dnn_tensor(g, &x), wi = dnn_tensor(g, &w), yi = dnn_tensor(g, &y);
    dnn_convolve(g, direction, &window, xi, wi, yi);
    st = dnn_compile(g, s->precision, err);
    if (st == STATUS_OK)
        *out = g;
    else
        dnn_graph_release(g);
    return st;
}

/* ---- forward ---- */

static void *at(void *p, int64_t element, size_t bytes) {
    return (char *)p + (size_t)element * bytes;
}
static const void *at_const(const void *p, int64_t element, size_t bytes) {
    return (const char *)p + (size_t)element * bytes;
}

/* y of the rows of one graph; `bias` and the relu only where the graph holds them. */
static void run_forward(const struct node *n, struct dnn_graph *g, const void *x, const void *w,
                        const void *bias, const void *y) {
    const struct conv *s = n->state;
    if (adds_bias(n, s->joined))
        dnn_run(g, (const void *const[]){x, w, bias, y});
    else
        dnn_run(g, (const void *const[]){x, w, y});
}

static void forward(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    size_t bytes = precision_bytes(s->precision);
    bool rows = !p->training && s->row_by_row;
    int64_t unit = rows ? 1 : s->unit;
    const void *w = s->w != NULL ? s->w : p->weights + n->param[0];
    const float *bias = has_bias(n) ? p->weights + n->param[1] : NULL;
    if (cuda_failed(n->device))
        return;
    for (int64_t r = 0; r < p->rows; r += unit)
        run_forward(n, rows ? s->row : s->forward, at_const(p->x[0], r * n->in_count, bytes), w,
                    s->bias ? s->bias : bias, at(p->y, r * n->out_count, bytes));
    bool relu = n->relu && !joins_relu(n, s->joined);
    bias = adds_bias(n, s->joined) ? NULL : bias;
    if (!bias && !relu)
        return;
    conv_bias_relu(p->y, s->bf16, bias, relu, p->rows * n->out_count, n->out.dim[0],
                   cuda_stream(n->device));
    cuda_launched(n->device, "conv2d: launch of bias and relu");
}

/* ---- whether a row's place matters ---- */

struct proof {
    char *memory, *x, *w, *bias, *y, *again, *verdict; /* parts of `memory` */
};

static int64_t padded(int64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static enum status take_proof(struct device *d, const struct node *n, const struct conv *s,
                              struct proof *out, struct err *err) {
    int64_t bytes = (int64_t)precision_bytes(s->precision), k = n->out.dim[0];
    int64_t x = padded(s->unit * n->in_count * bytes), y = padded(s->unit * n->out_count * bytes);
    int64_t w = padded(s->filter.k * s->filter.c * s->filter.area * bytes);
    int64_t bias = padded(k * (int64_t)sizeof(float)), all = x + w + bias + 2 * y + 256;
    out->memory = d->backend->memory->alloc(d, (size_t)all);
    if (out->memory == NULL)
        return err_set(err, STATUS_NOMEM,
                       "no device memory for %lld bytes of a convolution's self-check",
                       (long long)all);
    out->x = out->memory;
    out->w = out->x + x;
    out->bias = out->w + w;
    out->y = out->bias + bias;
    out->again = out->y + y;
    out->verdict = out->again + y;
    return STATUS_OK;
}

/* The same rows one place further on must give the same bits. All plans are run here, so that one
 * that fails, or loads its kernels as it starts, does so before a step is recorded. */
static enum status rehearse(struct device *d, const struct node *n, const struct conv *s,
                            struct err *err) {
    enum status st = STATUS_OK;
    struct proof p = {0};
    cudaStream_t stream = cuda_stream(d);
    int64_t bytes = (int64_t)precision_bytes(s->precision);
    int64_t count = s->unit * n->in_count, row = n->out_count * bytes;
    uint32_t differ = 0;
    TRY(take_proof(d, n, s, &p, err));
    conv_fill(p.w, s->bf16, s->filter.k * s->filter.c * s->filter.area, 8, 0, stream);
    conv_fill(p.bias, s->bf16, n->out.dim[0], 9, 0, stream);
    conv_fill(p.x, s->bf16, count, 7, 0, stream);
    run_forward(n, s->forward, p.x, p.w, p.bias, p.y);
    conv_fill(p.x, s->bf16, count, 7, n->in_count, stream);
    run_forward(n, s->forward, p.x, p.w, p.bias, p.again);
    if (s->unit > 1)
        conv_differ(p.y + row, p.again, (s->unit - 1) * row, (uint32_t *)(void *)p.verdict, stream);
    if (s->data != NULL)
        dnn_run(s->data, (const void *const[]){p.x, p.w, p.y});
    dnn_run(s->weights, (const void *const[]){p.x, p.w, p.y});
    cuda_launched(d, "conv2d: self-check");
    d->backend->memory->download(d, &differ, p.verdict, sizeof differ);
    TRY(d->backend->order->status(d, err));
    dnn_prove(s->forward, differ ? DNN_UNSTEADY : DNN_STEADY);
    dnn_prove(s->weights, DNN_STEADY);
    if (s->data != NULL)
        dnn_prove(s->data, DNN_STEADY);
out:
    d->backend->memory->release(d, p.memory);
    return st;
}

static enum status prove_place(struct device *d, struct node *n, struct conv *s, struct err *err) {
    enum status st = STATUS_OK;
    if (dnn_proof(s->forward) == DNN_UNTRIED || dnn_proof(s->weights) == DNN_UNTRIED ||
        (s->data && dnn_proof(s->data) == DNN_UNTRIED))
        TRY(rehearse(d, n, s, err));
    s->row_by_row = dnn_proof(s->forward) == DNN_UNSTEADY;
out:
    return st;
}

/* ---- whether NaN stays NaN ---- */

/* A bias of NaN makes every sum NaN, also those whose window sees nothing but padding. */
static enum status feed_nan(struct device *d, const struct node *n, struct dnn_graph *g,
                            int64_t rows, struct err *err) {
    enum status st = STATUS_OK;
    const struct conv *s = n->state;
    struct proof p = {0};
    cudaStream_t stream = cuda_stream(d);
    uint32_t numbers = 0;
    TRY(take_proof(d, n, s, &p, err));
    conv_fill(p.w, s->bf16, s->filter.k * s->filter.c * s->filter.area, 8, 0, stream);
    conv_fill(p.x, s->bf16, rows * n->in_count, 7, 0, stream);
    (void)cuda_ok(
        d,
        cudaMemsetAsync(p.bias, 0xff, (size_t)s->filter.k * precision_bytes(s->precision), stream),
        "conv2d: NaN");
    dnn_run(g, (const void *const[]){p.x, p.w, p.bias, p.y});
    matmul_numbers(p.y, s->bf16, rows * n->out_count, (uint32_t *)(void *)p.verdict, stream);
    cuda_launched(d, "conv2d: search for NaN");
    d->backend->memory->download(d, &numbers, p.verdict, sizeof numbers);
    TRY(d->backend->order->status(d, err));
    dnn_nan_found(g, numbers ? DNN_NAN_LOST : DNN_NAN_KEPT);
out:
    d->backend->memory->release(d, p.memory);
    return st;
}

/* A forward graph of `rows` rows that does what s->joined says. *worse: it cannot be had so, and
 * this is the next best. That the library has none is not a failure: the message of the plain one
 * is the one to tell. */
static enum status make_forward(struct device *d, const struct node *n, int64_t rows,
                                struct dnn_graph **out, enum joined *worse, struct err *err) {
    const struct conv *s = n->state;
    struct err why = {0};
    enum status st = compile_forward(d, n, rows, s->joined, out, &why);
    *worse = s->joined;
    if (st == STATUS_UNAVAILABLE && s->joined != PLAIN) {
        *worse = PLAIN;
        return STATUS_OK;
    }
    if (st != STATUS_OK)
        return err_set(err, st, "%s", why.text);
    if (!joins_relu(n, s->joined))
        return STATUS_OK;
    if (dnn_nan(*out) == DNN_NAN_UNTRIED)
        st = feed_nan(d, n, *out, rows, err);
    if (st == STATUS_OK && dnn_nan(*out) == DNN_NAN_LOST)
        *worse = WITH_BIAS;
    return st;
}

/* Graphs of whole shards and, where a row's place matters, of one row: both join the same, the most
 * that both can. */
static enum status make_graphs(struct device *d, struct node *n, struct conv *s, struct err *err) {
    enum status st = STATUS_OK;
    enum joined worse = WITH_RELU;
    TRY(make_backward(d, n, s, DNN_BACKWARD_WEIGHTS, &s->weights, err));
    if (n->needs_dx)
        TRY(make_backward(d, n, s, DNN_BACKWARD_DATA, &s->data, err));
    do {
        s->joined = worse;
        dnn_graph_release(s->forward);
        dnn_graph_release(s->row);
        s->forward = s->row = NULL;
        TRY(make_forward(d, n, s->unit, &s->forward, &worse, err));
        if (worse != s->joined)
            continue;
        TRY(prove_place(d, n, s, err));
        if (s->row_by_row)
            TRY(make_forward(d, n, 1, &s->row, &worse, err));
    } while (worse != s->joined);
out:
    return st;
}

/* ---- the operator ---- */

static enum status take_memory(struct node *n, struct conv *s, int shards, struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    size_t count = (size_t)(s->filter.k * s->filter.c * s->filter.area);
    size_t stretch = (size_t)s->stretch * sizeof(float), side = (size_t)s->side;
    bool same = s->filter.c == 1 || s->filter.area == 1; /* (K, R, S, C) is (K, C, R, S) */
    s->filter_stride = ((int64_t)count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!same || s->bf16) {
        TRY(cuda_part(n, count * precision_bytes(s->precision), &p, err));
        s->w = p;
    }
    if (!same || s->bf16) {
        TRY(cuda_part(n, side * (size_t)s->filter_stride * precision_bytes(s->precision), &p, err));
        s->dw = p;
    }
    if (adds_bias(n, s->joined) && (s->bf16 || !has_bias(n))) {
        TRY(cuda_part(n, (size_t)s->filter.k * precision_bytes(s->precision), &p, err));
        s->bias = p;
    }
    TRY(cuda_part(n, side * stretch, &p, err));
    s->partials = p;
    if (s->side < shards) {
        TRY(cuda_part(n, (size_t)s->levels * stretch, &p, err));
        s->level = p;
    }
    if (has_bias(n)) {
        size_t chunks = (size_t)conv_chunks(s->unit * s->pixels);
        TRY(cuda_part(n, side * chunks * (size_t)s->filter.k * sizeof(float), &p, err));
        s->sums = p;
    }
out:
    return st;
}

static enum status prepare(struct device *d, struct node *n, const struct extent *e,
                           struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    TRY(cuda_state_new(n, sizeof(struct conv), &p, err));
    struct conv *s = p;
    s->precision = e->precision;
    s->bf16 = e->precision == PRECISION_BF16;
    s->seed = e->seed;
    s->unit = e->shard_rows;
    s->pixels = n->out.dim[1] * n->out.dim[2];
    s->stretch = n->param_end - n->param_begin;
    s->side = partials_side_by_side(s->stretch, e->shards);
    s->levels = partials_levels(s->stretch, e->shards);
    s->filter = (struct conv_filter){
        .k = n->out.dim[0], .c = n->in.dim[0], .area = n->layer->kernel[0] * n->layer->kernel[1]};
    TRY(make_graphs(d, n, s, err));
    TRY(take_memory(n, s, e->shards, err));
out:
    return st;
}

static void release(struct device *d, struct node *n) {
    struct conv *s = n->state;
    dnn_graph_release(s->forward);
    dnn_graph_release(s->row);
    dnn_graph_release(s->weights);
    dnn_graph_release(s->data);
    d->backend->memory->release(d, s->w);
    d->backend->memory->release(d, s->dw);
    d->backend->memory->release(d, s->bias);
    d->backend->memory->release(d, s->partials);
    d->backend->memory->release(d, s->level);
    d->backend->memory->release(d, s->sums);
    free(s);
}

static void refresh(const struct node *n, const float *weights, bool training) {
    const struct conv *s = n->state;
    struct device *d = n->device;
    struct conv_rounding rounding = {
        .stochastic = training,
        .seed = s->seed,
        .stream = STREAM_ROUND | (uint64_t)n->layer->index << STREAM_STEP_BITS,
        .step_mask = STREAM_STEP_MASK,
        .step = &cuda_state(d)->terms.step,
    };
    if (s->w == NULL || cuda_failed(d))
        return;
    if (s->bf16)
        conv_weights_bf16(weights + n->param[0], s->w, &s->filter, &rounding, cuda_stream(d));
    else
        conv_weights(weights + n->param[0], s->w, &s->filter, cuda_stream(d));
    if (s->bias != NULL && has_bias(n)) {
        struct conv_filter row = {.k = s->filter.k, .c = 1, .area = 1};
        rounding.first = n->param[1] - n->param[0];
        conv_weights_bf16(weights + n->param[1], s->bias, &row, &rounding, cuda_stream(d));
    }
    cuda_launched(d, "conv2d: launch of the weights' copy");
}

/* Where the library writes dw of the i-th shard of a part. */
static void *dw_of(const struct conv *s, int i) {
    if (s->dw == NULL)
        return s->partials + i * s->stretch;
    return at(s->dw, i * s->filter_stride, precision_bytes(s->precision));
}

/* The gradients of `side` shards from `shard` on, in the order of the flat vector. */
static void fill_partials(const struct node *n, const struct pass *p, int shard) {
    const struct conv *s = n->state;
    cudaStream_t stream = cuda_stream(n->device);
    size_t bytes = precision_bytes(s->precision);
    int64_t first = shard * s->unit * n->out_count;
    struct conv_gradient bias = {.bf16 = s->bf16,
                                 .dy = at(p->dy, first, bytes),
                                 .y = n->relu ? at(p->y, first, bytes) : NULL,
                                 .shards = s->side,
                                 .pixels = s->unit * s->pixels,
                                 .channels = s->filter.k,
                                 .partial = s->sums,
                                 .out = has_bias(n) ? s->partials + (n->param[1] - n->param_begin)
                                                    : NULL,
                                 .stride = s->stretch};
    if (bias.y != NULL || bias.out != NULL) {
        conv_bias_gradients(&bias, stream);
        cuda_launched(n->device, "conv2d: launch of the bias gradient");
    }
    for (int i = 0; i < s->side; i++) {
        int64_t rows = (shard + i) * s->unit;
        dnn_run(s->weights,
                (const void *const[]){at_const(p->x[0], rows * n->in_count, bytes), dw_of(s, i),
                                      at_const(p->dy, rows * n->out_count, bytes)});
    }
    if (s->dw == NULL)
        return;
    conv_weight_gradients(s->dw, s->bf16, s->filter_stride, s->partials, s->stretch, s->side,
                          &s->filter, stream);
    cuda_launched(n->device, "conv2d: launch of the weight gradient's transpose");
}

/* Folds part `part` of `parts` into the levels: full ones join in, as everywhere in the tree. */
static void fold_part(const struct node *n, const struct pass *p, int part, int parts) {
    const struct conv *s = n->state;
    bool last = part == parts - 1;
    int full = last ? s->levels : __builtin_ctz(~(unsigned)part);
    struct fold fold = {.adds = full};
    for (int i = 0; i < full; i++)
        fold.add[i] = s->level + i * s->stretch;
    if (full == 0 && last) {
        cuda_fold_shards(n->device, p->fold, n->param_begin, s->partials, s->stretch, s->side,
                         s->stretch);
        return;
    }
    fold.dst = last ? s->level + (full - 1) * s->stretch : s->level + full * s->stretch;
    cuda_fold_shards(n->device, &fold, 0, s->partials, s->stretch, s->side, s->stretch);
    if (last)
        cuda_fold_shards(n->device, p->fold, n->param_begin, fold.dst, s->stretch, 1, s->stretch);
}

static void backward_weights(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    int parts = p->shards / s->side;
    for (int part = 0; part < parts && !cuda_failed(n->device); part++) {
        fill_partials(n, p, part * s->side);
        fold_part(n, p, part, parts);
    }
}

static void backward_data(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    size_t bytes = precision_bytes(s->precision);
    const void *w = s->w != NULL ? s->w : p->weights + n->param[0];
    for (int shard = 0; shard < p->shards; shard++) {
        int64_t rows = shard * s->unit;
        dnn_run(s->data, (const void *const[]){at_const(p->dx[0], rows * n->in_count, bytes), w,
                                               at_const(p->dy, rows * n->out_count, bytes)});
    }
}

static struct value *describe(struct arena *a, const struct node *n) {
    const struct conv *s = n->state;
    struct value *out = value_map(a);
    value_set_bool(a, out, "fused", s->joined != PLAIN);
    if (s->joined == WITH_BIAS)
        value_set_bool(a, out, "relu_apart", true);
    value_set_bool(a, out, "row_by_row", s->row_by_row);
    value_set(a, out, "forward", dnn_describe(a, s->forward));
    value_set(a, out, "backward_weights", dnn_describe(a, s->weights));
    if (s->data != NULL)
        value_set(a, out, "backward_data", dnn_describe(a, s->data));
    if (s->row != NULL)
        value_set(a, out, "forward_row", dnn_describe(a, s->row));
    return out;
}

const struct operation cuda_conv2d = {
    .prepare = prepare,
    .release = release,
    .refresh = refresh,
    .forward = forward,
    .backward_weights = backward_weights,
    .backward_data = backward_data,
    .describe = describe,
};
