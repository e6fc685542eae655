#include "kernels/graph/plan.h"

#include <string.h>

struct lowering {
    struct plan *plan;
    const struct model *model;
    const struct op_traits *traits;
    bool nhwc;  /* how the data lies after the last node */
    bool plain; /* the last node is the layer before this one: a relu may join it */
    struct shape shape;
};

static const enum op_kind op_of[LAYER_KINDS] = {
    [LAYER_DENSE] = OP_DENSE,
    [LAYER_CONV2D] = OP_CONV2D,
    [LAYER_BATCH_NORM] = OP_BATCH_NORM,
    [LAYER_MAX_POOL] = OP_MAX_POOL,
    [LAYER_AVG_POOL] = OP_AVG_POOL,
    [LAYER_RELU] = OP_RELU,
    [LAYER_GELU] = OP_GELU,
    [LAYER_TANH] = OP_TANH,
    [LAYER_SIGMOID] = OP_SIGMOID,
    [LAYER_DROPOUT] = OP_DROPOUT,
    [LAYER_FLATTEN] = OP_TO_NCHW,
};

static int64_t count_of(const struct shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->count; i++)
        n *= s->dim[i];
    return n;
}

static struct node *add_node(struct lowering *l, enum op_kind kind, const struct layer *layer,
                             struct shape out) {
    struct node *n = &l->plan->nodes[l->plan->node_count++];
    *n = (struct node){.kind = kind,
                       .traits = &l->traits[kind],
                       .layer = layer,
                       .in = l->shape,
                       .out = out,
                       .in_count = count_of(&l->shape),
                       .out_count = count_of(&out)};
    for (int i = 0; i < NODE_PARAMS; i++)
        n->param[i] = -1;
    if (layer && layer->param_count > 0) {
        const struct param *first = &l->model->params[layer->param_first];
        const struct param *last = first + layer->param_count - 1;
        for (int i = 0; i < layer->param_count; i++)
            n->param[i] = first[i].offset;
        n->param_begin = first->offset;
        n->param_end = (last->offset + last->count + MODEL_ALIGN - 1) / MODEL_ALIGN * MODEL_ALIGN;
    }
    l->shape = out;
    return n;
}

/* Puts a change of layout in front of an operator that wants the other one. With one channel or one
 * pixel both layouts are the same bytes. */
static void want_layout(struct lowering *l, bool nhwc) {
    if (l->shape.count != 3 || l->nhwc == nhwc)
        return;
    if (l->shape.dim[0] > 1 && l->shape.dim[1] * l->shape.dim[2] > 1) {
        add_node(l, nhwc ? OP_TO_NHWC : OP_TO_NCHW, NULL, l->shape);
        l->plain = false;
    }
    l->nhwc = nhwc;
}

static bool join_pool(struct node *n, const struct layer *pool) {
    if (!n->traits->can_fuse_pool || n->pool || pool->kernel[0] != pool->stride[0] ||
        pool->kernel[1] != pool->stride[1] || pool->kernel[0] * pool->kernel[1] > FUSED_POOL_MAX)
        return false;
    n->pool = pool;
    n->out = pool->out;
    n->out_count = count_of(&pool->out);
    return true;
}

static void lower(struct lowering *l, const struct layer *layer) {
    struct plan *plan = l->plan;
    struct node *last = plan->node_count ? &plan->nodes[plan->node_count - 1] : NULL;
    switch (layer->kind) {
    case LAYER_RELU:
        if (last && l->plain && last->traits->can_fuse_relu && !last->relu) {
            last->relu = true;
            return;
        }
        break;
    case LAYER_DENSE:
        want_layout(l, false);
        break;
    case LAYER_FLATTEN:
        want_layout(l, false);
        l->shape = layer->out;
        return;
    case LAYER_CONV2D:
    case LAYER_BATCH_NORM:
    case LAYER_AVG_POOL:
        want_layout(l, true);
        break;
    case LAYER_MAX_POOL:
        if (last && l->plain && join_pool(last, layer)) {
            l->shape = layer->out;
            return;
        }
        want_layout(l, true);
        break;
    case LAYER_DROPOUT:
        if (layer->rate <= 0.0f)
            return;
        break;
    case LAYER_GELU:
    case LAYER_TANH:
    case LAYER_SIGMOID:
    case LAYER_KINDS:
        break;
    }
    add_node(l, op_of[layer->kind], layer, layer->out);
    l->plain = true;
}

/* In place where nobody needs what would be overwritten; no gradient below the first parameter. */
static void link_nodes(struct plan *plan) {
    bool trains_below = false;
    for (int i = 0; i < plan->node_count; i++) {
        struct node *n = &plan->nodes[i];
        const struct node *before = i > 0 ? n - 1 : NULL;
        n->in_place = before && n->traits->can_work_in_place && !before->traits->keeps_output &&
                      !before->relu && i + 1 < plan->node_count;
        n->needs_dx = trains_below;
        trains_below |= n->param_end > n->param_begin;
        if (!n->in_place && i + 1 < plan->node_count)
            plan->sample_floats += n->out_count;
        if (n->needs_dx && n->in_count > plan->widest)
            plan->widest = n->in_count;
        if (n->out_count > plan->widest && trains_below)
            plan->widest = n->out_count;
    }
}

static void add_bucket(struct plan *plan, int64_t begin, int64_t end, int layer, int node) {
    plan->bucket_node[plan->bucket_count] = node;
    plan->buckets[plan->bucket_count++] =
        (struct bucket){.begin = begin, .end = end, .layer = layer};
}

/* A bucket begins at the first whole NORM_BLOCK of a layer: what stands before it in the block goes
 * with the layer below. */
static void make_buckets(struct plan *plan, const struct model *model) {
    int64_t end = model->vector_count;
    int first = 0;
    while (plan->nodes[first].param_end == plan->nodes[first].param_begin)
        first++;
    for (int i = plan->node_count - 1; i > first; i--) {
        const struct node *n = &plan->nodes[i];
        int64_t begin = (n->param_begin + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
        if (n->param_end == n->param_begin || end - begin < BUCKET_MIN)
            continue;
        add_bucket(plan, begin, end, n->layer->index, i);
        end = begin;
    }
    add_bucket(plan, 0, end, plan->nodes[first].layer->index, first);
}

/* What a byte costs by where it is found, in units of the second-level cache. The last level is
 * shared: a quarter of it counts as ours. */
static double byte_price(double bytes, const size_t cache_bytes[2]) {
    if (bytes <= (double)cache_bytes[0])
        return 1.0;
    return bytes <= (double)cache_bytes[1] / 4 ? 2.0 : 6.0;
}

/* The walk. Going g shards at a time through the net reads the weights and folds the gradients n/g
 * times (about five passes over them), while what lies between layers is touched about six times:
 * four by neighbouring operators (the working set is what one operator reads and writes) and two by
 * the backward pass (the working set is everything). A small net fits in any walk: then fewer
 * calls. */
static int plan_walk(const struct plan *plan, const struct engine_spec *spec,
                     const size_t cache_bytes[2]) {
    double weights = (double)spec->model->vector_count * sizeof(float);
    double shard = (double)spec->shard_rows * (double)sizeof(float);
    double best = 0;
    int walk = 1;
    if (cache_bytes[0] == 0)
        return spec->shard_count;
    for (int g = 1; g <= spec->shard_count; g *= 2) {
        double local = shard * g * 2 * (double)plan->widest;
        double whole = shard * g * (double)plan->sample_floats;
        double cost = 5 * weights * spec->shard_count / g * byte_price(weights, cache_bytes) +
                      spec->shard_count * shard * (double)plan->sample_floats *
                          (4 * byte_price(local, cache_bytes) + 2 * byte_price(whole, cache_bytes));
        if (g == 1 || cost <= best) {
            best = cost;
            walk = g;
        }
    }
    return walk;
}

static enum status check_spec(const struct engine_spec *spec, struct err *err) {
    const struct model *m = spec->model;
    int n = spec->shard_count;
    if (spec->shard_rows < 1 || spec->shard_rows > 1 << 20)
        return err_set(err, STATUS_INVALID, "a shard must have 1 to 1048576 rows, not %lld",
                       (long long)spec->shard_rows);
    if (n < 1 || n > 1 << 16 || (n & (n - 1)) || spec->first_shard < 0 || spec->first_shard % n)
        return err_set(err, STATUS_INVALID,
                       "a rank owns a power of two of neighbouring shards, not %d from %d", n,
                       spec->first_shard);
    if (spec->eval_rows < 1)
        return err_set(err, STATUS_INVALID, "an evaluation chunk needs at least one row");
    if (spec->walk < 0 || spec->walk > n || (spec->walk & (spec->walk - 1)))
        return err_set(err, STATUS_INVALID, "the walk must be a power of two up to %d, not %d", n,
                       spec->walk);
    if (m->trainable == 0)
        return err_set(err, STATUS_INVALID, "the model has nothing to train");
    if (spec->loss == LOSS_CROSS_ENTROPY && (m->out.count != 1 || m->out.dim[0] < 2))
        return err_set(err, STATUS_INVALID,
                       "cross entropy needs a model that ends in two or more classes: end it with "
                       "flatten or dense");
    return STATUS_OK;
}

enum status plan_make(const struct engine_spec *spec, const struct op_traits *traits,
                      const size_t cache_bytes[2], struct plan *out, struct err *err) {
    enum status st = check_spec(spec, err);
    if (st != STATUS_OK)
        return st;
    const struct model *m = spec->model;
    memset(out, 0, sizeof *out);
    struct lowering l = {.plan = out, .model = m, .traits = traits, .shape = m->in};
    int64_t rows = spec->shard_rows * spec->shard_count, first = -1;
    for (int i = 0; i < m->layer_count; i++) {
        const struct layer *layer = &m->layers[i];
        lower(&l, layer);
        if (first < 0 && layer->param_count > 0)
            first = layer->flops;
        out->flops_step += 3 * layer->flops * rows;
    }
    out->flops_step -= first * rows;
    want_layout(&l, false);
    add_node(&l, spec->loss == LOSS_MSE ? OP_MSE : OP_CROSS_ENTROPY, NULL, l.shape);
    link_nodes(out);
    make_buckets(out, m);
    out->walk = spec->walk ? spec->walk : plan_walk(out, spec, cache_bytes);
    return STATUS_OK;
}
