/* What a net takes on a GPU, by arithmetic alone: figures that are counted here by hand, for nets
 * that no test machine could hold. */
#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "kernels/cuda/limits.h"
#include "kernels/devices.h"
#include "kernels/graph/budget.h"

#define GIB(n) ((int64_t)(n) << 30)

struct asked {
    struct arena arena;
    struct model *model;
    struct plan_spec rank;
    struct budget_spec spec;
    struct plan *plan;
    struct budget budget;
    struct err err;
};

static void set_up(struct asked *q, const char *layers, struct shape in, int64_t batch, int shards,
                   int ranks, int64_t capacity) {
    struct value *list = NULL;
    memset(q, 0, sizeof *q);
    arena_init(&q->arena, (size_t)64 << 20);
    assert_int_equal(json_parse(&q->arena, layers, strlen(layers), "test", &list, &q->err),
                     STATUS_OK);
    assert_int_equal(model_parse(&q->arena, list, in, NULL, &q->model, &q->err), STATUS_OK);
    q->plan = arena_take(&q->arena, sizeof *q->plan);
    q->rank = (struct plan_spec){.model = q->model,
                                 .loss = LOSS_CROSS_ENTROPY,
                                 .shard_rows = batch / shards,
                                 .shard_count = shards / ranks,
                                 .eval_rows = CUDA_EVAL_ROWS};
    int64_t features = 1;
    for (int i = 0; i < in.rank; i++)
        features *= in.dim[i];
    q->spec = (struct budget_spec){.plan = &q->rank,
                                   .optimizer_slots = 2,
                                   .ranks = ranks,
                                   .nccl = true,
                                   .features = features,
                                   .capacity = capacity};
}

static enum status ask(struct asked *q) {
    return budget_make(&q->spec, device_traits("cuda"), q->plan, &q->budget, &q->err);
}

static void tear_down(struct asked *q) {
    arena_release(&q->arena);
}

#define MLP                                                                                        \
    "[{\"dense\":{\"out\":512}},\"relu\",{\"dense\":{\"out\":512}},\"relu\",{\"dense\":{\"out\":"  \
    "10}}]"

/* Blocks are powers of two up to 2 MiB, then whole pages of it. */
static int64_t block(int64_t bytes) {
    int64_t page = 2 << 20, whole = 512;
    if (bytes > page)
        return (bytes + page - 1) / page * page;
    while (whole < bytes)
        whole *= 2;
    return whole;
}

static void test_figures(void **state) {
    (void)state;
    struct asked q;
    struct shape in = {1, {784}};
    int64_t vector = (784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 16 + 16) * 4;
    set_up(&q, MLP, in, 256, 8, 1, 0);
    assert_int_equal(ask(&q), STATUS_OK);
    assert_int_equal(q.budget.walk, 8);
    assert_int_equal(q.budget.vectors, 2 * block(vector));
    assert_true(q.budget.optimizer >= 2 * vector);
    assert_int_equal(q.budget.partials, 0);
    /* two hidden outputs and the logits; twice the widest gradient; the input */
    int64_t row = 256 * 4;
    assert_int_equal(q.budget.activations,
                     4 * block(512 * row) + block(10 * row) + block(784 * row));
    assert_true(q.budget.operators >=
                8 * vector - 8 * 64 * 4); /* a weight gradient for each shard */
    assert_int_equal(q.budget.inbox, 0);
    assert_true(q.budget.recorded);
    assert_int_equal(q.budget.total, q.budget.vectors + q.budget.optimizer + q.budget.partials +
                                         q.budget.activations + q.budget.operators +
                                         q.budget.inbox + q.budget.batch + q.budget.library);
    q.rank.precision = PRECISION_BF16; /* halves what lies between layers, not the weights */
    int64_t activations = q.budget.activations;
    assert_int_equal(ask(&q), STATUS_OK);
    assert_int_equal(q.budget.activations, activations / 2);
    assert_int_equal(q.budget.vectors, 2 * block(vector));
    tear_down(&q);
}

static void test_ranks(void **state) {
    (void)state;
    struct asked one, eight;
    struct shape in = {1, {784}};
    set_up(&one, MLP, in, 256, 8, 1, 0);
    set_up(&eight, MLP, in, 256, 8, 8, 0);
    assert_int_equal(ask(&one), STATUS_OK);
    assert_int_equal(ask(&eight), STATUS_OK);
    assert_true(eight.budget.optimizer < one.budget.optimizer / 4); /* sharded */
    assert_int_equal(eight.budget.vectors, one.budget.vectors);
    assert_int_equal(eight.budget.activations, one.budget.activations / 8);
    assert_true(eight.budget.inbox > 0);
    assert_true(eight.budget.recorded);
    assert_int_equal(eight.plan->bucket_count, one.plan->bucket_count);
    for (int i = 0; i < one.plan->bucket_count; i++)
        assert_memory_equal(&one.plan->buckets[i], &eight.plan->buckets[i], sizeof(struct bucket));
    eight.spec.nccl = false; /* through the host: it waits inside the step */
    assert_int_equal(ask(&eight), STATUS_OK);
    assert_false(eight.budget.recorded);
    assert_int_equal(eight.budget.inbox, 0);
    tear_down(&one);
    tear_down(&eight);
}

/* From the end of the vector to its beginning, cut at norm blocks, without a gap. */
static void check_buckets(const struct plan *plan, const struct model *model) {
    int64_t end = model->vector_count;
    for (int i = 0; i < plan->bucket_count; i++) {
        const struct bucket *b = &plan->buckets[i];
        assert_int_equal(b->end, end);
        assert_int_equal(b->begin % NORM_BLOCK, 0);
        assert_true(b->end > b->begin);
        if (i > 0)
            assert_true(b->layer < plan->buckets[i - 1].layer);
        end = b->begin;
    }
    assert_int_equal(end, 0);
}

/* 1.5 billion parameters: six layers of 16,384 x 16,384. */
static void large(struct asked *q, int ranks, int64_t gib, int64_t batch) {
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof text, "[");
    for (int i = 0; i < 6; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"dense\":{\"out\":%d}},\"relu\",",
                              i < 5 ? 16384 : 15000);
    (void)snprintf(text + n, sizeof text - n, "{\"dense\":{\"out\":1000}}]");
    struct shape in = {1, {16384}};
    set_up(q, text, in, batch, 8, ranks, GIB(gib) - BUDGET_CONTEXT);
}

static void test_large(void **state) {
    (void)state;
    static const int64_t cards[] = {80, 141};
    for (int i = 0; i < 2; i++) {
        struct asked q;
        large(&q, 8, cards[i], 1024);
        assert_int_equal(ask(&q), STATUS_OK);
        assert_true(q.model->trainable > 1500000000 && q.model->trainable < 1700000000);
        int64_t vector = q.model->vector_count * 4;
        assert_int_equal(q.budget.vectors, 2 * block(vector));
        assert_in_range((uint64_t)q.budget.optimizer, (uint64_t)(vector / 4),
                        (uint64_t)(vector / 4 + (16 << 20)));
        assert_int_equal(q.budget.walk, 1);
        assert_true(q.budget.total <= q.spec.capacity);
        assert_int_equal(q.plan->bucket_count, 7);
        check_buckets(q.plan, q.model);
        tear_down(&q);
    }
}

/* One card for all of it: a shorter walk where that fits, else a refusal that says what would. */
static void test_too_large(void **state) {
    (void)state;
    struct asked q;
    large(&q, 1, 24, 1024); /* weights, gradient, two slots: 24 GiB by themselves */
    assert_int_equal(ask(&q), STATUS_TOO_LARGE);
    assert_non_null(strstr(q.err.text, "no batch fits"));
    tear_down(&q);
    struct shape in = {1, {784}};
    set_up(&q, MLP, in, 1 << 20, 8, 1, GIB(1));
    assert_int_equal(ask(&q), STATUS_TOO_LARGE);
    const char *at = strstr(q.err.text, "that fits is ");
    assert_non_null(at);
    long long most = 0;
    assert_int_equal(sscanf(at, "that fits is %lld", &most), 1);
    assert_true(most > 0 && most < 1 << 20 && most % 8 == 0);
    q.rank.shard_rows = most / 8; /* it does fit … */
    assert_int_equal(ask(&q), STATUS_OK);
    q.rank.shard_rows++; /* … and no more than that */
    assert_int_equal(ask(&q), STATUS_TOO_LARGE);
    tear_down(&q);
}

/* Where all shards together do not fit, fewer walk together, down to one. */
static void test_walk(void **state) {
    (void)state;
    struct asked q;
    struct shape in = {1, {784}};
    set_up(&q, MLP, in, 1 << 16, 64, 1, 0);
    assert_int_equal(ask(&q), STATUS_OK);
    assert_int_equal(q.budget.walk, 64);
    int64_t all = q.budget.total;
    int walk = 64;
    for (int64_t capacity = all - 1; walk > 1; capacity = q.budget.total - 1) {
        q.spec.capacity = capacity;
        if (ask(&q) != STATUS_OK)
            break;
        assert_true(q.budget.walk < walk && q.budget.total <= capacity);
        walk = q.budget.walk;
    }
    assert_true(walk < 64);
    tear_down(&q);
}

static void test_data(void **state) {
    (void)state;
    struct asked q;
    struct shape in = {1, {784}};
    set_up(&q, MLP, in, 256, 8, 1, GIB(1));
    q.spec.data_bytes = (int64_t)70000 * 788;
    assert_int_equal(ask(&q), STATUS_OK);
    assert_int_equal(q.budget.data, q.spec.data_bytes);
    q.spec.data_bytes = GIB(1); /* beside the step there is no room: streamed */
    assert_int_equal(ask(&q), STATUS_OK);
    assert_int_equal(q.budget.data, 0);
    tear_down(&q);
}

/* On the CPU: the layer that takes most is named, and nothing was taken to find out. Two layers of a
 * million features have more parameters than any model may. */
static void test_host(void **state) {
    (void)state;
    static const size_t caches[2] = {1 << 20, 32 << 20};
    struct asked q;
    struct shape in = {1, {20000}};
    set_up(&q, "[{\"dense\":{\"out\":100000}},\"relu\",{\"dense\":{\"out\":10}}]", in, 64, 8, 1,
           GIB(12));
    q.rank.eval_rows = device_traits("cpu")->eval_rows;
    q.spec.cache_bytes = caches;
    q.spec.nccl = false;
    assert_int_equal(budget_make(&q.spec, device_traits("cpu"), q.plan, &q.budget, &q.err),
                     STATUS_TOO_LARGE);
    /* Weights, gradient, packed weights, the optimizer's two: five vectors of 8 GB, at least. */
    int64_t vector = INT64_C(20001) * 100000 * 4;
    assert_in_range(q.budget.total, 5 * vector, 10 * vector);
    assert_non_null(
        strstr(q.err.text, "; most for model[0].dense), 12884901888 bytes, 12.00 GiB are free: "));
    assert_non_null(strstr(q.err.text, "no batch fits: take a machine with more memory"));
    q.spec.capacity = q.budget.total;
    assert_int_equal(budget_make(&q.spec, device_traits("cpu"), q.plan, &q.budget, &q.err),
                     STATUS_OK);
    assert_true(q.plan->walk == q.budget.walk && q.budget.walk >= 1);
    tear_down(&q);

    struct value *list = NULL;
    const char *text = "[{\"dense\":{\"out\":1000000}},{\"dense\":{\"out\":1000000}}]";
    arena_init(&q.arena, (size_t)1 << 20);
    assert_int_equal(json_parse(&q.arena, text, strlen(text), "test", &list, &q.err), STATUS_OK);
    assert_int_equal(model_parse(&q.arena, list, in, NULL, &q.model, &q.err), STATUS_INVALID);
    assert_string_equal(q.err.text, "model[0].dense: with it the model has more than 8589934592 "
                                    "parameters (32 GiB), which is the most");
    arena_release(&q.arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),      cmocka_unit_test(test_figures),
        cmocka_unit_test(test_ranks),     cmocka_unit_test(test_large),
        cmocka_unit_test(test_too_large), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
