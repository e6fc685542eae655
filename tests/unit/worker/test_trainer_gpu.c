/* The trainer on a GPU, in one process that stays warm: a trial has the bits of a fresh process
 * whatever came before it, nothing of it stays behind, and a step that is not finite is told as the
 * CPU tells it. (Several ranks: tests/e2e/test_gpu_training.py.) */
#include <math.h>
#include <sys/wait.h>

#include "core/philox.h"
#include "kernels/run/device.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/worker/data_files.h"
#include "tests/unit/worker/gpu.h"
#include "worker/group/trial.h"
#include "worker/group/warm.h"

#define SAMPLES     160
#define SIDE        10
#define CLASSES     4
#define CACHE_BYTES ((size_t)64 << 20)

#define DEEP "{'dense':{'out':12}},'gelu',{'dropout':0.2},{'dense':{'out':4}}"
#define WIDE "{'dense':{'out':70}},'batch_norm','relu',{'dense':{'out':4}}"
#define CONV                                                                                       \
    "{'conv2d':{'out':4,'kernel':3,'padding':'same'}},'batch_norm','relu',{'max_pool':2},"         \
    "{'conv2d':{'out':6,'kernel':3,'stride':2,'padding':1}},'tanh',"                               \
    "{'avg_pool':{'kernel':2,'stride':1}},{'dropout':0.2},'flatten',{'dense':{'out':4}}"
#define ADAMW    "'optimizer':{'name':'adamw','lr':0.01}"
#define MOMENTUM "'optimizer':{'name':'sgd','lr':0.05,'momentum':0.9,'nesterov':true}"

struct a_trial {
    const char *model, *training;
    int batch, steps;
};

/* Neighbours differ in all that a trial could leave behind. */
static const struct a_trial trials[] = {
    {DEEP, "'precision':'fp32'," ADAMW, 16, 12},
    {CONV, "'precision':'bf16','clip_norm':0.5," ADAMW, 32, 6},
    {WIDE, "'precision':'tf32'," MOMENTUM, 64, 5},
    {CONV, "'precision':'fp32'," MOMENTUM, 8, 21},
    {DEEP, "'precision':'bf16','clip_norm':0.1,'optimizer':{'name':'sgd','lr':0.1}", 48, 10},
    {CONV, "'precision':'tf32','clip_norm':0.5," ADAMW, 32, 6},
};
#define TRIALS (sizeof trials / sizeof trials[0])

/* A net without a bound whose weights leave the range of floats in a few steps. */
static const struct a_trial runaway = {
    "{'dense':{'out':8}},{'dense':{'out':8}},{'dense':{'out':4}}",
    "'optimizer':{'name':'sgd','lr':40.0}", 32, 60};
static const struct a_trial runaway_conv = {"{'conv2d':{'out':4,'kernel':3}},'batch_norm','flatten'"
                                            ",{'dense':{'out':8}},{'dense':{'out':4}}",
                                            "'optimizer':{'name':'sgd','lr':10.0}", 32, 60};

struct bits {
    struct digest weights, state, chain;
};

static struct worker warm;
static void (*standin_begin)(void); /* NULL: a real GPU */

static void write_images(void) {
    static uint8_t pixels[SAMPLES * SIDE * SIDE], labels[SAMPLES], file[sizeof pixels + 16];
    const uint32_t shape[] = {SAMPLES, SIDE, SIDE};
    for (uint64_t i = 0; i < SAMPLES; i++) {
        labels[i] = (uint8_t)(philox(3, 0, i).v[0] % CLASSES);
        for (uint64_t k = 0; k < SIDE * SIDE; k++) {
            bool lit = k % SIDE / 5 + 2 * (k / SIDE / 5) == labels[i];
            pixels[i * SIDE * SIDE + k] =
                (uint8_t)(philox(3, 1 + i, k).v[0] % 160 + (lit ? 90 : 0));
        }
    }
    write_file("images.idx", file, make_idx(file, 3, shape, pixels, sizeof pixels));
    write_file("labels.idx", file, make_idx(file, 1, shape, labels, sizeof labels));
}

static void open_worker(struct worker *w, const char *device) {
    static volatile sig_atomic_t never;
    struct err err = {0};
    *w = (struct worker){.terminate = &never, .device_name = device, .cache_bytes = CACHE_BYTES};
    must(world_open(&w->world, &err), &err);
}

static void close_worker(struct worker *w) {
    worker_close_device(w);
    world_close(&w->world);
}

static enum status make(struct worker *w, const struct a_trial *a, struct trainer **out,
                        struct err *err) {
    char *text =
        arena_printf(&files_arena,
                     "{'seed':7,'virtual_shards':4,'time_metric':'steps','max_time':%d,'digest_"
                     "every':5,'checkpoint':{'every':2},'data':{"
                     "'train':{'format':'idx','images':'@images.idx','labels':'@labels.idx'},"
                     "'validation_split':0.2,'transforms':[{'scale':0.0039},{'normalize':'fit'}]},"
                     "'model':[%s],'training':{'loss':'cross_entropy','global_batch_size':%d,%s}}",
                     a->steps, a->model, a->batch, a->training);
    return worker_trainer(w, &(struct worker_trial){.config = data_map(text)}, out, err);
}

/* The whole trial; its bits where it comes to an end. */
static enum status run(struct worker *w, const struct a_trial *a, struct bits *out,
                       struct err *err) {
    struct trainer *t = NULL;
    struct trace trace;
    enum status st = make(w, a, &t, err);
    if (st != STATUS_OK)
        return st;
    struct progress progress = {.trace = &trace};
    struct trial trial = {.trainer = t, .world = w->world, .progress = &progress, .evaluate = true};
    assert_int_equal(trace_init(&trace, 0, 0, NULL), STATUS_OK);
    st = trial_run(&trial, err);
    *out = (struct bits){trial.weights, trial.state, trace.chain};
    trace_release(&trace);
    trainer_destroy(&t);
    return st;
}

/* The bits of a process of its own: made before this one has touched a GPU. */
static struct bits fresh[TRIALS];

static void run_fresh(size_t i) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct worker w;
        struct bits bits;
        struct err err = {0};
        open_worker(&w, "cuda");
        if (run(&w, &trials[i], &bits, &err) != STATUS_OK)
            (void)fprintf(stderr, "%s\n", err.text);
        else if (write(ends[1], &bits, sizeof bits) == sizeof bits)
            _exit(0);
        _exit(1);
    }
    int code = 0;
    close(ends[1]);
    assert_int_equal(read(ends[0], &fresh[i], sizeof fresh[i]), sizeof fresh[i]);
    close(ends[0]);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
}

static int setup(void **state) {
    struct err err = {0};
    if (files_setup(state) != 0)
        return -1;
    write_images();
    for (size_t i = 0; i < TRIALS; i++)
        run_fresh(i);
    open_worker(&warm, "cuda");
    must(worker_device(&warm, "cuda", &err), &err);
    standin_begin = find_standin();
    return 0;
}

static int teardown(void **state) {
    close_worker(&warm);
    return files_teardown(state);
}

static void check(size_t i, const char *after) {
    struct bits bits;
    struct err err = {0};
    if (run(&warm, &trials[i], &bits, &err) != STATUS_OK)
        fail_msg("trial %zu after %s: %s", i, after, err.text);
    if (memcmp(&bits, &fresh[i], sizeof bits) != 0)
        fail_msg("trial %zu after %s: %s differ from a fresh process's", i, after,
                 memcmp(&bits.weights, &fresh[i].weights, sizeof bits.weights) != 0 ? "weights"
                                                                                    : "digests");
}

static int64_t free_bytes(void) {
    int64_t available = 0, total = 0;
    warm.device->backend->memory->room(warm.device, &available, &total);
    return available;
}

/* ---- after any other trial ---- */

static void test_after_each_other(void **state) {
    (void)state;
    for (size_t i = 0; i < TRIALS; i++)
        check(i, "its predecessor");
    for (size_t i = TRIALS; i-- > 0;)
        check(i, "its successor");
}

static void test_after_a_failed_trial(void **state) {
    (void)state;
    for (size_t i = 0; i < TRIALS; i++) {
        struct err err = {0};
        struct bits bits;
        const struct a_trial *bad = i % 2 == 0 ? &runaway : &runaway_conv;
        assert_int_equal(run(&warm, bad, &bits, &err), STATUS_NONFINITE);
        check(i, "one that was not finite");
    }
}

static void test_after_a_refusal(void **state) {
    (void)state;
    static const struct a_trial huge = {
        "{'dense':{'out':600000}},{'dense':{'out':4000}},{'dense':{'out':4}}", ADAMW, 32, 5};
    for (size_t i = 0; i < 2; i++) {
        struct trainer *t = NULL;
        struct err err = {0};
        int64_t before = free_bytes();
        if (make(&warm, &huge, &t, &err) != STATUS_TOO_LARGE)
            fail_msg("%s", err.text);
        assert_null(t);
        assert_non_null(strstr(err.text, "GiB are free"));
        assert_int_equal(free_bytes(), before);
        check(i, "a refusal");
    }
}

/* On a device that has nothing in store yet, the n-th allocation fails; then a trial like any
 * other.
 */
static bool short_of_memory(const char *function, int n, int64_t *left) {
    struct worker cold;
    struct bits bits;
    struct err err = {0};
    int64_t total = 0;
    open_worker(&cold, "cuda");
    setenv("TRIREME_STANDIN_FAIL", arena_printf(&files_arena, "%s:%d:2", function, n), 1);
    standin_begin();
    enum status st = run(&cold, &trials[1], &bits, &err);
    unsetenv("TRIREME_STANDIN_FAIL");
    standin_begin();
    if (st != STATUS_OK && (st != STATUS_NOMEM || strstr(err.text, "memory") == NULL))
        fail_msg("%s %d: %s: %s", function, n, status_name(st), err.text);
    struct err none = {0};
    must(run(&cold, &trials[1], &bits, &none), &none);
    assert_memory_equal(&bits, &fresh[1], sizeof bits);
    cold.device->backend->memory->room(cold.device, left, &total);
    close_worker(&cold);
    return st != STATUS_OK;
}

static void test_after_running_out_of_memory(void **state) {
    (void)state;
    static const char *const functions[] = {"cudaMalloc", "cudaHostAlloc"};
    if (standin_begin == NULL)
        skip();
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
        int64_t whole, left;
        int n = 1;
        assert_false(short_of_memory(functions[f], 100000, &whole));
        for (; short_of_memory(functions[f], n, &left); n++)
            if (left != whole)
                fail_msg("%s %d: %lld bytes stay behind", functions[f], n,
                         (long long)(whole - left));
        if (n < 2)
            fail_msg("%s %d did not fail", functions[f], n);
    }
}

/* ---- a device that is lost ---- */

static void keep(void *arg, const struct buf *bytes, int64_t step) {
    struct buf *last = arg;
    (void)step;
    last->len = 0;
    buf_add(last, bytes->data, bytes->len);
}

/* A trial with checkpoints, from the last one where there is one. */
static enum status go_on(struct a_trial a, struct buf *last, struct bits *out, struct err *err) {
    struct worker cold;
    struct trainer *t = NULL;
    struct trace trace;
    struct progress progress = {.trace = &trace};
    open_worker(&cold, "cuda");
    assert_int_equal(trace_init(&trace, 0, 0, NULL), STATUS_OK);
    enum status st = make(&cold, &a, &t, err);
    if (st == STATUS_OK && last->len > 0)
        st = checkpoint_read(t, last->data, last->len, &progress, err);
    struct trial trial = {.trainer = t,
                          .world = cold.world,
                          .progress = &progress,
                          .checkpoints = true,
                          .hooks = {.arg = last, .checkpoint = keep}};
    if (st == STATUS_OK)
        st = trial_run(&trial, err);
    *out = (struct bits){trial.weights, trial.state, trace.chain};
    trace_release(&trace);
    trainer_destroy(&t);
    close_worker(&cold);
    return st;
}

/* Whichever copy it is lost in: what was kept before is whole, and nothing is kept after. */
static void test_checkpoints_of_a_lost_device(void **state) {
    (void)state;
    if (standin_begin == NULL)
        skip();
    for (size_t i = 0; i < 2; i++) {
        enum status st = STATUS_UNAVAILABLE;
        int resumed = 0;
        for (int n = 1; st != STATUS_OK; n += 2) {
            struct buf last = BUF_INIT(CHECKPOINT_BYTES_MAX);
            struct bits bits;
            struct err err = {0};
            setenv("TRIREME_STANDIN_FAIL", arena_printf(&files_arena, "cudaMemcpyAsync:%d:214", n),
                   1);
            standin_begin();
            st = go_on(trials[i], &last, &bits, &err);
            unsetenv("TRIREME_STANDIN_FAIL");
            standin_begin();
            if (st != STATUS_OK && (st != STATUS_UNAVAILABLE || strstr(err.text, "ECC") == NULL))
                fail_msg("copy %d: %s: %s", n, status_name(st), err.text);
            resumed += st != STATUS_OK && last.len > 0;
            if (go_on(trials[i], &last, &bits, &err) != STATUS_OK)
                fail_msg("after copy %d: %s", n, err.text);
            if (memcmp(&bits, &fresh[i], sizeof bits) != 0)
                fail_msg("after copy %d: the checkpoint was not whole", n);
            buf_release(&last);
        }
        assert_true(resumed > 0);
    }
}

/* ---- what stays behind ---- */

static void test_a_hundred_trials(void **state) {
    (void)state;
    static const struct a_trial brief[] = {
        {DEEP, "'precision':'fp32'," ADAMW, 16, 2},
        {CONV, "'precision':'bf16','clip_norm':0.5," ADAMW, 8, 1},
        {DEEP, "'precision':'bf16'," MOMENTUM, 32, 2},
    };
    int64_t after_three = 0;
    for (int i = 0; i < 100; i++) {
        struct bits bits;
        struct err err = {0};
        must(run(&warm, &brief[i % 3], &bits, &err), &err);
        if (i == 2)
            after_three = free_bytes();
    }
    assert_int_equal(free_bytes(), after_three);
}

/* ---- not finite ---- */

/* Steps until one fails; *before: weights behind the step before it, *after: as they are left.
 * Free both. */
static int64_t fails_at(struct worker *w, const struct a_trial *a, float **before, float **after,
                        struct err *err) {
    struct trainer *t = NULL;
    struct step_result r;
    must(make(w, a, &t, err), err);
    size_t bytes = (size_t)trainer_model(t)->flat_count * sizeof(float);
    enum status st = STATUS_OK;
    while (st == STATUS_OK && trainer_steps(t) < a->steps)
        st = trainer_step(t, false, &r, err);
    if (st == STATUS_OK)
        do
            st = trainer_drain(t, &r, err);
        while (st == STATUS_OK && r.step > 0);
    assert_int_equal(st, STATUS_NONFINITE);
    int64_t done = trainer_steps(t);
    *after = malloc(bytes);
    memcpy(*after, trainer_weights(t), bytes);
    trainer_destroy(&t);
    struct err none = {0};
    must(make(w, a, &t, &none), &none);
    for (int64_t i = 0; i < done; i++)
        must(trainer_step(t, false, &r, &none), &none);
    do
        must(trainer_drain(t, &r, &none), &none);
    while (r.step > 0);
    *before = malloc(bytes);
    memcpy(*before, trainer_weights(t), bytes);
    for (size_t i = 0; i < bytes / sizeof(float); i++)
        if (memcmp(*before + i, *after + i, sizeof(float)) != 0)
            fail_msg("weight %zu changed in a step that failed: %a, then %a", i,
                     (double)(*before)[i], (double)(*after)[i]);
    trainer_destroy(&t);
    return done + 1;
}

static void test_not_finite_as_on_the_cpu(void **state) {
    (void)state;
    static const struct a_trial *const all[] = {&runaway, &runaway_conv};
    struct worker host;
    open_worker(&host, "cpu");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        float *before, *after;
        struct err cpu = {0}, here = {0};
        int64_t step = fails_at(&host, all[i], &before, &after, &cpu);
        free(before);
        free(after);
        assert_int_equal(fails_at(&warm, all[i], &before, &after, &here), step);
        assert_string_equal(here.text, cpu.text);
        free(before);
        free(after);
    }
    close_worker(&host);
}

/* The data that a first step fails on: nothing was trained yet. */
static void test_not_finite_in_the_first_step(void **state) {
    (void)state;
    struct a_trial a = runaway;
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        float *before, *after;
        struct err err = {0};
        a.training =
            arena_printf(&files_arena, "'precision':'%s','optimizer':{'name':'sgd','lr':1000000}",
                         precision_name(p));
        int64_t step = fails_at(&warm, &a, &before, &after, &err);
        assert_true(step <= 3);
        assert_non_null(strstr(err.text, arena_printf(&files_arena, "step %d: ", (int)step)));
        free(before);
        free(after);
    }
}

/* ---- recording ---- */

static const struct device_order *own_order;
static int refusals; /* left */

static enum status refuse_record(struct device *d, struct err *err) {
    return refusals-- > 0 ? err_set(err, STATUS_UNAVAILABLE, "no recording today")
                          : own_order->record_begin(d, err);
}

/* Said, and no step is done: not recorded, and not without a recording either. The next try is like any first one. */
static void test_a_refused_recording(void **state) {
    (void)state;
    struct backend backend = *warm.device->backend;
    struct device_order order = *backend.order;
    const struct backend *own = warm.device->backend;
    struct trainer *t = NULL;
    struct step_result r;
    struct err err = {0};
    own_order = own->order;
    order.record_begin = refuse_record;
    backend.order = &order;
    warm.device->backend = &backend;
    refusals = 2;
    must(make(&warm, &trials[0], &t, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trainer_step(t, false, &r, &err), STATUS_UNAVAILABLE);
        assert_string_equal(err.text, "no recording today");
        assert_int_equal(trainer_steps(t), 0);
    }
    must(trainer_step(t, false, &r, &err), &err);
    assert_int_equal(trainer_steps(t), 1);
    trainer_destroy(&t);
    check(0, "a refused recording");
    warm.device->backend = own;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_each_other),
        cmocka_unit_test(test_after_a_failed_trial),
        cmocka_unit_test(test_after_a_refusal),
        cmocka_unit_test(test_after_running_out_of_memory),
        cmocka_unit_test(test_checkpoints_of_a_lost_device),
        cmocka_unit_test(test_a_hundred_trials),
        cmocka_unit_test(test_not_finite_as_on_the_cpu),
        cmocka_unit_test(test_not_finite_in_the_first_step),
        cmocka_unit_test(test_a_refused_recording),
    };
    if (!find_gpu()) {
        puts("skipped: `make standin` has built no GPU backend here");
        return 0;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
