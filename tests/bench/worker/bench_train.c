/* Milliseconds per step of the real trainer, on as many ranks as mpirun started: one JSON line per
 * case on rank 0's standard output.
 *
 *     mpirun -n 2 bench_train [options] [case …]
 *     {"case": "mlp256", "ranks": 2, "shards": 8, "batch": 256, "step_ms": 2.1, "runs": [2.2, …],
 * …}
 *
 *     --exchange HOW     messages, memory, nccl or auto (default auto)
 *     --device NAME      cpu or cuda (default cpu)
 *     --precision NAME   fp32, tf32 or bf16 (default fp32)
 *     --loose            bitwise: false
 *     --steps N          of each run (default: what takes 300 ms)
 *
 * Random data of Fashion-MNIST's shape is written once as .npy into a temporary directory:
 * gathering, exchange, clipping-free update, everything that a trial's step does, is in the time.
 * Runs of all cases are interleaved, so that a slow minute of the machine hits all of them. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/options.h"
#include "core/path.h"
#include "core/philox.h"
#include "worker/group/warm.h"
#include "worker/train/trainer.h"

#define SAMPLES   8192
#define FEATURES  784
#define RUNS      5
#define RUN_NS    (300 * NS_PER_MS)
#define WARM      5 /* steps */
#define STEPS_MAX 20000

#define MLP                                                                                        \
    "[{\"dense\":{\"out\":512}},\"relu\",{\"dense\":{\"out\":512}},\"relu\",{\"dense\":{\"out\":"  \
    "10}}]"
#define TINY "[{\"dense\":{\"out\":64}},\"relu\",{\"dense\":{\"out\":10}}]"
#define CNN                                                                                        \
    "[{\"conv2d\":{\"out\":32,\"kernel\":3,\"padding\":\"same\"}},\"batch_norm\",\"relu\","        \
    "{\"max_pool\":2},{\"conv2d\":{\"out\":64,\"kernel\":3,\"padding\":\"same\"}},\"batch_norm\"," \
    "\"relu\",{\"max_pool\":2},\"flatten\",{\"dense\":{\"out\":128}},\"relu\",{\"dense\":{"        \
    "\"out\":10}}]"

static const struct bench_case {
    const char *name, *model;
    int batch, shards;
} cases[] = {
    {"mlp256", MLP, 256, 8},    {"mlp256-v1", MLP, 256, 1}, {"mlp1024", MLP, 1024, 8},
    {"tiny64", TINY, 64, 8},    {"tiny64-v1", TINY, 64, 1}, {"cnn256", CNN, 256, 8},
    {"cnn256-v1", CNN, 256, 1},
};
#define CASES (sizeof cases / sizeof cases[0])

struct args {
    const char *exchange, *device, *precision;
    bool loose;
    int64_t steps;
};

static const struct option_row rows[] = {
    {"exchange", 0, OPTION_STRING, "HOW", "messages, memory, nccl or auto", 0, 0,
     offsetof(struct args, exchange)},
    {"device", 0, OPTION_STRING, "NAME", "cpu or cuda", 0, 0, offsetof(struct args, device)},
    {"precision", 0, OPTION_STRING, "NAME", "fp32, tf32 or bf16", 0, 0,
     offsetof(struct args, precision)},
    {"loose", 0, OPTION_FLAG, NULL, "bitwise: false", 0, 0, offsetof(struct args, loose)},
    {"steps", 0, OPTION_INT, "N", "of each run", 1, STEPS_MAX, offsetof(struct args, steps)},
    OPTION_END,
};

struct bench {
    struct worker worker;
    struct args args;
    char dir[PATH_TEXT_MAX];
    struct arena arena;
    struct value *plans[CASES]; /* as trainer_describe */
    double ms[CASES][RUNS];
    double peak;           /* FLOP/s of the device; 0: unknown */
    int64_t memory[CASES]; /* bytes, in the last run */
};

static void must(enum status st, const struct err *err) {
    if (st == STATUS_OK)
        return;
    (void)fprintf(stderr, "bench_train: %s\n", err->text);
    exit(status_exit_code(st));
}

/* ---- data ---- */

static void write_npy(const char *dir, const char *name, const char *shape, const void *bytes,
                      size_t len) {
    char path[PATH_TEXT_MAX], header[128];
    struct buf out = BUF_INIT((size_t)64 << 20);
    struct err err;
    int n = snprintf(header, sizeof header,
                     "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }", shape);
    buf_add(&out, "\x93NUMPY\x01\x00", 8);
    buf_addc(&out, 118);
    buf_addc(&out, 0);
    buf_add(&out, header, (size_t)n);
    for (; n < 117; n++)
        buf_addc(&out, ' ');
    buf_addc(&out, '\n');
    buf_add(&out, bytes, len);
    must(path_join(path, dir, name, &err), &err);
    must(path_write(path, out.data, out.len, 0600, &err), &err);
    buf_release(&out);
}

static void write_data(const char *dir) {
    static uint8_t images[SAMPLES * FEATURES], labels[SAMPLES];
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)philox(1, 0, i).v[0];
    for (size_t i = 0; i < sizeof labels; i++)
        labels[i] = (uint8_t)(i % 10);
    char shape[64];
    (void)snprintf(shape, sizeof shape, "(%d, 1, 28, 28)", SAMPLES);
    write_npy(dir, "images.npy", shape, images, sizeof images);
    (void)snprintf(shape, sizeof shape, "(%d,)", SAMPLES);
    write_npy(dir, "labels.npy", shape, labels, sizeof labels);
}

static void share_dir(struct bench *b) {
    struct err err;
    void *bytes = b->dir;
    size_t len = sizeof b->dir;
    bool leader = world_rank(b->worker.world) == 0;
    if (leader) {
        (void)snprintf(b->dir, sizeof b->dir, "/tmp/trireme-bench-XXXXXX");
        if (mkdtemp(b->dir) == NULL) {
            perror("bench_train");
            exit(1);
        }
        write_data(b->dir);
    }
    must(world_share(b->worker.world, &bytes, &len, &err), &err);
    if (!leader) {
        memcpy(b->dir, bytes, sizeof b->dir);
        free(bytes);
    }
}

static void remove_data(const struct bench *b) {
    static const char *const names[] = {"images.npy", "labels.npy"};
    char path[PATH_TEXT_MAX];
    for (int i = 0; i < 2; i++)
        if (path_join(path, b->dir, names[i], NULL) == STATUS_OK)
            (void)unlink(path);
    (void)rmdir(b->dir);
}

/* ---- measuring ---- */

static struct value *config_of(struct bench *b, const struct bench_case *c) {
    struct err err;
    struct value *out = NULL;
    const char *text = arena_printf(
        &b->arena,
        "{\"seed\":1,\"virtual_shards\":%d,\"bitwise\":%s,\"time_metric\":\"steps\","
        "\"max_time\":1000000000,"
        "\"data\":{\"train\":{\"format\":\"npy\",\"images\":\"%s/images.npy\",\"labels\":"
        "\"%s/labels.npy\"},\"transforms\":[{\"scale\":0.00392156862745098}]},\"model\":%s,"
        "\"training\":{\"loss\":\"cross_entropy\",\"optimizer\":{\"name\":\"adamw\",\"lr\":0.001},"
        "\"precision\":\"%s\",\"global_batch_size\":%d}}",
        c->shards, b->args.loose ? "false" : "true", b->dir, b->dir, c->model, b->args.precision,
        c->batch);
    must(json_parse(&b->arena, text, strlen(text), c->name, &out, &err), &err);
    return out;
}

/* The slowest rank's time counts: all begin together, all have the last weights at the end. */
static double measure(struct bench *b, struct trainer *t, int64_t steps) {
    struct err err;
    struct step_result r;
    must(world_barrier(b->worker.world, &err), &err);
    int64_t begin = clock_mono_ns(&clock_system);
    for (int64_t i = 0; i < steps; i++)
        must(trainer_step(t, false, &r, &err), &err);
    do
        must(trainer_drain(t, &r, &err), &err);
    while (r.step > 0);
    return (double)(clock_mono_ns(&clock_system) - begin) / 1e6 / (double)steps;
}

/* As many steps as fit the time, by rank 0's clock. The first steps, in which algorithms are chosen
 * and a graph is recorded, are not in it. */
static int64_t calibrate(struct bench *b, struct trainer *t) {
    struct err err;
    (void)measure(b, t, WARM);
    if (b->args.steps > 0)
        return b->args.steps;
    double ms = measure(b, t, WARM), wanted = (double)RUN_NS / 1e6 / ms;
    int64_t steps = wanted > STEPS_MAX ? STEPS_MAX : wanted < WARM ? WARM : (int64_t)wanted;
    int64_t all[WORLD_RANKS_MAX];
    must(world_gather(b->worker.world, &steps, sizeof steps, all, &err), &err);
    return all[0];
}

/* One trainer at a time: the ranks' shared memory is lent to one. */
static double run_case(struct bench *b, size_t i) {
    struct err err;
    struct trainer *t = NULL;
    must(worker_trainer(
             &b->worker,
             &(struct worker_trial){.config = config_of(b, &cases[i]), .file = cases[i].name}, &t,
             &err),
         &err);
    double ms = measure(b, t, calibrate(b, t));
    if (b->plans[i] == NULL)
        b->plans[i] = trainer_describe(&b->arena, t);
    b->peak = trainer_peak_flops(t);
    b->memory[i] = trainer_memory(t);
    trainer_destroy(&t);
    return ms;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_case(struct bench *b, size_t i) {
    struct arena a;
    struct buf text = BUF_INIT(65536);
    struct err err;
    double sorted[RUNS];
    arena_init(&a, (size_t)1 << 20);
    memcpy(sorted, b->ms[i], sizeof sorted);
    qsort(sorted, RUNS, sizeof sorted[0], by_value);
    struct value *v = value_map(&a), *runs = value_list(&a);
    const struct value *plan = b->plans[i], *engine = value_get(plan, "engine");
    double flops = value_get_real(engine, "flops_per_step", 0);
    value_set_string(&a, v, "device", b->worker.device_name);
    value_set_string(&a, v, "precision", b->args.precision);
    value_set_bool(&a, v, "bitwise", !b->args.loose);
    value_set_string(&a, v, "case", cases[i].name);
    value_set_int(&a, v, "ranks", world_size(b->worker.world));
    value_set_int(&a, v, "shards", cases[i].shards);
    value_set_int(&a, v, "batch", cases[i].batch);
    value_set_string(&a, v, "exchange", value_get_string(plan, "exchange", ""));
    value_set_int(&a, v, "walk", value_get_int(engine, "walk", 0));
    value_set_real(&a, v, "step_ms", sorted[RUNS / 2]);
    value_set_real(&a, v, "samples_per_s", cases[i].batch / sorted[RUNS / 2] * 1000);
    value_set_real(&a, v, "gflops", flops / sorted[RUNS / 2] / 1e6);
    value_set_real(&a, v, "mfu", b->peak > 0 ? flops / sorted[RUNS / 2] * 1e3 / b->peak : 0);
    value_set_int(&a, v, "memory_bytes", b->memory[i]);
    for (int r = 0; r < RUNS; r++)
        value_push(&a, runs, value_real(&a, b->ms[i][r]));
    value_set(&a, v, "runs", runs);
    must(json_dump(v, JSON_COMPACT, &text, &err), &err);
    (void)printf("%s\n", buf_text(&text));
    (void)fflush(stdout);
    buf_release(&text);
    arena_release(&a);
}

static bool wanted(const struct bench *b, size_t i, const struct operands *names) {
    if (cases[i].shards % world_size(b->worker.world) != 0)
        return false;
    for (size_t k = 0; k < names->count; k++)
        if (strcmp(names->items[k], cases[i].name) == 0)
            return true;
    return names->count == 0;
}

static void run_all(struct bench *b, const bool *on) {
    for (int r = 0; r < RUNS; r++)
        for (size_t i = 0; i < CASES; i++)
            if (on[i])
                b->ms[i][r] = run_case(b, i);
    for (size_t i = 0; i < CASES; i++)
        if (on[i] && world_rank(b->worker.world) == 0)
            print_case(b, i);
}

static enum exchange_choice exchange_of(const char *name) {
    return strcmp(name, "memory") == 0 ? EXCHANGE_MEMORY
           : strcmp(name, "nccl") == 0 ? EXCHANGE_NCCL
           : strcmp(name, "auto") == 0 ? EXCHANGE_AUTO
                                       : EXCHANGE_MESSAGES;
}

int main(int argc, char **argv) {
    static struct bench b = {.args = {.exchange = "auto", .device = "cpu", .precision = "fp32"}};
    struct operands names = {0};
    struct err err;
    bool on[CASES] = {false};
    must(options_parse(rows, argc, argv, &b.args, &names, &err), &err);
    arena_init(&b.arena, (size_t)64 << 20);
    must(world_open(&b.worker.world, &err), &err);
    b.worker.device_name = b.args.device;
    b.worker.exchange = exchange_of(b.args.exchange);
    b.worker.cache_bytes = (size_t)1 << 30;
    share_dir(&b);
    for (size_t i = 0; i < CASES; i++)
        on[i] = wanted(&b, i, &names);
    run_all(&b, on);
    if (world_rank(b.worker.world) == 0)
        remove_data(&b);
    worker_close_device(&b.worker);
    arena_release(&b.arena);
    world_close(&b.worker.world);
    return 0;
}
