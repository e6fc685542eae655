/* The core, case by case: fences, retries, cancelling, resuming, groups that come and go, recovery.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/decide/coordinator.h"
#include "core/json.h"
#include "core/yaml.h"
#include "wire/message.h"

#define SWEEP    "01J00000000000000000000001"
#define GROUP_A  "01J0000000000000000000000A"
#define GROUP_B  "01J0000000000000000000000B"
#define LEASE_MS 10000
#define LOG_MAX  256

#define REST                                                                                       \
    "data: {train: {format: npy, images: a, labels: b}, validation_split: 0.2}, model: [{dense: "  \
    "{out: 2}}], training: {loss: cross_entropy, optimizer: {name: sgd, lr: \"${lr}\"}, "          \
    "global_batch_size: 8}}"
#define CONFIG(trials, more)                                                                       \
    "{name: t, hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}, searcher: {name: " \
    "random, max_trials: " trials ", max_time: 4}, max_restarts: 2, " more REST

struct fixture {
    struct coordinator *c;
    struct arena arena;
    struct outbox out;
    struct turn turn; /* of the last input */
    struct err err;
    struct value *reply;
    int64_t now_ms;
    char *log[LOG_MAX]; /* events as JSON, as the tracker holds them */
    size_t log_count;
    char last_post[64], last_state[32], last_run[32]; /* of the last run.update or sweep.update */
    char notice[32], notice_to[32];                   /* the last one */
    struct value *assigned;                           /* lease of the last trial.assign */
    struct value *assignment, *created;               /* the last trial.assign and run.create */
};

static const struct coordinator_options options = {
    .lease_ms = LEASE_MS, .beat_ms = 1000, .machine_slots = 8};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    arena_init(&f->arena, (size_t)64 << 20);
    f->now_ms = 1000;
    *state = f;
    return coordinator_new(&options, &f->c, &f->err) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    coordinator_destroy(&f->c);
    arena_release(&f->arena);
    for (size_t i = 0; i < f->log_count; i++)
        free(f->log[i]);
    free(f);
    return 0;
}

static struct turn *now(struct fixture *f) {
    f->turn = (struct turn){
        .c = f->c,
        .now = {.wall_ns = INT64_C(1790000000000000000) + f->now_ms * NS_PER_MS,
                .mono_ns = f->now_ms * NS_PER_MS},
        .out = &f->out,
    };
    return &f->turn;
}

static void keep_event(struct fixture *f, const struct outgoing *o) {
    struct buf text = BUF_INIT(1 << 20);
    assert_int_equal(json_dump(o->message, JSON_COMPACT, &text, &f->err), STATUS_OK);
    assert_true(f->log_count < LOG_MAX);
    assert_int_equal(o->sequence, (int64_t)f->log_count + 1);
    f->log[f->log_count++] = strdup(buf_text(&text));
    buf_release(&text);
}

static void begin(struct fixture *f) {
    f->out = (struct outbox){.arena = &f->arena};
    f->reply = NULL;
    f->notice[0] = '\0';
    memset(&f->err, 0, sizeof f->err);
}

/* Every reply is what the message table promises. */
static void check_reply(struct fixture *f, const struct value *m) {
    const struct message_type *type = message_find(value_get_string(m, "op", ""));
    struct value *whole = message_reply(&f->arena, "1");
    for (size_t i = 0; f->reply != NULL && i < f->reply->count; i++)
        value_set(&f->arena, whole, f->reply->members[i].key, f->reply->members[i].value);
    if (message_check_reply(&f->arena, type, whole, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
}

/* And every notice and post is a message that its receiver accepts. */
static void check_message(struct fixture *f, const struct outgoing *o) {
    struct message parsed;
    struct value *copy = value_copy(&f->arena, o->message);
    struct buf text = BUF_INIT(1 << 22);
    value_set_string(&f->arena, copy, "id", "1");
    assert_int_equal(json_dump(copy, JSON_COMPACT, &text, &f->err), STATUS_OK);
    if (message_parse(&f->arena, text.data, text.len, &parsed, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
    buf_release(&text);
}

static void take_outbox(struct fixture *f) {
    for (size_t i = 0; i < f->out.count; i++) {
        const struct outgoing *o = &f->out.items[i];
        const char *op = value_get_string(o->message, "op", "");
        if (o->kind == OUT_EVENT)
            keep_event(f, o);
        else
            check_message(f, o);
        if (o->kind == OUT_POST && strcmp(op, "run.create") == 0)
            f->created = o->message;
        if (o->kind == OUT_POST) {
            (void)snprintf(f->last_post, sizeof f->last_post, "%s", op);
            (void)snprintf(f->last_state, sizeof f->last_state, "%s",
                           value_get_string(o->message, "state", ""));
            (void)snprintf(f->last_run, sizeof f->last_run, "%s",
                           value_get_string(o->message, "run", ""));
        }
        if (o->kind == OUT_NOTICE) {
            (void)snprintf(f->notice, sizeof f->notice, "%s", op);
            (void)snprintf(f->notice_to, sizeof f->notice_to, "%s", o->to);
            if (strcmp(op, "trial.assign") == 0)
                f->assigned = value_get((f->assignment = o->message), "lease");
        }
    }
    f->out = (struct outbox){.arena = &f->arena};
}

static enum status ask(struct fixture *f, struct value *m) {
    begin(f);
    enum status st = coordinator_handle(now(f), m, &f->reply, &f->err);
    if (st == STATUS_OK)
        check_reply(f, m);
    take_outbox(f);
    coordinator_check(f->c);
    return st;
}

static void step(struct fixture *f) {
    begin(f);
    assert_int_equal(coordinator_step(now(f), &f->err), STATUS_OK);
    take_outbox(f);
    coordinator_check(f->c);
}

/* `text` is YAML flow: {key: value, …}. */
static struct value *message(struct fixture *f, const char *op, const char *text) {
    struct value *m = NULL;
    if (yaml_parse(&f->arena, text, strlen(text), "test", &m, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
    value_set_string(&f->arena, m, "op", op);
    return m;
}

static void submit(struct fixture *f, const char *config) {
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config", message(f, "x", config));
    value_remove(value_get(m, "config"), "op");
    assert_int_equal(ask(f, m), STATUS_OK);
}

static struct value *hello_of(struct fixture *f, const char *group, int ranks) {
    char text[200];
    (void)snprintf(text, sizeof text,
                   "{group: %s, ranks: %d, host: h, pid: 1, device: cpu, build: b, launch: tok}",
                   group, ranks);
    return message(f, "group.hello", text);
}

static void hello(struct fixture *f, const char *group) {
    assert_int_equal(ask(f, hello_of(f, group, 1)), STATUS_OK);
    step(f);
}

static struct value *about(struct fixture *f, const char *op, const char *group,
                           const struct value *lease, const char *text) {
    struct value *m = message(f, op, text);
    value_set_string(&f->arena, m, "group", group);
    value_set(&f->arena, m, "lease", value_copy(&f->arena, lease));
    return m;
}

static enum status started(struct fixture *f, const char *group) {
    return ask(f, about(f, "trial.started", group, f->assigned, "{step: 0}"));
}

static enum status done(struct fixture *f, const char *group, const char *text) {
    return ask(f, about(f, "trial.done", group, f->assigned, text));
}

#define COMPLETED "{state: completed, units: 4, step: 9, metrics: {val_error: 0.25}}"

static const struct value *status(struct fixture *f) {
    assert_int_equal(ask(f, message(f, "sweep.status", "{sweep: " SWEEP "}")), STATUS_OK);
    return value_get(f->reply, "sweep");
}

static void trial_is(struct fixture *f, int n, const char *state, int attempt, int restarts) {
    const struct value *t = value_get(status(f), "trials")->items[n - 1];
    assert_string_equal(value_get_string(t, "state", ""), state);
    assert_int_equal(value_get_int(t, "attempt", -1), attempt);
    assert_int_equal(value_get_int(t, "restarts", -1), restarts);
}

static void sweep_is(struct fixture *f, const char *state) {
    assert_string_equal(value_get_string(status(f), "state", ""), state);
}

static void lose(struct fixture *f, const char *group) {
    begin(f);
    assert_int_equal(coordinator_lost(now(f), group, "killed", &f->err), STATUS_OK);
    take_outbox(f);
}

/* A coordinator that has the log, and nothing else. */
static void rebuild(struct fixture *f) {
    coordinator_destroy(&f->c);
    assert_int_equal(coordinator_new(&options, &f->c, &f->err), STATUS_OK);
    for (size_t i = 0; i < f->log_count; i++) {
        struct value *e = NULL;
        assert_int_equal(json_parse(&f->arena, f->log[i], strlen(f->log[i]), "log", &e, &f->err),
                         STATUS_OK);
        if (coordinator_restore(f->c, SWEEP, (int64_t)i + 1, e, &f->err) != STATUS_OK)
            fail_msg("%s", f->err.text);
    }
    begin(f);
    assert_int_equal(coordinator_restored(now(f), SWEEP, &f->err), STATUS_OK);
    take_outbox(f);
}

static void restart(struct fixture *f) {
    struct digest before, after;
    assert_int_equal(coordinator_digest(f->c, &before, &f->err), STATUS_OK);
    rebuild(f);
    assert_int_equal(coordinator_digest(f->c, &after, &f->err), STATUS_OK);
    assert_memory_equal(&before, &after, sizeof before);
}

/* ---- the straight way ---- */

static void runs_a_sweep(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    hello(f, GROUP_A);
    assert_string_equal(f->notice, "trial.assign");
    assert_string_equal(f->last_post, "run.create");
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_string_equal(f->last_state, "running");
    struct value *r = about(f, "trial.report", GROUP_A, f->assigned,
                            "{units: 2, step: 5, boundary: true, metrics: {val_error: 0.5}}");
    size_t before = f->log_count;
    assert_int_equal(ask(f, r), STATUS_OK);
    assert_string_equal(value_get_string(f->reply, "verdict", ""), "continue");
    assert_int_equal(f->log_count, before + 2); /* the report and its verdict */
    assert_non_null(strstr(f->log[before + 1], "\"reason\":"));
    assert_int_equal(ask(f, r), STATUS_OK); /* again: the same answer, nothing stored */
    assert_int_equal(f->log_count, before + 2);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    assert_string_equal(f->last_state, "completed");
    sweep_is(f, "active");
    step(f);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    assert_string_equal(f->last_post, "sweep.update");
    sweep_is(f, "completed");
    assert_int_equal(value_at(status(f), "best.trial")->integer, 1); /* ties: the lower number */
    restart(f);
    sweep_is(f, "completed");
}

static void submitting_twice_is_once(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    submit(f, CONFIG("2", ""));
    assert_int_equal(f->log_count, 1);
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config", message(f, "x", CONFIG("3", "")));
    assert_int_equal(ask(f, m), STATUS_EXISTS);
}

static void refuses_bad_sweeps(void **state) {
    struct fixture *f = *state;
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config", message(f, "x", "{name: t}"));
    value_remove(value_get(m, "config"), "op");
    assert_int_equal(ask(f, m), STATUS_INVALID);
    assert_int_equal(f->log_count, 0);
    assert_int_equal(ask(f, message(f, "sweep.status", "{sweep: " SWEEP "}")), STATUS_NOT_FOUND);
}

/* ---- fences ---- */

static void fences_stale_leases(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    const struct value *old = f->assigned;
    lose(f, GROUP_A);
    assert_string_equal(f->last_state, "failed");
    hello(f, GROUP_B);
    assert_int_equal(value_get_int(f->assigned, "epoch", 0), 2);
    size_t before = f->log_count;
    static const char *const ops[] = {"trial.started", "trial.report", "trial.done"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ask(f, about(f, ops[i], GROUP_A, old,
                                      "{state: completed, units: 4, step: 9, metrics: {val_error: "
                                      "0.1}}")),
                         STATUS_CONFLICT);
    /* The right lease from the wrong group. */
    assert_int_equal(started(f, GROUP_A), STATUS_CONFLICT);
    assert_int_equal(f->log_count, before);
    /* The lost group comes back with what it had: it is told to drop it. */
    struct value *h = hello_of(f, GROUP_A, 1);
    value_set(&f->arena, h, "lease", value_copy(&f->arena, old));
    assert_int_equal(ask(f, h), STATUS_OK);
    assert_false(value_get_bool(f->reply, "keep", true));
    assert_int_equal(ask(f, about(f, "group.beat", GROUP_A, old, "{}")), STATUS_CONFLICT);
    trial_is(f, 1, "assigned", 2, 1);
}

static void done_twice_is_once(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    size_t before = f->log_count;
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    assert_int_equal(f->log_count, before);
    restart(f); /* its answer was lost with the coordinator */
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    assert_int_equal(f->log_count, before);
}

static void unknown_groups_say_hello(void **state) {
    struct fixture *f = *state;
    assert_int_equal(ask(f, message(f, "group.beat", "{group: " GROUP_A "}")), STATUS_NOT_FOUND);
    assert_int_equal(ask(f, message(f, "group.bye", "{group: " GROUP_A "}")), STATUS_OK);
}

/* ---- retries ---- */

static void retries_what_may_help(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(done(f, GROUP_A,
                              "{state: failed, code: io, reason: disk, units: 0, step: "
                              "0, metrics: {}}"),
                         STATUS_OK);
        trial_is(f, 1, "queued", i + 1, i + 1);
        step(f);
    }
    assert_int_equal(done(f, GROUP_A,
                          "{state: failed, code: io, reason: disk, units: 0, step: 0, "
                          "metrics: {}}"),
                     STATUS_OK);
    trial_is(f, 1, "failed", 3, 2);
    sweep_is(f, "failed"); /* all of its trials have failed */
    assert_non_null(strstr(value_get_string(status(f), "reason", ""), "disk"));
}

static void does_not_retry_the_hopeless(void **state) {
    struct fixture *f = *state;
    static const char *const ends[] = {
        "{state: failed, code: invalid, units: 0, step: 0, metrics: {}}",
        "{state: failed, code: nonfinite, units: 0, step: 0, metrics: {}}",
        "{state: completed, units: 4, step: 9, metrics: {val_loss: 0.5}}", /* not the metric */
        "{state: stopped, units: 4, step: 9, metrics: {val_error: null}}",
    };
    submit(f, CONFIG("5", ""));
    hello(f, GROUP_A);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(done(f, GROUP_A, ends[i]), STATUS_OK);
        trial_is(f, i + 1, "failed", 1, 0);
        step(f);
    }
    assert_null(value_get(status(f), "best"));
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    sweep_is(f, "completed");
    assert_int_equal(value_at(status(f), "best.trial")->integer, 5);
}

static void preemption_costs_nothing(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(done(f, GROUP_A, "{state: preempted, units: 1, step: 2, metrics: {}}"),
                         STATUS_OK);
        trial_is(f, 1, "queued", i + 1, 0);
        step(f);
    }
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    sweep_is(f, "completed");
}

static void silence_ends_a_lease(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    f->now_ms += LEASE_MS;
    step(f);
    trial_is(f, 1, "assigned", 1, 0);
    f->now_ms += 1;
    step(f);
    trial_is(f, 1, "queued", 1, 1);
    /* A stall of ours is not their silence. */
    hello(f, GROUP_B);
    f->now_ms += LEASE_MS + 5000;
    coordinator_stalled(f->c, LEASE_MS + 5000);
    step(f);
    trial_is(f, 1, "assigned", 2, 1);
}

static void lost_assignments_are_sent_again(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    struct value *beat = message(f, "group.beat", "{group: " GROUP_A "}");
    assert_int_equal(ask(f, beat), STATUS_OK);
    assert_string_equal(f->notice, "");
    f->now_ms += 2500;
    assert_int_equal(ask(f, beat), STATUS_OK);
    assert_string_equal(f->notice, "trial.assign");
    assert_int_equal(ask(f, hello_of(f, GROUP_A, 1)), STATUS_OK); /* or a hello shows it */
    assert_string_equal(f->notice, "trial.assign");
    trial_is(f, 1, "assigned", 1, 0);
}

/* ---- recovery ---- */

static void leases_survive_a_crash(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    restart(f);
    hello(f, GROUP_B); /* does not get it: it waits for its group */
    trial_is(f, 1, "running", 1, 0);
    struct value *h = hello_of(f, GROUP_A, 1);
    value_set(&f->arena, h, "lease", value_copy(&f->arena, f->assigned));
    assert_int_equal(ask(f, h), STATUS_OK);
    assert_true(value_get_bool(f->reply, "keep", false));
    f->now_ms += LEASE_MS / 2;
    assert_int_equal(ask(f, about(f, "group.beat", GROUP_A, f->assigned, "{step: 3}")), STATUS_OK);
    f->now_ms += LEASE_MS / 2 + 1;
    step(f);
    trial_is(f, 1, "running", 1, 0);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    sweep_is(f, "completed");
}

static void leases_expire_after_a_crash(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    restart(f);
    f->now_ms += LEASE_MS;
    step(f);
    trial_is(f, 1, "queued", 1, 1);
    hello(f, GROUP_B);
    assert_int_equal(value_get_int(f->assigned, "epoch", 0), 2);
}

static void damaged_logs_are_refused(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    struct value *e = message(f, "x", "{event: trial.started, trial: 1, epoch: 1}");
    value_remove(e, "op");
    assert_int_equal(coordinator_restore(f->c, SWEEP, 3, e, &f->err), STATUS_CORRUPT);
    assert_int_equal(coordinator_restore(f->c, SWEEP, 2, e, &f->err), STATUS_CORRUPT);
    assert_int_equal(coordinator_restore(f->c, GROUP_A, 1, e, &f->err), STATUS_CORRUPT);
    assert_true(coordinator_knows(f->c, SWEEP));
    coordinator_forget(f->c, SWEEP);
    assert_false(coordinator_knows(f->c, SWEEP));
}

/* ---- the log has the last word ---- */

/* The log as another version would have written it: the first `from` of an event becomes `to`. */
static void rewrite(struct fixture *f, const char *event, const char *from, const char *to) {
    for (size_t i = 0; i < f->log_count; i++) {
        char *at = strstr(f->log[i], from);
        if (strstr(f->log[i], event) == NULL || at == NULL)
            continue;
        const char *text = arena_printf(&f->arena, "%.*s%s%s", (int)(at - f->log[i]), f->log[i], to,
                                        at + strlen(from));
        free(f->log[i]);
        f->log[i] = strdup(text);
        return;
    }
    fail_msg("no event has %s", from);
}

/* The hyperparameters of the first trial.assigned, as the log has them. */
static const char *logged_point(struct fixture *f) {
    for (size_t i = 0; i < f->log_count; i++) {
        const char *at = strstr(f->log[i], "\"hyperparameters\":{\"lr\":0.");
        if (strstr(f->log[i], "trial.assigned") != NULL && at != NULL)
            return arena_printf(&f->arena, "%.*s", (int)(strchr(at, '}') - at) + 1, at);
    }
    fail_msg("nothing was assigned");
    return NULL;
}

static double lr_of(const struct value *hyperparameters) {
    return value_get_real(hyperparameters, "lr", -1.0);
}

/* A searcher that would choose other points today changes nothing that was chosen. */
static void points_are_the_logs(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    hello(f, GROUP_A);
    rewrite(f, "trial.assigned", logged_point(f), "\"hyperparameters\":{\"lr\":0.015625}");
    rebuild(f);
    assert_true(lr_of(value_get(value_get(status(f), "trials")->items[0], "hyperparameters")) ==
                0.015625);
    assert_true(lr_of(value_get(f->created, "params")) == 0.015625); /* told again */
    restart(f);
    /* Its group does not come back; the next attempt trains with the same point. */
    f->now_ms += LEASE_MS + 1;
    step(f);
    hello(f, GROUP_B);
    assert_int_equal(value_get_int(f->assigned, "epoch", 0), 2);
    const struct value *config = value_get(f->assignment, "config");
    assert_true(lr_of(value_get(config, "hyperparameters")) == 0.015625);
    assert_true(value_at(config, "training.optimizer.lr")->real == 0.015625);
    assert_non_null(strstr(f->log[f->log_count - 1], "{\"lr\":0.015625}"));
    restart(f);
    assert_int_equal(done(f, GROUP_B, COMPLETED), STATUS_OK);
    step(f);
    hello(f, GROUP_B); /* the second trial is the searcher's */
    assert_true(lr_of(value_get(value_get(f->assignment, "config"), "hyperparameters")) !=
                0.015625);
}

/* Nor does one that would judge otherwise. */
static void verdicts_and_boundaries_are_the_logs(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    struct value *report = about(f, "trial.report", GROUP_A, f->assigned,
                                 "{units: 2, step: 5, boundary: true, metrics: {val_error: 0.5}}");
    assert_int_equal(ask(f, report), STATUS_OK);
    rewrite(f, "trial.verdict", "\"until\":4", "\"until\":3");
    rewrite(f, "trial.verdict", "random: every trial runs to max_time", "as it was judged then");
    rebuild(f);
    assert_int_equal(ask(f, report), STATUS_OK); /* its answer was lost */
    assert_true(value_get_real(f->reply, "until", 0.0) == 3.0);
    assert_string_equal(value_get_string(f->reply, "reason", ""), "as it was judged then");
    restart(f);
    lose(f, GROUP_A);
    hello(f, GROUP_B);
    assert_true(value_get_real(f->assignment, "until", 0.0) == 3.0);
    restart(f);
}

/* A trial that was to stop, but whose group died on the way, is judged again at that boundary. */
static void a_stop_is_not_passed_by(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    struct value *report = about(f, "trial.report", GROUP_A, f->assigned,
                                 "{units: 2, step: 5, boundary: true, metrics: {val_error: 0.5}}");
    assert_int_equal(ask(f, report), STATUS_OK);
    rewrite(f, "trial.verdict", "\"continue\"", "\"stop\"");
    rewrite(f, "trial.verdict", "\"until\":4", "\"until\":8");
    rebuild(f);
    assert_int_equal(ask(f, report), STATUS_OK);
    assert_string_equal(value_get_string(f->reply, "verdict", ""), "stop");
    lose(f, GROUP_A);
    hello(f, GROUP_B);
    assert_true(value_get_real(f->assignment, "until", 0.0) == 4.0);
}

/* A log may have trials that the searcher would not give today. */
static void trials_are_the_logs(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    hello(f, GROUP_A);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    step(f);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    rewrite(f, "sweep.submitted", "\"max_trials\":2", "\"max_trials\":1");
    rebuild(f);
    sweep_is(f, "completed");
    trial_is(f, 2, "completed", 1, 0);
}

#define UNMENTIONED                                                                                \
    "{name: t, hyperparameters: {ghost: {type: int, minval: 1, maxval: 9}, lr: 0.1}, searcher: "   \
    "{name: random, max_trials: 1, max_time: 4}, " REST

static struct value *submission(struct fixture *f, const char *config, int language) {
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config", message(f, "x", config));
    value_remove(value_get(m, "config"), "op");
    if (language > 0)
        value_set_int(&f->arena, m, "language", language);
    return m;
}

/* A sweep is read by the rules of the language that it names, for as long as it lives. */
static void languages_are_the_logs(void **state) {
    struct fixture *f = *state;
    assert_int_equal(ask(f, submission(f, UNMENTIONED, 2)), STATUS_INVALID);
    assert_non_null(strstr(f->err.text, "ghost"));
    assert_int_equal(ask(f, submission(f, UNMENTIONED, 99)), STATUS_TOO_NEW);
    assert_int_equal(f->log_count, 0);
    assert_int_equal(ask(f, submission(f, UNMENTIONED, 0)), STATUS_OK);
    assert_int_equal(ask(f, submission(f, UNMENTIONED, 1)), STATUS_OK); /* the same */
    assert_int_equal(ask(f, submission(f, UNMENTIONED, 2)), STATUS_EXISTS);
    assert_null(strstr(f->log[0], "\"language\""));
    hello(f, GROUP_A);
    assert_null(value_get(value_get(f->assignment, "config"), "language"));
    restart(f);
    assert_int_equal(done(f, GROUP_A, COMPLETED), STATUS_OK);
    sweep_is(f, "completed");
}

static void todays_language_goes_with_the_trial(void **state) {
    struct fixture *f = *state;
    assert_int_equal(ask(f, submission(f, CONFIG("1", ""), 2)), STATUS_OK);
    assert_non_null(strstr(f->log[0], "\"language\":2"));
    hello(f, GROUP_A);
    assert_int_equal(value_get_int(value_get(f->assignment, "config"), "language", 1), 2);
    restart(f);
    rewrite(f, "sweep.submitted", "\"language\":2", "\"language\":99");
    coordinator_forget(f->c, SWEEP);
    struct value *e = NULL;
    assert_int_equal(json_parse(&f->arena, f->log[0], strlen(f->log[0]), "log", &e, &f->err),
                     STATUS_OK);
    assert_int_equal(coordinator_restore(f->c, SWEEP, 1, e, &f->err), STATUS_TOO_NEW);
}

/* ---- dispatch ---- */

/* Whatever the message table promises of the coordinator is in a table of handlers; who only looks
 * changes nothing. */
static void every_request_has_a_handler(void **state) {
    (void)state;
    const struct message_type *type = message_table(SERVER_COORDINATOR);
    for (; type->op != NULL; type++) {
        const struct coordinator_op *op = coordinator_find_op(type->op);
        bool shells = strcmp(type->op, "coordinator.shutdown") == 0;
        assert_true((op == NULL) == shells);
        if (op != NULL)
            assert_true(op->role == NET_SUBMITTER || !type->writes);
    }
    assert_null(coordinator_find_op("sweep.nothing"));
}

/* ---- cancel, shutdown, resume ---- */

static void cancels_a_sweep(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("3", ""));
    hello(f, GROUP_A);
    struct value *cancel = message(f, "sweep.cancel", "{sweep: " SWEEP ", reason: enough}");
    assert_int_equal(ask(f, cancel), STATUS_OK);
    assert_string_equal(f->notice, "trial.cancel");
    assert_int_equal(ask(f, cancel), STATUS_OK);
    sweep_is(f, "active"); /* until the running trial has left */
    assert_int_equal(done(f, GROUP_A, "{state: cancelled, units: 1, step: 2, metrics: {}}"),
                     STATUS_OK);
    sweep_is(f, "cancelled");
    trial_is(f, 1, "cancelled", 1, 0);
    step(f);
    assert_string_equal(f->notice, "");
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    sweep_is(f, "active");
    step(f);
    trial_is(f, 1, "assigned", 2, 0);
    restart(f);
}

static void cancels_one_trial(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    hello(f, GROUP_A);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP ", trial: 7}")),
                     STATUS_NOT_FOUND);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP ", trial: 1}")), STATUS_OK);
    lose(f, GROUP_A); /* it dies instead of leaving: cancelled all the same, not tried again */
    trial_is(f, 1, "cancelled", 1, 0);
    hello(f, GROUP_B);
    assert_int_equal(value_get_int(f->assigned, "trial", 0), 2);
    assert_int_equal(done(f, GROUP_B, COMPLETED), STATUS_OK);
    sweep_is(f, "completed");
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP "}")), STATUS_CONFLICT);
}

static void deaf_groups_lose_cancelled_trials(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP "}")), STATUS_OK);
    for (int i = 0; i <= COORDINATOR_CANCEL_MS / 5000; i++) {
        assert_int_equal(ask(f, about(f, "group.beat", GROUP_A, f->assigned, "{}")), STATUS_OK);
        assert_string_equal(f->notice, "trial.cancel"); /* said again with each beat */
        f->now_ms += 5000;
    }
    step(f);
    sweep_is(f, "cancelled");
    assert_int_equal(coordinator_groups(f->c), 0);
}

static void interrupts_and_resumes(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    begin(f);
    assert_int_equal(coordinator_shutdown(now(f), &f->err), STATUS_OK);
    take_outbox(f);
    assert_string_equal(f->notice, "trial.cancel");
    begin(f);
    assert_int_equal(coordinator_interrupt(now(f), "bye", &f->err), STATUS_OK);
    take_outbox(f);
    assert_string_equal(f->notice, "group.exit");
    assert_int_equal(coordinator_leases(f->c), 0);
    trial_is(f, 1, "queued", 1, 0);
    sweep_is(f, "paused");
    restart(f);
    hello(f, GROUP_B);
    assert_string_equal(f->notice, ""); /* a paused sweep waits to be asked for */
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    step(f);
    trial_is(f, 1, "assigned", 2, 0);
}

static void resumes_on_other_groups(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(done(f, GROUP_A,
                          "{state: failed, code: invalid, units: 0, step: 0, metrics: "
                          "{}}"),
                     STATUS_OK);
    sweep_is(f, "failed");
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP ", slots_per_trial: 3}")),
                     STATUS_INVALID);
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP ", slots_per_trial: 2}")),
                     STATUS_OK);
    step(f);
    trial_is(f, 1, "queued", 1, 0); /* the group has one rank */
    assert_int_equal(ask(f, hello_of(f, GROUP_B, 2)), STATUS_OK);
    step(f);
    trial_is(f, 1, "assigned", 2, 0);
    assert_int_equal(done(f, GROUP_B, COMPLETED), STATUS_OK);
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_CONFLICT);
}

/* ---- placement ---- */

static void respects_slots_and_tells_demand(void **state) {
    struct fixture *f = *state;
    struct demand d[COORDINATOR_DEMAND_MAX];
    submit(f, CONFIG("5", "resources: {slots_per_trial: 2, max_slots: 5}, "));
    assert_int_equal(coordinator_demand(f->c, d), 1);
    assert_int_equal(d[0].ranks, 2);
    assert_int_equal(d[0].wanted, 2);
    assert_int_equal(d[0].have, 0);
    static const char *const ids[] = {GROUP_A, GROUP_B, "01J0000000000000000000000C"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(f, hello_of(f, ids[i], 2)), STATUS_OK);
        step(f);
    }
    assert_int_equal(coordinator_leases(f->c), 2); /* three would be six slots */
    (void)coordinator_demand(f->c, d);
    assert_int_equal(d[0].have, 3);
}

/* A machine of two GPUs. */
static int setup_gpus(void **state) {
    struct coordinator_options o = options;
    if (setup(state) != 0)
        return -1;
    struct fixture *f = *state;
    o.gpu_slots = true;
    o.machine_slots = 2;
    coordinator_destroy(&f->c);
    return coordinator_new(&o, &f->c, &f->err) == STATUS_OK ? 0 : -1;
}

static void gpu_slots_are_a_limit(void **state) {
    struct fixture *f = *state;
    struct demand d[COORDINATOR_DEMAND_MAX];
    submit(f, CONFIG("9", "resources: {slots_per_trial: 1, max_slots: 5}, "));
    assert_int_equal(coordinator_demand(f->c, d), 1);
    assert_int_equal(d[0].wanted, 2);
}

static void more_ranks_than_gpu_slots_are_alone(void **state) {
    struct fixture *f = *state;
    struct demand d[COORDINATOR_DEMAND_MAX];
    submit(f, CONFIG("9", "resources: {slots_per_trial: 4, max_slots: 8}, "));
    assert_int_equal(coordinator_demand(f->c, d), 1);
    assert_int_equal(d[0].ranks, 4);
    assert_int_equal(d[0].wanted, 1);
    hello(f, GROUP_A); /* of one rank: it makes room */
    assert_string_equal(f->notice, "group.exit");
    assert_int_equal(ask(f, hello_of(f, GROUP_B, 4)), STATUS_OK);
    step(f);
    assert_string_equal(f->notice, "trial.assign");
    step(f);
    assert_string_equal(f->notice, ""); /* it may stay */
}

static void launch_failures_fail_the_sweep(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    begin(f);
    assert_int_equal(coordinator_launch_failed(now(f), 2, "x", &f->err), STATUS_OK);
    take_outbox(f);
    sweep_is(f, "active"); /* another size */
    begin(f);
    assert_int_equal(coordinator_launch_failed(now(f), 1, "no mpirun", &f->err), STATUS_OK);
    take_outbox(f);
    sweep_is(f, "failed");
    assert_non_null(strstr(value_get_string(status(f), "reason", ""), "no mpirun"));
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    sweep_is(f, "active");
}

static void dismisses_idle_groups(void **state) {
    struct fixture *f = *state;
    hello(f, GROUP_A);
    struct value *beat = message(f, "group.beat", "{group: " GROUP_A "}");
    for (int64_t waited = 0; waited <= COORDINATOR_IDLE_MS; waited += 5000) {
        assert_int_equal(ask(f, beat), STATUS_OK);
        step(f);
        assert_string_equal(f->notice, "");
        f->now_ms += 5000;
    }
    assert_int_equal(ask(f, beat), STATUS_OK);
    step(f);
    assert_string_equal(f->notice, "group.exit");
    assert_int_equal(ask(f, beat), STATUS_OK);
    assert_string_equal(f->notice, "group.exit"); /* the first may have been lost */
}

static void makes_room_for_other_sizes(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 8; i++) { /* the machine's eight slots */
        char id[ULID_TEXT] = "01J00000000000000000000000";
        id[ULID_LEN - 1] = (char)('1' + i);
        assert_int_equal(ask(f, hello_of(f, id, 1)), STATUS_OK);
    }
    submit(f, CONFIG("1", "resources: {slots_per_trial: 2, max_slots: 2}, "));
    step(f);
    assert_string_equal(f->notice, "group.exit");
}

/* Too many groups (orphans that came back after we had launched others): idle ones go, one by one.
 */
static void surplus_groups_go(void **state) {
    struct fixture *f = *state;
    char id[ULID_TEXT] = "01J00000000000000000000000";
    for (int i = 0; i < 9; i++) {
        id[ULID_LEN - 1] = (char)('1' + i);
        assert_int_equal(ask(f, hello_of(f, id, 1)), STATUS_OK);
    }
    step(f);
    assert_string_equal(f->notice, ""); /* nobody is in a hurry */
    submit(f, CONFIG("3", ""));
    step(f);
    assert_string_equal(f->notice, "group.exit");
    step(f);
    assert_string_equal(f->notice, "");
}

static void groups_near_their_end_get_nothing(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    struct value *h = hello_of(f, GROUP_A, 1);
    value_set_int(&f->arena, h, "ends_ns", now(f)->now.wall_ns + 30 * NS_PER_S);
    assert_int_equal(ask(f, h), STATUS_OK);
    step(f);
    assert_string_equal(f->notice, "");
}

static void run_ids_are_a_function_of_events(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    char first[32];
    (void)snprintf(first, sizeof first, "%s", value_get_string(f->assigned, "run", ""));
    assert_true(ulid_valid(first, strlen(first), true));
    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    struct fixture *g = other;
    submit(g, CONFIG("1", ""));
    hello(g, GROUP_B);
    assert_string_equal(value_get_string(g->assigned, "run", ""), first);
    (void)teardown(&other);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define GPUS(fn) cmocka_unit_test_setup_teardown(fn, setup_gpus, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(runs_a_sweep),
        CASE(submitting_twice_is_once),
        CASE(refuses_bad_sweeps),
        CASE(fences_stale_leases),
        CASE(done_twice_is_once),
        CASE(unknown_groups_say_hello),
        CASE(retries_what_may_help),
        CASE(does_not_retry_the_hopeless),
        CASE(preemption_costs_nothing),
        CASE(silence_ends_a_lease),
        CASE(lost_assignments_are_sent_again),
        CASE(leases_survive_a_crash),
        CASE(leases_expire_after_a_crash),
        CASE(damaged_logs_are_refused),
        CASE(points_are_the_logs),
        CASE(verdicts_and_boundaries_are_the_logs),
        CASE(a_stop_is_not_passed_by),
        CASE(trials_are_the_logs),
        CASE(languages_are_the_logs),
        CASE(todays_language_goes_with_the_trial),
        CASE(every_request_has_a_handler),
        CASE(cancels_a_sweep),
        CASE(cancels_one_trial),
        CASE(deaf_groups_lose_cancelled_trials),
        CASE(interrupts_and_resumes),
        CASE(resumes_on_other_groups),
        CASE(respects_slots_and_tells_demand),
        GPUS(gpu_slots_are_a_limit),
        GPUS(more_ranks_than_gpu_slots_are_alone),
        CASE(launch_failures_fail_the_sweep),
        CASE(dismisses_idle_groups),
        CASE(makes_room_for_other_sizes),
        CASE(surplus_groups_go),
        CASE(groups_near_their_end_get_nothing),
        CASE(run_ids_are_a_function_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
