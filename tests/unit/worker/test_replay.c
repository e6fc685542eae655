/* Replay against a server in a thread: one run of 20 steps, trained here; then a row for each thing in what it left that is
 * other than it was, with the verdict, the step and the reason. */
#include <math.h>

#include "core/log.h"
#include "core/path.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/peer.h"
#include "worker/group/manifest.h"
#include "worker/group/modes.h"
#include "worker/group/run_paths.h"
#include "worker/group/trial.h"

#define RUN   "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define STEPS 20
#define ROWS  200
#define TOP   ((size_t)16 << 20)

struct fixture {
    struct peer peer;
    struct worker worker;
    struct arena arena;
    char dir[48], csv[64], other[64];
    /* what the run left */
    struct value *record;
    struct trace trace;
    double losses[STEPS];
    struct buf best, model;
    struct progress progress;
    int64_t best_step;
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static void write_csv(const char *path, int odd) {
    struct buf text = BUF_INIT(TOP);
    buf_adds(&text, "a,b,y\n");
    for (int i = 0; i < ROWS; i++) {
        int a = i * 37 % 101 - 50, b = i * 53 % 97 - 48;
        buf_addf(&text, "%d,%d.5,%d\n", a + (i == odd), b, 3 * a + b > 20);
    }
    assert_int_equal(path_write(path, text.data, text.len, 0600, NULL), STATUS_OK);
    buf_release(&text);
}

static struct value *config(struct fixture *f, const char *csv, const char *more) {
    struct value *v = NULL;
    struct err err = {0};
    char *text = arena_printf(
        &f->arena,
        "{\"seed\":7,\"virtual_shards\":4,\"max_time\":4,\"digest_every\":4,\"metric\":"
        "\"val_loss\",\"smaller_is_better\":false,\"language\":3,\"data\":{\"train\":{\"format\":"
        "\"csv\",\"file\":\"%s\","
        "\"header\":true,\"label\":\"y\"},\"validation_split\":0.2},\"model\":[{\"dense\":{\"out\":"
        "8}},\"relu\",{\"dense\":{\"out\":2}}],\"training\":{\"loss\":\"cross_entropy\","
        "\"global_batch_size\":32,\"optimizer\":{\"name\":\"sgd\",\"lr\":0.01,\"momentum\":0.9}%s}"
        "}",
        csv, more);
    must(json_parse(&f->arena, text, strlen(text), "config", &v, &err), &err);
    return v;
}

static void see_step(void *arg, const struct step_result *r) {
    struct fixture *f = arg;
    f->losses[r->step - 1] = r->loss;
}

static struct trainer *running;

static void see_best(void *arg, const struct best *b) {
    struct fixture *f = arg;
    struct err err;
    buf_clear(&f->best);
    f->best_step = b->step;
    must(checkpoint_write_weights(running, best_metadata(&f->arena, b, "val_loss", RUN), &f->best,
                                  &err),
         &err);
}

/* The run itself, and its record as a tracker keeps it. */
static void train(struct fixture *f) {
    struct err err = {0};
    char hex[DIGEST_HEX];
    struct value *v = config(f, f->csv, ""), *summary = value_map(&f->arena);
    struct worker_trial what = {.config = v};
    must(worker_trainer(&f->worker, &what, &running, &err), &err);
    must(trace_init(&f->trace, STEPS, 10, &err), &err);
    f->progress.trace = &f->trace;
    struct trial t = {.trainer = running,
                      .world = f->worker.world,
                      .progress = &f->progress,
                      .evaluate = true,
                      .hooks = {.arg = f, .step = see_step, .best = see_best}};
    must(trial_run(&t, &err), &err);
    assert_int_equal(trainer_steps(running), STEPS);
    must(checkpoint_write_weights(running, NULL, &f->model, &err), &err);
    f->record = value_map(&f->arena);
    value_set_string(&f->arena, f->record, "run", RUN);
    value_set(&f->arena, f->record, "manifest",
              manifest_make(&f->arena, running, f->worker.world, f->worker.device, NULL));
    hash_hex(&t.weights, hex);
    value_set_string(&f->arena, summary, "weights_digest", hex);
    hash_hex(&t.state, hex);
    value_set_string(&f->arena, summary, "state_digest", hex);
    value_set_int(&f->arena, summary, "steps", STEPS);
    best_describe(&f->arena, &f->progress.best, "val_loss", summary);
    value_set(&f->arena, f->record, "summary", summary);
    struct value *files = value_list(&f->arena), *file = value_map(&f->arena);
    value_set_string(&f->arena, file, "path", RUN_MODEL);
    value_push(&f->arena, files, file);
    value_set(&f->arena, f->record, "artifacts", files);
    trainer_destroy(&running);
}

static int setup(void **state) {
    static volatile sig_atomic_t never;
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};
    arena_init(&f->arena, (size_t)64 << 20);
    buf_init(&f->best, TOP);
    buf_init(&f->model, TOP);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-replay-XXXXXX");
    if (mkdtemp(f->dir) == NULL || peer_open(&f->peer) != 0)
        return -1;
    (void)snprintf(f->csv, sizeof f->csv, "%s/a.csv", f->dir);
    (void)snprintf(f->other, sizeof f->other, "%s/b.csv", f->dir);
    write_csv(f->csv, -1);
    write_csv(f->other, 17);
    f->worker.terminate = &never;
    f->worker.device_name = "cpu";
    f->worker.cache_bytes = TOP;
    must(world_open(&f->worker.world, &err), &err);
    train(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    peer_close(&f->peer);
    assert_string_equal(f->peer.bad.text, "");
    trace_release(&f->trace);
    buf_release(&f->best);
    buf_release(&f->model);
    worker_close_device(&f->worker);
    world_close(&f->worker.world);
    arena_release(&f->arena);
    (void)unlink(f->csv);
    (void)unlink(f->other);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

/* What is other than the run left it. */
enum damage {
    NONE,
    LOSS,         /* of the trace, at step `at` */
    MARK_WEIGHTS, /* of the digest at step `at` */
    MARK_STATE,
    SUMMARY_WEIGHTS,
    SUMMARY_STATE,
    BEST_DIGEST, /* of the summary */
    BEST_FILE,   /* one bit of a weight */
    MODEL_FILE,
    POINT,  /* of train_loss, at step `at` */
    CONFIG, /* with initial weights, which are not there */
    DATA,   /* the file has another cell */
    LIBRARY,
    NO_CONFIG,
};

struct row {
    enum damage damage;
    int at;
    int traced; /* steps in the trace; behind it train_loss says */
    bool marks, summary, kept, series;
    int64_t until;
    /* what is expected */
    const char *verdict;
    int64_t step;
    const char *says;
    int code;
};

/* As it was, with what is other; the chain is always right. */
static void leave_trace(struct fixture *f, const struct row *r) {
    struct trace t;
    struct buf bytes = BUF_INIT(TOP);
    struct err err;
    int64_t m = 0;
    must(trace_init(&t, STEPS, 10, &err), &err);
    for (int64_t i = 0; i < r->traced; i++) {
        bool here = i + 1 == r->at;
        must(trace_add(&t, f->trace.bits[i] ^ (r->damage == LOSS && here), &err), &err);
        while (m < f->trace.mark_count && f->trace.marks[m].step < i + 1)
            m++;
        if (!r->marks || m == f->trace.mark_count || f->trace.marks[m].step != i + 1)
            continue;
        struct trace_mark mark = f->trace.marks[m];
        mark.weights.bytes[31] ^= r->damage == MARK_WEIGHTS && here;
        mark.state.bytes[0] ^= r->damage == MARK_STATE && here;
        must(trace_mark(&t, &mark.weights, &mark.state, &err), &err);
    }
    trace_write(&t, &bytes);
    if (r->traced > 0)
        peer_put(&f->peer, RUN, "trace/000000.bin", bytes.data, bytes.len);
    buf_release(&bytes);
    trace_release(&t);
}

/* The last byte of a file of weights is one of a weight. */
static void leave_weights(struct fixture *f, const char *path, struct buf *bytes, bool damaged) {
    bytes->data[bytes->len - 1] ^= damaged;
    peer_put(&f->peer, RUN, path, bytes->data, bytes->len);
    bytes->data[bytes->len - 1] ^= damaged;
}

static void turn_digit(struct fixture *f, struct value *map, const char *key, bool turn) {
    char *hex = turn ? arena_printf(&f->arena, "%s", value_get_string(map, key, "")) : NULL;
    if (hex == NULL)
        return;
    hex[63] = hex[63] == '0' ? '1' : '0';
    value_set_string(&f->arena, map, key, hex);
}

static void leave(struct fixture *f, const struct row *r) {
    struct arena *a = &f->arena;
    struct value *v = value_copy(a, f->record), *summary = value_get(v, "summary");
    struct value *manifest = value_get(v, "manifest");
    peer_lock(&f->peer);
    peer_forget(&f->peer);
    f->peer.series[0] = (struct peer_series){.run = r->series ? RUN : NULL, .key = "train_loss"};
    leave_trace(f, r);
    turn_digit(f, summary, "weights_digest", r->damage == SUMMARY_WEIGHTS);
    turn_digit(f, summary, "state_digest", r->damage == SUMMARY_STATE);
    turn_digit(f, value_get(summary, "best"), "weights_digest", r->damage == BEST_DIGEST);
    if (r->damage == DATA)
        value_set(a, manifest, "config", config(f, f->other, ""));
    if (r->damage == CONFIG)
        value_set(a, manifest, "config", config(f, f->csv, ",\"initial_weights\":\"w\""));
    if (r->damage == LIBRARY)
        value_set_string(a, value_get(manifest, "libraries"), "onednn", "1.2.3");
    if (r->damage == NO_CONFIG)
        value_remove(manifest, "config");
    if (!r->summary)
        value_remove(v, "summary");
    if (r->kept) {
        leave_weights(f, RUN_BEST, &f->best, r->damage == BEST_FILE);
        leave_weights(f, RUN_MODEL, &f->model, r->damage == MODEL_FILE);
    } else {
        value_remove(v, "artifacts");
    }
    for (int i = 0; i < STEPS; i++) {
        bool odd = r->damage == POINT && i + 1 == r->at;
        f->peer.series[0].steps[i] = i + 1;
        f->peer.series[0].values[i] = odd ? nextafter(f->losses[i], 1e9) : f->losses[i];
        f->peer.series[0].count++;
    }
    value_set(&f->peer.arena, f->peer.runs, RUN, value_copy(&f->peer.arena, v));
    peer_unlock(&f->peer);
}

static void check(struct fixture *f, const struct row *r, size_t number) {
    struct replay_args args = {.run = RUN, .tracker = f->peer.endpoint, .until = r->until};
    struct err err = {0};
    int code = 0, before = peer_count(&f->peer, "run.update");
    leave(f, r);
    enum status st = worker_replay(&f->worker, &args, &code, &err);
    if (r->verdict == NULL) {
        assert_int_equal(st, r->code);
        assert_non_null(strstr(err.text, r->says));
        return;
    }
    must(st, &err);
    bool kept = r->until == 0 && strcmp(r->verdict, "refused") != 0;
    assert_int_equal(peer_count(&f->peer, "run.update") - before, kept);
    peer_lock(&f->peer);
    const struct value *v =
        kept ? value_at(peer_last(&f->peer, "run.update"), "summary.replay") : NULL;
    const char *reason = value_get_string(v, "reason", "");
    if (code != r->code)
        fail_msg("row %zu: exit code %d, not %d: %s", number, code, r->code, reason);
    if (kept &&
        (strcmp(value_get_string(v, "verdict", ""), r->verdict) != 0 ||
         value_get_int(v, "first_divergent_step", 0) != r->step || strstr(reason, r->says) == NULL))
        fail_msg("row %zu: %s at %lld: %s", number, value_get_string(v, "verdict", ""),
                 (long long)value_get_int(v, "first_divergent_step", 0), reason);
    if (kept && r->step == 0) {
        assert_int_equal(value_get_int(v, "steps", 0), STEPS);
        assert_int_equal(value_get_int(v, "ranks", 0), 1);
        assert_string_equal(value_get_string(v, "weights_digest", ""),
                            value_at(f->record, "summary.weights_digest")->string);
        assert_null(value_get(v, "run"));
        assert_true(value_get_int(v, "time_ns", 0) > 0);
    }
    peer_unlock(&f->peer);
}

#define ALL      .traced = STEPS, .marks = true, .summary = true, .kept = true, .series = true
#define DIVERGED .verdict = "diverged", .code = 3

static void test_what_differs(void **state) {
    struct fixture *f = *state;
    const struct row rows[] = {
        {NONE, ALL, .verdict = "exact", .says = ""},
        {LOSS, 1, ALL, DIVERGED, .step = 1, .says = "step 1: loss bits are"},
        {LOSS, STEPS, ALL, DIVERGED, .step = STEPS, .says = "step 20: loss bits are"},
        {MARK_WEIGHTS, 8, ALL, DIVERGED, .step = 8, .says = "step 8: losses agree, weights do"},
        {MARK_STATE, 16, ALL, DIVERGED, .step = 16, .says = "step 16: weights agree, the optim"},
        {SUMMARY_WEIGHTS, 0, ALL, DIVERGED, .step = STEPS, .says = "the last weights do not; cpu,"},
        {SUMMARY_STATE, 0, ALL, DIVERGED, .step = STEPS, .says = "the optimizer's last state"},
        {BEST_DIGEST, 0, ALL, DIVERGED, .step = f->best_step, .says = "not the run's best ones"},
        {BEST_FILE, 0, ALL, DIVERGED, .step = f->best_step, .says = "not those in best.safeten"},
        {MODEL_FILE, 0, ALL, DIVERGED, .step = STEPS, .says = "kept as model.safetensors do not"},
        {LIBRARY, 0, ALL, .verdict = "exact", .says = ""},
        /* A group that was lost: a trace up to some step, train_loss behind it, nothing else. */
        {NONE, 0, .traced = 8, .series = true, .verdict = "exact", .says = ""},
        {POINT, 9, .traced = 8, .series = true, DIVERGED, .step = 9, .says = "train_loss is"},
        {POINT, 8, .traced = 8, .series = true, .verdict = "exact", .says = ""},
        {POINT, STEPS, .series = true, DIVERGED, .step = STEPS, .says = "train_loss is"},
        {BEST_FILE, 0, .traced = 20, .kept = true, DIVERGED, .step = f->best_step, .says = "best"},
        {MARK_STATE, 4, .traced = 4, .marks = true, DIVERGED, .step = 4, .says = "weights agree"},
        /* A part of it. */
        {LOSS, 9, ALL, .until = 8, .verdict = "exact", .says = ""},
        {LOSS, 8, ALL, .until = 8, DIVERGED, .step = 8},
        {MODEL_FILE, 0, ALL, .until = 19, .verdict = "exact"},
        /* What cannot be shown. */
        {DATA, 0, ALL, .verdict = "refused", .code = 5},
        {CONFIG, 0, ALL, .verdict = "refused", .code = 4},
        {NONE, 0, .kept = true, .summary = true, .verdict = "refused", .code = 4},
        {NO_CONFIG, 0, ALL, .code = STATUS_INVALID, .says = "no configuration in its manifest"},
    };
    assert_int_equal(f->best_step, 5); /* between two digests */
    assert_int_equal(f->trace.mark_count, 5);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(f, &rows[i], i);
}

static void test_no_such_run(void **state) {
    struct fixture *f = *state;
    struct replay_args args = {.run = "01ARZ3NDEKTSV4RRFFQ69G5FAW", .tracker = f->peer.endpoint};
    struct err err = {0};
    int code = 0;
    assert_int_equal(worker_replay(&f->worker, &args, &code, &err), STATUS_NOT_FOUND);
}

int main(void) {
    struct err err;
    if (setenv("TRIREME_LOG", "error", 1) != 0 || log_open("test_replay", NULL, &err) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_differs),
        cmocka_unit_test(test_no_such_run),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
