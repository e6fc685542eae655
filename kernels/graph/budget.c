/* A budget by arithmetic: sums over the plan's tensors and nodes, and the walk that fits. */
#include "kernels/graph/budget.h"

#include <stdio.h>

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

/* The longest walk that fits; 0: none. */
static int longest_walk(const struct budget_spec *s, struct plan *plan, struct budget *out) {
    for (int walk = s->plan->shard_count; walk >= 1; walk /= 2) {
        measure(s, plan, walk, out);
        if (s->capacity == 0 || out->total <= s->capacity)
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

static enum status refuse(const struct budget_spec *s, struct plan *plan, const struct budget *b,
                          struct err *err) {
    int64_t rows = most_rows(s, plan);
    int64_t shards = (int64_t)s->plan->shard_count * s->ranks;
    char advice[160];
    if (rows > 0)
        (void)snprintf(advice, sizeof advice,
                       "the largest training.global_batch_size that fits is %lld",
                       (long long)(rows * shards));
    else
        (void)snprintf(advice, sizeof advice,
                       "no batch fits: take a larger card, a smaller model, or more ranks to share "
                       "the optimizer's state");
    return err_set(err, STATUS_TOO_LARGE,
                   "the training step needs %.2f GiB on the GPU (weights and gradient %.2f, "
                   "optimizer %.2f, activations and batch %.2f, operators %.2f, exchange %.2f, "
                   "libraries %.2f), %.2f GiB are free: %s",
                   gib(b->total), gib(b->vectors), gib(b->optimizer),
                   gib(b->activations + b->batch), gib(b->operators + b->partials), gib(b->inbox),
                   gib(b->library), gib(s->capacity), advice);
}

enum status budget_make(const struct budget_spec *spec, const struct traits *traits,
                        struct plan *plan, struct budget *out, struct err *err) {
    static const size_t no_caches[2] = {0, 0};
    enum status st = plan_make(spec->plan, traits, no_caches, plan, err);
    if (st != STATUS_OK)
        return st;
    plan->walk = longest_walk(spec, plan, out);
    if (plan->walk == 0)
        return refuse(spec, plan, out, err);
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
