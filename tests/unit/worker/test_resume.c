/* What earlier attempts left, on a server in a thread: which checkpoint is taken, and what is carried over. The attempt ended
 * at step 9,000: two full chunks of the trace and a part of the next. */
#include <stdlib.h>

#include "core/log.h"
#include "core/path.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/peer.h"
#include "worker/group/resume.h"
#include "worker/group/run_paths.h"
#include "worker/group/warm.h"

#define OLD   "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define OWN   "01ARZ3NDEKTSV4RRFFQ69G5FAW"
#define OTHER "01ARZ3NDEKTSV4RRFFQ69G5FAX"
#define LEASE                                                                                      \
    "{\"sweep\":\"01ARZ3NDEKTSV4RRFFQ69G5FAA\",\"trial\":3,\"run\":\"" OWN "\",\"epoch\":4}"
#define STEP 9000
#define MORE 9100 /* what the trace of the old attempt holds */
#define TOP  ((size_t)16 << 20)

struct fixture {
    struct peer peer;
    struct worker worker;
    struct arena arena;
    struct link link;
    struct trainer *trainer;
    char dir[48], csv[64];
    volatile sig_atomic_t never;
    struct buf checkpoint, best, chunks[3];
    struct digest chain; /* behind STEP */
    struct best said;
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static void open_trainer(struct fixture *f) {
    struct buf text = BUF_INIT(TOP);
    struct value *v = NULL;
    struct err err = {0};
    buf_adds(&text, "a,b,y\n");
    for (int i = 0; i < 64; i++)
        buf_addf(&text, "%d,%d.5,%d\n", i * 37 % 101, i * 53 % 97, i % 2);
    must(path_write(f->csv, text.data, text.len, 0600, &err), &err);
    buf_release(&text);
    char *config = arena_printf(
        &f->arena,
        "{\"seed\":7,\"virtual_shards\":4,\"max_time\":4000,\"metric\":\"val_loss\",\"data\":{"
        "\"train\":{\"format\":\"csv\",\"file\":\"%s\",\"header\":true,\"label\":\"y\"},"
        "\"validation_split\":0.25},\"model\":[{\"dense\":{\"out\":2}}],\"training\":{\"loss\":"
        "\"cross_entropy\",\"global_batch_size\":32,\"optimizer\":{\"name\":\"sgd\",\"lr\":0.1}}}",
        f->csv);
    must(json_parse(&f->arena, config, strlen(config), "config", &v, &err), &err);
    must(worker_trainer(&f->worker, &(struct worker_trial){.config = v}, &f->trainer, &err), &err);
}

/* Losses that nobody computed: a trace is only compared with its chain. */
static void make_attempt(struct fixture *f) {
    struct trace t;
    struct err err = {0};
    struct progress progress = {.trace = &t};
    const struct model *m = trainer_model(f->trainer);
    float *weights = calloc((size_t)m->vector_count, sizeof *weights);
    must(trace_init(&t, MORE, 10, &err), &err);
    for (uint32_t i = 0; i < MORE; i++) {
        must(trace_add(&t, i * 2654435761U, &err), &err);
        if (i + 1 == STEP)
            f->chain = t.chain;
    }
    for (int i = 0; i < 3; i++) {
        trace_write(&t, &f->chunks[i]);
        assert_int_equal(trace_cut(&t), i < 2);
    }
    trace_shorten(&t, STEP);
    f->said = (struct best){.step = 4000, .value = 0.25};
    memcpy(weights, trainer_weights(f->trainer), (size_t)m->flat_count * sizeof *weights);
    hash_bytes(weights, (size_t)m->flat_count * sizeof *weights, &f->said.weights);
    trainer_set(f->trainer, weights, NULL, STEP);
    progress.best = f->said;
    must(checkpoint_write(f->trainer, &progress, &f->checkpoint, &err), &err);
    must(checkpoint_write_weights(f->trainer, best_metadata(&f->arena, &f->said, "val_loss", OLD),
                                  &f->best, &err),
         &err);
    free(weights);
    trace_release(&t);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};
    arena_init(&f->arena, TOP);
    buf_init(&f->checkpoint, TOP);
    buf_init(&f->best, TOP);
    for (int i = 0; i < 3; i++)
        buf_init(&f->chunks[i], TOP);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-resume-XXXXXX");
    if (mkdtemp(f->dir) == NULL || setenv("TRIREME_HOME", f->dir, 1) != 0 ||
        peer_open(&f->peer) != 0)
        return -1;
    (void)snprintf(f->csv, sizeof f->csv, "%s/a.csv", f->dir);
    f->worker = (struct worker){.terminate = &f->never, .device_name = "cpu", .cache_bytes = TOP};
    must(world_open(&f->worker.world, &err), &err);
    open_trainer(f);
    make_attempt(f);
    struct link_options o = {.coordinator = f->peer.endpoint,
                             .tracker = f->peer.endpoint,
                             .device = "cpu",
                             .ranks = 1,
                             .terminate = &f->never};
    must(link_open(&o, &f->link, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char cache[64];
    link_close(&f->link, NULL);
    peer_close(&f->peer);
    assert_string_equal(f->peer.bad.text, "");
    trainer_destroy(&f->trainer);
    worker_close_device(&f->worker);
    world_close(&f->worker.world);
    buf_release(&f->checkpoint);
    buf_release(&f->best);
    for (int i = 0; i < 3; i++)
        buf_release(&f->chunks[i]);
    arena_release(&f->arena);
    (void)snprintf(cache, sizeof cache, "%s/cache", f->dir);
    (void)unlink(f->csv);
    (void)rmdir(cache);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

enum damage {
    NONE,
    NO_CHECKPOINT,
    CUT_CHECKPOINT,
    NO_FIRST,    /* chunk of the trace */
    OTHER_FIRST, /* of another run */
    NO_THIRD,
    SHORT_THIRD, /* ends before the checkpoint's step */
    NO_MORE,     /* no damage: the trace ends where the checkpoint is */
    NO_BEST,
    OTHER_BEST, /* the same step, another weight */
    EARLY_BEST, /* of a step that is neither the checkpoint's best nor behind it */
    LATER_BEST, /* of a step behind the checkpoint */
};

/* A chunk behind `cuts` others, of a run with other losses, or of this one up to a step. */
static void put_chunk(struct fixture *f, const char *path, int cuts, int64_t end, uint32_t odd) {
    struct trace t;
    struct err err = {0};
    struct buf bytes = BUF_INIT(TOP);
    must(trace_init(&t, MORE, 10, &err), &err);
    for (uint32_t i = 0; i < end; i++)
        must(trace_add(&t, i * 2654435761U + odd, &err), &err);
    while (cuts-- > 0)
        assert_true(trace_cut(&t));
    trace_write(&t, &bytes);
    peer_put(&f->peer, OLD, path, bytes.data, bytes.len);
    buf_release(&bytes);
    trace_release(&t);
}

static void put_best(struct fixture *f, int64_t step) {
    struct buf bytes = BUF_INIT(TOP);
    struct best b = f->said;
    struct err err = {0};
    b.step = step;
    must(checkpoint_write_weights(f->trainer, best_metadata(&f->arena, &b, "val_loss", OLD), &bytes,
                                  &err),
         &err);
    peer_put(&f->peer, OLD, RUN_BEST, bytes.data, bytes.len);
    buf_release(&bytes);
}

static void leave(struct fixture *f, enum damage d) {
    struct buf *best = &f->best, *checkpoint = &f->checkpoint;
    peer_lock(&f->peer);
    peer_forget(&f->peer);
    if (d != NO_CHECKPOINT)
        peer_put(&f->peer, OLD, RUN_CHECKPOINT, checkpoint->data,
                 checkpoint->len - (d == CUT_CHECKPOINT));
    if (d == OTHER_FIRST)
        put_chunk(f, "trace/000000.bin", 0, MORE, 1);
    else if (d != NO_FIRST)
        peer_put(&f->peer, OLD, "trace/000000.bin", f->chunks[0].data, f->chunks[0].len);
    peer_put(&f->peer, OLD, "trace/000001.bin", f->chunks[1].data, f->chunks[1].len);
    if (d == SHORT_THIRD || d == NO_MORE)
        put_chunk(f, "trace/000002.bin", 2, d == NO_MORE ? STEP : STEP - 1, 0);
    else if (d != NO_THIRD)
        peer_put(&f->peer, OLD, "trace/000002.bin", f->chunks[2].data, f->chunks[2].len);
    best->data[best->len - 1] ^= d == OTHER_BEST;
    if (d == EARLY_BEST || d == LATER_BEST)
        put_best(f, d == EARLY_BEST ? 4500 : STEP + 1);
    else if (d != NO_BEST)
        peer_put(&f->peer, OLD, RUN_BEST, best->data, best->len);
    best->data[best->len - 1] ^= d == OTHER_BEST;
    peer_unlock(&f->peer);
}

static struct value *attempts(struct fixture *f, const char *text) {
    struct value *v = NULL;
    struct err err = {0};
    must(json_parse(&f->arena, text, strlen(text), "resume", &v, &err), &err);
    return v;
}

static void test_which_is_taken(void **state) {
    struct fixture *f = *state;
    static const struct {
        enum damage damage;
        bool needs_best, taken;
    } rows[] = {
        {NONE, true, true},         {NO_CHECKPOINT, false, false}, {CUT_CHECKPOINT, false, false},
        {NO_FIRST, false, false},   {OTHER_FIRST, false, false},   {NO_THIRD, false, false},
        {SHORT_THIRD, true, false}, {NO_BEST, true, false},        {NO_BEST, false, true},
        {OTHER_BEST, true, false},  {OTHER_BEST, false, true},     {EARLY_BEST, true, false},
        {LATER_BEST, true, true},   {NO_MORE, true, true},
    };
    f->link.resume = attempts(f, "[\"" OTHER "\",7,\"" OLD "\"]");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct resume r = {.link = &f->link,
                           .model = trainer_model(f->trainer),
                           .needs_best = rows[i].needs_best,
                           .bytes = BUF_INIT(TOP)};
        leave(f, rows[i].damage);
        if (resume_find(&r) != rows[i].taken)
            fail_msg("row %zu", i);
        if (rows[i].taken) {
            assert_string_equal(r.run, OLD);
            assert_int_equal(r.about.step, STEP);
            assert_int_equal(r.bytes.len, f->checkpoint.len);
            assert_memory_equal(r.bytes.data, f->checkpoint.data, r.bytes.len);
            assert_false(resume_find(&r)); /* there is no other */
        }
        buf_release(&r.bytes);
    }
    f->link.resume = NULL;
    struct resume none = {.link = &f->link, .model = trainer_model(f->trainer)};
    assert_false(resume_find(&none));
}

/* What was whole becomes the own run's, once; the rest of the trace is at hand. */
static void test_carried_over(void **state) {
    struct fixture *f = *state;
    struct err err = {0};
    for (int best = 0; best < 2; best++) {
        struct trace t;
        struct progress progress = {.trace = &t};
        struct resume r = {.link = &f->link,
                           .model = trainer_model(f->trainer),
                           .needs_best = best,
                           .bytes = BUF_INIT(TOP)};
        must(trace_init(&t, 0, 0, &err), &err);
        leave(f, best ? NO_MORE : NONE);
        f->link.resume = attempts(f, "[\"" OLD "\"]");
        assert_true(resume_find(&r));
        resume_carry(&r, OWN, &progress);
        link_settle(&f->link);
        assert_true(t.first == 2 * TRACE_CHUNK && t.count == STEP);
        assert_memory_equal(&t.chain, &f->chain, sizeof t.chain);
        assert_int_equal(t.bits[STEP - 1 - t.first], (STEP - 1) * 2654435761U);
        peer_lock(&f->peer);
        const struct peer_file *kept = peer_find(&f->peer, OWN, RUN_BEST, NULL);
        for (int i = 0; i < 2; i++) {
            const char *path = i == 0 ? "trace/000000.bin" : "trace/000001.bin";
            const struct peer_file *own = peer_find(&f->peer, OWN, path, NULL);
            assert_true(own != NULL && own->bytes.len == f->chunks[i].len);
            assert_memory_equal(own->bytes.data, f->chunks[i].data, own->bytes.len);
        }
        assert_null(peer_find(&f->peer, OWN, "trace/000002.bin", NULL)); /* it grows yet */
        assert_int_equal(kept != NULL, best);
        assert_int_equal(progress.best.step, best ? 4000 : 0);
        if (best)
            assert_memory_equal(kept->bytes.data, f->best.data, f->best.len);
        peer_unlock(&f->peer);
        trace_release(&t);
        buf_release(&r.bytes);
    }
}

/* What was there when the checkpoint was chosen, and is not any more. */
static void test_lost_meanwhile(void **state) {
    struct fixture *f = *state;
    static const enum damage damages[] = {NO_FIRST, OTHER_FIRST, NO_BEST};
    struct err err = {0};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        struct trace t;
        struct progress progress = {.trace = &t};
        struct resume r = {.link = &f->link,
                           .model = trainer_model(f->trainer),
                           .needs_best = true,
                           .bytes = BUF_INIT(TOP)};
        must(trace_init(&t, 0, 0, &err), &err);
        leave(f, NONE);
        f->link.resume = attempts(f, "[\"" OLD "\"]");
        assert_true(resume_find(&r));
        leave(f, damages[i]);
        f->link.lease = attempts(f, LEASE);
        resume_carry(&r, OWN, &progress);
        assert_true(f->link.failed && link_stop(&f->link));
        assert_non_null(strstr(f->link.failure.text, damages[i] == NO_BEST ? RUN_BEST : "trace"));
        link_settle(&f->link);
        f->link.lease = NULL;
        f->link.failed = false;
        trace_release(&t);
        buf_release(&r.bytes);
    }
}

int main(void) {
    struct err err;
    if (setenv("TRIREME_LOG", "error", 1) != 0 || log_open("test_resume", NULL, &err) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_is_taken),
        cmocka_unit_test(test_carried_over),
        cmocka_unit_test(test_lost_meanwhile),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
