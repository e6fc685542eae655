#include "kernels/graph/budget.h"

#include <stdio.h>

#include "kernels/cuda/limits.h"

#define SMALL_TABLES ((int64_t)4 << 20) /* losses, norms, rows, segments of the update */

static int64_t largest_bucket(const struct plan *plan) {
    int64_t largest = 0;
    for (int i = 0; i < plan->bucket_count; i++) {
        int64_t n = plan->buckets[i].end - plan->buckets[i].begin;
        largest = n > largest ? n : largest;
    }
    return largest;
}

static int64_t operators(const struct budget_spec *s, struct plan *plan, int walk) {
    const struct engine_spec *e = s->engine;
    struct extent extent = {
        .shard_rows = e->shard_rows, .shards = walk, .seed = e->seed, .precision = e->precision};
    int64_t bytes = 0;
    for (int i = 0; i < plan->node_count; i++)
        if (plan->nodes[i].traits->workspace != NULL)
            bytes += plan->nodes[i].traits->workspace(&plan->nodes[i], &extent);
    return bytes;
}

static bool convolves(const struct plan *plan) {
    for (int i = 0; i < plan->node_count; i++)
        if (plan->nodes[i].kind == OP_CONV2D)
            return true;
    return false;
}

/* What a buffer takes of the card: blocks come in certain sizes. */
static int64_t block(int64_t bytes) {
    return (int64_t)cuda_block_bytes((size_t)bytes);
}

static int64_t activations(const struct plan *plan, int64_t row_bytes) {
    int64_t bytes = 2 * block(plan->widest * row_bytes);
    bytes += block(plan->nodes[0].in_count * row_bytes);
    for (int i = 0; i + 1 < plan->node_count; i++)
        if (!plan->nodes[i].in_place)
            bytes += block(plan->nodes[i].out_count * row_bytes);
    return bytes;
}

/* A product (m, n, k) of `entries` shards beside itself alone, when it is chosen: see
 * matmul_self_check. The strides of operands that all entries share are 0. */
static int64_t check(int64_t a, int64_t b, int64_t d, bool shares_b, int64_t element,
                     int64_t d_element, int64_t entries) {
    for (;; entries /= 2) {
        int64_t all = entries * d * d_element;
        int64_t bytes = (entries * a + (shares_b ? 1 : entries) * b) * element + all;
        if (entries <= 2 || bytes <= CUDA_CHECK_MAX)
            return block(entries * a * element) + block((shares_b ? 1 : entries) * b * element) +
                   block(all) + block(d * d_element);
    }
}

static int64_t largest_check(const struct budget_spec *s, const struct plan *plan, int walk) {
    int64_t rows = s->engine->shard_rows, element = (int64_t)precision_bytes(s->engine->precision);
    int64_t most = 0;
    for (int i = 0; i < plan->node_count; i++) {
        const struct node *n = &plan->nodes[i];
        if (n->kind != OP_DENSE)
            continue;
        int64_t x = rows * n->in_count, y = rows * n->out_count, w = n->in_count * n->out_count;
        int64_t bytes[] = {check(x, w, y, true, element, element, walk),
                           check(y, x, w, false, element, sizeof(float), walk),
                           check(y, w, x, true, element, element, walk)};
        for (int k = 0; k < 3; k++)
            most = bytes[k] > most ? bytes[k] : most;
    }
    return most;
}

static void measure(const struct budget_spec *s, struct plan *plan, int walk, struct budget *out) {
    const struct engine_spec *e = s->engine;
    int64_t vector = e->model->vector_count * (int64_t)sizeof(float);
    int64_t element = (int64_t)precision_bytes(e->precision), labels = s->outputs;
    int64_t step_rows = e->shard_rows * e->shard_count;
    int64_t most_rows = step_rows > e->eval_rows ? step_rows : e->eval_rows;
    int64_t slack = (int64_t)plan->bucket_count * NORM_BLOCK * (int64_t)sizeof(float);
    *out = (struct budget){.walk = walk, .recorded = s->ranks == 1 || s->nccl};
    out->vectors = 2 * block(vector);
    out->optimizer = s->optimizer_slots * block(vector / s->ranks + slack);
    for (int g = walk; g < e->shard_count; g *= 2)
        out->partials += block(vector);
    out->activations = activations(plan, e->shard_rows * walk * element);
    out->operators = operators(s, plan, walk);
    if (s->nccl && s->ranks > 1)
        out->inbox = block((largest_bucket(plan) / s->ranks + NORM_BLOCK) * (s->ranks - 1) *
                           (int64_t)sizeof(float));
    out->batch = block(most_rows * s->features * element) +
                 block(most_rows * (labels > 0 ? labels : 1) * (int64_t)sizeof(float));
    out->library = (int64_t)CUDA_BLAS_WORKSPACE + SMALL_TABLES + largest_check(s, plan, walk) +
                   (convolves(plan) ? (int64_t)CUDA_DNN_WORKSPACE : 0);
    out->total = out->vectors + out->optimizer + out->partials + out->activations + out->operators +
                 out->inbox + out->batch + out->library;
}

/* The longest walk that fits; 0: none. */
static int longest_walk(const struct budget_spec *s, struct plan *plan, struct budget *out) {
    for (int walk = s->engine->shard_count; walk >= 1; walk /= 2) {
        measure(s, plan, walk, out);
        if (s->capacity == 0 || out->total <= s->capacity)
            return walk;
    }
    return 0;
}

/* Rows of a shard, by halving the interval; 0: not even one. */
static int64_t most_rows(const struct budget_spec *s, struct plan *plan) {
    struct engine_spec engine = *s->engine;
    struct budget_spec other = *s;
    struct budget b;
    int64_t low = 0, high = engine.shard_rows;
    other.engine = &engine;
    while (high - low > 1) {
        engine.shard_rows = low + (high - low) / 2;
        *(longest_walk(&other, plan, &b) > 0 ? &low : &high) = engine.shard_rows;
    }
    return low;
}

static double gib(int64_t bytes) {
    return (double)bytes / (double)((int64_t)1 << 30);
}

static enum status refuse(const struct budget_spec *s, struct plan *plan, const struct budget *b,
                          struct err *err) {
    int64_t rows = most_rows(s, plan);
    int64_t shards = (int64_t)s->engine->shard_count * s->ranks;
    char advice[160];
    if (rows > 0)
        (void)snprintf(advice, sizeof advice,
                       "the largest training.global_batch_size that fits is %lld",
                       (long long)(rows * shards));
    else
        (void)snprintf(advice, sizeof advice,
                       "no batch fits: it takes a larger card, a smaller model, or more ranks to "
                       "share the optimizer's state");
    return err_set(err, STATUS_TOO_LARGE,
                   "the training step needs %.2f GiB on the GPU (weights and gradient %.2f, "
                   "optimizer %.2f, activations and batch %.2f, operators %.2f, exchange %.2f, "
                   "libraries %.2f), %.2f GiB are free: %s",
                   gib(b->total), gib(b->vectors), gib(b->optimizer),
                   gib(b->activations + b->batch), gib(b->operators + b->partials), gib(b->inbox),
                   gib(b->library), gib(s->capacity), advice);
}

enum status budget_make(const struct budget_spec *spec, const struct op_traits *traits,
                        struct plan *plan, struct budget *out, struct err *err) {
    static const size_t no_caches[2] = {0, 0};
    enum status st = plan_make(spec->engine, traits, no_caches, plan, err);
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
