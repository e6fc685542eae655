/* The walk and the buckets of a graph. */
#include "kernels/graph/plan.h"

#include <string.h>

/* Sums over the tensors: what is kept, and the largest gradient. */
static void measure(struct plan *plan) {
    const struct graph *g = &plan->graph;
    for (int i = 0; i < g->tensor_count; i++) {
        const struct graph_tensor *t = &g->tensors[i];
        if (t->storage == i && t->producer >= 0)
            plan->sample_floats += t->count;
        if (t->trains && t->count > plan->widest)
            plan->widest = t->count;
    }
}

static void add_bucket(struct plan *plan, int64_t begin, int64_t end, int layer, int node) {
    plan->bucket_node[plan->bucket_count] = node;
    plan->buckets[plan->bucket_count++] =
        (struct bucket){.begin = begin, .end = end, .layer = layer};
}

/* A bucket begins at the first whole NORM_BLOCK of a layer: what lies before it in that block goes
 * with the layer below. */
static void make_buckets(struct plan *plan, const struct model *model) {
    const struct node *nodes = plan->graph.nodes;
    int64_t end = model->vector_count;
    int first = 0;
    while (nodes[first].param_end == nodes[first].param_begin)
        first++;
    for (int i = plan->graph.node_count - 1; i > first; i--) {
        const struct node *n = &nodes[i];
        int64_t begin = (n->param_begin + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
        if (n->param_end == n->param_begin || end - begin < BUCKET_MIN)
            continue;
        add_bucket(plan, begin, end, n->layer->index, i);
        end = begin;
    }
    add_bucket(plan, 0, end, nodes[first].layer->index, first);
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
static int plan_walk(const struct plan *plan, const struct plan_spec *spec,
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

static enum status check_spec(const struct plan_spec *spec, struct err *err) {
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
    if (spec->loss == LOSS_CROSS_ENTROPY && (m->out.rank != 1 || m->out.dim[0] < 2))
        return err_set(err, STATUS_INVALID,
                       "cross entropy needs a model that ends in two or more classes: end it with "
                       "flatten or dense");
    return STATUS_OK;
}

/* Forward and weights for every layer; data for all but the first that has parameters. */
static int64_t step_flops(const struct model *m, int64_t rows) {
    int64_t flops = 0, first = -1;
    for (int i = 0; i < m->layer_count; i++) {
        const struct layer *layer = &m->layers[i];
        if (first < 0 && layer->param_count > 0)
            first = layer->flops;
        flops += 3 * layer->flops * rows;
    }
    return flops - first * rows;
}

enum status plan_make(const struct plan_spec *spec, const struct traits *traits,
                      const size_t cache_bytes[2], struct plan *out, struct err *err) {
    enum status st = STATUS_OK;
    TRY(check_spec(spec, err));
    memset(out, 0, sizeof *out);
    TRY(plan_lower(spec, traits, &out->graph, err));
    measure(out);
    make_buckets(out, spec->model);
    out->flops_step = step_flops(spec->model, spec->shard_rows * spec->shard_count);
    out->walk = spec->walk ? spec->walk : plan_walk(out, spec, cache_bytes);
out:
    return st;
}
