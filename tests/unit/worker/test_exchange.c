/* The exchange on 1, 2, 4 and 8 ranks, by messages and by shared memory, in one and two levels: the
 * same bits as one process that adds all shards in the tree. Started alone, the test runs itself
 * under mpirun once for each number of ranks. */
#include "tests/unit/worker/exchange_case.h"

static void fold(void *arg, float *dst, const float *const *srcs, int n, int64_t count) {
    (void)arg;
    fold_tree(dst, srcs, n, count);
}

static void run_steps(struct exchange *x, float *weights, float *gradient) {
    struct err err = {0};
    int rank = world_rank(world), per_rank = SHARDS / world_size(world);
    float *expected = calloc((size_t)VECTOR, sizeof *expected);
    for (int64_t i = 0; i < VECTOR; i++)
        weights[i] = 0;
    for (int step = 1; step <= STEPS; step++) {
        for (int b = 0; b < BUCKETS; b++) {
            for (int64_t i = buckets[b].begin; i < buckets[b].end; i++)
                gradient[i] = partial(step, rank * per_rank, per_rank, i);
            ok(exchange_start(x, b, &err), &err);
        }
        for (int b = 0; b < BUCKETS; b++) {
            ok(exchange_reduced(x, b, &err), &err);
            struct slice s = exchange_slice(x, rank, b);
            for (int64_t i = s.begin; i < s.begin + s.count; i++)
                weights[i] -= 0.125f * gradient[i];
            ok(exchange_publish(x, b, &err), &err);
        }
        float scalars[SCALARS];
        uint32_t flags = step == 2 ? 1u << rank : 0;
        ok(exchange_finish(x, scalars, &flags, &err), &err);
        assert_int_equal(flags, step == 2 ? (1 << world_size(world)) - 1 : 0);
        for (int64_t i = 0; i < VECTOR; i++) {
            float g = partial(step, 0, SHARDS, i);
            expected[i] -= 0.125f * g;
            if (i >= VECTOR - SCALARS) {
                expected[i] = g;
                assert_memory_equal(&scalars[i - VECTOR + SCALARS], &g, sizeof g);
            }
        }
        assert_memory_equal(weights, expected, (size_t)VECTOR * sizeof *weights);
    }
    free(expected);
}

static void gather_blocks(struct exchange *x) {
    struct err err = {0};
    int64_t blocks = exchange_blocks(x), n = 0;
    int64_t(*mine)[40] = calloc((size_t)exchange_owned_blocks(x) + 1, sizeof *mine);
    int64_t(*all)[40] = calloc((size_t)blocks, sizeof *all);
    for (int b = 0; b < BUCKETS; b++) {
        struct slice s = exchange_slice(x, world_rank(world), b);
        for (int64_t i = 0; i < s.count; i += NORM_BLOCK)
            mine[n++][39] = s.begin + i;
    }
    assert_int_equal(n, exchange_owned_blocks(x));
    ok(exchange_gather_blocks(x, mine, sizeof *mine, all, &err), &err);
    for (int64_t i = 0; i < blocks; i++)
        assert_int_equal(all[i][39], i * NORM_BLOCK);
    free(mine);
    free(all);
}

static void try_exchange(const int *levels, int level_count, bool in_memory) {
    struct err err = {0};
    void **bases = NULL;
    float *weights = NULL, *gradient = NULL, *own = NULL;
    if (in_memory) {
        ok(world_shared_memory(world, exchange_memory_bytes(VECTOR), &bases, &err), &err);
        if (bases == NULL)
            return;
        weights = exchange_memory_weights(bases[world_rank(world)], VECTOR);
        gradient = exchange_memory_gradient(bases[world_rank(world)], VECTOR);
    } else {
        own = calloc(2 * (size_t)VECTOR, sizeof *own);
        weights = own;
        gradient = own + VECTOR;
    }
    struct exchange_spec spec = {.weights = weights,
                                 .gradient = gradient,
                                 .vector_count = VECTOR,
                                 .buckets = buckets,
                                 .bucket_count = BUCKETS,
                                 .levels = levels,
                                 .level_count = level_count,
                                 .fold = fold,
                                 .bases = bases};
    struct exchange *x = NULL;
    ok(exchange_new(world, &spec, &x, &err), &err);
    assert_int_equal(exchange_in_memory(x), bases != NULL);
    run_steps(x, weights, gradient);
    gather_blocks(x);
    exchange_destroy(&x);
    assert_null(x);
    free(own);
    if (bases != NULL) {
        void **second = NULL;
        ok(world_shared_memory(world, 1, &second, &err), &err);
        assert_null(second); /* lent */
        world_return_memory(world);
    }
}

static void test_one_level(void **state) {
    (void)state;
    for (int round = 0; round < 3; round++) { /* a second exchange in the same memory */
        try_exchange(NULL, 0, false);
        try_exchange(NULL, 0, true);
    }
}

static void test_two_levels(void **state) {
    (void)state;
    int size = world_size(world);
    for (int inner = 1; inner <= size; inner *= 2) {
        int levels[] = {inner, size / inner};
        try_exchange(levels, 2, false);
        try_exchange(levels, 2, true);
    }
    int three[] = {2, 2, 2};
    if (size == 8)
        try_exchange(three, 3, true);
}

static void test_slices_cover(void **state) {
    (void)state;
    struct err err = {0};
    float *v = calloc((size_t)VECTOR, 2 * sizeof *v);
    struct exchange_spec spec = {.weights = v,
                                 .gradient = v + VECTOR,
                                 .vector_count = VECTOR,
                                 .buckets = buckets,
                                 .bucket_count = BUCKETS,
                                 .fold = fold};
    struct exchange *x = NULL;
    ok(exchange_new(world, &spec, &x, &err), &err);
    for (int b = 0; b < BUCKETS; b++) {
        int64_t at = buckets[b].begin;
        for (int r = 0; r < world_size(world); r++) {
            struct slice s = exchange_slice(x, r, b);
            assert_int_equal(s.begin, at);
            assert_true(s.count == 0 || s.begin % NORM_BLOCK == 0);
            at += s.count;
        }
        assert_int_equal(at, buckets[b].end);
    }
    exchange_destroy(&x);
    free(v);
}

static void test_bad_levels(void **state) {
    (void)state;
    struct err err = {0};
    float *v = calloc((size_t)VECTOR, 2 * sizeof *v);
    int wrong[] = {3, 1};
    struct exchange_spec spec = {.weights = v,
                                 .gradient = v + VECTOR,
                                 .vector_count = VECTOR,
                                 .buckets = buckets,
                                 .bucket_count = BUCKETS,
                                 .levels = wrong,
                                 .level_count = 2,
                                 .fold = fold};
    struct exchange *x = NULL;
    assert_int_equal(exchange_new(world, &spec, &x, &err), STATUS_INVALID);
    struct bucket crooked = {1, NORM_BLOCK, 0};
    spec.levels = NULL;
    spec.buckets = &crooked;
    spec.bucket_count = 1;
    assert_int_equal(exchange_new(world, &spec, &x, &err), STATUS_INVALID);
    assert_null(x);
    free(v);
}

/* What one rank knows reaches all; the lowest failing rank's words are everybody's. */
static void test_world(void **state) {
    (void)state;
    struct err err = {0};
    int rank = world_rank(world), size = world_size(world);
    char text[] = "the same on every rank";
    void *bytes = rank == 0 ? text : NULL;
    size_t len = rank == 0 ? sizeof text : 0;
    ok(world_share(world, &bytes, &len, &err), &err);
    assert_int_equal(len, sizeof text);
    assert_string_equal((char *)bytes, "the same on every rank");
    if (rank != 0)
        free(bytes);
    int all[SHARDS];
    ok(world_gather(world, &rank, sizeof rank, all, &err), &err);
    for (int r = 0; r < size; r++)
        assert_int_equal(all[r], r);
    ok(world_agree(world, STATUS_OK, &err), &err);
    enum status mine = STATUS_OK;
    if (rank >= size / 2)
        mine = err_set(&err, STATUS_NOT_FOUND, "rank %d has no file", rank);
    assert_int_equal(world_agree(world, mine, &err), STATUS_NOT_FOUND);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "rank %d has no file", size / 2);
    assert_string_equal(err.text, expected);
}

static int run_here(void) {
    struct err err = {0};
    if (world_open(&world, &err) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_level),    cmocka_unit_test(test_two_levels),
        cmocka_unit_test(test_slices_cover), cmocka_unit_test(test_bad_levels),
        cmocka_unit_test(test_world),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed != 0)
        world_abort(world, 1);
    world_close(&world);
    return 0;
}

int main(int argc, char **argv) {
    (void)argc;
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL)
        return run_here();
    int failed = run_here();
    static const char *const ranks[] = {"2", "4", "8"};
    for (int i = 0; i < 3; i++)
        failed |= run_ranks(argv[0], ranks[i]);
    return failed;
}
