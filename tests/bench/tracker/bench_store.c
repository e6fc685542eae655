/* The store by itself: transactions of run.log requests, fsynced, without sockets.
 *
 *     bench_store DIR [commits]        DIR: on a real disk, created and left empty; default 100
 *
 * One line per shape: requests per commit, metrics per request, points per metric, the kind of
 * values; points per second over store_apply and store_commit, the commit's mean time, growth of
 * the file over points. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tracker/ops/store.h"

#define POINTS_MAX 65536

struct shape {
    int requests, metrics, points;
    const char *values;
};

struct bench {
    struct store *s;
    struct arena a;
    struct err err;
    uint64_t random;
    int64_t step, seq;
    double apply_s, commit_s;
    int64_t steps[POINTS_MAX], times[POINTS_MAX];
    double values[POINTS_MAX];
};

static void must(const struct bench *b, enum status st) {
    if (st == STATUS_OK)
        return;
    (void)fprintf(stderr, "bench_store: %s: %s\n", status_name(st), b->err.text);
    exit(1);
}

static double now_s(void) {
    return (double)clock_mono_ns(&clock_system) / 1e9;
}

static uint64_t next_random(struct bench *b) { /* splitmix64 */
    uint64_t z = b->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void run_id(int n, char out[27]) {
    (void)snprintf(out, 27, "01J8AAAAAAAAAAAAAAAAAAAA%02u", (unsigned)n % 100);
}

/* A falling loss with noise, a millisecond a step with a jitter of 0.1 ms. */
static void fill(struct bench *b, const struct shape *sh) {
    for (int i = 0; i < sh->metrics * sh->points; i++) {
        int64_t step = b->step + i % sh->points;
        double noise = (double)(next_random(b) >> 11) * 0x1p-53;
        double loss = 2 / (1 + 1e-5 * (double)step) + 0.1 * noise;
        b->steps[i] = step;
        b->times[i] =
            INT64_C(1790000000) * NS_PER_S + step * NS_PER_MS + (int64_t)(next_random(b) % 100000);
        b->values[i] = sh->values[0] == 'c'   ? 0.001
                       : sh->values[1] == '6' ? loss
                                              : (double)(float)loss;
    }
}

static void apply(struct bench *b, const char *op, struct value *request,
                  const struct net_frame *frames, size_t n) {
    struct store_request r = {
        .type = message_find(op), .header = request, .frames = {frames, n}, .role = NET_ADMIN};
    struct store_answer answer = {.a = &b->a, .header = message_reply(&b->a, "b")};
    double t = now_s();
    must(b, store_apply(b->s, &r, &answer, &b->err));
    b->apply_s += now_s() - t;
}

static void commit(struct bench *b) {
    double t = now_s();
    must(b, store_commit(b->s, &b->err));
    b->commit_s += now_s() - t;
    arena_clear(&b->a);
}

static void create_runs(struct bench *b, int n) {
    must(b, store_begin(b->s, &b->err));
    for (int i = 0; i < n; i++) {
        char run[27];
        run_id(i, run);
        struct value *request = message_request(&b->a, "run.create", "b");
        value_set_string(&b->a, request, "run", run);
        value_set_string(&b->a, request, "experiment", "bench");
        apply(b, "run.create", request, NULL, 0);
    }
    commit(b);
}

static void log_request(struct bench *b, const struct shape *sh, int writer) {
    char text[32];
    struct value *request = message_request(&b->a, "run.log", "b"), *series = value_list(&b->a);
    size_t bytes = (size_t)(sh->metrics * sh->points) * 8;
    struct net_frame frames[3] = {{b->steps, bytes}, {b->times, bytes}, {b->values, bytes}};
    fill(b, sh);
    for (int k = 0; k < sh->metrics; k++) {
        struct value *item = value_map(&b->a);
        (void)snprintf(text, sizeof text, "metric-%d", k);
        value_set_string(&b->a, item, "key", text);
        value_set_int(&b->a, item, "count", sh->points);
        value_push(&b->a, series, item);
    }
    run_id(writer, text);
    value_set_string(&b->a, request, "run", text);
    value_set(&b->a, request, "series", series);
    value_set_string(&b->a, request, "client", text);
    value_set_int(&b->a, request, "seq", ++b->seq);
    apply(b, "run.log", request, frames, 3);
}

static int remove_entry(const char *path, const struct stat *sb, int flag, struct FTW *ftw) {
    (void)sb, (void)flag, (void)ftw;
    return remove(path);
}

static void measure(struct bench *b, const char *dir, const struct shape *sh, int commits) {
    struct store_options options = {.clock = &clock_system};
    struct store_stats before, after;
    must(b, store_open(dir, &options, &b->s, &b->err));
    create_runs(b, sh->requests);
    store_stats(b->s, &before);
    b->apply_s = b->commit_s = 0;
    b->step = 0;
    for (int g = 0; g < commits; g++) {
        must(b, store_begin(b->s, &b->err));
        for (int i = 0; i < sh->requests; i++)
            log_request(b, sh, i);
        commit(b);
        b->step += sh->points;
    }
    store_stats(b->s, &after);
    double points = (double)(after.points - before.points);
    printf("%2d requests x %2d metrics x %4d points, %s: %8.0f points/s (%8.0f applied), "
           "commit %.2f ms, %.2f bytes/point\n",
           sh->requests, sh->metrics, sh->points, sh->values, points / (b->apply_s + b->commit_s),
           points / b->apply_s, 1e3 * b->commit_s / commits,
           (double)(after.meta_bytes - before.meta_bytes) / points);
    store_close(&b->s);
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv) {
    static const struct shape shapes[] = {
        {20, 1, 1000, "f32 "}, {20, 1, 1000, "f64 "}, {20, 1, 1000, "const"},
        {20, 10, 100, "f32 "}, {20, 20, 5, "f32 "},   {1, 1, 1000, "f32 "},
    };
    static struct bench b;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_store DIR [commits]\n");
        return 2;
    }
    int commits = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 100;
    arena_init(&b.a, (size_t)256 << 20);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        measure(&b, argv[1], &shapes[i], commits > 0 ? commits : 1);
    arena_release(&b.a);
    return 0;
}
