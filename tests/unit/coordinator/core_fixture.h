/* What the tests of the coordinator's core share: a core with a clock, a log and two groups, driven by
 * messages; what comes out is checked against the wire's tables and kept. */
#ifndef TESTS_UNIT_COORDINATOR_CORE_FIXTURE_H
#define TESTS_UNIT_COORDINATOR_CORE_FIXTURE_H

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
    bool last_lost;                                   /* of the last run.update that ends a run */
    char notice[32], notice_to[32];                   /* the last one */
    struct value *assigned;                           /* lease of the last trial.assign */
    struct value *assignment, *created;               /* the last trial.assign and run.create */
};

static const struct coordinator_options options = {
    .lease_ms = LEASE_MS, .beat_ms = 1000, .machine_slots = 8};

static inline int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    arena_init(&f->arena, (size_t)64 << 20);
    f->now_ms = 1000;
    *state = f;
    return coordinator_new(&options, &f->c, &f->err) == STATUS_OK ? 0 : -1;
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    coordinator_destroy(&f->c);
    arena_release(&f->arena);
    for (size_t i = 0; i < f->log_count; i++)
        free(f->log[i]);
    free(f);
    return 0;
}

static inline struct turn *now(struct fixture *f) {
    f->turn = (struct turn){
        .c = f->c,
        .now = {.wall_ns = INT64_C(1790000000000000000) + f->now_ms * NS_PER_MS,
                .mono_ns = f->now_ms * NS_PER_MS},
        .out = &f->out,
    };
    return &f->turn;
}

static inline void keep_event(struct fixture *f, const struct outgoing *o) {
    struct buf text = BUF_INIT(1 << 20);
    assert_int_equal(json_dump(o->message, JSON_COMPACT, &text, &f->err), STATUS_OK);
    assert_true(f->log_count < LOG_MAX);
    assert_int_equal(o->sequence, (int64_t)f->log_count + 1);
    f->log[f->log_count++] = strdup(buf_text(&text));
    buf_release(&text);
}

static inline void begin(struct fixture *f) {
    f->out = (struct outbox){.arena = &f->arena};
    f->reply = NULL;
    f->notice[0] = '\0';
    memset(&f->err, 0, sizeof f->err);
}

/* Every reply is what the message table promises. */
static inline void check_reply(struct fixture *f, const struct value *m) {
    const struct message_type *type = message_find(value_get_string(m, "op", ""));
    struct value *whole = message_reply(&f->arena, "1");
    for (size_t i = 0; f->reply != NULL && i < f->reply->count; i++)
        value_set(&f->arena, whole, f->reply->members[i].key, f->reply->members[i].value);
    if (message_check_reply(&f->arena, type, whole, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
}

/* And every notice and post is a message that its receiver accepts. */
static inline void check_message(struct fixture *f, const struct outgoing *o) {
    struct message parsed;
    struct value *copy = value_copy(&f->arena, o->message);
    struct buf text = BUF_INIT(1 << 22);
    value_set_string(&f->arena, copy, "id", "1");
    assert_int_equal(json_dump(copy, JSON_COMPACT, &text, &f->err), STATUS_OK);
    if (message_parse(&f->arena, text.data, text.len, &parsed, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
    buf_release(&text);
}

static inline void take_outbox(struct fixture *f) {
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
            if (strcmp(op, "run.update") == 0)
                f->last_lost = value_get_bool(o->message, "lost", false);
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

static inline enum status ask(struct fixture *f, struct value *m) {
    begin(f);
    enum status st = coordinator_handle(now(f), m, &f->reply, &f->err);
    if (st == STATUS_OK)
        check_reply(f, m);
    take_outbox(f);
    coordinator_check(f->c);
    return st;
}

static inline void step(struct fixture *f) {
    begin(f);
    assert_int_equal(coordinator_step(now(f), &f->err), STATUS_OK);
    take_outbox(f);
    coordinator_check(f->c);
}

/* `text` is YAML flow: {key: value, …}. */
static inline struct value *message(struct fixture *f, const char *op, const char *text) {
    struct value *m = NULL;
    if (yaml_parse(&f->arena, text, strlen(text), "test", &m, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
    value_set_string(&f->arena, m, "op", op);
    return m;
}

static inline void submit(struct fixture *f, const char *config) {
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config", message(f, "x", config));
    value_remove(value_get(m, "config"), "op");
    assert_int_equal(ask(f, m), STATUS_OK);
}

static inline struct value *hello_of(struct fixture *f, const char *group, int ranks) {
    char text[200];
    (void)snprintf(text, sizeof text,
                   "{group: %s, ranks: %d, host: h, pid: 1, device: cpu, build: b, launch: tok}",
                   group, ranks);
    return message(f, "group.hello", text);
}

static inline void hello(struct fixture *f, const char *group) {
    assert_int_equal(ask(f, hello_of(f, group, 1)), STATUS_OK);
    step(f);
}

static inline struct value *about(struct fixture *f, const char *op, const char *group,
                                  const struct value *lease, const char *text) {
    struct value *m = message(f, op, text);
    value_set_string(&f->arena, m, "group", group);
    value_set(&f->arena, m, "lease", value_copy(&f->arena, lease));
    return m;
}

static inline enum status started(struct fixture *f, const char *group) {
    return ask(f, about(f, "trial.started", group, f->assigned, "{step: 0}"));
}

static inline enum status done(struct fixture *f, const char *group, const char *text) {
    return ask(f, about(f, "trial.done", group, f->assigned, text));
}

#define COMPLETED "{state: completed, units: 4, step: 9, metrics: {val_error: 0.25}}"

static inline const struct value *status(struct fixture *f) {
    assert_int_equal(ask(f, message(f, "sweep.status", "{sweep: " SWEEP "}")), STATUS_OK);
    return value_get(f->reply, "sweep");
}

static inline void trial_is(struct fixture *f, int n, const char *state, int attempt,
                            int restarts) {
    const struct value *t = value_get(status(f), "trials")->items[n - 1];
    assert_string_equal(value_get_string(t, "state", ""), state);
    assert_int_equal(value_get_int(t, "attempt", -1), attempt);
    assert_int_equal(value_get_int(t, "restarts", -1), restarts);
}

static inline void sweep_is(struct fixture *f, const char *state) {
    assert_string_equal(value_get_string(status(f), "state", ""), state);
}

static inline void lose(struct fixture *f, const char *group) {
    begin(f);
    assert_int_equal(coordinator_lost(now(f), group, "killed", &f->err), STATUS_OK);
    take_outbox(f);
}

/* A coordinator that has the log, and nothing else. */
static inline void rebuild(struct fixture *f) {
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

static inline void restart(struct fixture *f) {
    struct digest before, after;
    assert_int_equal(coordinator_digest(f->c, &before, &f->err), STATUS_OK);
    rebuild(f);
    assert_int_equal(coordinator_digest(f->c, &after, &f->err), STATUS_OK);
    assert_memory_equal(&before, &after, sizeof before);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
