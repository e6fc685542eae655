/* What groups say about trials: started, report, done. */
#include "coordinator/decide/trials.h"

#include <math.h>
#include <string.h>

#include "coordinator/decide/event.h"
#include "coordinator/decide/lease.h"

/* The trial that the request's group holds by the request's lease. */
static enum status leased_trial(const struct turn *turn, const struct value *r, struct trial **out,
                                struct err *err) {
    return lease_check(turn->c, value_get_string(r, "group", ""), value_get(r, "lease"), out, err);
}

enum status trials_started(const struct turn *turn, const struct value *r, struct value **reply,
                           struct err *err) {
    struct trial *t = NULL;
    (void)reply;
    enum status st = leased_trial(turn, r, &t, err);
    if (st != STATUS_OK || t->state == TRIAL_RUNNING)
        return st; /* said twice */
    struct value *e = event_of_trial(turn->out->arena, "trial.started", t);
    value_set_int(turn->out->arena, e, "step", value_get_int(r, "step", 0));
    return event_emit(turn, t->sweep->id, e, err);
}

static bool finite_metric(const struct value *metrics, const char *name) {
    const struct value *v = value_get(metrics, name);
    return v != NULL && (v->kind == VALUE_INT || (v->kind == VALUE_REAL && isfinite(v->real)));
}

/* Numbers only: what is not finite has no JSON and would poison the log. */
static struct value *finite_only(struct arena *a, const struct value *metrics) {
    struct value *m = value_map(a);
    for (size_t i = 0; metrics != NULL && i < metrics->count; i++)
        if (finite_metric(metrics, metrics->members[i].key))
            value_set(a, m, metrics->members[i].key, value_copy(a, metrics->members[i].value));
    return m;
}

static enum status emit_report(const struct turn *turn, const struct trial *t,
                               const struct value *r, struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *e = event_of_trial(a, "trial.reported", t);
    value_set_real(a, e, "units", value_get_real(r, "units", 0.0));
    value_set_int(a, e, "step", value_get_int(r, "step", 0));
    if (value_get_bool(r, "boundary", false))
        value_set_bool(a, e, "boundary", true);
    value_set(a, e, "metrics", finite_only(a, value_get(r, "metrics")));
    return event_emit(turn, t->sweep->id, e, err);
}

/* A boundary's verdict is an event of its own, with its reason. */
static enum status emit_verdict(const struct turn *turn, const struct trial *t, struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *e = event_of_trial(a, "trial.verdict", t);
    value_set_string(a, e, "verdict", t->verdict.stop ? "stop" : "continue");
    value_set_real(a, e, "units", t->units);
    value_set_real(a, e, "until", t->verdict.until);
    value_set_string(a, e, "reason", t->verdict.reason);
    return event_emit(turn, t->sweep->id, e, err);
}

enum status trials_report(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) {
    struct arena *a = turn->out->arena;
    struct trial *t = NULL;
    enum status st = STATUS_OK;
    TRY(leased_trial(turn, r, &t, err));
    /* The same report again (its answer was lost): the same answer, nothing stored. */
    bool again = t->reported && t->step == value_get_int(r, "step", 0) && t->metrics != NULL;
    if (!again)
        TRY(emit_report(turn, t, r, err));
    if (!again && value_get_bool(r, "boundary", false))
        TRY(emit_verdict(turn, t, err));
    *reply = value_map(a);
    value_set_string(a, *reply, "verdict", t->verdict.stop ? "stop" : "continue");
    value_set_real(a, *reply, "until", t->verdict.until);
    value_set_string(a, *reply, "reason", t->verdict.reason);
out:
    return st;
}

/* A trial that says it is done but brings no finite value of the searched metric has failed: it
 * must not rank. */
static void judge_result(struct arena *a, const struct trial *t, const struct value *r,
                         struct value *e) {
    const char *state = value_get_string(r, "state", "failed"), *metric = t->sweep->spec->metric;
    bool result = strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0;
    if (!result || finite_metric(value_get(r, "metrics"), metric)) {
        value_set_string(a, e, "state", state);
        value_set_string(a, e, "code", value_get_string(r, "code", NULL));
        bool late = result && (t->cancel || t->sweep->cancel);
        value_set_string(a, e, "reason",
                         late ? "it had finished before the cancellation reached it"
                              : value_get_string(r, "reason", NULL));
        return;
    }
    value_set_string(a, e, "state", "failed");
    value_set_string(a, e, "code", "nonfinite");
    char *text = arena_printf(a, "the searched metric %s is missing or not finite at the end%s%s",
                              metric, value_get_string(r, "reason", NULL) != NULL ? ": " : "",
                              value_get_string(r, "reason", ""));
    value_set(a, e, "reason", text != NULL ? value_string(a, text) : NULL);
}

enum status trials_done(const struct turn *turn, const struct value *r, struct value **reply,
                        struct err *err) {
    struct arena *a = turn->out->arena;
    const char *group = value_get_string(r, "group", "");
    const struct value *lease = value_get(r, "lease");
    struct trial *t = lease_named(turn->c, lease);
    (void)reply;
    if (t != NULL && !trial_leased(t) && t->done_epoch == t->epoch && lease_same(t, group, lease))
        return STATUS_OK; /* said twice */
    enum status st = lease_check(turn->c, group, lease, &t, err);
    if (st != STATUS_OK)
        return st;
    struct value *e = event_of_trial(a, "trial.ended", t);
    judge_result(a, t, r, e);
    value_set_bool(a, e, "done", true);
    value_set_real(a, e, "units", value_get_real(r, "units", 0.0));
    value_set_int(a, e, "step", value_get_int(r, "step", 0));
    value_set(a, e, "metrics", finite_only(a, value_get(r, "metrics")));
    value_set_string(a, e, "weights_digest", value_get_string(r, "weights_digest", NULL));
    struct group *g = group_find(turn->c, group);
    if (g != NULL)
        group_freed(g, turn->now.mono_ns);
    return event_emit(turn, t->sweep->id, e, err);
}
