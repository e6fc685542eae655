/* Rank 0's link against a server in a thread: what is said, when a trial is left, and what is written no more. */
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/peer.h"
#include "worker/group/link.h"

#define RUN   "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define OTHER "01ARZ3NDEKTSV4RRFFQ69G5FAW"
#define LEASE(run, epoch)                                                                          \
    "{\"sweep\":\"01ARZ3NDEKTSV4RRFFQ69G5FAA\",\"trial\":3,\"run\":\"" run "\",\"epoch\":" epoch "}"
#define ASSIGN(run, epoch)                                                                         \
    "{\"v\":1,\"op\":\"trial.assign\",\"lease\":" LEASE(                                           \
        run, epoch) ",\"config\":{\"seed\":5},\"until\":2.5,\"resume\":[\"" OTHER "\"]}"
#define CANCEL(run, epoch, state, why)                                                             \
    "{\"v\":1,\"op\":\"trial.cancel\",\"lease\":" LEASE(run, epoch) ",\"state\":\"" state          \
                                                                    "\",\"reason\":\"" why "\"}"
#define LIMIT_NS (60 * NS_PER_S) /* of waiting for what is on its way */

struct fixture {
    struct peer peer;
    struct link link;
    char home[48];
    volatile sig_atomic_t terminate;
    /* what the server says to the next request of this op; locked */
    const char *op;
    enum status refusal;
    const char *verdict;
    bool drops;
};

static enum status answer(void *arg, const char *op, const struct value *request, struct arena *a,
                          struct value *reply, struct err *why) {
    struct fixture *f = arg;
    (void)request;
    if (strcmp(op, "trial.report") == 0 && f->verdict != NULL) {
        value_set_string(a, reply, "verdict", f->verdict);
        value_set_real(a, reply, "until", 7.5);
        value_set_string(a, reply, "reason", "median");
    }
    if (strcmp(op, "group.hello") == 0 && value_get(request, "lease") != NULL)
        value_set_bool(a, reply, "keep", !f->drops);
    if (f->op == NULL || strcmp(op, f->op) != 0)
        return STATUS_OK;
    f->op = NULL;
    return err_set(why, f->refusal, "as the test wants it");
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};
    (void)snprintf(f->home, sizeof f->home, "/tmp/trireme-link-XXXXXX");
    if (mkdtemp(f->home) == NULL || setenv("TRIREME_HOME", f->home, 1) != 0 ||
        setenv("SLURM_JOB_END_TIME", "1700000000", 1) != 0 ||
        setenv("TRIREME_LAUNCH", "token", 1) != 0 || peer_open(&f->peer) != 0)
        return -1;
    f->peer.answer = answer;
    f->peer.arg = f;
    struct link_options o = {.coordinator = f->peer.endpoint,
                             .tracker = f->peer.endpoint,
                             .device = "cpu",
                             .ranks = 3,
                             .terminate = &f->terminate};
    if (link_open(&o, &f->link, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char dir[64];
    link_close(&f->link, NULL);
    peer_close(&f->peer);
    assert_string_equal(f->peer.bad.text, ""); /* nothing that the tables refuse was ever sent */
    (void)snprintf(dir, sizeof dir, "%s/cache", f->home);
    (void)rmdir(dir);
    (void)rmdir(f->home);
    free(f);
    return 0;
}

/* Tends until the condition holds. */
#define AWAIT(f, condition)                                                                        \
    do {                                                                                           \
        int64_t until = clock_mono_ns(&clock_system) + LIMIT_NS;                                   \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ns(&clock_system) < until);                                     \
            link_rest(&(f)->link, 5);                                                              \
        }                                                                                          \
    } while (0)

static void refuse_next(struct fixture *f, const char *op, enum status why) {
    peer_lock(&f->peer);
    f->op = op;
    f->refusal = why;
    peer_unlock(&f->peer);
}

static bool was_refused(struct fixture *f) {
    peer_lock(&f->peer);
    bool done = f->op == NULL;
    peer_unlock(&f->peer);
    return done;
}

static size_t noticed(struct fixture *f) {
    peer_lock(&f->peer);
    size_t n = f->peer.noticed;
    peer_unlock(&f->peer);
    return n;
}

/* Whether the last beat was of a trial: one that was sent before it was assigned may still be on its way. */
static bool beats_for_trial(struct fixture *f) {
    peer_lock(&f->peer);
    bool so = value_get(peer_last(&f->peer, "group.beat"), "lease") != NULL;
    peer_unlock(&f->peer);
    return so;
}

/* The last request of this op, as text without what a session adds. */
static void last_is(struct fixture *f, const char *op, const char *want) {
    struct buf text = BUF_INIT(65536);
    peer_lock(&f->peer);
    const struct value *seen = peer_last(&f->peer, op);
    assert_non_null(seen);
    struct value *v = value_copy(&f->peer.arena, seen);
    for (size_t i = 0; i < 6; i++)
        value_remove(v, (const char *[]){"v", "id", "op", "client", "seq", "group"}[i]);
    assert_int_equal(json_dump(v, JSON_COMPACT, &text, NULL), STATUS_OK);
    assert_string_equal(value_get_string(seen, "group", f->link.group), f->link.group);
    peer_unlock(&f->peer);
    assert_string_equal(buf_text(&text), want);
    buf_release(&text);
}

static void assign(struct fixture *f) {
    peer_notice(&f->peer, ASSIGN(RUN, "4"));
    assert_true(link_idle(&f->link));
}

/* ---- */

static void test_hello(void **state) {
    struct fixture *f = *state;
    size_t from = 0;
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    peer_lock(&f->peer);
    const struct value *hello = peer_next(&f->peer, "group.hello", &from);
    assert_int_equal(value_get_int(hello, "ranks", 0), 3);
    assert_int_equal(value_get_int(hello, "pid", 0), getpid());
    assert_string_equal(value_get_string(hello, "host", ""), host);
    assert_string_equal(value_get_string(hello, "device", ""), "cpu");
    assert_string_equal(value_get_string(hello, "launch", ""), "token");
    assert_true(value_get_int(hello, "ends_ns", 0) == INT64_C(1700000000000000000));
    assert_null(value_get(hello, "lease"));
    peer_unlock(&f->peer);
    AWAIT(f, peer_count(&f->peer, "group.beat") >= 3); /* one answered, another due */
    last_is(f, "group.beat", "{}");
    assert_int_equal(peer_count(&f->peer, "group.hello"), 1);
    assert_false(link_stop(&f->link));
}

static void test_a_trial(void **state) {
    struct fixture *f = *state;
    struct link *l = &f->link;
    assign(f);
    assert_true(l->until == 2.5);
    assert_int_equal(value_get_int(l->config, "seed", 0), 5);
    assert_string_equal(l->resume->items[0]->string, OTHER);
    peer_notice(&f->peer, ASSIGN(OTHER, "4")); /* refused: there is one */
    link_started(l, 7);
    AWAIT(f, peer_count(&f->peer, "trial.started") == 1 && noticed(f) == 2);
    last_is(f, "trial.started", "{\"lease\":" LEASE(RUN, "4") ",\"step\":7}");
    l->units = 1.5;
    l->samples_per_s = 250;
    int beats = peer_count(&f->peer, "group.beat");
    AWAIT(f, peer_count(&f->peer, "group.beat") >= beats + 2);
    last_is(f, "group.beat",
            "{\"lease\":" LEASE(RUN, "4") ",\"step\":7,\"units\":1.5,\"samples_per_s\":250.0}");
    assert_string_equal(value_get_string(l->lease, "run", ""), RUN);
    const struct value *metrics =
        value_set(&l->arena, value_map(&l->arena), "val_error", value_real(&l->arena, 0.25));
    link_done(l, &(struct link_end){.state = "failed",
                                    .code = "nonfinite",
                                    .reason = "NaN",
                                    .step = 9,
                                    .units = 2,
                                    .metrics = metrics});
    AWAIT(f, peer_count(&f->peer, "trial.done") == 1);
    last_is(f, "trial.done",
            "{\"lease\":" LEASE(RUN, "4") ",\"state\":\"failed\",\"code\":\"nonfinite\","
                                          "\"reason\":\"NaN\",\"units\":2.0,\"step\":9,"
                                          "\"metrics\":{\"val_error\":0.25}}");
    l->cancel = l->failed = l->dropped = true;
    link_free_trial(l);
    assert_true(l->lease == NULL && l->config == NULL && l->resume == NULL && !link_stop(l));
    peer_notice(&f->peer, ASSIGN(OTHER, "9"));
    assert_true(link_idle(l));
    assert_true(l->step == 0 && l->units == 0 && l->samples_per_s == 0);
    assert_string_equal(value_get_string(l->lease, "run", ""), OTHER);
}

static void report(struct fixture *f, const char *verdict, bool boundary) {
    struct arena a;
    arena_init(&a, 1 << 20);
    peer_lock(&f->peer);
    f->verdict = verdict;
    peer_unlock(&f->peer);
    link_report(&f->link, value_set(&a, value_map(&a), "val_loss", value_real(&a, 0.5)), 10, 2.5,
                boundary);
    arena_release(&a);
}

static void test_verdicts(void **state) {
    struct fixture *f = *state;
    struct link *l = &f->link;
    assign(f);
    report(f, "continue", true);
    assert_true(link_verdict(l));
    assert_true(!l->verdict_stop && l->verdict_until == 7.5 && l->reason[0] == '\0');
    last_is(f, "trial.report",
            "{\"lease\":" LEASE(RUN, "4") ",\"units\":2.5,\"step\":10,\"boundary\":true,"
                                          "\"metrics\":{\"val_loss\":0.5}}");
    report(f, "stop", true);
    assert_true(link_verdict(l));
    assert_true(l->verdict_stop && !l->cancel);
    assert_string_equal(l->reason, "median");
    l->reason[0] = '\0';
    report(f, "continue", false); /* nobody waits for it, and it changes nothing */
    AWAIT(f, peer_count(&f->peer, "trial.report") == 3);
    last_is(f, "trial.report",
            "{\"lease\":" LEASE(RUN, "4") ",\"units\":2.5,\"step\":10,"
                                          "\"metrics\":{\"val_loss\":0.5}}");
    report(f, "stop", false);
    AWAIT(f, l->cancel);
    assert_false(l->verdict_here);
    assert_string_equal(l->cancel_state, "stopped");
    assert_string_equal(l->reason, "median");
    assert_true(link_stop(l));
    peer_notice(&f->peer, CANCEL(RUN, "4", "cancelled", "too late"));
    report(f, "continue", true);
    assert_false(link_verdict(l)); /* it is left: nothing to wait for */
    AWAIT(f, noticed(f) == 2);
    assert_string_equal(l->cancel_state, "stopped");
}

static void test_cancelled(void **state) {
    struct fixture *f = *state;
    struct link *l = &f->link;
    assign(f);
    peer_notice(&f->peer, CANCEL(OTHER, "4", "stopped", "another run"));
    peer_notice(&f->peer, CANCEL(RUN, "5", "stopped", "another lease"));
    peer_notice(&f->peer, CANCEL(RUN, "4", "preempted", "room is needed"));
    AWAIT(f, l->cancel);
    assert_string_equal(l->cancel_state, "preempted");
    assert_string_equal(l->reason, "room is needed");
    assert_true(link_stop(l));
    link_free_trial(l);
    assign(f);
    assert_true(!l->cancel && l->reason[0] == '\0');
}

/* Only what is about this lease takes the trial away; a coordinator that knows us no more is told who we are. */
static void test_lost_lease(void **state) {
    struct fixture *f = *state;
    struct link *l = &f->link;
    assign(f);
    AWAIT(f, beats_for_trial(f));
    refuse_next(f, "group.beat", STATUS_NOT_FOUND);
    AWAIT(f, peer_count(&f->peer, "group.hello") == 2);
    last_is(f, "group.beat",
            "{\"lease\":" LEASE(RUN, "4") ",\"step\":0,\"units\":0.0,\"samples_per_s\":0.0}");
    peer_lock(&f->peer);
    const struct value *hello = peer_last(&f->peer, "group.hello");
    assert_int_equal(value_get_int(value_get(hello, "lease"), "epoch", 0), 4);
    peer_unlock(&f->peer);
    assert_false(l->dropped);
    refuse_next(f, "trial.report", STATUS_INVALID);
    report(f, NULL, false);
    AWAIT(f, was_refused(f));
    refuse_next(f, "group.beat", STATUS_CONFLICT);
    AWAIT(f, l->dropped);
    assert_true(link_stop(l));
    int done = peer_count(&f->peer, "trial.done"), reports = peer_count(&f->peer, "trial.report");
    report(f, NULL, true);
    link_done(l, &(struct link_end){.state = "completed", .metrics = value_map(&l->arena)});
    link_post_artifact(l, RUN, "x", "1", 1);
    link_post_tracker(l, message_request(&l->arena, "run.log", NULL));
    link_settle(l);
    int beats = peer_count(&f->peer, "group.beat");
    AWAIT(f, peer_count(&f->peer, "group.beat") >= beats + 2);
    last_is(f, "group.beat", "{}");
    assert_int_equal(peer_count(&f->peer, "trial.done"), done);
    assert_int_equal(peer_count(&f->peer, "trial.report"), reports);
    assert_int_equal(peer_count(&f->peer, "run.log"), 0);
    assert_int_equal(peer_count(&f->peer, "artifact.begin"), 0);
}

/* After a reconnect we say who we are, without being asked. */
static void test_another_socket(void **state) {
    struct fixture *f = *state;
    f->link.generation++;
    AWAIT(f, peer_count(&f->peer, "group.hello") == 2);
    AWAIT(f, f->link.said_hello);
    assert_int_equal(peer_count(&f->peer, "group.hello"), 2);
}

static void test_not_let_in(void **state) {
    struct fixture *f = *state;
    struct link other;
    struct err err = {0};
    refuse_next(f, "group.hello", STATUS_DENIED);
    assert_int_equal(link_open(&f->link.options, &other, &err), STATUS_DENIED);
    assert_string_equal(err.text, "as the test wants it");
}

static void test_not_kept(void **state) {
    struct fixture *f = *state;
    assign(f);
    peer_lock(&f->peer);
    f->drops = true;
    peer_unlock(&f->peer);
    refuse_next(f, "group.beat", STATUS_NOT_FOUND);
    AWAIT(f, f->link.dropped);
}

/* What the run needs and is refused fails the trial, with the first reason; what another request says does not. */
static void test_what_could_not_be_stored(void **state) {
    struct fixture *f = *state;
    struct link *l = &f->link;
    static const struct {
        const char *op, *run, *key;
        const char *says; /* NULL: the trial goes on */
    } rows[] = {
        {"run.update", RUN, "manifest", "the run's manifest could not be stored: as the test"},
        {"run.update", RUN, "summary", "the run's summary could not be stored: as the test"},
        {"run.update", RUN, "tags", "the run's record could not be stored: as the test"},
        {"run.update", OTHER, "manifest", NULL},
        {"artifact.commit", RUN, NULL, "the run's a/b could not be stored: as the test"},
        {"artifact.chunk", RUN, NULL, NULL}, /* the tracker may have the bytes already */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        peer_notice(&f->peer, ASSIGN(RUN, "4"));
        assert_true(link_idle(l));
        refuse_next(f, rows[i].op, STATUS_TOO_LARGE);
        if (rows[i].key != NULL) {
            struct value *r = message_request(&l->arena, rows[i].op, NULL);
            value_set_string(&l->arena, r, "run", rows[i].run);
            value_set(&l->arena, r, rows[i].key, value_map(&l->arena));
            link_post_tracker(l, r);
        } else {
            link_post_artifact(l, rows[i].run, "a/b", "bytes", 5);
        }
        link_settle(l);
        assert_int_equal(session_pending(l->tracker), 0);
        assert_int_equal(l->failed, rows[i].says != NULL);
        assert_int_equal(link_stop(l), rows[i].says != NULL);
        if (rows[i].says != NULL) {
            assert_int_equal(l->failure.status, STATUS_TOO_LARGE);
            assert_memory_equal(l->failure.text, rows[i].says, strlen(rows[i].says));
            struct err again = {.status = STATUS_FULL, .text = "later"};
            link_fail(l, "summary", &again);
            assert_memory_equal(l->failure.text, rows[i].says, strlen(rows[i].says));
        }
        link_free_trial(l);
    }
    assign(f);
    link_post_artifact(l, RUN, "a/b", "others", 6);
    link_settle(l);
    peer_lock(&f->peer);
    const struct peer_file *file = peer_find(&f->peer, RUN, "a/b", NULL);
    peer_unlock(&f->peer);
    assert_true(file != NULL && file->bytes.len == 6 && !l->failed);
}

static void test_the_end(void **state) {
    struct fixture *f = *state;
    peer_notice(&f->peer, "{\"v\":1,\"op\":\"group.exit\",\"reason\":\"enough\"}");
    assert_false(link_idle(&f->link));
    assert_true(f->link.leave && link_stop(&f->link));
    f->link.leave = false;
    f->terminate = 1;
    assert_false(link_idle(&f->link));
    assert_true(link_stop(&f->link));
    f->terminate = 0;
    f->link.heard_ns =
        clock_mono_ns(&clock_system) - LINK_SILENCE_MS / 2 * NS_PER_MS; /* not long enough */
    assign(f);
    link_free_trial(&f->link);
    f->link.beat_out = true; /* or an answer would come */
    f->link.heard_ns = clock_mono_ns(&clock_system) - (LINK_SILENCE_MS + 1) * NS_PER_MS;
    assert_false(link_idle(&f->link));
    assert_false(f->link.leave);
    f->link.heard_ns = clock_mono_ns(&clock_system);
    f->link.beat_out = false;
    assign(f);
    f->link.heard_ns = clock_mono_ns(&clock_system) - (LINK_SILENCE_MS + 1) * NS_PER_MS;
    link_rest(&f->link, 1);
    assert_false(f->link.leave);                        /* who trains waits for longer */
    for (int i = 0; i < 10000 && !f->link.leave; i++) { /* an answer may be on its way */
        f->link.beat_out = true;
        f->link.heard_ns = clock_mono_ns(&clock_system) - (LINK_BUSY_SILENCE_MS + 1) * NS_PER_MS;
        link_rest(&f->link, 1);
    }
    assert_true(f->link.leave);
    link_close(&f->link, "the end");
    last_is(f, "group.bye", "{\"reason\":\"the end\"}");
}

int main(void) {
    struct err err;
    if (setenv("TRIREME_LOG", "error", 1) != 0 || log_open("test_link", NULL, &err) != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_trial, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_could_not_be_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
