/* Leases, and their ends. */
#include "coordinator/decide/lease.h"

#include <string.h>

#include "coordinator/decide/event.h"

struct value *lease_value(struct arena *a, const struct trial *t) {
    struct value *l = value_map(a);
    value_set_string(a, l, "sweep", t->sweep->id);
    value_set_int(a, l, "trial", t->number);
    value_set_string(a, l, "run", t->run);
    value_set_int(a, l, "epoch", t->epoch);
    return l;
}

struct trial *lease_named(const struct coordinator *c, const struct value *lease) {
    const struct sweep_state *s = state_find_sweep(c, value_get_string(lease, "sweep", ""));
    return s != NULL ? state_find_trial(s, value_get_int(lease, "trial", 0)) : NULL;
}

bool lease_same(const struct trial *t, const char *group, const struct value *lease) {
    return value_get_int(lease, "epoch", 0) == t->epoch &&
           strcmp(value_get_string(lease, "run", ""), t->run) == 0 && strcmp(group, t->group) == 0;
}

enum status lease_check(const struct coordinator *c, const char *group, const struct value *lease,
                        struct trial **out, struct err *err) {
    struct trial *t = lease_named(c, lease);
    if (t == NULL)
        return err_set(err, STATUS_CONFLICT, "this coordinator knows no such trial; drop it");
    if (!trial_leased(t) || !lease_same(t, group, lease))
        return err_set(err, STATUS_CONFLICT,
                       "the lease of trial %lld with epoch %lld is over; the trial is %s (epoch "
                       "%lld)",
                       (long long)t->number, (long long)value_get_int(lease, "epoch", 0),
                       state_trial_name(t->state), (long long)t->epoch);
    *out = t;
    return STATUS_OK;
}

enum status lease_end(const struct turn *turn, struct trial *t, struct lease_end end,
                      struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *e = event_of_trial(a, "trial.ended", t);
    char *text = arena_printf(a, "%.1990s", end.reason != NULL ? end.reason : "");
    value_set_string(a, e, "state", end.state);
    value_set_string(a, e, "code", end.code);
    value_set(a, e, "reason", text != NULL ? value_string(a, text) : NULL);
    struct group *g = group_find(turn->c, t->group);
    if (g != NULL && g->trial == t)
        group_freed(g, turn->now.mono_ns);
    return event_emit(turn, t->sweep->id, e, err);
}
