/* The core, case by case: fences, retries, cancelling, resuming, groups that come and go, recovery.
 */
#include "tests/unit/coordinator/core_fixture.h"

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

/* ---- dispatch ---- */

/* Whatever the message table promises of the coordinator is in a table of handlers; who only looks
 * changes nothing. */
static void every_request_has_a_handler(void **state) {
    (void)state;
    const struct message_type *type = message_table(SERVER_COORDINATOR);
    for (; type->op != NULL; type++) {
        const struct coordinator_op *op = coordinator_find_op(type->op);
        bool shells = strcmp(type->op, "coordinator.shutdown") == 0;
        bool known = strncmp(type->op, "sweep.", 6) == 0 && strcmp(type->op, "sweep.submit") != 0;
        assert_true((op == NULL) == shells);
        assert_true(op == NULL ||
                    op->fetch == known); /* whoever names a sweep may name an old one */
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
    assert_int_equal(coordinator_launch_failed(now(f), 2, STATUS_FULL, "x", &f->err), STATUS_OK);
    take_outbox(f);
    sweep_is(f, "active"); /* another size */
    begin(f);
    assert_int_equal(coordinator_launch_failed(now(f), 1, STATUS_NOT_FOUND, "no mpirun", &f->err),
                     STATUS_OK);
    take_outbox(f);
    sweep_is(f, "failed");
    assert_string_equal(value_get_string(status(f), "code", ""), "not_found");
    assert_non_null(strstr(value_get_string(status(f), "reason", ""), "no mpirun"));
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    sweep_is(f, "active");
    assert_null(value_get(status(f), "code"));
}

/* One that is here is enough: the launcher may have meant to start another beside it. */
static void a_group_that_is_here_needs_no_launcher(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", ""));
    assert_int_equal(ask(f, hello_of(f, GROUP_A, 1)), STATUS_OK);
    begin(f);
    assert_int_equal(coordinator_launch_failed(now(f), 1, STATUS_NOT_FOUND, "no mpirun", &f->err),
                     STATUS_OK);
    take_outbox(f);
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

/* ---- a page of trials ---- */

static const struct value *page(struct fixture *f, const char *text) {
    assert_int_equal(ask(f, message(f, "sweep.status", text)), STATUS_OK);
    return value_get(f->reply, "sweep");
}

static void finish_next(struct fixture *f, const char *how) {
    step(f);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_int_equal(done(f, GROUP_A, how), STATUS_OK);
}

static void shows_trials_page_by_page(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("5", ""));
    hello(f, GROUP_A);
    for (int i = 0; i < 5; i++)
        finish_next(f, COMPLETED);
    const struct value *s = page(f, "{sweep: " SWEEP ", after: 0, limit: 2}");
    assert_int_equal(value_get(s, "trials")->count, 2);
    assert_int_equal(value_get_int(value_get(s, "trials")->items[1], "trial", 0), 2);
    assert_true(value_get_bool(s, "more", false));
    assert_int_equal(value_get_int(s, "created", 0), 5);
    s = page(f, "{sweep: " SWEEP ", after: 3, limit: 2}");
    assert_int_equal(value_get_int(value_get(s, "trials")->items[0], "trial", 0), 4);
    assert_false(value_get_bool(s, "more", true));
    s = page(f, "{sweep: " SWEEP ", after: 9}");
    assert_int_equal(value_get(s, "trials")->count, 0);
    assert_false(value_get_bool(s, "more", true));
    s = page(f, "{sweep: " SWEEP ", limit: 2}"); /* the newest */
    assert_int_equal(value_get_int(value_get(s, "trials")->items[0], "trial", 0), 4);
    assert_false(value_get_bool(s, "more", true));
}

/* What failed is counted also where the page does not hold it. */
static void totals_are_of_all_trials(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("3", ""));
    hello(f, GROUP_A);
    finish_next(f, "{state: failed, code: invalid, units: 1, step: 2, metrics: {}}");
    finish_next(f, COMPLETED);
    finish_next(f, COMPLETED);
    const struct value *s = page(f, "{sweep: " SWEEP ", limit: 1}");
    assert_int_equal(value_get_int(value_get(s, "trials")->items[0], "trial", 0), 3);
    assert_int_equal(value_get_int(s, "failed", 0), 1);
    assert_int_equal(value_get_int(s, "finished", 0), 3);
    assert_true(value_get_real(s, "units", 0) == 1.0 + 4 + 4);
}

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
        CASE(a_group_that_is_here_needs_no_launcher),
        CASE(dismisses_idle_groups),
        CASE(makes_room_for_other_sizes),
        CASE(surplus_groups_go),
        CASE(groups_near_their_end_get_nothing),
        CASE(run_ids_are_a_function_of_events),
        CASE(shows_trials_page_by_page),
        CASE(totals_are_of_all_trials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
