/* By what a trial is ranked: its best evaluation or its last, over attempts and restarts. */
#include "tests/unit/coordinator/core_fixture.h"

#define BEST                                                                                       \
    "{name: t, hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}, searcher: "        \
    "{name: random, max_trials: 2, max_time: 4, metric_of: best}, max_restarts: 2, "
#define LAST                                                                                       \
    "{name: t, hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}, searcher: "        \
    "{name: random, max_trials: 2, max_time: 4, metric_of: last}, max_restarts: 2, "
#define MOST                                                                                       \
    "{name: t, hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}, searcher: "        \
    "{name: random, max_trials: 2, max_time: 4, metric: val_error, metric_of: best, "              \
    "smaller_is_better: false}, "

static void report(struct fixture *f, const char *group, int step, double metric) {
    char text[160];
    (void)snprintf(text, sizeof text, "{step: %d, units: %d.0, metrics: {val_error: %.17g}}", step,
                   step, metric);
    assert_int_equal(ask(f, about(f, "trial.report", group, f->assigned, text)), STATUS_OK);
}

static void finish(struct fixture *f, const char *group, int step, double metric) {
    char text[160];
    (void)snprintf(text, sizeof text,
                   "{state: completed, units: 4, step: %d, metrics: {val_error: %.17g}}", step,
                   metric);
    assert_int_equal(done(f, group, text), STATUS_OK);
}

static const struct value *trial(struct fixture *f, int n) {
    return value_get(value_get(status(f), "trials")->items[n - 1], "best");
}

static double metric_of(struct fixture *f, int n) {
    return value_get_real(value_get(status(f), "trials")->items[n - 1], "metric", -1);
}

static void check_best(struct fixture *f, int n, int step, double metric) {
    assert_int_equal(value_get_int(trial(f, n), "step", -1), step);
    assert_true(value_get_real(trial(f, n), "metric", -1) == metric);
}

/* Trial 1: 0.1 in its middle, 0.4 at its end. Trial 2: 0.3 throughout. */
static void two_trials(struct fixture *f, const char *config) {
    submit(f, config);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.5);
    report(f, GROUP_A, 20, 0.1);
    report(f, GROUP_A, 30, 0.1); /* not better: the first one counts */
    report(f, GROUP_A, 40, 0.2);
    finish(f, GROUP_A, 50, 0.4);
    step(f);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.3);
    finish(f, GROUP_A, 50, 0.3);
    sweep_is(f, "completed");
}

static const struct value *winner(struct fixture *f) {
    return value_get(status(f), "best");
}

static void the_best_evaluation_ranks(void **state) {
    struct fixture *f = *state;
    two_trials(f, BEST REST);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
    assert_int_equal(value_get_int(winner(f), "step", 0), 20);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.1);
    assert_true(metric_of(f, 1) == 0.1);
    const struct value *t = value_get(status(f), "trials")->items[0];
    assert_true(value_at(t, "metrics.val_error")->real == 0.4); /* the last of each, as ever */
    restart(f);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
    check_best(f, 1, 20, 0.1);
}

static void the_last_evaluation_ranks(void **state) {
    struct fixture *f = *state;
    two_trials(f, LAST REST);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 2);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.3);
    assert_int_equal(value_get_int(winner(f), "step", 0), 50);
    assert_true(metric_of(f, 1) == 0.4);
    check_best(f, 1, 20, 0.1); /* shown all the same */
}

/* A sweep that is interrupted, or cancelled, says what was best of all that was evaluated, though no trial has
 * ended; one that has ended is not in the way of a better one that has not. */
static void what_was_evaluated_counts_before_the_end(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_null(winner(f));
    report(f, GROUP_A, 10, 0.2);
    report(f, GROUP_A, 20, 0.6);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
    assert_int_equal(value_get_int(winner(f), "step", 0), 10);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.2);
    finish(f, GROUP_A, 50, 0.5);
    step(f);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.2); /* no better */
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
    report(f, GROUP_A, 20, 0.1);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 2);
    begin(f);
    assert_int_equal(coordinator_interrupt(now(f), "Ctrl-C", &f->err), STATUS_OK);
    take_outbox(f);
    sweep_is(f, "paused");
    assert_int_equal(value_get_int(winner(f), "trial", 0), 2);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.1);
}

static void the_last_counts_before_the_end(void **state) {
    struct fixture *f = *state;
    submit(f, LAST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.2);
    report(f, GROUP_A, 20, 0.6);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.6);
    assert_int_equal(value_get_int(winner(f), "step", 0), 20);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP "}")), STATUS_OK);
    assert_int_equal(done(f, GROUP_A, "{state: cancelled, units: 2, step: 20, metrics: {}}"),
                     STATUS_OK);
    sweep_is(f, "cancelled");
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
}

/* A log of before version 3: nothing says by what. */
static void old_sweeps_are_ranked_as_they_were(void **state) {
    struct fixture *f = *state;
    two_trials(f, CONFIG("2", ""));
    assert_int_equal(value_get_int(winner(f), "trial", 0), 2);
}

static void more_may_be_better(void **state) {
    struct fixture *f = *state;
    two_trials(f, MOST REST);
    assert_int_equal(value_get_int(winner(f), "trial", 0), 1);
    assert_int_equal(value_get_int(winner(f), "step", 0), 10);
    assert_true(value_get_real(winner(f), "metric", -1) == 0.5);
}

/* The first attempt was at its best after its checkpoint: the second, which goes on from there, has not
 * been there yet. */
static void an_attempt_has_seen_what_its_checkpoint_has(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.5);
    report(f, GROUP_A, 20, 0.3);
    report(f, GROUP_A, 40, 0.1);
    lose(f, GROUP_A);
    hello(f, GROUP_B);
    check_best(f, 1, 40, 0.1);
    assert_int_equal(ask(f, about(f, "trial.started", GROUP_B, f->assigned, "{step: 20}")),
                     STATUS_OK);
    check_best(f, 1, 20, 0.3);
    restart(f);
    check_best(f, 1, 20, 0.3);
    report(f, GROUP_B, 30, 0.35);
    check_best(f, 1, 20, 0.3);
    finish(f, GROUP_B, 50, 0.2);
    check_best(f, 1, 50, 0.2);
    assert_true(metric_of(f, 1) == 0.2);
}

static void an_attempt_from_the_start_has_seen_nothing(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    report(f, GROUP_A, 10, 0.5);
    lose(f, GROUP_A);
    hello(f, GROUP_B);
    assert_int_equal(started(f, GROUP_B), STATUS_OK);
    assert_null(trial(f, 1));
}

/* Improvements without end: the last ones are remembered, and the best is right. */
static void many_improvements(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    for (int i = 1; i <= 100; i++)
        report(f, GROUP_A, i, 1.0 / i);
    check_best(f, 1, 100, 1.0 / 100);
    lose(f, GROUP_A);
    hello(f, GROUP_B);
    assert_int_equal(ask(f, about(f, "trial.started", GROUP_B, f->assigned, "{step: 60}")),
                     STATUS_OK);
    check_best(f, 1, 60, 1.0 / 60);
    restart(f);
}

/* What was known only at the end is best and last in one. */
static void a_metric_of_the_end_alone(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    finish(f, GROUP_A, 50, 0.2);
    check_best(f, 1, 50, 0.2);
}

/* ---- cancelling what has just finished ---- */

static void a_trial_that_had_finished_says_so(void **state) {
    struct fixture *f = *state;
    submit(f, BEST REST);
    hello(f, GROUP_A);
    assert_int_equal(started(f, GROUP_A), STATUS_OK);
    assert_int_equal(ask(f, message(f, "sweep.cancel", "{sweep: " SWEEP ", reason: enough}")),
                     STATUS_OK);
    finish(f, GROUP_A, 50, 0.2); /* its last words and the cancellation have passed each other */
    trial_is(f, 1, "completed", 1, 0);
    const struct value *t = value_get(status(f), "trials")->items[0];
    assert_non_null(strstr(value_get_string(t, "reason", ""), "finished before the cancellation"));
    sweep_is(f, "cancelled");
    assert_string_equal(value_get_string(status(f), "reason", ""), "enough");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(the_best_evaluation_ranks),
        CASE(what_was_evaluated_counts_before_the_end),
        CASE(the_last_counts_before_the_end),
        CASE(the_last_evaluation_ranks),
        CASE(old_sweeps_are_ranked_as_they_were),
        CASE(more_may_be_better),
        CASE(an_attempt_has_seen_what_its_checkpoint_has),
        CASE(an_attempt_from_the_start_has_seen_nothing),
        CASE(many_improvements),
        CASE(a_metric_of_the_end_alone),
        CASE(a_trial_that_had_finished_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
