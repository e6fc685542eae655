/* What groups say about trials: started, report, done; leases and their fences. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/state/state.h"

struct value *lease_of(struct arena *a, const struct trial *t) {
    struct value *l = value_map(a);
    value_set_string(a, l, "sweep", t->sweep->id);
    value_set_int(a, l, "trial", t->number);
    value_set_string(a, l, "run", t->run);
    value_set_int(a, l, "epoch", t->epoch);
    return l;
}

/* The trial that a lease names, whatever became of it. */
static struct trial *named_trial(const struct coordinator *c, const struct value *lease) {
    const struct sweep_state *s = find_sweep(c, value_get_string(lease, "sweep", ""));
    return s != NULL ? find_trial(s, value_get_int(lease, "trial", 0)) : NULL;
}

static bool same_lease(const struct trial *t, const char *group, const struct value *lease) {
    return value_get_int(lease, "epoch", 0) == t->epoch &&
           strcmp(value_get_string(lease, "run", ""), t->run) == 0 && strcmp(group, t->group) == 0;
}

enum status check_lease(const struct coordinator *c, const char *group, const struct value *lease,
                        struct trial **out, struct err *err) {
    struct trial *t = named_trial(c, lease);
    if (t == NULL)
        return err_set(err, STATUS_CONFLICT, "no such trial is known here; drop it");
    if (!trial_leased(t) || !same_lease(t, group, lease))
        return err_set(err, STATUS_CONFLICT,
                       "the lease of trial %lld with epoch %lld is over; the trial is %s (epoch "
                       "%lld)",
                       (long long)t->number, (long long)value_get_int(lease, "epoch", 0),
                       trial_state_name(t->state), (long long)t->epoch);
    *out = t;
    return STATUS_OK;
}

static struct value *trial_event(struct arena *a, const char *name, const struct trial *t) {
    struct value *e = event_new(a, name);
    value_set_int(a, e, "trial", t->number);
    value_set_string(a, e, "run", t->run);
    value_set_int(a, e, "epoch", t->epoch);
    return e;
}

enum status handle_started(struct coordinator *c, const struct value *r, struct moment now,
                           struct outbox *out, struct err *err) {
    struct trial *t = NULL;
    enum status st =
        check_lease(c, value_get_string(r, "group", ""), value_get(r, "lease"), &t, err);
    if (st != STATUS_OK || t->state == TRIAL_RUNNING)
        return st; /* said twice */
    struct value *e = trial_event(out->arena, "trial.started", t);
    value_set_int(out->arena, e, "step", value_get_int(r, "step", 0));
    return event_emit(c, t->sweep->id, e, now, out, err);
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

/* A boundary's verdict is an event of its own, with its reason. */
static enum status emit_verdict(struct coordinator *c, const struct trial *t, struct moment now,
                                struct outbox *out, struct err *err) {
    struct value *e = trial_event(out->arena, "trial.verdict", t);
    value_set_string(out->arena, e, "verdict", t->verdict.stop ? "stop" : "continue");
    value_set_real(out->arena, e, "units", t->units);
    value_set_real(out->arena, e, "until", t->verdict.until);
    value_set_string(out->arena, e, "reason", t->verdict.reason);
    return event_emit(c, t->sweep->id, e, now, out, err);
}

enum status handle_report(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct value **reply, struct err *err) {
    struct arena *a = out->arena;
    struct trial *t = NULL;
    enum status st = STATUS_OK;
    bool boundary = value_get_bool(r, "boundary", false);
    TRY(check_lease(c, value_get_string(r, "group", ""), value_get(r, "lease"), &t, err));
    /* The same report again (its answer was lost): the same answer, nothing stored. */
    bool again =
        t->verdict.reason != NULL && t->step == value_get_int(r, "step", 0) && t->metrics != NULL;
    if (!again) {
        struct value *e = trial_event(a, "trial.reported", t);
        value_set_real(a, e, "units", value_get_real(r, "units", 0.0));
        value_set_int(a, e, "step", value_get_int(r, "step", 0));
        if (boundary)
            value_set_bool(a, e, "boundary", true);
        value_set(a, e, "metrics", finite_only(a, value_get(r, "metrics")));
        TRY(event_emit(c, t->sweep->id, e, now, out, err));
        if (boundary)
            TRY(emit_verdict(c, t, now, out, err));
    }
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
        value_set_string(a, e, "reason", value_get_string(r, "reason", NULL));
        return;
    }
    value_set_string(a, e, "state", "failed");
    value_set_string(a, e, "code", "nonfinite");
    struct value *why = NULL;
    char *text = arena_printf(a, "the searched metric %s is missing or not finite at the end%s%s",
                              metric, value_get_string(r, "reason", NULL) != NULL ? ": " : "",
                              value_get_string(r, "reason", ""));
    why = text != NULL ? value_string(a, text) : NULL;
    value_set(a, e, "reason", why);
}

enum status handle_done(struct coordinator *c, const struct value *r, struct moment now,
                        struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    const char *group = value_get_string(r, "group", "");
    const struct value *lease = value_get(r, "lease");
    struct trial *t = named_trial(c, lease);
    if (t != NULL && !trial_leased(t) && t->done_epoch == t->epoch && same_lease(t, group, lease))
        return STATUS_OK; /* said twice */
    enum status st = check_lease(c, group, lease, &t, err);
    if (st != STATUS_OK)
        return st;
    struct value *e = trial_event(a, "trial.ended", t);
    judge_result(a, t, r, e);
    value_set_bool(a, e, "done", true);
    value_set_real(a, e, "units", value_get_real(r, "units", 0.0));
    value_set_int(a, e, "step", value_get_int(r, "step", 0));
    value_set(a, e, "metrics", finite_only(a, value_get(r, "metrics")));
    value_set_string(a, e, "weights_digest", value_get_string(r, "weights_digest", NULL));
    struct group *g = find_group(c, group);
    if (g != NULL)
        group_freed(g, now);
    return event_emit(c, t->sweep->id, e, now, out, err);
}

enum status end_lease(struct coordinator *c, struct trial *t, const char *state, const char *code,
                      const char *reason, struct moment now, struct outbox *out, struct err *err) {
    struct value *e = trial_event(out->arena, "trial.ended", t);
    char text[TRIAL_REASON_MAX];
    (void)snprintf(text, sizeof text, "%.1990s", reason != NULL ? reason : "");
    value_set_string(out->arena, e, "state", state);
    value_set_string(out->arena, e, "code", code);
    value_set_string(out->arena, e, "reason", text);
    struct group *g = find_group(c, t->group);
    if (g != NULL && g->trial == t)
        group_freed(g, now);
    return event_emit(c, t->sweep->id, e, now, out, err);
}

enum status send_cancel(const struct trial *t, const char *state, struct outbox *out,
                        struct err *err) {
    struct value *m = message_request(out->arena, "trial.cancel", NULL);
    value_set(out->arena, m, "lease", lease_of(out->arena, t));
    value_set_string(out->arena, m, "state", state);
    if (t->sweep->reason != NULL)
        value_set_string(out->arena, m, "reason", t->sweep->reason);
    return out_push(out, OUT_NOTICE, t->group, 0, m, err);
}
