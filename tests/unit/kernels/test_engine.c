/* The promise of the engine: the same bits on any number of ranks and in any walk; and its seams:
 * buckets, evaluation in any chunks, blame, no allocation in a step. */
#include "tests/unit/kernels/net.h"

static const struct shape flat = {1, {53}};
static const struct shape image = {3, {3, 12, 12}};
static const struct shape grey = {3, {1, 14, 13}};

/* Every rank count and walk against one rank, shard by shard. */
static void same_bits(const char *text, struct shape in, enum loss_kind loss, int64_t shard_rows) {
    enum { V = 8 };
    struct net net;
    net_open(&net, text, in, loss, V, shard_rows);
    size_t bytes = (size_t)net.model->vector_count * sizeof(float);
    float *expected = malloc(bytes), *partial[V], *folded = malloc(bytes);
    for (int i = 0; i < V; i++)
        partial[i] = malloc(bytes);
    struct engine *one = net_engine(&net, 0, V, 1);
    net_step(&net, one, 0, 3);
    memcpy(expected, engine_gradient(one), bytes);
    for (int ranks = 1; ranks <= V; ranks *= 2)
        for (int walk = 0; walk <= V / ranks; walk = walk ? 2 * walk : 1) {
            const float *sources[V];
            for (int r = 0; r < ranks; r++) {
                int count = V / ranks;
                struct engine *e = net_engine(&net, r * count, count, walk);
                net_step(&net, e, r * count, 2); /* a step before must leave no trace */
                net_step(&net, e, r * count, 3);
                memcpy(partial[r], engine_gradient(e), bytes);
                sources[r] = partial[r];
                engine_destroy(&e);
            }
            net.device->backend->operators->fold(net.device, QUEUE_COMPUTE, folded, sources, ranks,
                                                 net.model->vector_count);
            for (int64_t i = 0; i < net.model->vector_count; i++)
                if (memcmp(&folded[i], &expected[i], sizeof(float)) != 0)
                    fail_msg("%d ranks, walk %d: element %lld is %a, not %a", ranks, walk,
                             (long long)i, (double)folded[i], (double)expected[i]);
        }
    assert_true(isfinite(expected[net.model->flat_count + SCALAR_LOSS]));
    assert_true(expected[net.model->flat_count + SCALAR_ROWS] == (float)net.rows);
    engine_destroy(&one);
    for (int i = 0; i < V; i++)
        free(partial[i]);
    free(expected);
    free(folded);
    net_close(&net);
}

static void test_mlp_bits(void **state) {
    (void)state;
    same_bits(MLP, flat, LOSS_CROSS_ENTROPY, 5);
    same_bits("[{dense: {out: 130}}, relu, {dense: {out: 48}}, sigmoid, {dense: {out: 4}}]", flat,
              LOSS_MSE, 32);
}

static void test_cnn_bits(void **state) {
    (void)state;
    same_bits(CNN, image, LOSS_CROSS_ENTROPY, 3);
    same_bits(CNN, grey, LOSS_CROSS_ENTROPY, 4);
    same_bits("[{conv2d: {out: 5}}, batch_norm, gelu, {conv2d: {out: 3, stride: 2}}]", image,
              LOSS_MSE, 2);
}

static void test_step_repeats(void **state) {
    (void)state;
    struct net net;
    net_open(&net, CNN, image, LOSS_CROSS_ENTROPY, 4, 3);
    struct engine *e = net_engine(&net, 0, 4, 0);
    size_t bytes = (size_t)net.model->vector_count * sizeof(float);
    float *first = malloc(bytes);
    net_step(&net, e, 0, 1);
    memcpy(first, engine_gradient(e), bytes);
    net_step(&net, e, 0, 2); /* another step: another dropout */
    assert_memory_not_equal(first, engine_gradient(e), bytes);
    net_step(&net, e, 0, 1);
    assert_memory_equal(first, engine_gradient(e), bytes);
    free(first);
    engine_destroy(&e);
    net_close(&net);
}

/* ---- evaluation ---- */

static void eval_chunks(const char *text, struct shape in, enum loss_kind loss) {
    struct net net;
    struct err err = {0};
    net_open(&net, text, in, loss, 8, 4);
    struct engine *e = net_engine(&net, 0, 8, 0), *small = net_engine(&net, 0, 1, 0);
    int64_t out = 1, width = 1;
    for (int i = 0; i < net.model->out.rank; i++)
        out *= net.model->out.dim[i];
    for (int i = 0; i < in.rank; i++)
        width *= in.dim[i];
    bool mse = loss == LOSS_MSE;
    float *whole = calloc((size_t)(net.rows * out), 4), *part = calloc((size_t)(net.rows * out), 4);
    struct eval_result all, piece;
    must(engine_eval(e,
                     &(struct engine_batch){.rows = net.rows,
                                            .x = net.x,
                                            .labels = mse ? NULL : net.labels,
                                            .targets = mse ? net.targets : NULL},
                     whole, &all, &err),
         &err);
    assert_int_equal(all.rows, net.rows);
    for (int64_t chunk = 1; chunk <= net.rows; chunk += chunk < 12 ? 1 : 7) {
        double loss_sum = 0;
        int64_t correct = 0;
        for (int64_t row = 0; row < net.rows; row += chunk) {
            int64_t n = net.rows - row < chunk ? net.rows - row : chunk;
            must(
                engine_eval(chunk % 2 ? e : small,
                            &(struct engine_batch){.rows = n,
                                                   .x = net.x + row * width,
                                                   .labels = mse ? NULL : net.labels + row,
                                                   .targets = mse ? net.targets + row * out : NULL},
                            part + row * out, &piece, &err),
                &err);
            loss_sum += piece.loss_sum;
            correct += piece.correct;
        }
        assert_true(loss_sum == all.loss_sum);
        assert_int_equal(correct, all.correct);
        assert_memory_equal(whole, part, (size_t)(net.rows * out) * sizeof(float));
    }
    assert_int_equal(engine_eval(e,
                                 &(struct engine_batch){.rows = net.rows + 1,
                                                        .x = net.x,
                                                        .labels = net.labels,
                                                        .targets = net.targets},
                                 NULL, &all, &err),
                     STATUS_INVALID);
    free(whole);
    free(part);
    engine_destroy(&e);
    engine_destroy(&small);
    net_close(&net);
}

static void test_eval_chunks(void **state) {
    (void)state;
    eval_chunks(MLP, flat, LOSS_CROSS_ENTROPY);
    eval_chunks(CNN, image, LOSS_CROSS_ENTROPY);
    eval_chunks("[{conv2d: {out: 5}}, batch_norm, gelu]", image, LOSS_MSE);
}

/* ---- buckets ---- */

struct seen {
    struct engine *engine;
    int next;
    float *copy;
};

static void on_bucket(void *arg, int bucket) {
    struct seen *seen = arg;
    const struct bucket *b = &engine_buckets(seen->engine)[bucket];
    assert_int_equal(bucket, seen->next++);
    memcpy(seen->copy + b->begin, engine_gradient(seen->engine) + b->begin,
           (size_t)(b->end - b->begin) * sizeof(float));
}

static void test_buckets(void **state) {
    (void)state;
    struct net net;
    struct err err = {0};
    struct shape in = {1, {300}};
    net_open(&net, "[{dense: {out: 700}}, relu, {dense: {out: 300}}, relu, {dense: {out: 10}}]", in,
             LOSS_CROSS_ENTROPY, 4, 2);
    for (int walk = 1; walk <= 4; walk *= 2) {
        struct engine *e = net_engine(&net, 0, 4, walk);
        int64_t n = net.model->vector_count;
        struct seen seen = {.engine = e, .copy = calloc((size_t)n, sizeof(float))};
        must(engine_step(e,
                         &(struct engine_batch){
                             .x = net.x, .labels = net.labels, .rows_global = net.rows_global},
                         1, &(struct engine_hook){on_bucket, &seen}, &err),
             &err);
        assert_int_equal(seen.next, engine_bucket_count(e));
        assert_true(seen.next >= 2);
        assert_memory_equal(seen.copy, engine_gradient(e), (size_t)n * sizeof(float));
        const struct bucket *b = engine_buckets(e);
        for (int i = 0; i < seen.next; i++) {
            assert_int_equal(b[i].end, i ? b[i - 1].begin : n);
            assert_int_equal(b[i].begin % NORM_BLOCK, 0);
            assert_true(b[i].begin < b[i].end);
        }
        assert_int_equal(b[seen.next - 1].begin, 0);
        free(seen.copy);
        engine_destroy(&e);
    }
    net_close(&net);
}

/* ---- blame ---- */

static void test_blame(void **state) {
    (void)state;
    struct net net;
    char text[128];
    net_open(&net, CNN, image, LOSS_CROSS_ENTROPY, 4, 3);
    for (int walk = 1; walk <= 4; walk *= 4) {
        struct engine *e = net_engine(&net, 0, 4, walk);
        net_step(&net, e, 0, 1);
        engine_blame(e, text, sizeof text);
        assert_string_equal(text, "");
        for (int i = 0; i < net.model->param_count; i++) {
            const struct param *p = &net.model->params[i];
            if (p->kind == PARAM_STAT)
                continue;
            char want[64];
            engine_weights(e)[p->offset] = NAN;
            net_step(&net, e, 0, 1);
            assert_true(!isfinite(engine_gradient(e)[net.model->flat_count + SCALAR_LOSS]));
            engine_blame(e, text, sizeof text);
            snprintf(want, sizeof want, "model[%d] ", p->layer);
            if (strncmp(text, want, strlen(want)) != 0 || !strstr(text, "output is not finite"))
                fail_msg("%s is NaN, blamed '%s'", p->name, text);
            engine_weights(e)[p->offset] = net.weights[p->offset];
        }
        net.x[net.rows * 3 * 12 * 12 - 1] = INFINITY; /* in the last shard */
        net_step(&net, e, 0, 1);
        engine_blame(e, text, sizeof text);
        assert_string_equal(text, "model[0] conv2d: output is not finite");
        net.x[net.rows * 3 * 12 * 12 - 1] = 0;
        engine_destroy(&e);
    }
    net_close(&net);
}

static void test_refusals(void **state) {
    (void)state;
    struct net net;
    struct err err = {0};
    struct engine *e = NULL;
    net_open(&net, "[batch_norm, {dense: {out: 3}}]", flat, LOSS_CROSS_ENTROPY, 4, 1);
    assert_int_equal(engine_new(net.device, &net.spec, NULL, &e, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "model[0] batch_norm"));
    net_close(&net);
    net_open(&net, MLP, flat, LOSS_CROSS_ENTROPY, 4, 2);
    struct plan_spec spec = net.spec;
    spec.shard_count = 3;
    assert_int_equal(engine_new(net.device, &spec, NULL, &e, &err), STATUS_INVALID);
    spec = net.spec;
    spec.first_shard = 2;
    assert_int_equal(engine_new(net.device, &spec, NULL, &e, &err), STATUS_INVALID);
    spec = net.spec;
    spec.walk = 3;
    assert_int_equal(engine_new(net.device, &spec, NULL, &e, &err), STATUS_INVALID);
    e = net_engine(&net, 0, 4, 0);
    net.labels[5] = 10;
    assert_int_equal(engine_step(e,
                                 &(struct engine_batch){.x = net.x,
                                                        .labels = net.labels,
                                                        .rows_global = net.rows_global},
                                 1, NULL, &err),
                     STATUS_INVALID);
    assert_non_null(strstr(err.text, "label 10 of row 5"));
    engine_destroy(&e);
    engine_destroy(&e);
    struct device *device = NULL;
    assert_int_equal(device_open("abacus", 0, &device, &err), STATUS_UNAVAILABLE);
    net_close(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp_bits),     cmocka_unit_test(test_cnn_bits),
        cmocka_unit_test(test_step_repeats), cmocka_unit_test(test_eval_chunks),
        cmocka_unit_test(test_buckets),      cmocka_unit_test(test_blame),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
