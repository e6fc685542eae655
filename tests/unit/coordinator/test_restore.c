/* Restoring from the log: what it says of points, verdicts, boundaries, trials and the language
 * counts, whatever today's code would answer. */
#include "tests/unit/coordinator/core_fixture.h"

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
    assert_non_null(value_get(value_get(f->created, "config"), "training"));
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
    assert_int_equal(ask(f, submission(f, CONFIG("1", ""), 3)), STATUS_OK);
    assert_non_null(strstr(f->log[0], "\"language\":3"));
    hello(f, GROUP_A);
    assert_int_equal(value_get_int(value_get(f->assignment, "config"), "language", 1), 3);
    restart(f);
    rewrite(f, "sweep.submitted", "\"language\":3", "\"language\":99");
    coordinator_forget(f->c, SWEEP);
    struct value *e = NULL;
    assert_int_equal(json_parse(&f->arena, f->log[0], strlen(f->log[0]), "log", &e, &f->err),
                     STATUS_OK);
    assert_int_equal(coordinator_restore(f->c, SWEEP, 1, e, &f->err), STATUS_TOO_NEW);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(points_are_the_logs),     CASE(verdicts_and_boundaries_are_the_logs),
        CASE(a_stop_is_not_passed_by), CASE(trials_are_the_logs),
        CASE(languages_are_the_logs),  CASE(todays_language_goes_with_the_trial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
