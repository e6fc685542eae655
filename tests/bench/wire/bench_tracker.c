/* The tracker as its clients see it: a real process over ipc, acknowledgements that mean "on disk".
 *
 *     bench_tracker DIR      DIR: where the store goes (a real disk); $TRIREME_BIN: executables
 *
 * Prints one JSON object a line: {"name", "value", "unit"}. */
#include <ftw.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/path.h"
#include "core/process.h"
#include "core/ulid.h"
#include "wire/metrics.h"
#include "wire/session.h"

#define CLIENTS       20
#define BATCH_POINTS  1000
#define SECONDS       4
#define ACKS          2000
#define SERIES_POINTS 200000
#define CALL_MS       60000

static void die(const char *what, const struct err *err) {
    (void)fprintf(stderr, "bench_tracker: %s: %s\n", what, err->text);
    exit(1);
}

static void must(enum status st, const char *what, const struct err *err) {
    if (st != STATUS_OK)
        die(what, err);
}

static void report(const char *name, double value, const char *unit) {
    printf("{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n", name, value, unit);
    (void)fflush(stdout);
}

static double now_s(void) {
    return (double)clock_mono_ns(&clock_system) / 1e9;
}

/* ---- the tracker ---- */

static pid_t start_tracker(const char *home) {
    struct err err;
    char program[PATH_TEXT_MAX], fd_text[16], byte;
    int fds[2];
    const char *bin = getenv("TRIREME_BIN");
    must(path_join(program, bin != NULL ? bin : "build/bin", "trireme-tracker", &err), "path",
         &err);
    if (pipe(fds) != 0)
        exit(1);
    (void)snprintf(fd_text, sizeof fd_text, "%d", fds[1]);
    const char *argv[] = {program, "--home", home, "--ready-fd", fd_text, NULL};
    const char *env[] = {"TRIREME_LOG=warn", NULL};
    struct process_spec spec = {.argv = argv, .env = env, .die_with_parent = true};
    pid_t pid = 0;
    must(process_start(&spec, &pid, &err), "start", &err);
    (void)close(fds[1]);
    if (read(fds[0], &byte, 1) != 1) {
        (void)fprintf(stderr, "bench_tracker: the tracker did not get ready\n");
        exit(1);
    }
    (void)close(fds[0]);
    return pid;
}

static struct session *connect_to(struct net *net, const char *home) {
    struct err err;
    char endpoint[PATH_TEXT_MAX];
    struct session *s = NULL;
    must(path_endpoint(home, "tracker", endpoint, &err), "endpoint", &err);
    struct session_options o = {.endpoint = endpoint, .clock = &clock_system};
    must(session_open(net, &o, &s, &err), "connect", &err);
    return s;
}

static void create_run(struct session *s, char run[ULID_TEXT]) {
    struct err err;
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    must(ulid_new(run, &err), "ulid", &err);
    struct value *r = message_request(&a, "run.create", NULL);
    value_set_string(&a, r, "run", run);
    value_set_string(&a, r, "experiment", "bench");
    must(
        session_call(s, &a, &(struct session_ask){.request = r, .timeout_ms = CALL_MS}, NULL, &err),
        "run.create", &err);
    arena_release(&a);
}

static int64_t meta_bytes(struct session *s) {
    struct err err;
    struct arena a;
    struct session_reply reply;
    arena_init(&a, (size_t)1 << 20);
    must(session_call(s, &a,
                      &(struct session_ask){.request = message_request(&a, "stats", NULL),
                                            .timeout_ms = CALL_MS},
                      &reply, &err),
         "stats", &err);
    int64_t bytes = value_get_int(reply.header, "meta_bytes", 0);
    session_reply_release(&reply);
    arena_release(&a);
    return bytes;
}

/* ---- a loss as training gives it: falling, noisy, float32 in float64 ---- */

static double loss_at(uint64_t run, int64_t step) {
    uint64_t z = run * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)step; /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    double u = (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
    double t = (double)step;
    return (double)(float)(2.3 * exp(-t / 3000.0) + 0.12 + 0.05 * (u - 0.5));
}

struct batch {
    uint8_t steps[BATCH_POINTS * 8], times[BATCH_POINTS * 8], values[BATCH_POINTS * 8];
};

static void fill(struct batch *b, uint64_t run, int64_t first, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int64_t step = first + (int64_t)i;
        bytes_put_u64(b->steps + 8 * i, (uint64_t)step);
        bytes_put_u64(b->times + 8 * i, (uint64_t)(INT64_C(1800000000000000000) + step * 4100000));
        bytes_put_f64(b->values + 8 * i, loss_at(run, step));
    }
}

static struct value *log_request(struct arena *a, const char *run, int64_t count) {
    struct value *r = message_request(a, "run.log", NULL), *item = value_map(a);
    value_set_string(a, r, "run", run);
    value_set_string(a, item, "key", "loss");
    value_set_int(a, item, "count", count);
    value_set(a, r, "series", value_push(a, value_list(a), item));
    return r;
}

static void log_points(struct session *s, struct arena *a, const char *run, struct batch *b,
                       size_t count) {
    struct err err;
    struct net_frame frames[3] = {
        {b->steps, count * 8}, {b->times, count * 8}, {b->values, count * 8}};
    arena_clear(a);
    must(session_call(s, a,
                      &(struct session_ask){.request = log_request(a, run, (int64_t)count),
                                            .frames = {frames, 3},
                                            .timeout_ms = CALL_MS},
                      NULL, &err),
         "run.log", &err);
}

/* ---- many clients ---- */

struct client {
    pthread_t thread;
    struct net *net;
    const char *home;
    uint64_t number;
    double until_s;
    size_t points;
};

static void *client_main(void *arg) {
    struct client *c = arg;
    struct arena a;
    char run[ULID_TEXT];
    struct batch *b = malloc(sizeof *b);
    if (b == NULL)
        exit(1);
    arena_init(&a, (size_t)1 << 20);
    struct session *s = connect_to(c->net, c->home);
    create_run(s, run);
    while (now_s() < c->until_s) {
        fill(b, c->number, (int64_t)c->points, BATCH_POINTS);
        log_points(s, &a, run, b, BATCH_POINTS);
        c->points += BATCH_POINTS;
    }
    (void)session_close(&s, 0, NULL);
    arena_release(&a);
    free(b);
    return NULL;
}

static void bench_throughput(struct net *net, const char *home) {
    static struct client clients[CLIENTS];
    double start = now_s();
    size_t points = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] =
            (struct client){.net = net, .home = home, .number = i, .until_s = start + SECONDS};
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0)
            exit(1);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        points += clients[i].points;
    }
    report("tracker.points_per_s", (double)points / (now_s() - start), "points/s");
}

/* ---- one point, and its acknowledgement ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_ack(struct session *s) {
    static double ms[ACKS];
    struct arena a;
    char run[ULID_TEXT];
    struct batch *b = malloc(sizeof *b);
    if (b == NULL)
        exit(1);
    arena_init(&a, (size_t)1 << 20);
    create_run(s, run);
    for (int i = 0; i < ACKS; i++) {
        fill(b, 7, i, 1);
        double start = now_s();
        log_points(s, &a, run, b, 1);
        ms[i] = (now_s() - start) * 1e3;
    }
    qsort(ms, ACKS, sizeof ms[0], by_value);
    report("tracker.ack_p50_ms", ms[ACKS / 2], "ms");
    report("tracker.ack_p99_ms", ms[ACKS * 99 / 100], "ms");
    arena_release(&a);
    free(b);
}

/* ---- bytes on disk ---- */

static void bench_bytes(struct session *s) {
    struct err err;
    struct arena a;
    char run[ULID_TEXT];
    struct batch *b = malloc(sizeof *b);
    if (b == NULL)
        exit(1);
    arena_init(&a, (size_t)1 << 20);
    create_run(s, run);
    int64_t before = meta_bytes(s);
    /* What a worker sends: a few dozen steps at a time, posted. */
    for (int64_t step = 0; step < SERIES_POINTS; step += 50) {
        fill(b, 3, step, 50);
        struct net_frame frames[3] = {{b->steps, 400}, {b->times, 400}, {b->values, 400}};
        arena_clear(&a);
        must(session_post(s, log_request(&a, run, 50), (struct net_frames){frames, 3}, &err),
             "post", &err);
        must(session_pump(s, &err), "pump", &err);
    }
    must(session_flush(s, CALL_MS, &err), "flush", &err);
    report("tracker.bytes_per_point", (double)(meta_bytes(s) - before) / SERIES_POINTS, "bytes");
    arena_release(&a);
    free(b);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

int main(int argc, char **argv) {
    struct err err;
    struct net *net = NULL;
    char home[PATH_TEXT_MAX];
    if (argc != 2) {
        (void)fprintf(stderr, "usage: bench_tracker DIR\n");
        return 2;
    }
    (void)snprintf(home, sizeof home, "%s/bench-tracker-%d", argv[1], (int)getpid());
    must(path_mkdirs(home, 0700, &err), "directory", &err);
    pid_t pid = start_tracker(home);
    must(net_new(&net, &err), "net", &err);
    struct session *s = connect_to(net, home);
    bench_throughput(net, home);
    bench_ack(s);
    bench_bytes(s);
    must(session_close(&s, 1000, &err), "close", &err);
    net_destroy(&net);
    process_stop(pid, false, 10000);
    (void)nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
