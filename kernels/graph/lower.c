/* From layers to a graph. The `model:` list is a chain: each layer reads what the one before it
 * wrote. Some layers join the operator before them, some vanish, and where images lie otherwise
 * than an operator wants them a change of layout comes in between. */
#include "kernels/graph/plan.h"

struct lowering {
    struct graph *graph;
    const struct model *model;
    int at;     /* the tensor that the next layer reads */
    bool plain; /* the last node is the layer before this one: a relu may join it */
};

static struct node *last_node(const struct lowering *l) {
    return l->plain && l->graph->node_count > 0 ? &l->graph->nodes[l->graph->node_count - 1] : NULL;
}

/* The layer's tensors in the flat vector. */
static void take_params(const struct model *m, const struct layer *layer, struct node *n) {
    if (layer == NULL || layer->param_count == 0)
        return;
    const struct param *first = &m->params[layer->param_first];
    const struct param *last = first + layer->param_count - 1;
    for (int i = 0; i < layer->param_count; i++)
        n->param[i] = first[i].offset;
    n->param_begin = first->offset;
    n->param_end = (last->offset + last->count + MODEL_ALIGN - 1) / MODEL_ALIGN * MODEL_ALIGN;
}

static void add_node(struct lowering *l, enum op_kind kind, const struct layer *layer,
                     const struct shape *out) {
    struct node_spec spec = {
        .kind = kind, .inputs = 1, .input = {l->at}, .layer = layer, .out = *out};
    struct node *n = graph_add(l->graph, &spec);
    bool kept = l->graph->tensors[l->at].channels_last;
    take_params(l->model, layer, n);
    l->at = n->output;
    l->graph->tensors[l->at].channels_last =
        shape_is_image(out) && (op_wants(kind) == OP_ANY ? kept : op_wants(kind) == OP_NHWC);
}

/* Puts a change of layout in front of an operator that wants the other one. With one channel or one
 * pixel both layouts are the same bytes. */
static void want_layout(struct lowering *l, enum op_layout layout) {
    struct graph_tensor *t = &l->graph->tensors[l->at];
    bool nhwc = layout == OP_NHWC;
    if (layout == OP_ANY || !shape_is_image(&t->shape) || t->channels_last == nhwc)
        return;
    if (t->shape.dim[0] > 1 && shape_pixels(&t->shape) > 1) {
        add_node(l, nhwc ? OP_TO_NHWC : OP_TO_NCHW, NULL, &t->shape);
        l->plain = false;
    }
    l->graph->tensors[l->at].channels_last = nhwc;
}

/* ---- layers that are more, or less, than a node of their own ---- */

static bool join_relu(struct node *n) {
    if (n == NULL || !op_promises(n->kind, OP_JOINS_RELU) || n->relu)
        return false;
    n->relu = true;
    return true;
}

static bool join_pool(struct lowering *l, struct node *n, const struct layer *pool) {
    if (n == NULL || !n->traits->joins_pool || n->pool != NULL ||
        pool->kernel[0] != pool->stride[0] || pool->kernel[1] != pool->stride[1] ||
        pool->kernel[0] * pool->kernel[1] > OP_POOL_MAX)
        return false;
    n->pool = pool;
    n->out = pool->out;
    n->out_count = shape_size(&pool->out);
    l->graph->tensors[n->output].shape = n->out;
    l->graph->tensors[n->output].count = n->out_count;
    return true;
}

/* The same bytes under another shape: no operator. */
static void flatten(struct lowering *l, const struct shape *out) {
    want_layout(l, OP_NCHW);
    l->graph->tensors[l->at].shape = *out;
}

static void lower_layer(struct lowering *l, const struct layer *layer) {
    if (layer->kind == LAYER_FLATTEN) {
        flatten(l, &layer->out);
        return;
    }
    if ((layer->kind == LAYER_RELU && join_relu(last_node(l))) ||
        (layer->kind == LAYER_MAX_POOL && join_pool(l, last_node(l), layer)) ||
        (layer->kind == LAYER_DROPOUT && layer->rate <= 0.0f))
        return;
    enum op_kind kind = op_of_layer(layer->kind);
    want_layout(l, op_wants(kind));
    add_node(l, kind, layer, &layer->out);
    l->plain = true;
}

enum status plan_lower(const struct plan_spec *spec, const struct traits *traits, struct graph *out,
                       struct err *err) {
    const struct model *m = spec->model;
    struct lowering l = {.graph = out, .model = m};
    graph_init(out, traits, spec->precision, &m->in);
    for (int i = 0; i < m->layer_count; i++)
        lower_layer(&l, &m->layers[i]);
    want_layout(&l, OP_NCHW);
    struct node_spec loss = {.kind = spec->loss == LOSS_MSE ? OP_MSE : OP_CROSS_ENTROPY,
                             .inputs = 1,
                             .input = {l.at},
                             .out = out->tensors[l.at].shape,
                             .is_loss = true};
    (void)graph_add(out, &loss);
    return graph_link(out, err);
}
