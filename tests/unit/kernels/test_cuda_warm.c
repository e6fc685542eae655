/* A device between trials: what its libraries chose is kept, nothing else of a trial is left. An
 * engine of shapes that were seen before asks nothing and waits for nothing; a trial has the bits
 * that it has in a process of its own. */
#include "core/buf.h"
#include "core/hash.h"
#include "core/json.h"
#include "kernels/devices.h"
#include "kernels/run/update.h"
#include "tests/unit/kernels/gpu.h"

/* The cache alone: it needs no device. */
#include "kernels/cuda/cache.c"

static const struct shape flat = {1, {53}};
static const struct shape wide = {1, {64}};
static const struct shape image = {3, {3, 12, 12}};

enum { V = 4, SHARD_ROWS = 4, STEPS = 3 };

/* ---- the cache ---- */

static int destroyed;

static void count_destroyed(void *value) {
    destroyed++;
    free(value);
}

static int *put(struct cuda_cache *cache, int64_t number) {
    const int64_t key[2] = {7, number};
    struct err err = {0};
    int *value = malloc(sizeof *value);
    assert_non_null(value);
    *value = (int)number;
    must(cuda_cache_put(cache, key, 2, value, count_destroyed, &err), &err);
    return value;
}

static bool there(struct cuda_cache *cache, int64_t number) {
    const int64_t key[2] = {7, number};
    int *value = cuda_cache_take(cache, key, 2);
    if (value)
        cuda_cache_give(cache, value);
    return value && *value == (int)number;
}

static void test_cache(void **state) {
    (void)state;
    enum { OLD = CUDA_CACHE_MAX - 12, LAST = 2 * CUDA_CACHE_MAX - 1 };
    struct cuda_cache cache = {0};
    destroyed = 0;
    assert_false(there(&cache, 0));
    int *held = put(&cache, 0);
    assert_true(there(&cache, 0));
    for (int i = 1; i <= LAST; i++) {
        cuda_cache_give(&cache, put(&cache, i));
        assert_true(cache.count <= CUDA_CACHE_MAX);
        if (i == LAST - 20) /* used again: younger now than those after it */
            assert_true(there(&cache, OLD));
    }
    assert_int_equal(destroyed, CUDA_CACHE_MAX);
    assert_true(there(&cache, 0));
    assert_true(there(&cache, OLD));
    assert_true(there(&cache, LAST));
    assert_false(there(&cache, 1));
    assert_false(there(&cache, OLD + 1));
    assert_null(cuda_cache_take(&cache, (const int64_t[]){7}, 1));
    cuda_cache_give(&cache, held);
    cuda_cache_clear(&cache);
    assert_int_equal(destroyed, 2 * CUDA_CACHE_MAX);
}

/* More than the bound in use: none is lost, and the surplus leaves when it is given back. */
static void test_cache_held(void **state) {
    (void)state;
    enum { MANY = CUDA_CACHE_MAX + 100 };
    struct cuda_cache cache = {0};
    int *values[MANY];
    destroyed = 0;
    for (int i = 0; i < MANY; i++)
        values[i] = put(&cache, i);
    assert_int_equal(cache.count, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(*values[i], i);
        cuda_cache_give(&cache, values[i]);
    }
    assert_int_equal(cache.count, CUDA_CACHE_MAX);
    cuda_cache_clear(&cache);
    assert_int_equal(destroyed, MANY);
}

/* ---- trials ---- */

#define ALIGNED "[{dense: {out: 32}}, relu, {dense: {out: 16}}]" /* to 16 bytes everywhere */

/* Fused, unfused, and one whose rows depend on their place: see tests/standin/cudnn_engines.h. */
static const struct {
    const char *text;
    const struct shape *in;
    int walk;
} nets[] = {
    {MLP, &flat, 0},
    {CNN, &image, 0},
    {"[{conv2d: {out: 7, padding: same}}, relu, {conv2d: {out: 3}}, flatten, {dense: {out: 5}}]",
     &image, 0},
    {ALIGNED, &wide, 0},
    {ALIGNED, &wide, 1},
    {CNN, &image, 2},
};
enum { NETS = sizeof nets / sizeof *nets, CASES = 3 * NETS };

static void case_open(struct rig *r, int which) {
    rig_open(r, nets[which / 3].text, *nets[which / 3].in, LOSS_CROSS_ENTROPY, V, SHARD_ROWS,
             (enum precision)(which % 3));
}

static struct engine *case_engine(struct rig *r, int which) {
    struct err err = {0};
    struct engine *e = NULL;
    struct plan_spec spec = r->net.spec;
    spec.walk = nets[which / 3].walk;
    spec.precision = r->precision;
    must(engine_new(gpu, &spec, NULL, &e, &err), &err);
    return e;
}

static char *description(struct engine *e) {
    struct arena arena;
    struct buf text = BUF_INIT((size_t)1 << 20);
    struct err err = {0};
    arena_init(&arena, (size_t)4 << 20);
    must(json_dump(engine_describe(&arena, e), JSON_COMPACT, &text, &err), &err);
    char *copy = strndup(text.data, text.len);
    buf_release(&text);
    arena_release(&arena);
    return copy;
}

static void add(struct hash *hash, const void *device_memory, size_t bytes) {
    void *copy = malloc(bytes);
    assert_non_null(copy);
    b->memory->download(gpu, copy, device_memory, bytes);
    hash_add(hash, copy, bytes);
    free(copy);
}

/* A few steps and an evaluation; weights, gradient, losses, outputs and what the manifest says as
 * one digest. With `poison` the last step's batch is not finite, and halts the device. */
static struct digest trial(int which, bool poison) {
    struct rig r;
    struct err err = {0};
    struct update *u = NULL;
    struct slice owned[64];
    struct spec_optimizer adam = {OPTIMIZER_ADAMW, 0.01, 0, false, {0.9, 0.999}, 1e-8, 0.1, 2,
                                  DECAY_WEIGHTS};
    case_open(&r, which);
    const struct model *m = r.net.model;
    size_t bytes = (size_t)m->vector_count * sizeof(float);
    struct engine *e = case_engine(&r, which);
    b->memory->upload(gpu, engine_weights(e), r.net.weights, bytes);
    int buckets = engine_bucket_count(e);
    for (int i = 0; i < buckets; i++) {
        const struct bucket *k = &engine_buckets(e)[i];
        owned[i] = (struct slice){k->begin, k->end - k->begin};
    }
    struct update_spec spec = {.optimizer = &adam,
                               .model = m,
                               .weights = engine_weights(e),
                               .gradient = engine_gradient(e),
                               .owned = owned,
                               .bucket_count = buckets,
                               .blocks = (m->vector_count + NORM_BLOCK - 1) / NORM_BLOCK,
                               .shards = V,
                               .batch = r.net.rows};
    must(update_new(gpu, &spec, &u, &err), &err);
    b->update->resume(gpu);
    for (int step = 1; step <= STEPS; step++) {
        const float nan = NAN;
        if (poison && step == STEPS)
            b->memory->upload(gpu, r.x, &nan, sizeof nan);
        rig_step(&r, e, 0, step);
        update_apply(u, 0, buckets);
        b->update->outcome(gpu, engine_gradient(e) + m->flat_count, b->update->flags(gpu), 1,
                           r.ring);
    }
    b->order->sync(gpu);
    assert_int_equal(r.ring[STEPS].flags != 0, poison);
    struct digest digest = {{0}};
    struct hash *hash = hash_new();
    struct eval_result result = {0};
    size_t output = (size_t)(r.net.rows * volume(&m->out)) * precision_bytes(r.precision);
    void *y = calloc(1, output);
    char *said = description(e);
    hash_add(hash, said, strlen(said));
    free(said);
    must(engine_eval(e, &(struct engine_batch){.rows = r.net.rows, .x = r.x, .labels = r.labels}, y,
                     &result, &err),
         &err);
    add(hash, engine_weights(e), bytes);
    add(hash, engine_gradient(e), bytes);
    hash_add(hash, y, output);
    hash_add(hash, &result.loss_sum, sizeof result.loss_sum);
    for (int step = 1; step <= STEPS; step++)
        hash_add(hash, r.ring[step].scalars, sizeof r.ring[step].scalars);
    hash_end(hash, &digest);
    hash_destroy(&hash);
    free(y);
    update_destroy(&u);
    engine_destroy(&e);
    rig_close(&r);
    return digest;
}

/* The same in a process that does nothing else: see main. */
static void fresh_digest(int which, char hex[DIGEST_HEX]) {
    char exe[PATH_MAX], line[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(n > 0);
    exe[n] = '\0';
    snprintf(line, sizeof line, "WARM_CASE=%d '%s'", which, exe);
    FILE *child = popen(line, "r");
    assert_non_null(child);
    assert_non_null(fgets(hex, DIGEST_HEX, child));
    assert_int_equal(pclose(child), 0);
}

static void test_bits_of_a_fresh_process(void **state) {
    (void)state;
    static const int apart[] = {1, 5, 7}; /* orders of the cases: prime to CASES */
    char fresh[CASES][DIGEST_HEX], hex[DIGEST_HEX];
    for (int i = 0; i < CASES; i++)
        fresh_digest(i, fresh[i]);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < CASES; i++) {
            int which = (i * apart[round] + round) % CASES;
            if (i % 4 == 3)
                (void)trial((which + 1) % CASES, true); /* leaves NaN in memory, flag and halt */
            struct digest got = trial(which, false);
            hash_hex(&got, hex);
            if (strcmp(hex, fresh[which]) != 0)
                fail_msg("round %d: case %d has other bits, or says other things, than in a fresh "
                         "process",
                         round, which);
        }
}

/* ---- what an engine asks ---- */

static long long (*standin_calls)(const char *function); /* NULL: a real GPU */

static const char *const questions[] = {"cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmulAlgoCheck",
                                        "cudnnBackendCreateDescriptor"};
static const char *const waits[] = {"cudaStreamSynchronize",
                                    "cudaEventSynchronize",
                                    "cudaDeviceSynchronize",
                                    "cudaMalloc",
                                    "cudaFree",
                                    "cudaHostAlloc",
                                    "cudaFreeHost"};
static const char *const rest[] = {"cudaMemsetAsync", "cudaMemcpyAsync",     "cudaLaunchKernel",
                                   "cudaEventRecord", "cudaStreamWaitEvent", "cudaSetDevice",
                                   "cudaMemGetInfo"};

static long long calls_of(const char *const *names, size_t count) {
    long long sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += standin_calls(names[i]);
    return sum;
}
#define CALLS(names) calls_of(names, sizeof(names) / sizeof *(names))

static void test_nothing_is_asked_twice(void **state) {
    (void)state;
    char *said[CASES];
    if (!standin_calls)
        skip();
    for (int i = 0; i < CASES; i++) {
        struct rig r;
        case_open(&r, i);
        struct engine *e = case_engine(&r, i);
        said[i] = description(e);
        engine_destroy(&e);
        rig_close(&r);
    }
    for (int i = CASES - 1; i >= 0; i--) {
        struct rig r;
        case_open(&r, i);
        long long asked = CALLS(questions), waited = CALLS(waits), others = CALLS(rest);
        struct engine *e = case_engine(&r, i);
        assert_int_equal(CALLS(questions) - asked, 0);
        assert_int_equal(CALLS(waits) - waited, 0);
        if (getenv("WARM_VERBOSE"))
            printf("case %d: %lld calls of the runtime\n", i, CALLS(rest) - others);
        char *again = description(e);
        assert_string_equal(said[i], again);
        free(again);
        free(said[i]);
        engine_destroy(&e);
        rig_close(&r);
    }
}

static void make_once(const char *text, struct shape in) {
    struct rig r;
    rig_open(&r, text, in, LOSS_CROSS_ENTROPY, 2, 1, PRECISION_FP32);
    struct engine *e = rig_engine(&r, 0, 2, 0);
    engine_destroy(&e);
    rig_close(&r);
}

static bool asks(const char *text, struct shape in) {
    long long before = CALLS(questions);
    make_once(text, in);
    return CALLS(questions) != before;
}

static void net_of_width(char text[128], int width) {
    snprintf(text, 128, "[{dense: {out: %d}}, {dense: {out: 2}}]", width);
}

/* Five products each, none twice: what was used last is there, what was used first is not. */
static void test_many_shapes(void **state) {
    (void)state;
    enum { MANY = 400 };
    char text[128];
    const struct shape in = {1, {3}};
    if (!standin_calls)
        skip();
    for (int i = 0; i < MANY; i++) {
        net_of_width(text, 3 + i);
        make_once(text, in);
    }
    for (int i = MANY - 90; i < MANY; i++) {
        net_of_width(text, 3 + i);
        assert_false(asks(text, in));
    }
    net_of_width(text, 3);
    assert_true(asks(text, in));
    assert_false(asks(text, in));
}

static long long living(void) {
    return standin_calls("cudnnBackendCreateDescriptor") -
           standin_calls("cudnnBackendDestroyDescriptor");
}

static void test_many_plans(void **state) {
    (void)state;
    enum { MANY = 260, FULL = 200 };
    long long full = 0;
    if (!standin_calls)
        skip();
    for (int i = 0; i < MANY; i++) {
        make_once("[{conv2d: {out: 2, kernel: 2}}, relu, flatten, {dense: {out: 2}}]",
                  (struct shape){3, {1, 2 + i, 2}});
        if (i == FULL)
            full = living();
    }
    assert_in_range(living(), full - full / 20, full + full / 20);
}

/* ---- memory ---- */

static void test_memory(void **state) {
    (void)state;
    int64_t early = 0, late = 0, total = 0;
    for (int i = 0; i < 100; i++) {
        int which = (i * 7) % 3 * 3; /* one precision: sizes of blocks come back soon */
        struct rig r;
        case_open(&r, which);
        struct engine *e = case_engine(&r, which);
        rig_step(&r, e, 0, 1);
        engine_destroy(&e);
        rig_close(&r);
        if (i == 2)
            b->memory->room(gpu, &early, &total);
    }
    b->memory->room(gpu, &late, &total);
    assert_true(early == late);
}

/* ---- what must not be kept ---- */

/* Want of memory is an error, never another choice, and forgotten when it is over. */
static void starve(const char *variable, int which) {
    struct err err = {0};
    struct device *whole = gpu;
    struct engine *e = NULL;
    struct rig r;
    case_open(&r, which);
    e = case_engine(&r, which);
    char *said = description(e);
    engine_destroy(&e);
    rig_close(&r);
    must(device_open("cuda", 0, &gpu, &err), &err);
    case_open(&r, which);
    setenv(variable, "starved", 1);
    struct plan_spec spec = r.net.spec;
    spec.precision = r.precision;
    assert_int_equal(engine_new(gpu, &spec, NULL, &e, &err), STATUS_NOMEM);
    must(b->order->status(gpu, &err), &err);
    unsetenv(variable);
    e = case_engine(&r, which);
    char *later = description(e);
    assert_string_equal(said, later);
    free(said);
    free(later);
    engine_destroy(&e);
    rig_close(&r);
    device_close(&gpu);
    gpu = whole;
}

static void test_starved(void **state) {
    (void)state;
    if (!standin_calls)
        skip();
    for (int precision = 0; precision < 3; precision++) {
        starve("TRIREME_STANDIN_BLAS", precision);
        starve("TRIREME_STANDIN_DNN", 3 + precision);
    }
}

/* What lies idle is given back before memory is said to be short, and shows in no choice. */
static void test_tight(void **state) {
    (void)state;
    struct err err = {0};
    struct device *whole = gpu;
    char *said[2];
    if (!standin_calls)
        skip();
    for (int i = 0; i < 2; i++) {
        struct rig r;
        must(device_open("cuda", 0, &gpu, &err), &err);
        case_open(&r, 0);
        struct engine *e = case_engine(&r, 0);
        engine_destroy(&e);
        rig_close(&r);
        case_open(&r, 3);
        if (i == 1)
            setenv("TRIREME_STANDIN_DNN", "tight", 1);
        e = case_engine(&r, 3);
        said[i] = description(e);
        engine_destroy(&e);
        rig_close(&r);
        device_close(&gpu);
    }
    unsetenv("TRIREME_STANDIN_DNN");
    assert_string_equal(said[0], said[1]);
    free(said[0]);
    free(said[1]);
    gpu = whole;
}

/* A self-check that fails: found once, obeyed each time. */
static void test_unsteady(void **state) {
    (void)state;
    struct err err = {0};
    struct device *whole = gpu;
    struct rig r;
    if (!standin_calls)
        skip();
    must(device_open("cuda", 0, &gpu, &err), &err);
    setenv("TRIREME_STANDIN_BLAS", "unsteady", 1);
    case_open(&r, 0);
    char *said[2];
    for (int i = 0; i < 2; i++) {
        long long waited = CALLS(waits);
        struct engine *e = case_engine(&r, 0);
        assert_true(i == 0 || CALLS(waits) - waited <= 2); /* the engine that is given up */
        said[i] = description(e);
        engine_destroy(&e);
    }
    assert_string_equal(said[0], said[1]);
    assert_non_null(strstr(said[0], "\"walk\":1,"));
    free(said[0]);
    free(said[1]);
    rig_close(&r);
    unsetenv("TRIREME_STANDIN_BLAS");
    device_close(&gpu);
    gpu = whole;
}

/* ---- */

static int open_counting(void **state) {
    int st = open_gpu(state);
    void *runtime = dlopen("libcudart.so.13", RTLD_NOLOAD | RTLD_NOW);
    void *found = runtime ? dlsym(runtime, "standin_calls") : NULL;
    memcpy(&standin_calls, &found, sizeof found);
    return st;
}

static int one_case(int which) {
    char hex[DIGEST_HEX];
    if (!find_backend() || open_gpu(NULL) != 0)
        return 1;
    struct digest digest = trial(which, false);
    hash_hex(&digest, hex);
    puts(hex);
    return close_gpu(NULL);
}

int main(void) {
    const struct CMUnitTest cache[] = {
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_held),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_asked_twice),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_bits_of_a_fresh_process),
        cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_many_plans),
        cmocka_unit_test(test_starved),
        cmocka_unit_test(test_tight),
        cmocka_unit_test(test_unsteady),
    };
    const char *which = getenv("WARM_CASE");
    if (which)
        return one_case(atoi(which));
    int failed = cmocka_run_group_tests_name("cache", cache, NULL, NULL);
    if (!find_backend()) {
        puts("skipped: `make standin` has built no GPU backend here");
        return failed;
    }
    return failed + cmocka_run_group_tests_name("GPU", tests, open_counting, close_gpu);
}
