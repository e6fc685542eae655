/* Convolution by oneDNN on (B, H, W, C), a shard a call: no bit can depend on the walk. Primitives
 * and memory objects are made once; a step only moves data handles. Weights are reordered to what
 * each primitive wants once a step. Bias gradient and fold are ours: the library's are not trusted
 * with an order.
 *
 * Evaluation runs in units of a shard's rows, the last one padded by rows nobody looks at; prepare
 * proves that a row's bits do not depend on its place in the unit, or else evaluation goes row by
 * row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "kernels/cpu/device.h"
#include "kernels/cpu/ops.h"
#include "kernels/host/simd.h"

#define ARGS_MAX 6

/* A primitive with its arguments. */
struct call {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[ARGS_MAX];
    int count;
};

struct conv {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_desc_t user, x, y, bias; /* weights as OIHW; data of a unit */
    dnnl_memory_desc_t row_x, row_y;
    struct call forward, data, weights, row; /* row: forward of one sample, where it is needed */
    struct call to_forward, to_data, from_weights;
    float *w_forward, *w_data, *w_gradient; /* in the primitives' layouts */
    float *scratch;
    float *leaf;  /* (levels + 1, param_end − param_begin) */
    float *zeros; /* a bias where the layer has none */
    int64_t unit;
    size_t scratch_bytes;
    bool row_by_row;
};

/* ---- calls ---- */

static enum status fail(struct err *err, dnnl_status_t code, const char *what) {
    return err_set(err, code == dnnl_out_of_memory ? STATUS_NOMEM : STATUS_UNAVAILABLE,
                   "oneDNN cannot create %s (status %d)", what, (int)code);
}

static enum status call_arg(struct conv *s, struct call *call, int arg,
                            const dnnl_memory_desc_t *desc, struct err *err) {
    dnnl_exec_arg_t *a = &call->args[call->count];
    a->arg = arg;
    dnnl_status_t code = dnnl_memory_create(&a->memory, desc, s->engine, DNNL_MEMORY_NONE);
    if (code != dnnl_success)
        return fail(err, code, "a memory object");
    call->count++;
    return STATUS_OK;
}

static void call_set(const struct call *call, int i, const void *p) {
    void *handle;
    memcpy(&handle, &p, sizeof p); /* sources are const to us, not in the library's signature */
    dnnl_memory_set_data_handle(call->args[i].memory, handle);
}

static void call_run(const struct conv *s, const struct call *call) {
    if (dnnl_primitive_execute(call->primitive, s->stream, call->count, call->args) != dnnl_success)
        abort(); /* arguments are fixed at creation: this can only be a bug */
}

static void call_release(struct call *call) {
    for (int i = 0; i < call->count; i++)
        dnnl_memory_destroy(call->args[i].memory);
    if (call->primitive != NULL)
        dnnl_primitive_destroy(call->primitive);
}

struct ends {
    const dnnl_memory_desc_t *from, *to;
};

static enum status make_reorder(struct conv *s, struct call *call, const struct ends *ends,
                                dnnl_primitive_attr_t attr, struct err *err) {
    const dnnl_memory_desc_t *from = ends->from, *to = ends->to;
    enum status st = STATUS_OK;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t code =
        dnnl_reorder_primitive_desc_create(&pd, from, s->engine, to, s->engine, attr);
    if (code == dnnl_success)
        code = dnnl_primitive_create(&call->primitive, pd);
    if (code != dnnl_success) {
        st = fail(err, code, "a reorder of weights");
        goto out;
    }
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (dnnl_memory_desc_get_size(scratch) > s->scratch_bytes)
        s->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    TRY(call_arg(s, call, DNNL_ARG_FROM, from, err));
    TRY(call_arg(s, call, DNNL_ARG_TO, to, err));
    TRY(call_arg(s, call, DNNL_ARG_SCRATCHPAD, scratch, err));
out:
    if (pd != NULL)
        dnnl_primitive_desc_destroy(pd);
    return st;
}

/* ---- primitives ---- */

struct geometry {
    dnnl_dims_t strides, padding;
    dnnl_memory_desc_t any; /* weights in whatever layout is fastest */
};

/* A primitive to make. */
struct wish {
    dnnl_prop_kind_t kind;
    const dnnl_memory_desc_t *x, *y;
    const struct geometry *g;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t hint;  /* of the backward ones: the forward descriptor */
    dnnl_primitive_desc_t *keep; /* receives the descriptor; NULL: it is not kept */
};

/* *weights receives the layout that the primitive chose. Arguments: data in, weights, data out (in
 * the order of the formulas). */
static enum status make_conv(struct conv *s, struct call *call, const struct wish *w,
                             dnnl_memory_desc_t *weights, struct err *err) {
    const dnnl_prop_kind_t kind = w->kind;
    const dnnl_memory_desc_t *x = w->x, *y = w->y;
    const struct geometry *g = w->g;
    enum status st = STATUS_OK;
    dnnl_convolution_desc_t desc;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t code;
    if (kind == dnnl_forward_training)
        code = dnnl_convolution_forward_desc_init(&desc, kind, dnnl_convolution_direct, x, &g->any,
                                                  &s->bias, y, g->strides, g->padding, g->padding);
    else if (kind == dnnl_backward_data)
        code = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, x, &g->any,
                                                        y, g->strides, g->padding, g->padding);
    else
        code = dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, x,
                                                           &g->any, NULL, y, g->strides, g->padding,
                                                           g->padding);
    if (code == dnnl_success)
        code = dnnl_primitive_desc_create(&pd, &desc, w->attr, s->engine, w->hint);
    if (code == dnnl_success)
        code = dnnl_primitive_create(&call->primitive, pd);
    if (code != dnnl_success) {
        st = fail(err, code, "this convolution");
        goto out;
    }
    bool back_w = kind == dnnl_backward_weights, back_d = kind == dnnl_backward_data;
    *weights = *dnnl_primitive_desc_query_md(
        pd, back_w ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (dnnl_memory_desc_get_size(scratch) > s->scratch_bytes)
        s->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    TRY(call_arg(s, call, back_d ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, x, err));
    TRY(call_arg(s, call, back_w ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, weights, err));
    TRY(call_arg(s, call, kind == dnnl_forward_training ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y,
                 err));
    TRY(call_arg(s, call, DNNL_ARG_SCRATCHPAD, scratch, err));
    if (kind == dnnl_forward_training)
        TRY(call_arg(s, call, DNNL_ARG_BIAS, &s->bias, err));
out:
    if (w->keep != NULL && st == STATUS_OK)
        *w->keep = pd;
    else if (pd != NULL)
        dnnl_primitive_desc_destroy(pd);
    return st;
}

static void describe_data(dnnl_memory_desc_t *desc, int64_t rows, const struct shape *shape) {
    dnnl_dims_t dims = {rows, shape->dim[0], shape->dim[1], shape->dim[2]};
    if (dnnl_memory_desc_init_by_tag(desc, 4, dims, dnnl_f32, dnnl_nhwc) != dnnl_success)
        abort(); /* four positive numbers */
}

static void describe_weights(const struct node *n, struct conv *s, struct geometry *g) {
    const struct layer *l = n->layer;
    dnnl_dims_t dims = {n->out.dim[0], n->in.dim[0], l->kernel[0], l->kernel[1]};
    dnnl_dims_t bias = {n->out.dim[0]};
    if (dnnl_memory_desc_init_by_tag(&s->user, 4, dims, dnnl_f32, dnnl_oihw) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&g->any, 4, dims, dnnl_f32, dnnl_format_tag_any) !=
            dnnl_success ||
        dnnl_memory_desc_init_by_tag(&s->bias, 1, bias, dnnl_f32, dnnl_x) != dnnl_success)
        abort();
    for (int i = 0; i < 2; i++) {
        g->strides[i] = l->stride[i];
        g->padding[i] = l->padding[i];
    }
}

static enum status make_weights(struct node *n, struct conv *s, const dnnl_memory_desc_t *desc,
                                float **out, struct err *err) {
    size_t bytes = dnnl_memory_desc_get_size(desc);
    (void)s;
    return cpu_part(n, (int64_t)bytes, 1, (void **)out, err);
}

static enum status make_primitives(struct node *n, struct conv *s, struct err *err) {
    enum status st = STATUS_OK;
    struct geometry g;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_memory_desc_t wf, wr, wd, ww;
    describe_weights(n, s, &g);
    describe_data(&s->x, s->unit, &n->in);
    describe_data(&s->y, s->unit, &n->out);
    describe_data(&s->row_x, 1, &n->in);
    describe_data(&s->row_y, 1, &n->out);
    if (dnnl_primitive_attr_create(&attr) != dnnl_success ||
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) != dnnl_success) {
        st = err_set(err, STATUS_NOMEM, "no memory for oneDNN attributes");
        goto out;
    }
    struct wish wish = {.kind = dnnl_forward_training, .x = &s->x, .y = &s->y, .g = &g};
    wish.attr = attr;
    wish.keep = &hint;
    TRY(make_conv(s, &s->forward, &wish, &wf, err));
    TRY(make_reorder(s, &s->to_forward, &(struct ends){&s->user, &wf}, attr, err));
    TRY(make_weights(n, s, &wf, &s->w_forward, err));
    g.any = wf; /* a single row has to use the same weights */
    struct wish row = wish;
    row.x = &s->row_x;
    row.y = &s->row_y;
    row.keep = NULL;
    if (make_conv(s, &s->row, &row, &wr, NULL) != STATUS_OK)
        call_release(&s->row), s->row = (struct call){0};
    describe_weights(n, s, &g);
    wish.kind = dnnl_backward_weights;
    wish.hint = hint;
    wish.keep = NULL;
    TRY(make_conv(s, &s->weights, &wish, &ww, err));
    TRY(make_reorder(s, &s->from_weights, &(struct ends){&ww, &s->user}, attr, err));
    TRY(make_weights(n, s, &ww, &s->w_gradient, err));
    if (n->needs_dx) {
        wish.kind = dnnl_backward_data;
        TRY(make_conv(s, &s->data, &wish, &wd, err));
        TRY(make_reorder(s, &s->to_data, &(struct ends){&s->user, &wd}, attr, err));
        TRY(make_weights(n, s, &wd, &s->w_data, err));
    }
out:
    if (hint != NULL)
        dnnl_primitive_desc_destroy(hint);
    if (attr != NULL)
        dnnl_primitive_attr_destroy(attr);
    return st;
}

static void conv_release(struct device *d, struct node *n) {
    struct conv *s = n->state;
    (void)d;
    call_release(&s->forward);
    call_release(&s->row);
    call_release(&s->data);
    call_release(&s->weights);
    call_release(&s->to_forward);
    call_release(&s->to_data);
    call_release(&s->from_weights);
    cpu_free(s->w_forward);
    cpu_free(s->w_data);
    cpu_free(s->w_gradient);
    cpu_free(s->scratch);
    cpu_free(s->leaf);
    cpu_free(s->zeros);
    cpu_free(s);
}

/* ---- the operator ---- */

static void run_forward(const struct conv *s, const struct call *call, const float *x,
                        const float *bias, float *y) {
    call_set(call, 0, x);
    call_set(call, 1, s->w_forward);
    call_set(call, 2, y);
    call_set(call, 3, s->scratch);
    call_set(call, 4, bias);
    call_run(s, call);
}

/* Whether a row gives the same bits in another place among other rows. */
static bool place_is_free(const struct node *n, const struct conv *s, float *x, float *y) {
    int64_t in = n->in_count, out = n->out_count, unit = s->unit;
    float *again = y + unit * out;
    for (int64_t i = 0; i < unit * in; i++)
        x[i] = (float)((double)philox(7, 7, (uint64_t)i).v[0] * 0x1p-31 - 1.0);
    for (int64_t i = 0; i < n->layer->flops / (2 * n->out.dim[1] * n->out.dim[2]); i++)
        s->w_forward[i] = (float)((double)philox(7, 8, (uint64_t)i).v[0] * 0x1p-31 - 1.0);
    run_forward(s, &s->forward, x, s->zeros, y);
    memmove(x + in, x, (size_t)((unit - 1) * in) * sizeof *x);
    run_forward(s, &s->forward, x, s->zeros, again);
    return memcmp(y, again + out, (size_t)((unit - 1) * out) * sizeof *y) == 0;
}

static enum status prove_place(struct node *n, struct conv *s, struct err *err) {
    if (s->unit == 1 || n->planned)
        return STATUS_OK;
    float *x = cpu_alloc((size_t)(s->unit * n->in_count) * sizeof *x);
    float *y = cpu_alloc((size_t)(2 * s->unit * n->out_count) * sizeof *y);
    enum status st = STATUS_OK;
    if (x == NULL || y == NULL)
        st = err_set(err, STATUS_NOMEM, "no memory for the self-check of a convolution");
    else
        s->row_by_row = !place_is_free(n, s, x, y);
    cpu_free(x);
    cpu_free(y);
    if (st == STATUS_OK && s->row_by_row && s->row.primitive == NULL)
        st = err_set(err, STATUS_UNAVAILABLE,
                     "oneDNN's convolution is not reproducible for single rows on this machine");
    return st;
}

static enum status conv_prepare(struct device *d, struct node *n, const struct extent *e,
                                struct err *err) {
    enum status st = STATUS_OK;
    void *p = NULL;
    int64_t stretch = n->param_end - n->param_begin, levels = cpu_log2(e->shards) + 1;
    TRY(cpu_state(n, sizeof(struct conv), &p, err));
    struct conv *s = p;
    s->engine = cpu_of(d)->engine;
    s->stream = cpu_of(d)->stream;
    s->unit = e->shard_rows;
    TRY(make_primitives(n, s, err));
    TRY(cpu_part(n, (int64_t)s->scratch_bytes, 1, (void **)&s->scratch, err));
    TRY(cpu_part(n, (levels + 1) * stretch, sizeof(float), (void **)&s->leaf, err));
    TRY(cpu_part(n, n->out.dim[0], sizeof(float), (void **)&s->zeros, err));
    TRY(prove_place(n, s, err));
out:
    return st;
}

static void reorder(const struct conv *s, const struct call *call, const float *from, float *to) {
    call_set(call, 0, from);
    call_set(call, 1, to);
    call_set(call, 2, s->scratch);
    call_run(s, call);
}

static void conv_refresh(const struct node *n, const float *weights, bool training) {
    const struct conv *s = n->state;
    reorder(s, &s->to_forward, weights + n->param[0], s->w_forward);
    if (training && s->w_data != NULL)
        reorder(s, &s->to_data, weights + n->param[0], s->w_data);
}

CLONES(static, relu_over, (float *y, int64_t count), (y, count)) {
    for (int64_t i = 0; i < count; i++)
        y[i] = y[i] < 0.0f ? 0.0f : y[i];
}

static void conv_forward(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    const float *bias = n->param[1] >= 0 ? p->weights + n->param[1] : s->zeros;
    bool rows = !p->training && s->row_by_row;
    int64_t unit = rows ? 1 : s->unit;
    for (int64_t r = 0; r < p->rows; r += unit) {
        float *y = pass_y(p) + r * n->out_count;
        run_forward(s, rows ? &s->row : &s->forward, pass_x(p) + r * n->in_count, bias, y);
        if (n->relu)
            relu_over(y, unit * n->out_count);
    }
}

static void conv_backward_weights(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    int64_t stretch = n->param_end - n->param_begin, channels = n->out.dim[0];
    int64_t pixels = n->out.dim[1] * n->out.dim[2];
    float *leaf = s->leaf + (cpu_log2(p->shards) + 1) * stretch;
    if (n->relu)
        cpu_relu_mask(p->dy, p->y, p->rows * n->out_count);
    struct cpu_tree tree = {p->fold, s->leaf, stretch, n->param_begin, p->shards};
    for (int shard = 0; shard < p->shards; shard++) {
        struct cpu_sum sum;
        const float *dy = pass_dy(p) + shard * p->shard_rows * n->out_count;
        call_set(&s->weights, 0, pass_x(p) + shard * p->shard_rows * n->in_count);
        call_set(&s->weights, 1, s->w_gradient);
        call_set(&s->weights, 2, dy);
        call_set(&s->weights, 3, s->scratch);
        call_run(s, &s->weights);
        reorder(s, &s->from_weights, s->w_gradient, leaf);
        if (n->param[1] >= 0)
            cpu_column_sums(dy, p->shard_rows * pixels, channels,
                            leaf + (n->param[1] - n->param_begin));
        cpu_sum_plan(&tree, shard, &sum);
        cpu_sum_apply(&sum, leaf, stretch);
    }
}

static void conv_backward_data(const struct node *n, const struct pass *p) {
    const struct conv *s = n->state;
    for (int shard = 0; shard < p->shards; shard++) {
        call_set(&s->data, 0, pass_dx(p) + shard * p->shard_rows * n->in_count);
        call_set(&s->data, 1, s->w_data);
        call_set(&s->data, 2, pass_dy(p) + shard * p->shard_rows * n->out_count);
        call_set(&s->data, 3, s->scratch);
        call_run(s, &s->data);
    }
}

const struct operation cpu_conv2d = {
    .prepare = conv_prepare,
    .release = conv_release,
    .refresh = conv_refresh,
    .forward = conv_forward,
    .backward_weights = conv_backward_weights,
    .backward_data = conv_backward_data,
};
