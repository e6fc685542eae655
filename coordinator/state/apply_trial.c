/* What the trial.* events do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/state/apply_private.h"
#include "coordinator/state/best.h"
#include "core/json.h"

/* Keeps a value as the JSON that the log has of it, so that a live state and a restored one are
 * equal to the byte. */
static enum status keep_json(char **slot, const struct value *v, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, err);
    if (st == STATUS_OK)
        st = state_set_text(slot, buf_text(&text), err);
    buf_release(&text);
    return st;
}

/* ---- assigned ---- */

/* The searcher is told of every trial of the log, also of one that it would not give today. */
static enum status create_trial(struct apply *x, struct err *err) {
    struct sweep_state *s = x->sweep;
    if (s->created == s->trials_cap) {
        int64_t cap = s->trials_cap == 0 ? 64 : s->trials_cap * 2;
        struct trial **bigger = realloc(s->trials, (size_t)cap * sizeof(struct trial *));
        if (bigger == NULL)
            return state_no_memory(err);
        s->trials = bigger;
        s->trials_cap = cap;
    }
    struct trial *t = calloc(1, sizeof *t);
    if (t == NULL)
        return state_no_memory(err);
    t->sweep = s;
    t->number = s->search->next(s->searcher);
    s->trials[s->created++] = t;
    x->trial = t;
    return t->number == s->created ? STATUS_OK : apply_corrupt(x, "trials are out of order", err);
}

/* The run of the last attempt joins the earlier ones. */
static enum status keep_run(struct trial *t, struct err *err) {
    if (t->run[0] == '\0')
        return STATUS_OK;
    if (t->run_count == STATE_RUNS_MAX) {
        memmove(t->runs[0], t->runs[1], (STATE_RUNS_MAX - 1) * sizeof t->runs[0]);
        t->run_count--;
    }
    char(*bigger)[ULID_TEXT] = realloc(t->runs, (t->run_count + 1) * sizeof *bigger);
    if (bigger == NULL)
        return state_no_memory(err);
    t->runs = bigger;
    memcpy(bigger[t->run_count++], t->run, ULID_TEXT);
    return STATUS_OK;
}

/* Nothing of the attempt before is left in what this one says. */
static void begin_attempt(struct trial *t, const struct value *e) {
    memcpy(t->last_state, t->run_state, sizeof t->last_state);
    t->last_done = t->done_epoch == t->epoch;
    (void)snprintf(t->run, sizeof t->run, "%s", value_get_string(e, "run", ""));
    (void)snprintf(t->group, sizeof t->group, "%s", value_get_string(e, "group", ""));
    (void)snprintf(t->run_state, sizeof t->run_state, "queued");
    t->state = TRIAL_ASSIGNED;
    t->epoch = value_get_int(e, "epoch", 0);
    t->attempt++;
    t->step = 0;
    t->units = 0.0;
    t->reported = false;
    t->digest[0] = '\0';
    free(t->metrics);
    t->metrics = NULL;
}

enum status apply_trial_assigned(struct apply *x, struct err *err) {
    enum status st = STATUS_OK;
    const struct value *point = value_get(x->event, "hyperparameters");
    if (point == NULL || point->kind != VALUE_MAP)
        return apply_corrupt(x, "the hyperparameters are missing", err);
    if (x->trial == NULL)
        TRY(create_trial(x, err));
    else
        apply_dequeue(x->trial);
    struct trial *t = x->trial;
    if (value_get_int(x->event, "epoch", 0) <= t->epoch)
        return apply_corrupt(x, "the epoch does not rise", err);
    TRY(keep_run(t, err));
    TRY(keep_json(&t->point, point, err));
    begin_attempt(t, x->event);
    apply_begin_lease(x->c, t);
out:
    return st;
}

/* ---- started, reported ---- */

enum status apply_trial_started(struct apply *x, struct err *err) {
    struct trial *t = x->trial;
    (void)err;
    t->state = TRIAL_RUNNING;
    t->step = value_get_int(x->event, "step", 0);
    best_resume(t, t->step);
    (void)snprintf(t->run_state, sizeof t->run_state, "running");
    return STATUS_OK;
}

static double number(const struct value *v) {
    return v->kind == VALUE_INT ? (double)v->integer : v->real;
}

static enum status keep_progress(struct trial *t, const struct value *e, struct err *err) {
    t->step = value_get_int(e, "step", t->step);
    t->units = value_get_real(e, "units", t->units);
    const struct value *metrics = value_get(e, "metrics");
    if (metrics == NULL || metrics->count == 0)
        return STATUS_OK;
    const struct value *metric = value_get(metrics, t->sweep->spec->metric);
    enum status st = metric != NULL ? best_note(t, t->step, number(metric), err) : STATUS_OK;
    return st == STATUS_OK ? keep_json(&t->metrics, metrics, err) : st;
}

static enum status keep_verdict(struct trial *t, struct search_verdict v, struct err *err) {
    enum status st = state_set_text(&t->rule, v.reason, err);
    t->verdict = (struct search_verdict){.stop = v.stop, .until = v.until, .reason = t->rule};
    t->reported = true;
    return st;
}

/* At a boundary the searcher learns, and says what it would do. What counts is the trial.verdict
 * that follows in the log: it is written from these words, and replaces them when it is read. */
enum status apply_trial_reported(struct apply *x, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep_state *s = x->sweep;
    const struct value *metrics = value_get(x->event, "metrics");
    double sign = s->spec->smaller_is_better ? 1.0 : -1.0;
    struct search_verdict v = {.until = s->spec->max_time, .reason = "not a boundary"};
    if (value_get_bool(x->event, "boundary", false) && value_get(metrics, s->spec->metric) != NULL)
        v = s->search->report(s->searcher, x->trial->number, value_get_real(x->event, "units", 0.0),
                              sign * value_get_real(metrics, s->spec->metric, 0.0));
    TRY(keep_verdict(x->trial, v, err));
    TRY(keep_progress(x->trial, x->event, err));
out:
    return st;
}

enum status apply_trial_verdict(struct apply *x, struct err *err) {
    const struct value *e = x->event;
    struct search_verdict v = {.stop = strcmp(value_get_string(e, "verdict", ""), "stop") == 0,
                               .until = value_get_real(e, "until", x->sweep->spec->max_time),
                               .reason = value_get_string(e, "reason", "")};
    if (!v.stop) /* a trial that was to stop, and comes back, is judged again where it was */
        x->trial->until = v.until;
    return keep_verdict(x->trial, v, err);
}

/* ---- ended, cancelled ---- */

/* Whether another attempt may help: what broke lies outside the trial itself. */
static bool worth_retrying(const char *code) {
    static const char *const codes[] = {"unavailable", "io",    "internal", "full",
                                        "timeout",     "nomem", "busy"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(code, codes[i]) == 0)
            return true;
    return false;
}

/* By its best evaluation, or by its last, as the sweep says. */
static void rank(struct trial *t, const struct value *last) {
    const struct trial_best *best = best_of(t);
    t->ranked = last != NULL;
    t->metric = last == NULL                                     ? 0.0
                : t->sweep->spec->metric_of_last || best == NULL ? number(last)
                                                                 : best->metric;
}

/* What becomes of the trial, by how its attempt ended. */
static enum status end_attempt(struct trial *t, const struct value *e, struct err *err) {
    const struct sweep *spec = t->sweep->spec;
    const char *state = value_get_string(e, "state", "failed");
    bool completed = strcmp(state, "completed") == 0, stopped = strcmp(state, "stopped") == 0;
    bool failed = strcmp(state, "failed") == 0, preempted = strcmp(state, "preempted") == 0;
    if (completed || stopped) {
        rank(t, value_get(value_get(e, "metrics"), spec->metric));
        apply_finish(t, completed ? TRIAL_COMPLETED : TRIAL_STOPPED);
        return STATUS_OK;
    }
    if (t->cancel || (!failed && !preempted)) {
        apply_finish(t, TRIAL_CANCELLED);
        return STATUS_OK;
    }
    if (preempted)
        return apply_enqueue(t, err);
    if (worth_retrying(value_get_string(e, "code", "internal")) &&
        t->restarts < spec->max_restarts) {
        t->restarts++;
        return apply_enqueue(t, err);
    }
    apply_finish(t, TRIAL_FAILED);
    return STATUS_OK;
}

enum status apply_trial_ended(struct apply *x, struct err *err) {
    enum status st = STATUS_OK;
    struct trial *t = x->trial;
    const struct value *e = x->event;
    apply_end_lease(x->c, t);
    TRY(keep_progress(t, e, err));
    TRY(state_set_text(&t->reason, value_get_string(e, "reason", NULL), err));
    (void)snprintf(t->run_state, sizeof t->run_state, "%s", value_get_string(e, "state", "failed"));
    (void)snprintf(t->digest, sizeof t->digest, "%s", value_get_string(e, "weights_digest", ""));
    t->ended_sequence = x->sweep->sequence + 1;
    if (value_get_bool(e, "done", false))
        t->done_epoch = t->epoch;
    TRY(end_attempt(t, e, err));
out:
    return st;
}

enum status apply_trial_cancelled(struct apply *x, struct err *err) {
    struct trial *t = x->trial;
    if (trial_leased(t)) {
        t->cancel = true;
        return STATUS_OK;
    }
    apply_dequeue(t);
    apply_finish(t, TRIAL_CANCELLED);
    return state_set_text(&t->reason, value_get_string(x->event, "reason", NULL), err);
}
