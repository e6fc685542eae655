/* The training step by itself: engine_step and cpu_optimizer_step over all buckets, as a worker on
 * one rank does it, without data loading and exchange.
 *
 *     bench_step [gemm|mlp|tiny|cnn|all] [runs] [wall|cpu]        (default: all 7 wall)
 *
 * `cpu` takes this thread's processor time instead: for a machine on which others are working.
 *
 * A line of JSON each:  {"name":"kernels.mlp.step_v8","value":7.9,"unit":"ms"}
 *     gemm   kernels.gemm.peak (GFLOP/s)          best dnnl_sgemm over 512, 768, 1024, 1536, 2048
 *     mlp    kernels.mlp.step_v8, .step_v1 (ms)   784-512-512-10, batch 256, adamw
 *            kernels.mlp.gflops (GFLOP/s of the V = 8 step), .peak_share, .exact_price (V = 8 over
 * V = 1) tiny   kernels.tiny.step (ms)               784-64-10, batch 64, V = 8 cnn
 * kernels.cnn.step, .samples_per_s     conv 32, conv 64, batch norm, pool, dense 128; 256, V = 8
 *            kernels.cnn.step_walk<g> (ms)        the same in every walk
 * A value is the median of `runs` runs; a run is the fastest of its steps (other processes only add
 * time), and what is compared is run in turns. */
#include <dlfcn.h>
#include <dnnl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/philox.h"
#include "core/yaml.h"
#include "kernels/cpu/optimizer.h"
#include "kernels/devices.h"
#include "kernels/run/engine.h"

#define RUNS_MAX 101
#define MLP      "[{dense: {out: 512}}, relu, {dense: {out: 512}}, relu, {dense: {out: 10}}]"
#define TINY     "[{dense: {out: 64}}, relu, {dense: {out: 10}}]"
#define CNN                                                                                        \
    "[{conv2d: {out: 32, kernel: 3, padding: same}}, batch_norm, relu, {max_pool: 2},"             \
    " {conv2d: {out: 64, kernel: 3, padding: same}}, batch_norm, relu, {max_pool: 2},"             \
    " flatten, {dense: {out: 128}}, relu, {dropout: 0.5}, {dense: {out: 10}}]"

struct bench {
    struct arena arena;
    struct device *device;
    int runs;
    double peak; /* GFLOP/s */
};

/* A net with data and everything a step needs. */
struct trainee {
    struct model *model;
    struct engine *engine;
    struct spec_optimizer optimizer;
    float *x, *slots[2];
    int32_t *labels, *rows;
    int64_t batch, step;
};

static void die(const struct err *err) {
    fprintf(stderr, "bench_step: %s\n", err->text);
    exit(1);
}

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void say(const char *name, double value, const char *unit) {
    printf("{\"name\":\"kernels.%s\",\"value\":%.6g,\"unit\":\"%s\"}\n", name, value, unit);
    fflush(stdout);
}

static void *take(size_t count, size_t size) {
    void *p = calloc(count, size);
    if (!p)
        abort();
    return p;
}

static void open_trainee(struct bench *b, struct trainee *t, const char *text, struct shape in,
                         int64_t batch, int shards, int walk) {
    struct err err = {0};
    struct value *layers = NULL;
    enum status st = STATUS_OK;
    int64_t width = in.rank == 3 ? in.dim[0] * in.dim[1] * in.dim[2] : in.dim[0];
    *t = (struct trainee){.batch = batch,
                          .optimizer = {.kind = OPTIMIZER_ADAMW,
                                        .lr = 1e-3,
                                        .betas = {0.9, 0.999},
                                        .eps = 1e-8,
                                        .weight_decay = 0.01,
                                        .slots = 2}};
    TRY(yaml_parse(&b->arena, text, strlen(text), "bench", &layers, &err));
    TRY(model_parse(&b->arena, layers, in, "bench", &t->model, &err));
    struct plan_spec spec = {.model = t->model,
                             .loss = LOSS_CROSS_ENTROPY,
                             .shard_rows = batch / shards,
                             .shard_count = shards,
                             .eval_rows = batch,
                             .seed = 1,
                             .walk = walk};
    TRY(engine_new(b->device, &spec, NULL, &t->engine, &err));
    model_init(t->model, 1, engine_weights(t->engine));
    for (int i = 0; i < 2; i++)
        t->slots[i] = take((size_t)t->model->vector_count, sizeof(float));
    t->x = take((size_t)(batch * width), sizeof(float));
    t->labels = take((size_t)batch, sizeof(int32_t));
    t->rows = take((size_t)batch, sizeof(int32_t));
    for (int64_t i = 0; i < batch * width; i++)
        t->x[i] = (float)philox_double(philox(1, 1, (uint64_t)i).v[0], 0);
    for (int64_t i = 0; i < batch; i++) {
        t->labels[i] = (int32_t)(philox(1, 2, (uint64_t)i).v[0] % 10);
        t->rows[i] = (int32_t)i;
    }
out:
    if (st != STATUS_OK)
        die(&err);
}

static void close_trainee(struct trainee *t) {
    engine_destroy(&t->engine);
    free(t->x);
    free(t->labels);
    free(t->rows);
    free(t->slots[0]);
    free(t->slots[1]);
}

static void train(struct trainee *t) {
    struct err err = {0};
    float *w = engine_weights(t->engine), *g = engine_gradient(t->engine);
    t->step++;
    if (engine_step(t->engine,
                    &(struct engine_batch){.x = t->x, .labels = t->labels, .rows_global = t->rows},
                    t->step, NULL, &err) != STATUS_OK)
        die(&err);
    struct cpu_step how = {.scale = 1.0f / (float)t->batch, .stat_scale = 0.125};
    optimizer_rates(&t->optimizer, PARAM_WEIGHT, t->step, t->optimizer.lr, &how.rates[0]);
    optimizer_rates(&t->optimizer, PARAM_PLAIN, t->step, t->optimizer.lr, &how.rates[1]);
    for (int i = 0; i < engine_bucket_count(t->engine); i++) {
        const struct bucket *b = &engine_buckets(t->engine)[i];
        struct cpu_stretch at = {.begin = b->begin,
                                 .count = b->end - b->begin,
                                 .weights = w + b->begin,
                                 .gradient = g + b->begin,
                                 .slots = {t->slots[0] + b->begin, t->slots[1] + b->begin}};
        cpu_optimizer_step(&t->optimizer, t->model, &at, &how);
    }
}

/* Fastest step of about 100 ms of them. */
static double run_ms(struct trainee *t) {
    double best = INFINITY, begin = now_ms();
    do {
        double at = now_ms();
        train(t);
        at = now_ms() - at;
        best = at < best ? at : best;
    } while (now_ms() - begin < 100);
    return best;
}

/* Medians over runs of several trainees in turns. */
static void compare(struct bench *b, struct trainee *t, int n, double *out) {
    double ms[8][RUNS_MAX];
    for (int i = 0; i < n; i++)
        train(&t[i]);
    for (int run = 0; run < b->runs; run++)
        for (int i = 0; i < n; i++)
            ms[i][run] = run_ms(&t[i]);
    for (int i = 0; i < n; i++)
        out[i] = median(ms[i], b->runs);
}

static double gemm_ms(dnnl_dim_t n) {
    size_t count = (size_t)(n * n);
    float *a = take(count, sizeof *a), *b = take(count, sizeof *b), *c = take(count, sizeof *c);
    double best = INFINITY, begin = now_ms();
    for (size_t i = 0; i < count; i++)
        a[i] = b[i] = (float)(i % 7) - 3.0f;
    do {
        double at = now_ms();
        if (dnnl_sgemm('N', 'N', n, n, n, 1.0f, a, n, b, n, 0.0f, c, n) != dnnl_success)
            abort();
        at = now_ms() - at;
        best = at < best ? at : best;
    } while (now_ms() - begin < 60);
    free(a);
    free(b);
    free(c);
    return best;
}

static void bench_gemm(struct bench *b) {
    static const dnnl_dim_t sizes[] = {512, 768, 1024, 1536, 2048};
    double rate[RUNS_MAX];
    for (int run = 0; run < b->runs; run++) {
        rate[run] = 0;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            double n = (double)sizes[i], r = 2e-6 * n * n * n / gemm_ms(sizes[i]);
            rate[run] = r > rate[run] ? r : rate[run];
        }
    }
    b->peak = median(rate, b->runs);
    say("gemm.peak", b->peak, "GFLOP/s");
}

static void bench_mlp(struct bench *b) {
    struct shape in = {1, {784}};
    struct trainee t[2];
    double ms[2];
    open_trainee(b, &t[0], MLP, in, 256, 8, 0);
    open_trainee(b, &t[1], MLP, in, 256, 1, 0);
    compare(b, t, 2, ms);
    struct value *about = engine_describe(&b->arena, t[0].engine);
    double gflops = (double)value_get_int(about, "flops_per_step", 0) / ms[0] * 1e-6;
    say("mlp.step_v8", ms[0], "ms");
    say("mlp.step_v1", ms[1], "ms");
    say("mlp.gflops", gflops, "GFLOP/s");
    if (b->peak > 0)
        say("mlp.peak_share", gflops / b->peak, "1");
    say("mlp.exact_price", ms[0] / ms[1], "1");
    close_trainee(&t[0]);
    close_trainee(&t[1]);
}

static void bench_tiny(struct bench *b) {
    struct shape in = {1, {784}};
    struct trainee t;
    double ms;
    open_trainee(b, &t, TINY, in, 64, 8, 0);
    compare(b, &t, 1, &ms);
    say("tiny.step", ms, "ms");
    close_trainee(&t);
}

static void bench_cnn(struct bench *b) {
    struct shape in = {3, {1, 28, 28}};
    struct trainee t[5];
    double ms[5];
    int walk[5] = {0, 1, 2, 4, 8};
    for (int i = 0; i < 5; i++)
        open_trainee(b, &t[i], CNN, in, 256, 8, walk[i]);
    compare(b, t, 5, ms);
    struct value *about = engine_describe(&b->arena, t[0].engine);
    say("cnn.step", ms[0], "ms");
    say("cnn.samples_per_s", 256e3 / ms[0], "1/s");
    say("cnn.gflops", (double)value_get_int(about, "flops_per_step", 0) / ms[0] * 1e-6, "GFLOP/s");
    say("cnn.walk", (double)value_get_int(about, "walk", 0), "1");
    for (int i = 1; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "cnn.step_walk%d", walk[i]);
        say(name, ms[i], "ms");
    }
    for (int i = 0; i < 5; i++)
        close_trainee(&t[i]);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(struct bench *);
    } parts[] = {
        {"gemm", bench_gemm}, {"mlp", bench_mlp}, {"tiny", bench_tiny}, {"cnn", bench_cnn}};
    const char *part = argc > 1 ? argv[1] : "all";
    struct bench b = {.runs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 7};
    struct err err = {0};
    int ran = 0;
    if (argc > 3 && !strcmp(argv[3], "cpu"))
        clock_used = CLOCK_THREAD_CPUTIME_ID;
    if (b.runs < 1 || b.runs > RUNS_MAX) {
        fprintf(stderr, "bench_step: runs must be 1 to %d\n", RUNS_MAX);
        return 2;
    }
    arena_init(&b.arena, (size_t)16 << 20);
    if (device_open("cpu", 0, &b.device, &err) != STATUS_OK)
        die(&err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(part, "all") || !strcmp(part, parts[i].name)) {
            parts[i].run(&b);
            ran++;
        }
    device_close(&b.device);
    arena_release(&b.arena);
    if (!ran)
        fprintf(stderr, "usage: bench_step [gemm|mlp|tiny|cnn|all] [runs] [wall|cpu]\n");
    return ran ? 0 : 2;
}
