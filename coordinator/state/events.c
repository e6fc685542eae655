/* The events and what each does to sweeps and trials. event_apply is the only writer of durable
 * state, for live events and stored ones alike; docs in README.md. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core/posts.h"
#include "coordinator/state/apply.h"
#include "core/json.h"

struct value *event_new(struct arena *a, const char *name) {
    struct value *e = value_map(a);
    value_set_string(a, e, "event", name);
    return e;
}

enum status state_no_memory(struct err *err) {
    return err_set(err, STATUS_NOMEM, "out of memory in the coordinator's state");
}

static enum status corrupt(const struct sweep_state *s, const struct value *e, const char *why,
                           struct err *err) {
    return err_set(err, STATUS_CORRUPT, "event %lld of sweep %s (%s): %s",
                   (long long)s->sequence + 1, s->id, value_get_string(e, "event", "?"), why);
}

/* ---- leased list, queue ---- */

static void lease_begin(struct coordinator *c, struct trial *t) {
    t->before = NULL;
    t->next = c->leased;
    if (c->leased != NULL)
        c->leased->before = t;
    c->leased = t;
    c->leased_count++;
    t->sweep->leased++;
}

static void lease_end(struct coordinator *c, struct trial *t) {
    if (t->before != NULL)
        t->before->next = t->next;
    else
        c->leased = t->next;
    if (t->next != NULL)
        t->next->before = t->before;
    t->next = t->before = NULL;
    t->deadline_ns = 0;
    c->leased_count--;
    t->sweep->leased--;
}

enum status trial_enqueue(struct trial *t, struct err *err) {
    struct sweep_state *s = t->sweep;
    if (s->queued == s->queue_cap) {
        int64_t cap = s->queue_cap == 0 ? 16 : s->queue_cap * 2;
        int64_t *bigger = realloc(s->queue, (size_t)cap * sizeof *bigger);
        if (bigger == NULL)
            return state_no_memory(err);
        s->queue = bigger;
        s->queue_cap = cap;
    }
    int64_t i = s->queued;
    for (; i > 0 && s->queue[i - 1] > t->number; i--)
        s->queue[i] = s->queue[i - 1];
    s->queue[i] = t->number;
    s->queued++;
    t->state = TRIAL_QUEUED;
    return STATUS_OK;
}

static void dequeue(struct trial *t) {
    struct sweep_state *s = t->sweep;
    int64_t i = 0;
    while (i < s->queued && s->queue[i] != t->number)
        i++;
    assert(i < s->queued);
    s->queued--;
    memmove(&s->queue[i], &s->queue[i + 1], (size_t)(s->queued - i) * sizeof *s->queue);
}

/* ---- the end of trials and sweeps ---- */

void trial_finish(struct trial *t, enum trial_state state) {
    struct sweep_state *s = t->sweep;
    t->state = state;
    s->finished++;
    s->failed += state == TRIAL_FAILED;
    double sign = s->spec->smaller_is_better ? 1.0 : -1.0;
    struct trial *best = s->best > 0 ? find_trial(s, s->best) : NULL;
    if (t->ranked && (best == NULL || sign * t->metric < sign * best->metric ||
                      (!(sign * best->metric < sign * t->metric) && t->number < best->number)))
        s->best = t->number;
    struct search_exit e = {.trial = t->number,
                            .ranked = t->ranked,
                            .metric = t->ranked ? sign * t->metric : 0.0,
                            .units = t->units};
    s->search->exited(s->searcher, &e);
}

void sweep_cancel_queue(struct sweep_state *s) {
    while (s->queued > 0) {
        struct trial *t = find_trial(s, s->queue[s->queued - 1]);
        s->queued--;
        trial_finish(t, TRIAL_CANCELLED);
    }
}

/* The reason of the first trial that failed. */
static const char *first_failure(const struct sweep_state *s, int64_t *trial) {
    for (int64_t n = 1; n <= s->created; n++) {
        const struct trial *t = find_trial(s, n);
        if (t->state == TRIAL_FAILED) {
            *trial = n;
            return t->reason != NULL ? t->reason : "no reason given";
        }
    }
    return NULL;
}

/* Ends the sweep when there is nothing left to do or to wait for. */
static enum status settle(struct sweep_state *s, struct err *err) {
    if (s->state != SWEEP_ACTIVE || s->leased > 0)
        return STATUS_OK;
    if (s->cancel) {
        s->state = SWEEP_CANCELLED;
        s->cancel = false;
        return STATUS_OK;
    }
    if (s->queued > 0 || s->search->ready(s->searcher) != SEARCH_DONE)
        return STATUS_OK;
    int64_t trial = 0;
    const char *why = first_failure(s, &trial);
    if (s->failed == 0 || s->failed < s->finished) {
        s->state = SWEEP_COMPLETED;
        return set_text(&s->reason, NULL, err);
    }
    char text[TRIAL_REASON_MAX];
    (void)snprintf(text, sizeof text, "all %lld trials failed; trial %lld: %.1800s",
                   (long long)s->failed, (long long)trial, why);
    s->state = SWEEP_FAILED;
    return set_text(&s->reason, text, err);
}

/* ---- trial events ---- */

static enum status create_trial(struct sweep_state *s, const struct value *e, struct trial **out,
                                struct err *err) {
    if (s->search->ready(s->searcher) != SEARCH_READY)
        return corrupt(s, e, "the searcher has no such trial", err);
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
    *out = t;
    return t->number == s->created ? STATUS_OK : corrupt(s, e, "trials out of order", err);
}

/* The run of the last attempt joins the earlier ones. */
static enum status keep_run(struct trial *t, struct err *err) {
    if (t->run[0] == '\0')
        return STATUS_OK;
    if (t->run_count == TRIAL_RUNS_MAX) {
        memmove(t->runs[0], t->runs[1], (TRIAL_RUNS_MAX - 1) * sizeof t->runs[0]);
        t->run_count--;
    }
    char(*bigger)[ULID_TEXT] = realloc(t->runs, (t->run_count + 1) * sizeof *bigger);
    if (bigger == NULL)
        return state_no_memory(err);
    t->runs = bigger;
    memcpy(bigger[t->run_count++], t->run, ULID_TEXT);
    return STATUS_OK;
}

static enum status apply_assigned(struct coordinator *c, struct sweep_state *s,
                                  const struct value *e, struct err *err) {
    enum status st = STATUS_OK;
    int64_t number = value_get_int(e, "trial", 0), epoch = value_get_int(e, "epoch", 0);
    struct trial *t = find_trial(s, number);
    if (t == NULL && number == s->created + 1)
        TRY(create_trial(s, e, &t, err));
    else if (t == NULL || t->state != TRIAL_QUEUED)
        return corrupt(s, e, "the trial is not queued", err);
    else
        dequeue(t);
    if (epoch <= t->epoch)
        return corrupt(s, e, "the epoch does not rise", err);
    TRY(keep_run(t, err));
    memcpy(t->last_state, t->run_state, sizeof t->last_state);
    t->verdict = (struct search_verdict){.reason = NULL};
    (void)snprintf(t->run, sizeof t->run, "%s", value_get_string(e, "run", ""));
    (void)snprintf(t->group, sizeof t->group, "%s", value_get_string(e, "group", ""));
    (void)snprintf(t->run_state, sizeof t->run_state, "queued");
    t->state = TRIAL_ASSIGNED;
    t->epoch = epoch;
    t->attempt++;
    t->step = 0;
    t->units = 0.0;
    t->digest[0] = '\0';
    free(t->metrics);
    t->metrics = NULL;
    lease_begin(c, t);
out:
    return st;
}

static enum status keep_progress(struct trial *t, const struct value *e, struct err *err) {
    t->step = value_get_int(e, "step", t->step);
    t->units = value_get_real(e, "units", t->units);
    const struct value *metrics = value_get(e, "metrics");
    if (metrics == NULL || metrics->count == 0)
        return STATUS_OK;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = json_dump(metrics, JSON_COMPACT, &text, err);
    if (st == STATUS_OK)
        st = set_text(&t->metrics, buf_text(&text), err);
    buf_release(&text);
    return st;
}

static enum status apply_started(struct trial *t, const struct value *e) {
    t->state = TRIAL_RUNNING;
    t->step = value_get_int(e, "step", 0);
    (void)snprintf(t->run_state, sizeof t->run_state, "running");
    return STATUS_OK;
}

/* At a boundary the searcher learns. Its verdict follows as an event of its own, for people: what
 * is rebuilt from the log comes out of the searcher again. */
static enum status apply_reported(struct trial *t, const struct value *e, struct err *err) {
    struct sweep_state *s = t->sweep;
    const char *metric = s->spec->metric;
    double sign = s->spec->smaller_is_better ? 1.0 : -1.0;
    t->boundary = value_get_bool(e, "boundary", false);
    t->verdict = (struct search_verdict){.until = s->spec->max_time, .reason = "not a boundary"};
    if (t->boundary && value_get(value_get(e, "metrics"), metric) != NULL)
        t->verdict = s->search->report(s->searcher, t->number, value_get_real(e, "units", 0.0),
                                       sign * value_get_real(value_get(e, "metrics"), metric, 0.0));
    return keep_progress(t, e, err);
}

/* Whether another attempt may help: what broke lies outside the trial itself. */
static bool worth_retrying(const char *code) {
    static const char *const codes[] = {"unavailable", "io",    "internal", "full",
                                        "timeout",     "nomem", "busy"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(code, codes[i]) == 0)
            return true;
    return false;
}

static enum status apply_ended(struct coordinator *c, struct trial *t, const struct value *e,
                               struct err *err) {
    enum status st = STATUS_OK;
    struct sweep_state *s = t->sweep;
    const char *state = value_get_string(e, "state", "failed");
    const char *code = value_get_string(e, "code", "internal");
    const struct value *metric = value_at(e, "metrics");
    metric = value_get(metric, s->spec->metric);
    lease_end(c, t);
    TRY(keep_progress(t, e, err));
    TRY(set_text(&t->reason, value_get_string(e, "reason", NULL), err));
    (void)snprintf(t->run_state, sizeof t->run_state, "%s", state);
    (void)snprintf(t->digest, sizeof t->digest, "%s", value_get_string(e, "weights_digest", ""));
    t->ended_sequence = s->sequence + 1;
    if (value_get_bool(e, "done", false))
        t->done_epoch = t->epoch;
    bool completed = strcmp(state, "completed") == 0, stopped = strcmp(state, "stopped") == 0;
    bool failed = strcmp(state, "failed") == 0, preempted = strcmp(state, "preempted") == 0;
    if (completed || stopped) {
        t->ranked = metric != NULL;
        t->metric = metric != NULL && metric->kind == VALUE_INT ? (double)metric->integer
                    : metric != NULL                            ? metric->real
                                                                : 0.0;
        trial_finish(t, completed ? TRIAL_COMPLETED : TRIAL_STOPPED);
    } else if (t->cancel || (!failed && !preempted)) {
        trial_finish(t, TRIAL_CANCELLED);
    } else if (preempted) {
        TRY(trial_enqueue(t, err));
    } else if (worth_retrying(code) && t->restarts < s->spec->max_restarts) {
        t->restarts++;
        TRY(trial_enqueue(t, err));
    } else {
        trial_finish(t, TRIAL_FAILED);
    }
out:
    return st;
}

static enum status apply_trial_cancelled(struct trial *t, const struct value *e, struct err *err) {
    if (trial_leased(t)) {
        t->cancel = true;
        return STATUS_OK;
    }
    dequeue(t);
    trial_finish(t, TRIAL_CANCELLED);
    return set_text(&t->reason, value_get_string(e, "reason", NULL), err);
}

/* ---- dispatch ---- */

static enum status apply_to_trial(struct coordinator *c, struct sweep_state *s, const char *name,
                                  const struct value *e, struct err *err) {
    if (strcmp(name, "trial.assigned") == 0)
        return apply_assigned(c, s, e, err);
    struct trial *t = find_trial(s, value_get_int(e, "trial", 0));
    bool cancelled = strcmp(name, "trial.cancelled") == 0;
    if (t == NULL)
        return corrupt(s, e, "no such trial", err);
    if (cancelled ? trial_final(t) : !trial_leased(t))
        return corrupt(s, e, "the trial is in another state", err);
    if (cancelled)
        return apply_trial_cancelled(t, e, err);
    if (value_get_int(e, "epoch", t->epoch) != t->epoch)
        return corrupt(s, e, "another epoch", err);
    if (strcmp(name, "trial.started") == 0)
        return apply_started(t, e);
    if (strcmp(name, "trial.reported") == 0)
        return apply_reported(t, e, err);
    if (strcmp(name, "trial.verdict") == 0)
        return STATUS_OK;
    if (strcmp(name, "trial.ended") == 0)
        return apply_ended(c, t, e, err);
    return corrupt(s, e, "unknown event; the log was written by a later version", err);
}

enum status event_apply(struct coordinator *c, const char *sweep, const struct value *e,
                        struct err *err) {
    enum status st = STATUS_OK;
    const char *name = value_get_string(e, "event", "");
    struct sweep_state *s = find_sweep(c, sweep);
    if (s == NULL)
        return strcmp(name, "sweep.submitted") == 0
                   ? apply_submitted(c, sweep, e, err)
                   : err_set(err, STATUS_CORRUPT,
                             "sweep %s: its log does not begin with "
                             "sweep.submitted",
                             sweep);
    if (strcmp(name, "sweep.cancelled") == 0)
        TRY(apply_cancelled(s, e, err));
    else if (strcmp(name, "sweep.failed") == 0)
        TRY(apply_halted(s, e, SWEEP_FAILED, err));
    else if (strcmp(name, "sweep.paused") == 0)
        TRY(apply_halted(s, e, SWEEP_PAUSED, err));
    else if (strcmp(name, "sweep.resumed") == 0)
        TRY(apply_resumed(s, e, err));
    else
        TRY(apply_to_trial(c, s, name, e, err));
    TRY(settle(s, err));
    s->sequence++;
out:
    return st;
}

enum status event_emit(struct coordinator *c, const char *sweep, struct value *event,
                       struct moment now, struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    char id[ULID_TEXT];
    (void)snprintf(id, sizeof id, "%s", sweep); /* may point into what apply changes */
    value_set_int(out->arena, event, "wall_ns", now.wall_ns);
    if (event == NULL || event->broken)
        return state_no_memory(err);
    const struct sweep_state *before = find_sweep(c, id);
    enum sweep_state_kind was = before != NULL ? before->state : SWEEP_ACTIVE;
    TRY(event_apply(c, id, event, err));
    const struct sweep_state *s = find_sweep(c, id);
    if (before == NULL)
        TRY(post_sweep_create(s, out, err));
    TRY(out_push(out, OUT_EVENT, s->id, s->sequence, event, err));
    TRY(post_trial(s, event, out, err));
    if (s->state != was)
        TRY(post_sweep_state(s, out, err));
out:
    return st;
}
