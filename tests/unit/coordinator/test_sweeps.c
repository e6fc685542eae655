/* Several sweeps at a time: slots of all together, order, resuming what still runs, forgetting one. */
#include "tests/unit/coordinator/core_fixture.h"

#define FIRST  "01J00000000000000000000001"
#define SECOND "01J00000000000000000000002"
#define THIRD  "01J00000000000000000000003"

#define FAILED "{state: failed, code: invalid, reason: bad, units: 0, step: 0, metrics: {}}"

static void submit_as(struct fixture *f, const char *sweep, const char *config) {
    struct value *m = message(f, "sweep.submit", "{}");
    value_set_string(&f->arena, m, "sweep", sweep);
    value_set(&f->arena, m, "config", message(f, "x", config));
    value_remove(value_get(m, "config"), "op");
    while (f->log_count > 0) /* the fixture keeps the log of one sweep */
        free(f->log[--f->log_count]);
    assert_int_equal(ask(f, m), STATUS_OK);
}

static void group_id(int i, char out[ULID_TEXT]) {
    (void)snprintf(out, ULID_TEXT, "01J0000000000000000000B%03d", i);
}

/* No checks of the log here: events of several sweeps come in one outbox. */
static void decide(struct fixture *f) {
    begin(f);
    assert_int_equal(coordinator_step(now(f), &f->err), STATUS_OK);
    coordinator_check(f->c);
}

static void greet(struct fixture *f, int i, int ranks) {
    char id[ULID_TEXT];
    group_id(i, id);
    begin(f);
    assert_int_equal(coordinator_handle(now(f), hello_of(f, id, ranks), &f->reply, &f->err),
                     STATUS_OK);
}

static int64_t running(struct fixture *f, const char *sweep) {
    struct value *m = message(f, "sweep.status", "{}"), *reply = NULL;
    value_set_string(&f->arena, m, "sweep", sweep);
    begin(f);
    assert_int_equal(coordinator_handle(now(f), m, &reply, &f->err), STATUS_OK);
    return value_get_int(value_get(reply, "sweep"), "running", -1);
}

static void with_slots(struct fixture *f, int64_t max_slots) {
    struct coordinator_options o = options;
    o.max_slots = max_slots;
    coordinator_destroy(&f->c);
    assert_int_equal(coordinator_new(&o, &f->c, &f->err), STATUS_OK);
}

/* ---- slots ---- */

static void all_sweeps_share_max_slots(void **state) {
    struct fixture *f = *state;
    with_slots(f, 5);
    submit_as(f, FIRST, CONFIG("9", "resources: {slots_per_trial: 2, max_slots: 8}, "));
    submit_as(f, SECOND, CONFIG("9", "resources: {slots_per_trial: 1, max_slots: 8}, "));
    for (int i = 0; i < 4; i++)
        greet(f, i, 2);
    for (int i = 4; i < 9; i++)
        greet(f, i, 1);
    decide(f);
    assert_int_equal(running(f, FIRST), 2);  /* four slots; a third trial would be six */
    assert_int_equal(running(f, SECOND), 1); /* and the fifth */
    decide(f);
    assert_int_equal(coordinator_leases(f->c), 3);
}

static void a_trial_must_fit_at_all(void **state) {
    struct fixture *f = *state;
    with_slots(f, 2);
    struct value *m = message(f, "sweep.submit", "{sweep: " SWEEP "}");
    value_set(&f->arena, m, "config",
              message(f, "x", CONFIG("1", "resources: {slots_per_trial: 4, max_slots: 4}, ")));
    value_remove(value_get(m, "config"), "op");
    assert_int_equal(ask(f, m), STATUS_INVALID);
    assert_non_null(strstr(f->err.text, "slots_per_trial is 4, but this coordinator has 2 slots"));
    submit(f, CONFIG("1", "resources: {slots_per_trial: 2, max_slots: 2}, "));
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP ", slots_per_trial: 4}")),
                     STATUS_INVALID);
}

static void urgent_sweeps_come_first(void **state) {
    struct fixture *f = *state;
    with_slots(f, 1);
    submit_as(f, FIRST, CONFIG("1", "resources: {priority: 50}, "));
    submit_as(f, SECOND, CONFIG("1", "resources: {priority: 9}, "));
    submit_as(f, THIRD, CONFIG("1", "resources: {priority: 9}, "));
    greet(f, 0, 1);
    decide(f);
    assert_int_equal(running(f, FIRST), 0);
    assert_int_equal(running(f, SECOND), 1);
    assert_int_equal(running(f, THIRD), 0);
}

/* ---- resuming ---- */

/* Two groups; trial 1 has failed for good, trial 2 runs. */
static void one_failed_one_runs(struct fixture *f) {
    submit(f, CONFIG("2", "resources: {slots_per_trial: 1, max_slots: 2}, "));
    hello(f, GROUP_A);
    assert_int_equal(done(f, GROUP_A, FAILED), STATUS_OK);
    step(f);
    sweep_is(f, "active");
    trial_is(f, 1, "failed", 1, 0);
    trial_is(f, 2, "assigned", 1, 0);
}

static void an_active_sweep_tries_its_failed_trial_again(void **state) {
    struct fixture *f = *state;
    one_failed_one_runs(f);
    size_t events = f->log_count;
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    assert_int_equal(f->log_count, events + 1);
    trial_is(f, 1, "queued", 1, 0);
    trial_is(f, 2, "assigned", 1, 0); /* it is left alone */
    assert_int_equal(value_get_int(status(f), "failed", -1), 0);
    assert_int_equal(value_get_int(status(f), "finished", -1), 0);
    hello(f, GROUP_B);
    trial_is(f, 1, "assigned", 2, 0);
    restart(f);
}

static void an_active_sweep_without_failures_stays_as_it_is(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("2", "resources: {slots_per_trial: 1, max_slots: 2}, "));
    hello(f, GROUP_A);
    size_t events = f->log_count;
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    assert_int_equal(f->log_count, events); /* nothing to do, nothing stored */
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP ", slots_per_trial: 2}")),
                     STATUS_OK);
    assert_int_equal(f->log_count, events + 1); /* other groups from now on */
    assert_int_equal(value_get_int(value_get(status(f), "trials")->items[0], "attempt", 0), 1);
}

static void cancelled_trials_are_tried_again(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP "}")), STATUS_OK);
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_CONFLICT);
    assert_non_null(strstr(f->err.text, "still being cancelled"));
    assert_int_equal(done(f, GROUP_A, "{state: cancelled, units: 0, step: 0, metrics: {}}"),
                     STATUS_OK);
    sweep_is(f, "cancelled");
    assert_int_equal(ask(f, message(f, "sweep.resume", "{sweep: " SWEEP "}")), STATUS_OK);
    sweep_is(f, "active");
    trial_is(f, 1, "queued", 1, 0);
    assert_string_equal(value_get_string(status(f), "reason", "?"), "");
}

/* ---- lost, and then corrected ---- */

/* The tracker is told who said how an attempt ended: its own group, or nobody. */
static void runs_of_silent_groups_are_lost(void **state) {
    struct fixture *f = *state;
    submit(f, CONFIG("1", ""));
    hello(f, GROUP_A);
    lose(f, GROUP_A);
    assert_string_equal(f->last_post, "run.update");
    assert_true(f->last_lost);
    rebuild(f); /* told again, and the same */
    assert_true(f->last_lost);
    hello(f, GROUP_B);
    f->last_lost = false;
    rebuild(f); /* of the attempt before */
    assert_true(f->last_lost);
    assert_int_equal(done(f, GROUP_B, COMPLETED), STATUS_OK);
    rebuild(f);
    assert_false(f->last_lost);
}

/* ---- forgetting ---- */

/* A sweep with a lease, between two others with leases: only its own go. */
static void forgetting_one_leaves_the_others(void **state) {
    struct fixture *f = *state;
    const char *const ids[] = {FIRST, SECOND, THIRD};
    for (int i = 0; i < 3; i++)
        submit_as(f, ids[i], CONFIG("2", "resources: {slots_per_trial: 1, max_slots: 1}, "));
    for (int i = 0; i < 3; i++)
        greet(f, i, 1);
    decide(f);
    assert_int_equal(coordinator_leases(f->c), 3);
    coordinator_forget(f->c, SECOND);
    coordinator_check(f->c);
    assert_int_equal(coordinator_leases(f->c), 2);
    assert_true(coordinator_knows(f->c, FIRST));
    assert_false(coordinator_knows(f->c, SECOND));
    assert_true(coordinator_knows(f->c, THIRD));
    assert_int_equal(running(f, FIRST), 1);
    assert_int_equal(running(f, THIRD), 1);
    coordinator_forget(f->c, THIRD);
    coordinator_forget(f->c, THIRD);
    coordinator_check(f->c);
    assert_int_equal(coordinator_leases(f->c), 1);
    coordinator_forget(f->c, FIRST);
    assert_int_equal(coordinator_leases(f->c), 0);
    assert_int_equal(coordinator_groups(f->c), 3); /* idle again */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(all_sweeps_share_max_slots),
        CASE(a_trial_must_fit_at_all),
        CASE(urgent_sweeps_come_first),
        CASE(an_active_sweep_tries_its_failed_trial_again),
        CASE(an_active_sweep_without_failures_stays_as_it_is),
        CASE(cancelled_trials_are_tried_again),
        CASE(runs_of_silent_groups_are_lost),
        CASE(forgetting_one_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
