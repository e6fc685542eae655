/* A budget by arithmetic: sums over the plan's tensors and nodes, and the walk that fits. */
#include "kernels/graph/budget.h"

#include <stdio.h>

#include "core/schema.h"

#define SMALL_TABLES ((int64_t)4 << 20) /* losses, norms, rows, segments of the update */

static int64_t largest_bucket(const struct plan *plan) {
    int64_t largest = 0;
    for (int i = 0; i < plan->bucket_count; i++) {
        int64_t n = plan->buckets[i].end - plan->buckets[i].begin;
        largest = n > largest ? n : largest;
    }
    return largest;
}

static struct extent extent_of(const struct budget_spec *s, int walk) {
    return (struct extent){.shard_rows = s->plan->shard_rows,
                           .shards = walk,
                           .seed = s->plan->seed,
                           .precision = s->plan->precision};
}

static int64_t operators(const struct graph *g, const struct extent *e) {
    int64_t bytes = 0;
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].traits->workspace != NULL)
            bytes += g->nodes[i].traits->workspace(&g->nodes[i], e);
    return bytes;
}

/* What a buffer takes of the card. */
static int64_t block(const struct graph *g, int64_t bytes) {
    return g->traits->block != NULL ? g->traits->block(bytes) : bytes;
}

static int64_t activations(const struct plan *plan, int64_t row_bytes) {
    const struct graph *g = &plan->graph;
    int64_t bytes = g->gradients * block(g, plan->widest * row_bytes);
    for (int i = 0; i < g->tensor_count; i++)
        if (g->tensors[i].storage == i)
            bytes += block(g, g->tensors[i].count * row_bytes);
    return bytes;
}

static void measure(const struct budget_spec *s, const struct plan *plan, int walk,
                    struct budget *out) {
    const struct plan_spec *p = s->plan;
    const struct graph *g = &plan->graph;
    const struct extent extent = extent_of(s, walk);
    const int64_t word = (int64_t)sizeof(float), element = (int64_t)precision_bytes(p->precision);
    int64_t vector = p->model->vector_count * word, labels = s->outputs > 0 ? s->outputs : 1;
    int64_t rows = p->shard_rows * p->shard_count;
    int64_t slack = (int64_t)plan->bucket_count * NORM_BLOCK * word;
    rows = rows > p->eval_rows ? rows : p->eval_rows;
    *out = (struct budget){.walk = walk, .recorded = s->ranks == 1 || s->nccl};
    out->vectors = 2 * block(g, vector);
    out->optimizer = s->optimizer_slots * block(g, vector / s->ranks + slack);
    for (int shards = walk; shards < p->shard_count; shards *= 2)
        out->partials += block(g, vector);
    out->activations = activations(plan, p->shard_rows * walk * element);
    out->operators = operators(g, &extent);
    if (s->nccl && s->ranks > 1)
        out->inbox =
            block(g, (largest_bucket(plan) / s->ranks + NORM_BLOCK) * (s->ranks - 1) * word);
    out->batch = block(g, rows * s->features * element) + block(g, rows * labels * word);
    out->library = SMALL_TABLES + (g->traits->library != NULL ? g->traits->library(g, &extent) : 0);
    out->total = out->vectors + out->optimizer + out->partials + out->activations + out->operators +
                 out->inbox + out->batch + out->library;
}

static bool fits(const struct budget_spec *s, const struct budget *b) {
    return s->capacity == 0 || b->total <= s->capacity;
}

/* The longest walk that fits, or of a CPU the plan's own if it does; 0: none. */
static int longest_walk(const struct budget_spec *s, struct plan *plan, struct budget *out) {
    if (s->cache_bytes != NULL) {
        measure(s, plan, plan->walk, out);
        return fits(s, out) ? plan->walk : 0;
    }
    for (int walk = s->plan->shard_count; walk >= 1; walk /= 2) {
        measure(s, plan, walk, out);
        if (fits(s, out))
            return walk;
    }
    return 0;
}

/* Rows of a shard, by halving the interval; 0: not even one. */
static int64_t most_rows(const struct budget_spec *s, struct plan *plan) {
    struct plan_spec smaller = *s->plan;
    struct budget_spec other = *s;
    struct budget b;
    int64_t low = 0, high = smaller.shard_rows;
    other.plan = &smaller;
    while (high - low > 1) {
        smaller.shard_rows = low + (high - low) / 2;
        *(longest_walk(&other, plan, &b) > 0 ? &low : &high) = smaller.shard_rows;
    }
    return low;
}

static double gib(int64_t bytes) {
    return (double)bytes / (double)((int64_t)1 << 30);
}

/* Bytes of one layer: its part of the vectors, what its operator keeps, its output. */
static int64_t bytes_of(const struct budget_spec *s, const struct plan *plan, const struct node *n,
                        int walk) {
    const struct extent extent = extent_of(s, walk);
    int64_t row = (int64_t)precision_bytes(s->plan->precision) * s->plan->shard_rows * walk;
    int64_t bytes = 2 * (n->param_end - n->param_begin) * (int64_t)sizeof(float);
    if (n->traits->workspace != NULL)
        bytes += n->traits->workspace(n, &extent);
    return bytes + (n->output > 0 ? plan->graph.tensors[n->output].count * row : 0);
}

static const struct node *largest_node(const struct budget_spec *s, const struct plan *plan,
                                       int walk) {
    const struct node *largest = NULL;
    int64_t most = -1;
    for (int i = 0; i < plan->graph.node_count; i++) {
        const struct node *n = &plan->graph.nodes[i];
        int64_t bytes = n->layer != NULL ? bytes_of(s, plan, n, walk) : -1;
        if (bytes > most) {
            most = bytes;
            largest = n;
        }
    }
    return largest;
}

static void advise(const struct budget_spec *s, struct plan *plan, char out[160]) {
    int64_t rows = most_rows(s, plan);
    int64_t shards = (int64_t)s->plan->shard_count * s->ranks;
    if (rows > 0)
        (void)snprintf(out, 160, "the largest training.global_batch_size that fits is %lld",
                       (long long)(rows * shards));
    else
        (void)snprintf(out, 160,
                       "no batch fits: take a %s, a smaller model, or more ranks to share the "
                       "optimizer's state",
                       s->cache_bytes != NULL ? "machine with more memory" : "larger card");
}

static enum status refuse(const struct budget_spec *s, struct plan *plan, const struct budget *b,
                          struct err *err) {
    bool host = s->cache_bytes != NULL;
    const struct node *n = largest_node(s, plan, b->walk);
    char advice[160], place[SCHEMA_PLACE_MAX] = "", layer[64] = "";
    if (n != NULL) {
        const struct layer *l = n->layer;
        (void)schema_place(s->plan->model->file, l->spec->node, place);
        (void)snprintf(layer, sizeof layer, "; most for model[%d].%s", l->index,
                       spec_layer_name(l->kind));
    }
    advise(s, plan, advice);
    return err_set(err, STATUS_TOO_LARGE,
                   "%sthe training step needs %lld bytes, %.2f GiB, %s (weights and gradient %.2f, "
                   "optimizer %.2f, activations and batch %.2f, operators %.2f, exchange %.2f, "
                   "libraries %.2f%s), %lld bytes, %.2f GiB are free: %s",
                   place, (long long)b->total, gib(b->total),
                   host ? "of memory for each rank" : "on the GPU", gib(b->vectors),
                   gib(b->optimizer), gib(b->activations + b->batch),
                   gib(b->operators + b->partials), gib(b->inbox), gib(b->library), layer,
                   (long long)s->capacity, gib(s->capacity), advice);
}

enum status budget_make(const struct budget_spec *spec, const struct traits *traits,
                        struct plan *plan, struct budget *out, struct err *err) {
    static const size_t no_caches[2] = {0, 0};
    const size_t *caches = spec->cache_bytes != NULL ? spec->cache_bytes : no_caches;
    enum status st = plan_make(spec->plan, traits, caches, plan, err);
    if (st != STATUS_OK)
        return st;
    int walk = longest_walk(spec, plan, out);
    if (walk == 0)
        return refuse(spec, plan, out, err);
    plan->walk = walk;
    if (spec->capacity == 0 || spec->data_bytes <= spec->capacity - out->total)
        out->data = spec->data_bytes;
    return STATUS_OK;
}

struct value *budget_describe(struct arena *a, const struct budget *b) {
    struct value *v = value_map(a);
    value_set_int(a, v, "vectors", b->vectors);
    value_set_int(a, v, "optimizer", b->optimizer);
    value_set_int(a, v, "partials", b->partials);
    value_set_int(a, v, "activations", b->activations);
    value_set_int(a, v, "operators", b->operators);
    value_set_int(a, v, "inbox", b->inbox);
    value_set_int(a, v, "batch", b->batch);
    value_set_int(a, v, "library", b->library);
    value_set_int(a, v, "total", b->total);
    value_set_int(a, v, "data", b->data);
    value_set_int(a, v, "walk", b->walk);
    value_set_bool(a, v, "recorded", b->recorded);
    return v;
}
