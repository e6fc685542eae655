/* Who is here: hello, beat, bye, and those who fall silent. Nothing here is durable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/state/state.h"

/* ---- the table, sorted by id ---- */

static size_t group_place(const struct coordinator *c, const char *id) {
    size_t lo = 0, hi = c->group_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(c->groups[mid]->id, id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct group *find_group(const struct coordinator *c, const char *id) {
    size_t i = group_place(c, id);
    return i < c->group_count && strcmp(c->groups[i]->id, id) == 0 ? c->groups[i] : NULL;
}

static enum status add_group(struct coordinator *c, const char *id, struct group **out,
                             struct err *err) {
    if (c->group_count == COORDINATOR_GROUPS_MAX)
        return err_set(err, STATUS_FULL, "there are %d worker groups already",
                       COORDINATOR_GROUPS_MAX);
    if (c->group_count == c->group_cap) {
        size_t cap = c->group_cap == 0 ? 16 : c->group_cap * 2;
        struct group **bigger = realloc(c->groups, cap * sizeof(struct group *));
        if (bigger == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory for a worker group");
        c->groups = bigger;
        c->group_cap = cap;
    }
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a worker group");
    (void)snprintf(g->id, sizeof g->id, "%s", id);
    size_t i = group_place(c, id);
    memmove(&c->groups[i + 1], &c->groups[i], (c->group_count - i) * sizeof(struct group *));
    c->groups[i] = g;
    c->group_count++;
    *out = g;
    return STATUS_OK;
}

void remove_group(struct coordinator *c, struct group *g) {
    size_t i = group_place(c, g->id);
    c->group_count--;
    memmove(&c->groups[i], &c->groups[i + 1], (c->group_count - i) * sizeof(struct group *));
    free(g);
}

void group_freed(struct group *g, struct moment now) {
    g->trial = NULL;
    g->step = 0;
    g->units = 0.0;
    g->idle_since_ns = now.mono_ns;
    if (g->state == GROUP_BUSY)
        g->state = GROUP_IDLE;
}

/* ---- hello ---- */

static void take_particulars(struct group *g, const struct value *r) {
    (void)snprintf(g->host, sizeof g->host, "%s", value_get_string(r, "host", ""));
    (void)snprintf(g->device, sizeof g->device, "%s", value_get_string(r, "device", ""));
    (void)snprintf(g->launch, sizeof g->launch, "%s", value_get_string(r, "launch", ""));
    g->ranks = value_get_int(r, "ranks", 1);
    g->pid = value_get_int(r, "pid", 0);
    g->ends_ns = value_get_int(r, "ends_ns", 0);
}

static struct trial *leased_to(const struct coordinator *c, const char *group) {
    for (struct trial *t = c->leased; t != NULL; t = t->next)
        if (strcmp(t->group, group) == 0)
            return t;
    return NULL;
}

static void adopt(struct group *g, struct trial *t, struct moment now) {
    g->trial = t;
    if (g->state == GROUP_IDLE)
        g->state = GROUP_BUSY;
    t->deadline_ns = t->cancel ? now.mono_ns + COORDINATOR_CANCEL_MS * NS_PER_MS : 0;
    t->assigned_ns = now.mono_ns;
}

/* A group that says hello without the trial it should have: either the assignment never reached it,
 * or it has forgotten the trial. */
static enum status remind(struct coordinator *c, struct group *g, struct trial *t,
                          struct moment now, struct outbox *out, struct err *err) {
    if (t->state != TRIAL_ASSIGNED)
        return end_lease(c, t, "failed", "unavailable", "the group came back without its trial",
                         now, out, err);
    adopt(g, t, now);
    return send_assign(t, out, err);
}

static enum status send_exit(const struct group *g, const char *reason, struct outbox *out,
                             struct err *err) {
    struct value *m = message_request(out->arena, "group.exit", NULL);
    value_set_string(out->arena, m, "reason", reason);
    return out_push(out, OUT_NOTICE, g->id, 0, m, err);
}

enum status handle_hello(struct coordinator *c, const struct value *r, struct moment now,
                         struct outbox *out, struct value **reply, struct err *err) {
    enum status st = STATUS_OK;
    const char *id = value_get_string(r, "group", "");
    const struct value *lease = value_get(r, "lease");
    struct trial *t = NULL;
    struct group *g = find_group(c, id);
    if (g == NULL) {
        TRY(add_group(c, id, &g, err));
        g->idle_since_ns = now.mono_ns;
    }
    take_particulars(g, r);
    g->beat_ns = now.mono_ns;
    bool keep = lease != NULL && check_lease(c, id, lease, &t, NULL) == STATUS_OK;
    if (keep) {
        adopt(g, t, now);
        if (t->cancel)
            TRY(send_cancel(t, "cancelled", out, err));
    } else {
        t = g->trial != NULL ? g->trial : leased_to(c, id);
        if (t != NULL)
            TRY(remind(c, g, t, now, out, err));
    }
    if (c->stopping)
        g->state = GROUP_LEAVING;
    if (g->state == GROUP_LEAVING && g->trial == NULL)
        TRY(send_exit(g, "the coordinator is shutting down", out, err));
    *reply = value_map(out->arena);
    value_set_int(out->arena, *reply, "beat_ms", c->options.beat_ms);
    value_set_int(out->arena, *reply, "lease_ms", c->options.lease_ms);
    value_set_bool(out->arena, *reply, "keep", keep);
out:
    return st;
}

/* ---- beat ---- */

static enum status beat_with_lease(struct coordinator *c, struct group *g, const struct value *r,
                                   struct moment now, struct outbox *out, struct err *err) {
    struct trial *t = NULL;
    enum status st = check_lease(c, g->id, value_get(r, "lease"), &t, err);
    if (st != STATUS_OK)
        return st;
    g->trial = t;
    t->assigned_ns = now.mono_ns;
    g->step = value_get_int(r, "step", g->step);
    g->units = value_get_real(r, "units", g->units);
    g->samples_per_s = value_get_real(r, "samples_per_s", g->samples_per_s);
    if (c->stopping && !t->cancel)
        return send_cancel(t, "preempted", out, err);
    return t->cancel ? send_cancel(t, "cancelled", out, err) : STATUS_OK;
}

/* Notices may be lost; a beat shows it, and they are sent again. */
static enum status beat_without_lease(struct coordinator *c, struct group *g, struct moment now,
                                      struct outbox *out, struct err *err) {
    struct trial *t = g->trial;
    if (t == NULL)
        return g->state == GROUP_LEAVING ? send_exit(g, "no more work", out, err) : STATUS_OK;
    int64_t silent_ms = (now.mono_ns - t->assigned_ns) / NS_PER_MS;
    if (t->state == TRIAL_ASSIGNED && silent_ms > 2 * c->options.beat_ms) {
        t->assigned_ns = now.mono_ns;
        return send_assign(t, out, err);
    }
    if (t->state == TRIAL_RUNNING && silent_ms > c->options.lease_ms)
        return end_lease(c, t, "failed", "unavailable", "the group no longer works on its trial",
                         now, out, err);
    return STATUS_OK;
}

enum status handle_beat(struct coordinator *c, const struct value *r, struct moment now,
                        struct outbox *out, struct err *err) {
    struct group *g = find_group(c, value_get_string(r, "group", ""));
    if (g == NULL)
        return err_set(err, STATUS_NOT_FOUND, "this group is not known here; say hello again");
    g->beat_ns = now.mono_ns;
    return value_get(r, "lease") != NULL ? beat_with_lease(c, g, r, now, out, err)
                                         : beat_without_lease(c, g, now, out, err);
}

/* ---- the end of groups ---- */

static enum status drop_group(struct coordinator *c, struct group *g, const char *state,
                              const char *reason, struct moment now, struct outbox *out,
                              struct err *err) {
    struct trial *t = g->trial != NULL ? g->trial : leased_to(c, g->id);
    remove_group(c, g);
    if (t == NULL)
        return STATUS_OK;
    const char *end = t->cancel ? "cancelled" : c->stopping ? "preempted" : state;
    return end_lease(c, t, end, strcmp(end, "failed") == 0 ? "unavailable" : NULL, reason, now, out,
                     err);
}

enum status handle_bye(struct coordinator *c, const struct value *r, struct moment now,
                       struct outbox *out, struct err *err) {
    char reason[TRIAL_REASON_MAX];
    struct group *g = find_group(c, value_get_string(r, "group", ""));
    if (g == NULL)
        return STATUS_OK;
    (void)snprintf(reason, sizeof reason, "the group left: %.1900s",
                   value_get_string(r, "reason", "no reason given"));
    return drop_group(c, g, "preempted", reason, now, out, err);
}

enum status coordinator_lost(struct coordinator *c, const char *group, const char *reason,
                             struct moment now, struct outbox *out, struct err *err) {
    char text[TRIAL_REASON_MAX];
    (void)snprintf(text, sizeof text, "group lost: %.1900s", reason);
    struct group *g = find_group(c, group);
    if (g != NULL)
        return drop_group(c, g, "failed", text, now, out, err);
    /* A restored lease whose group ended before it came back. */
    struct trial *t = leased_to(c, group);
    return t != NULL ? end_lease(c, t, "failed", "unavailable", text, now, out, err) : STATUS_OK;
}

/* The trial's grace is over: its group did not come back, or does not leave it. */
static enum status expire_trial(struct coordinator *c, struct trial *t, struct moment now,
                                struct outbox *out, struct err *err) {
    struct group *g = find_group(c, t->group);
    if (g != NULL && g->trial == t)
        return drop_group(c, g, "failed", "the group did not leave the trial in time", now, out,
                          err);
    char text[160];
    (void)snprintf(text, sizeof text,
                   "its group did not come back within %lld ms of the coordinator's restart",
                   (long long)c->options.lease_ms);
    const char *end = t->cancel ? "cancelled" : "failed";
    return end_lease(c, t, end, t->cancel ? NULL : "unavailable", text, now, out, err);
}

enum status expire_leases(struct coordinator *c, struct moment now, struct outbox *out,
                          struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = c->group_count; i-- > 0;) {
        struct group *g = c->groups[i];
        int64_t silent_ms = (now.mono_ns - g->beat_ns) / NS_PER_MS;
        if (silent_ms <= c->options.lease_ms)
            continue;
        char text[96];
        (void)snprintf(text, sizeof text, "group lost: no beat for %lld ms", (long long)silent_ms);
        TRY(drop_group(c, g, "failed", text, now, out, err));
    }
    for (struct trial *t = c->leased, *next; t != NULL; t = next) {
        next = t->next;
        if (t->deadline_ns > 0 && now.mono_ns >= t->deadline_ns)
            TRY(expire_trial(c, t, now, out, err));
    }
out:
    return st;
}
