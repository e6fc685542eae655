/* The table of events: whom each is about, what must hold, what it does. */
#include "coordinator/state/apply.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/state/apply_private.h"

enum subject {
    NO_SWEEP,      /* it makes one */
    A_SWEEP,       /* in any state */
    WAITING_TRIAL, /* queued, or the next new one */
    LEASED_TRIAL,  /* with the epoch that the event names */
    OPEN_TRIAL,    /* not final */
};

static const struct event_row {
    const char *name;
    enum subject subject;
    enum status (*apply)(struct apply *x, struct err *err);
} event_rows[] = {
    {"sweep.submitted", NO_SWEEP, apply_sweep_submitted},
    {"sweep.cancelled", A_SWEEP, apply_sweep_cancelled},
    {"sweep.failed", A_SWEEP, apply_sweep_failed},
    {"sweep.paused", A_SWEEP, apply_sweep_paused},
    {"sweep.resumed", A_SWEEP, apply_sweep_resumed},
    {"trial.assigned", WAITING_TRIAL, apply_trial_assigned},
    {"trial.started", LEASED_TRIAL, apply_trial_started},
    {"trial.reported", LEASED_TRIAL, apply_trial_reported},
    {"trial.verdict", LEASED_TRIAL, apply_trial_verdict},
    {"trial.ended", LEASED_TRIAL, apply_trial_ended},
    {"trial.cancelled", OPEN_TRIAL, apply_trial_cancelled},
};

static const struct event_row *find_row(const char *name) {
    for (size_t i = 0; i < sizeof event_rows / sizeof event_rows[0]; i++)
        if (strcmp(event_rows[i].name, name) == 0)
            return &event_rows[i];
    return NULL;
}

/* Finds the trial and checks that the event may be about it now. */
static enum status find_subject(struct apply *x, enum subject subject, struct err *err) {
    if (subject == NO_SWEEP || subject == A_SWEEP)
        return STATUS_OK;
    int64_t number = value_get_int(x->event, "trial", 0);
    struct trial *t = x->trial = state_find_trial(x->sweep, number);
    if (t == NULL)
        return subject == WAITING_TRIAL && number == x->sweep->created + 1
                   ? STATUS_OK
                   : apply_corrupt(x, "there is no such trial", err);
    if (subject == WAITING_TRIAL && t->state != TRIAL_QUEUED)
        return apply_corrupt(x, "the trial is not queued", err);
    if (subject == OPEN_TRIAL ? trial_final(t) : subject == LEASED_TRIAL && !trial_leased(t))
        return apply_corrupt(x, "the trial is in another state", err);
    if (subject == LEASED_TRIAL && value_get_int(x->event, "epoch", t->epoch) != t->epoch)
        return apply_corrupt(x, "the event names another epoch", err);
    return STATUS_OK;
}

/* ---- the end of a sweep ---- */

/* The reason of the first trial that failed. */
static const char *first_failure(const struct sweep_state *s, int64_t *trial) {
    for (int64_t n = 1; n <= s->created; n++) {
        const struct trial *t = state_find_trial(s, n);
        if (t->state == TRIAL_FAILED) {
            *trial = n;
            return t->reason != NULL ? t->reason : "no reason given";
        }
    }
    return "";
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
    if (s->failed == 0 || s->failed < s->finished) {
        s->state = SWEEP_COMPLETED;
        return state_set_text(&s->reason, NULL, err);
    }
    int64_t trial = 0;
    char text[STATE_REASON_MAX];
    const char *why = first_failure(s, &trial);
    (void)snprintf(text, sizeof text, "all %lld trials failed; trial %lld: %.1800s",
                   (long long)s->failed, (long long)trial, why);
    s->state = SWEEP_FAILED;
    return state_set_text(&s->reason, text, err);
}

enum status apply_event(struct coordinator *c, const char *sweep, const struct value *event,
                        struct err *err) {
    enum status st = STATUS_OK;
    const char *name = value_get_string(event, "event", "");
    const struct event_row *row = find_row(name);
    struct apply x = {.c = c, .id = sweep, .event = event, .sweep = state_find_sweep(c, sweep)};
    if (row == NULL)
        return apply_corrupt(&x, "unknown event; a later version wrote this log", err);
    if (x.sweep == NULL && row->subject != NO_SWEEP)
        return apply_corrupt(&x, "a log begins with sweep.submitted", err);
    if (x.sweep != NULL && row->subject == NO_SWEEP)
        return apply_corrupt(&x, "the sweep was submitted already", err);
    TRY(find_subject(&x, row->subject, err));
    TRY(row->apply(&x, err));
    TRY(settle(x.sweep, err));
    x.sweep->sequence++;
out:
    return st;
}
