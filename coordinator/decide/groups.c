/* Who is here: hello, beat, bye, and those who fall silent. Nothing here is durable. */
#include "coordinator/decide/groups.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/decide/coordinator.h"
#include "coordinator/decide/lease.h"
#include "coordinator/decide/notices.h"

/* ---- hello ---- */

static void take_particulars(struct group *g, const struct value *r) {
    (void)snprintf(g->host, sizeof g->host, "%s", value_get_string(r, "host", ""));
    (void)snprintf(g->device, sizeof g->device, "%s", value_get_string(r, "device", ""));
    (void)snprintf(g->launch, sizeof g->launch, "%s", value_get_string(r, "launch", ""));
    g->ranks = value_get_int(r, "ranks", 1);
    g->pid = value_get_int(r, "pid", 0);
    g->ends_ns = value_get_int(r, "ends_ns", 0);
}

static void adopt(const struct turn *turn, struct group *g, struct trial *t) {
    int64_t now_ns = turn->now.mono_ns;
    g->trial = t;
    if (g->state == GROUP_IDLE)
        g->state = GROUP_BUSY;
    t->deadline_ns = t->cancel ? now_ns + COORDINATOR_CANCEL_MS * NS_PER_MS : 0;
    t->assigned_ns = now_ns;
}

/* A group that says hello without the trial it should have: either the assignment never reached it,
 * or it has forgotten the trial. */
static enum status remind(const struct turn *turn, struct group *g, struct trial *t,
                          struct err *err) {
    struct lease_end forgotten = {.state = "failed",
                                  .code = "unavailable",
                                  .reason = "the group came back without its trial"};
    if (t->state != TRIAL_ASSIGNED)
        return lease_end(turn, t, forgotten, err);
    adopt(turn, g, t);
    return notices_assign(turn, t, err);
}

/* It comes with a lease that holds: it goes on. */
static enum status take_back(const struct turn *turn, struct group *g, struct trial *t,
                             struct err *err) {
    adopt(turn, g, t);
    return t->cancel ? notices_cancel(turn, t, err) : STATUS_OK;
}

static struct value *hello_reply(const struct turn *turn, bool keep) {
    struct arena *a = turn->out->arena;
    struct value *reply = value_map(a);
    value_set_int(a, reply, "beat_ms", turn->c->options.beat_ms);
    value_set_int(a, reply, "lease_ms", turn->c->options.lease_ms);
    value_set_bool(a, reply, "keep", keep);
    return reply;
}

enum status groups_hello(const struct turn *turn, const struct value *r, struct value **reply,
                         struct err *err) {
    enum status st = STATUS_OK;
    struct coordinator *c = turn->c;
    const char *id = value_get_string(r, "group", "");
    const struct value *lease = value_get(r, "lease");
    struct trial *t = NULL;
    struct group *g = group_find(c, id);
    if (g == NULL) {
        TRY(group_add(c, id, &g, err));
        g->idle_since_ns = turn->now.mono_ns;
    }
    take_particulars(g, r);
    g->beat_ns = turn->now.mono_ns;
    bool keep = lease != NULL && lease_check(c, id, lease, &t, NULL) == STATUS_OK;
    if (keep)
        TRY(take_back(turn, g, t, err));
    else if ((t = group_trial(c, id)) != NULL)
        TRY(remind(turn, g, t, err));
    if (c->stopping)
        g->state = GROUP_LEAVING;
    if (g->state == GROUP_LEAVING && g->trial == NULL)
        TRY(notices_exit(turn, g, "the coordinator is shutting down", err));
    *reply = hello_reply(turn, keep);
out:
    return st;
}

/* ---- beat ---- */

static enum status beat_with_lease(const struct turn *turn, struct group *g, const struct value *r,
                                   struct err *err) {
    struct trial *t = NULL;
    enum status st = lease_check(turn->c, g->id, value_get(r, "lease"), &t, err);
    if (st != STATUS_OK)
        return st;
    g->trial = t;
    t->assigned_ns = turn->now.mono_ns;
    g->step = value_get_int(r, "step", g->step);
    g->units = value_get_real(r, "units", g->units);
    g->samples_per_s = value_get_real(r, "samples_per_s", g->samples_per_s);
    return turn->c->stopping || t->cancel ? notices_cancel(turn, t, err) : STATUS_OK;
}

/* Notices may be lost; a beat shows it, and they are sent again. */
static enum status beat_without_lease(const struct turn *turn, struct group *g, struct err *err) {
    const struct coordinator_options *o = &turn->c->options;
    struct trial *t = g->trial;
    if (t == NULL)
        return g->state == GROUP_LEAVING ? notices_exit(turn, g, "no more work", err) : STATUS_OK;
    int64_t silent_ms = (turn->now.mono_ns - t->assigned_ns) / NS_PER_MS;
    if (t->state == TRIAL_ASSIGNED && silent_ms > 2 * o->beat_ms) {
        t->assigned_ns = turn->now.mono_ns;
        return notices_assign(turn, t, err);
    }
    struct lease_end dropped = {.state = "failed",
                                .code = "unavailable",
                                .reason = "the group no longer works on its trial"};
    if (t->state == TRIAL_RUNNING && silent_ms > o->lease_ms)
        return lease_end(turn, t, dropped, err);
    return STATUS_OK;
}

enum status groups_beat(const struct turn *turn, const struct value *r, struct value **reply,
                        struct err *err) {
    struct group *g = group_find(turn->c, value_get_string(r, "group", ""));
    (void)reply;
    if (g == NULL)
        return err_set(err, STATUS_NOT_FOUND,
                       "this coordinator does not know the group; say hello again");
    g->beat_ns = turn->now.mono_ns;
    return value_get(r, "lease") != NULL ? beat_with_lease(turn, g, r, err)
                                         : beat_without_lease(turn, g, err);
}

/* ---- the end of groups ---- */

static enum status drop_group(const struct turn *turn, struct group *g, const char *state,
                              const char *reason, struct err *err) {
    struct trial *t = group_trial(turn->c, g->id);
    group_remove(turn->c, g);
    if (t == NULL)
        return STATUS_OK;
    struct lease_end end = {.state = lease_end_state(t, turn->c->stopping ? "preempted" : state),
                            .reason = reason};
    if (strcmp(end.state, "failed") == 0)
        end.code = "unavailable";
    return lease_end(turn, t, end, err);
}

enum status groups_bye(const struct turn *turn, const struct value *r, struct value **reply,
                       struct err *err) {
    char reason[STATE_REASON_MAX];
    struct group *g = group_find(turn->c, value_get_string(r, "group", ""));
    (void)reply;
    if (g == NULL)
        return STATUS_OK;
    (void)snprintf(reason, sizeof reason, "the group left: %.1900s",
                   value_get_string(r, "reason", "no reason given"));
    return drop_group(turn, g, "preempted", reason, err);
}

enum status coordinator_lost(const struct turn *turn, const char *group, const char *reason,
                             struct err *err) {
    char text[STATE_REASON_MAX];
    (void)snprintf(text, sizeof text, "group lost: %.1900s", reason);
    struct group *g = group_find(turn->c, group);
    if (g != NULL)
        return drop_group(turn, g, "failed", text, err);
    /* A restored lease whose group ended before it came back. */
    struct trial *t = group_trial(turn->c, group);
    struct lease_end end = {.state = "failed", .code = "unavailable", .reason = text};
    return t != NULL ? lease_end(turn, t, end, err) : STATUS_OK;
}

/* The trial's grace is over: its group did not come back, or does not leave it. */
static enum status expire_trial(const struct turn *turn, struct trial *t, struct err *err) {
    struct group *g = group_find(turn->c, t->group);
    if (g != NULL && g->trial == t)
        return drop_group(turn, g, "failed", "the group did not leave the trial in time", err);
    char text[160];
    (void)snprintf(text, sizeof text,
                   "its group did not come back within %lld ms of the coordinator's restart",
                   (long long)turn->c->options.lease_ms);
    struct lease_end end = {.state = lease_end_state(t, "failed"),
                            .code = t->cancel ? NULL : "unavailable",
                            .reason = text};
    return lease_end(turn, t, end, err);
}

enum status groups_expire(const struct turn *turn, struct err *err) {
    enum status st = STATUS_OK;
    struct coordinator *c = turn->c;
    int64_t now_ns = turn->now.mono_ns;
    for (size_t i = c->group_count; i-- > 0;) {
        struct group *g = c->groups[i];
        int64_t silent_ms = (now_ns - g->beat_ns) / NS_PER_MS;
        if (silent_ms <= c->options.lease_ms)
            continue;
        char text[96];
        (void)snprintf(text, sizeof text, "group lost: no beat for %lld ms", (long long)silent_ms);
        TRY(drop_group(turn, g, "failed", text, err));
    }
    for (struct trial *t = c->leased, *next; t != NULL; t = next) {
        next = t->next;
        if (t->deadline_ns > 0 && now_ns >= t->deadline_ns)
            TRY(expire_trial(turn, t, err));
    }
out:
    return st;
}
