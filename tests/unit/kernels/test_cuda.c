/* What the GPU backend promises: the same bits on any number of ranks, in any walk and chunk, in a
 * recorded step as in a direct one; order between its queues; and errors that are told. */
#include "kernels/devices.h"
#include "kernels/run/update.h"
#include "tests/unit/kernels/gpu.h"

/* ---- the same bits ---- */

static const struct shape flat = {1, {53}};
static const struct shape image = {3, {3, 12, 12}};

enum { V = 8 };

/* The partials of `ranks` engines, folded. */
static void folded_step(struct rig *r, int ranks, int walk, float *out) {
    size_t bytes = (size_t)r->net.model->vector_count * sizeof(float);
    float *partial[V];
    const float *sources[V];
    for (int rank = 0; rank < ranks; rank++) {
        int count = V / ranks;
        struct engine *e = rig_engine(r, rank * count, count, walk);
        rig_step(r, e, rank * count, 2); /* a step before must leave no trace */
        rig_step(r, e, rank * count, 3);
        sources[rank] = partial[rank] = b->memory->alloc(gpu, bytes);
        b->memory->copy(gpu, QUEUE_COMPUTE, partial[rank], engine_gradient(e), bytes);
        engine_destroy(&e);
    }
    float *sum = b->memory->alloc(gpu, bytes);
    b->operators->fold(gpu, QUEUE_COMPUTE, sum, sources, ranks, r->net.model->vector_count);
    b->memory->download(gpu, out, sum, bytes);
    b->memory->release(gpu, sum);
    for (int rank = 0; rank < ranks; rank++)
        b->memory->release(gpu, partial[rank]);
}

static void same_bits(const char *text, struct shape in, enum loss_kind loss, int64_t shard_rows) {
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        struct rig r;
        rig_open(&r, text, in, loss, V, shard_rows, p);
        size_t bytes = (size_t)r.net.model->vector_count * sizeof(float);
        float *want = malloc(bytes), *got = malloc(bytes);
        folded_step(&r, 1, 1, want);
        assert_true(isfinite(want[r.net.model->flat_count + SCALAR_LOSS]));
        for (int ranks = 1; ranks <= V; ranks *= 2)
            for (int walk = 0; walk <= V / ranks; walk = walk ? 2 * walk : 1) {
                char what[64];
                snprintf(what, sizeof what, "%d ranks, walk %d", ranks, walk);
                folded_step(&r, ranks, walk, got);
                same(&r, what, got, want);
            }
        free(want);
        free(got);
        rig_close(&r);
    }
}

static void test_mlp_bits(void **state) {
    (void)state;
    same_bits(MLP, flat, LOSS_CROSS_ENTROPY, 5);
    same_bits("[{dense: {out: 130}}, relu, {dense: {out: 48}}, sigmoid, {dense: {out: 4}}]", flat,
              LOSS_MSE, 12);
}

static void test_cnn_bits(void **state) {
    (void)state;
    same_bits(CNN, image, LOSS_CROSS_ENTROPY, 3);
}

/* Kernels in which threads race give other bits in another order of threads and blocks. */
static void test_order_of_threads(void **state) {
    (void)state;
    static const char *const orders[] = {"forward", "reverse", "random:1", "random:2"};
    if (!standin_begin)
        skip();
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p += PRECISION_BF16) {
        struct rig r;
        rig_open(&r, CNN, image, LOSS_CROSS_ENTROPY, V, 3, p);
        size_t bytes = (size_t)r.net.model->vector_count * sizeof(float);
        float *want = malloc(bytes), *got = malloc(bytes);
        for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
            setenv("TRIREME_STANDIN_ORDER", orders[i], 1);
            standin_begin();
            folded_step(&r, 1, 0, i ? got : want);
            if (i)
                same(&r, orders[i], got, want);
        }
        unsetenv("TRIREME_STANDIN_ORDER");
        standin_begin();
        free(want);
        free(got);
        rig_close(&r);
    }
}

static void eval_chunks(const char *text, struct shape in, enum loss_kind loss, enum precision p) {
    struct rig r;
    struct err err = {0};
    rig_open(&r, text, in, loss, V, 4, p);
    struct engine *e = rig_engine(&r, 0, V, 0), *small = rig_engine(&r, 0, 1, 0);
    int64_t out = volume(&r.net.model->out), width = volume(&in), rows = r.net.rows;
    size_t element = precision_bytes(p), bytes = (size_t)(rows * out) * element;
    bool mse = loss == LOSS_MSE;
    char *whole = calloc(1, bytes), *part = calloc(1, bytes);
    struct eval_result all, piece;
    must(engine_eval(e,
                     &(struct engine_batch){.rows = rows,
                                            .x = r.x,
                                            .labels = mse ? NULL : r.labels,
                                            .targets = mse ? r.targets : NULL},
                     whole, &all, &err),
         &err);
    for (int64_t chunk = 1; chunk <= rows; chunk += chunk < 8 ? 1 : 9) {
        double loss_sum = 0;
        int64_t correct = 0;
        for (int64_t row = 0; row < rows; row += chunk) {
            int64_t n = rows - row < chunk ? rows - row : chunk;
            must(engine_eval(
                     chunk % 2 ? e : small,
                     &(struct engine_batch){.rows = n,
                                            .x = (char *)r.x + (size_t)(row * width) * element,
                                            .labels = mse ? NULL : r.labels + row,
                                            .targets = mse ? r.targets + row * out : NULL},
                     part + (size_t)(row * out) * element, &piece, &err),
                 &err);
            loss_sum += piece.loss_sum;
            correct += piece.correct;
        }
        assert_true(loss_sum == all.loss_sum);
        assert_int_equal(correct, all.correct);
        assert_memory_equal(whole, part, bytes);
    }
    free(whole);
    free(part);
    engine_destroy(&e);
    engine_destroy(&small);
    rig_close(&r);
}

static void test_eval_chunks(void **state) {
    (void)state;
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        eval_chunks(MLP, flat, LOSS_CROSS_ENTROPY, p);
        eval_chunks(CNN, image, LOSS_CROSS_ENTROPY, p);
        eval_chunks("[{conv2d: {out: 5}}, batch_norm, gelu]", image, LOSS_MSE, p);
    }
}

/* ---- queues ---- */

struct seen {
    struct engine *engine;
    int next;
    float *copy; /* device memory */
};

static void on_bucket(void *arg, int bucket) {
    struct seen *seen = arg;
    const struct bucket *k = &engine_buckets(seen->engine)[bucket];
    assert_int_equal(bucket, seen->next++);
    b->order->after(gpu, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    b->memory->copy(gpu, QUEUE_EXCHANGE, seen->copy + k->begin,
                    engine_gradient(seen->engine) + k->begin,
                    (size_t)(k->end - k->begin) * sizeof(float));
}

/* What leaves on the exchange queue is final, though nobody waits for the end of the step. */
static void test_buckets(void **state) {
    (void)state;
    struct rig r;
    rig_open(&r, "[{dense: {out: 700}}, relu, {dense: {out: 300}}, relu, {dense: {out: 10}}]",
             (struct shape){1, {300}}, LOSS_CROSS_ENTROPY, 4, 2, PRECISION_TF32);
    size_t bytes = (size_t)r.net.model->vector_count * sizeof(float);
    float *left = malloc(bytes), *want = malloc(bytes);
    for (int walk = 1; walk <= 4; walk *= 2) {
        struct engine *e = rig_engine(&r, 0, 4, walk);
        struct seen seen = {.engine = e, .copy = b->memory->alloc(gpu, bytes)};
        begin_step(&r, 1);
        run_step(&r, e, 0, &(struct engine_hook){on_bucket, &seen});
        assert_int_equal(seen.next, engine_bucket_count(e));
        assert_true(seen.next >= 2);
        b->order->mark(gpu, QUEUE_EXCHANGE, 0);
        while (!b->order->reached(gpu, 0)) { /* the compute queue goes no further than it must */
        }
        b->memory->download(gpu, left, seen.copy, bytes);
        gradient_of(&r, e, want);
        same(&r, "buckets", left, want);
        b->memory->release(gpu, seen.copy);
        engine_destroy(&e);
    }
    free(left);
    free(want);
    rig_close(&r);
}

/* ---- whole steps, done directly and recorded ---- */

struct training {
    struct engine *engine;
    struct update *update;
    struct table *table;
    struct slice owned[64];
    struct spec_optimizer optimizer;
};

/* The batch comes from a table of twice its rows; AdamW on all there is; one rank. */
static void training_open(struct rig *r, struct training *t) {
    struct err err = {0};
    struct net *net = &r->net;
    const struct model *m = net->model;
    int64_t samples = 2 * net->rows, width = volume(&m->in);
    float *x = malloc((size_t)(samples * width) * sizeof *x);
    int32_t *labels = malloc((size_t)samples * sizeof *labels);
    for (int64_t i = 0; i < samples * width; i++)
        x[i] = noise(21, i);
    for (int64_t i = 0; i < samples; i++)
        labels[i] = (int32_t)(i % volume(&m->out));
    struct table_spec table = {
        .samples = samples, .count = samples, .features = width, .x = x, .labels = labels};
    t->optimizer = (struct spec_optimizer){
        OPTIMIZER_ADAMW, 0.01, 0, false, {0.9, 0.999}, 1e-8, 0.1, 2, DECAY_WEIGHTS};
    t->engine = rig_engine(r, 0, net->spec.shard_count, 0);
    must(b->memory->table_new(gpu, &table, &t->table, &err), &err);
    int buckets = engine_bucket_count(t->engine);
    for (int i = 0; i < buckets; i++) {
        const struct bucket *k = &engine_buckets(t->engine)[i];
        t->owned[i] = (struct slice){k->begin, k->end - k->begin};
    }
    struct update_spec update = {.optimizer = &t->optimizer,
                                 .model = m,
                                 .weights = engine_weights(t->engine),
                                 .gradient = engine_gradient(t->engine),
                                 .owned = t->owned,
                                 .bucket_count = buckets,
                                 .blocks = (m->vector_count + NORM_BLOCK - 1) / NORM_BLOCK,
                                 .shards = net->spec.shard_count,
                                 .batch = net->rows};
    must(update_new(gpu, &update, &t->update, &err), &err);
    b->update->resume(gpu);
    free(x);
    free(labels);
}

static void training_step(struct rig *r, struct training *t) {
    struct batch to = {.x = r->x, .labels = r->labels};
    b->memory->gather_step(gpu, t->table, r->net.rows, r->precision, &to);
    run_step(r, t->engine, 0, NULL);
    update_apply(t->update, 0, engine_bucket_count(t->engine));
    b->update->outcome(gpu, engine_gradient(t->engine) + r->net.model->flat_count,
                       b->update->flags(gpu), 1, r->ring);
}

static void training_close(struct training *t) {
    update_destroy(&t->update);
    b->memory->table_release(gpu, t->table);
    engine_destroy(&t->engine);
}

/* Weights and losses of a few steps. */
static void train(struct rig *r, bool recorded, float *weights, float *losses, int steps) {
    struct training t = {0};
    struct err err = {0};
    void *recording = NULL;
    training_open(r, &t);
    memset(r->ring, 0, OUTCOME_SLOTS * sizeof *r->ring);
    for (int step = 1; step <= steps; step++) {
        begin_step(r, step);
        if (recorded && !recording) {
            must(b->order->record_begin(gpu, &err), &err);
            training_step(r, &t);
            must(b->order->record_end(gpu, &recording, &err), &err);
        }
        if (recorded)
            b->order->play(gpu, recording);
        else
            training_step(r, &t);
        b->order->mark(gpu, QUEUE_COMPUTE, step % MARKS);
    }
    while (!b->order->reached(gpu, steps % MARKS)) {
    }
    must(b->order->status(gpu, &err), &err);
    for (int step = 1; step <= steps; step++) {
        const struct step_outcome *o = &r->ring[step % OUTCOME_SLOTS];
        assert_int_equal(o->flags, 0);
        assert_true(o->scalars[SCALAR_ROWS] == (float)r->net.rows);
        losses[step - 1] = o->scalars[SCALAR_LOSS];
    }
    b->memory->download(gpu, weights, engine_weights(t.engine),
                        (size_t)r->net.model->vector_count * sizeof(float));
    b->order->record_release(gpu, recording);
    training_close(&t);
}

static void test_recorded_steps(void **state) {
    (void)state;
    enum { STEPS = 6 };
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++)
        for (int net = 0; net < 2; net++) {
            struct rig r;
            float one[STEPS], two[STEPS];
            rig_open(&r, net ? CNN : MLP, net ? image : flat, LOSS_CROSS_ENTROPY, 4, 4, p);
            size_t bytes = (size_t)r.net.model->vector_count * sizeof(float);
            float *direct = malloc(bytes), *played = malloc(bytes);
            train(&r, false, direct, one, STEPS);
            train(&r, true, played, two, STEPS);
            assert_memory_equal(one, two, sizeof one);
            assert_true(one[0] != one[1]);
            same(&r, "recorded", played, direct);
            assert_memory_not_equal(direct, r.net.weights, bytes);
            free(direct);
            free(played);
            rig_close(&r);
        }
}

/* A step that is not finite changes nothing, and neither do those after it, until resume. */
static void halt(const char *net, struct shape in, enum precision precision, const char *blamed) {
    struct rig r;
    struct training t = {0};
    char text[128];
    rig_open(&r, net, in, LOSS_CROSS_ENTROPY, 4, 4, precision);
    size_t bytes = (size_t)r.net.model->vector_count * sizeof(float);
    float *before = malloc(bytes), *after = malloc(bytes), nan = NAN;
    training_open(&r, &t);
    float *bad = engine_weights(t.engine) + r.net.model->params[0].offset;
    b->memory->upload(gpu, bad, &nan, sizeof nan);
    b->memory->download(gpu, before, engine_weights(t.engine), bytes);
    for (int step = 1; step <= 2; step++) {
        begin_step(&r, step);
        training_step(&r, &t);
        if (step == 1) /* cured, but too late */
            b->memory->upload(gpu, bad, r.net.weights + r.net.model->params[0].offset, sizeof nan);
    }
    b->memory->upload(gpu, bad, &nan, sizeof nan);
    b->memory->download(gpu, after, engine_weights(t.engine), bytes);
    assert_memory_equal(before, after, (size_t)r.net.model->flat_count * sizeof(float));
    for (int step = 1; step <= 2; step++)
        assert_true((r.ring[step].flags & OUTCOME_NONFINITE) != 0);
    begin_step(&r, 2); /* copies of the weights are made in a step */
    training_step(&r, &t);
    engine_blame(t.engine, text, sizeof text);
    assert_string_equal(text, blamed);
    b->update->resume(gpu);
    b->memory->upload(gpu, bad, r.net.weights + r.net.model->params[0].offset, sizeof nan);
    begin_step(&r, 3);
    training_step(&r, &t);
    b->order->sync(gpu);
    assert_int_equal(r.ring[3].flags, 0);
    free(before);
    free(after);
    training_close(&t);
    rig_close(&r);
}

#define JOINED "[{conv2d: {out: 8, padding: same}}, relu, flatten, {dense: {out: 5}}]"
#define PLACES "[{conv2d: {out: 7, padding: same}}, relu, flatten, {dense: {out: 5}}]"

static void halt_all(void) {
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        halt(MLP, flat, p, "model[0] dense: output is not finite");
        halt(JOINED, image, p, "model[0] conv2d: output is not finite");
    }
}

static void test_halt(void **state) {
    (void)state;
    halt_all();
}

/* A few steps' weights, from the heap. */
static float *trained(const char *net, struct shape in, enum precision p, size_t *bytes) {
    struct rig r;
    float losses[3];
    rig_open(&r, net, in, LOSS_CROSS_ENTROPY, 4, 4, p);
    *bytes = (size_t)r.net.model->vector_count * sizeof(float);
    float *weights = malloc(*bytes);
    assert_non_null(weights);
    train(&r, false, weights, losses, 3);
    rig_close(&r);
    return weights;
}

/* What a device of its own makes of the nets while its libraries behave as `asked`. */
static void behave(const char *asked) {
    struct err err = {0};
    setenv("TRIREME_STANDIN_BLAS", asked, 1);
    setenv("TRIREME_STANDIN_DNN", asked, 1);
    must(device_open("cuda", 0, &gpu, &err), &err);
}

static void behave_again(struct device *whole) {
    device_close(&gpu);
    gpu = whole;
    unsetenv("TRIREME_STANDIN_BLAS");
    unsetenv("TRIREME_STANDIN_DNN");
}

/* Where a library's relu makes 0 of NaN, ours takes its place; the bits of numbers are the same. */
static void test_halt_without_nan(void **state) {
    (void)state;
    static const char *const nets[] = {MLP, JOINED, PLACES};
    struct device *whole = gpu;
    if (!standin_begin)
        skip();
    behave("fmax");
    halt_all();
    behave_again(whole);
    for (int net = 0; net < 3; net++)
        for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
            size_t bytes;
            float *want = trained(nets[net], net ? image : flat, p, &bytes);
            behave("fmax");
            float *got = trained(nets[net], net ? image : flat, p, &bytes);
            behave_again(whole);
            assert_memory_equal(got, want, bytes);
            free(want);
            free(got);
        }
}

#define ODD "[{dense: {out: 7}}, relu, {dense: {out: 5}}]"

/* A library that has nothing for rows of odd length: our own product, the same for any number of
 * ranks. Where rows are whole, that it has nothing is an error that says for what. */
static void test_odd_products(void **state) {
    (void)state;
    struct device *whole = gpu;
    struct engine *e = NULL;
    struct err err = {0};
    struct rig r;
    if (!standin_begin)
        skip();
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        size_t bytes;
        float *want = trained(ODD, flat, p, &bytes);
        behave("sixteen");
        float *got = trained(ODD, flat, p, &bytes);
        same_bits(ODD, flat, LOSS_CROSS_ENTROPY, 3);
        behave_again(whole);
        for (size_t i = 0; i < bytes / sizeof *got; i++)
            assert_true(fabsf(got[i] - want[i]) <= 0.03f); /* three steps of 0.01 at most */
        assert_true(p != PRECISION_FP32 || fabsf(got[5] - want[5]) < 1e-5f);
        free(want);
        free(got);
    }
    behave("none");
    rig_open(&r, "[{dense: {out: 32}}, relu, {dense: {out: 16}}]", (struct shape){1, {64}},
             LOSS_CROSS_ENTROPY, 4, 4, PRECISION_FP32);
    assert_int_equal(engine_new(gpu, &r.net.spec, NULL, &e, &err), STATUS_UNAVAILABLE);
    assert_non_null(strstr(err.text, "a product of m=4 n=32 k=64 in fp32, bias, relu"));
    rig_close(&r);
    behave_again(whole);
}

/* ---- errors ---- */

static enum status open_with(const char *name, const char *value, struct err *err) {
    struct device *d = NULL;
    setenv(name, value, 1);
    standin_begin();
    enum status st = device_open("cuda", 0, &d, err);
    device_close(&d);
    unsetenv(name);
    standin_begin();
    return st;
}

static void test_no_device(void **state) {
    (void)state;
    struct err err = {0};
    if (!standin_begin)
        skip();
    assert_int_equal(open_with("TRIREME_STANDIN_GPUS", "0", &err), STATUS_UNAVAILABLE);
    assert_true(strlen(err.text) > 20);
    assert_int_equal(open_with("TRIREME_STANDIN_DRIVER", "35", &err), STATUS_UNAVAILABLE);
    assert_non_null(strstr(err.text, "driver"));
}

/* The n-th launch of a step is the last thing a device does: told once, no crash, for any n. */
static void test_lost_device(void **state) {
    (void)state;
    if (!standin_begin)
        skip();
    for (int nth = 1; nth <= 12; nth++) {
        char fail[64];
        struct err err = {0};
        struct rig r;
        struct device *lost = NULL, *whole = gpu;
        must(device_open("cuda", 0, &lost, &err), &err);
        gpu = lost;
        rig_open(&r, MLP, flat, LOSS_CROSS_ENTROPY, 4, 4, PRECISION_BF16);
        struct engine *e = rig_engine(&r, 0, 4, 0);
        snprintf(fail, sizeof fail, "cudaLaunchKernel:%d:214", nth);
        setenv("TRIREME_STANDIN_FAIL", fail, 1);
        standin_begin();
        begin_step(&r, 1);
        enum status st = engine_step(
            e, &(struct engine_batch){.x = r.x, .labels = r.labels, .rows_global = r.rows_global},
            1, NULL, &err);
        assert_int_not_equal(st, STATUS_OK);
        assert_non_null(strstr(err.text, "ECC"));
        b->order->sync(gpu);
        assert_int_not_equal(b->order->status(gpu, &err), STATUS_OK);
        unsetenv("TRIREME_STANDIN_FAIL");
        engine_destroy(&e);
        b->memory->host_release(gpu, r.ring);
        net_close(&r.net);
        device_close(&lost);
        gpu = whole;
        standin_begin();
    }
}

static void test_no_memory(void **state) {
    (void)state;
    struct err err = {0};
    struct engine *e = NULL;
    struct rig r;
    if (!standin_begin)
        skip();
    rig_open(&r, "[{dense: {out: 9000}}, {dense: {out: 9000}}, {dense: {out: 2}}]", flat,
             LOSS_CROSS_ENTROPY, 1, 1, PRECISION_FP32);
    setenv("TRIREME_STANDIN_MEMORY", "200000000", 1);
    standin_begin();
    assert_int_equal(engine_new(gpu, &r.net.spec, NULL, &e, &err), STATUS_NOMEM);
    assert_null(e);
    must(b->order->status(gpu, &err), &err); /* the device is as good as before */
    unsetenv("TRIREME_STANDIN_MEMORY");
    standin_begin();
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp_bits),
        cmocka_unit_test(test_cnn_bits),
        cmocka_unit_test(test_order_of_threads),
        cmocka_unit_test(test_eval_chunks),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_recorded_steps),
        cmocka_unit_test(test_halt),
        cmocka_unit_test(test_halt_without_nan),
        cmocka_unit_test(test_odd_products),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_lost_device),
        cmocka_unit_test(test_no_memory),
    };
    return run_on_gpu(tests, sizeof tests / sizeof *tests);
}
