/* The messages to groups. */
#include "coordinator/decide/notices.h"

#include "coordinator/decide/lease.h"
#include "wire/message.h"

static enum status push(const struct turn *turn, const char *group, struct value *message,
                        struct err *err) {
    struct outgoing item = {.kind = OUT_NOTICE, .to = group, .message = message};
    return turn_push(turn, item, err);
}

/* The next boundary: what was logged of an earlier attempt, else the searcher's first. */
static double until(const struct trial *t) {
    return t->until > 0.0 ? t->until : t->sweep->search->until(t->sweep->searcher, t->number);
}

enum status notices_assign(const struct turn *turn, const struct trial *t, struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *config = NULL;
    enum status st = state_trial_config(t, a, &config, err);
    if (st != STATUS_OK)
        return st;
    struct value *m = message_request(a, "trial.assign", NULL), *runs = value_list(a);
    value_set(a, m, "lease", lease_value(a, t));
    value_set(a, m, "config", config);
    value_set_real(a, m, "until", until(t));
    for (size_t i = t->run_count; i-- > 0;)
        value_push(a, runs, value_string(a, t->runs[i]));
    value_set(a, m, "resume", runs);
    return push(turn, t->group, m, err);
}

enum status notices_cancel(const struct turn *turn, const struct trial *t, struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *m = message_request(a, "trial.cancel", NULL);
    value_set(a, m, "lease", lease_value(a, t));
    value_set_string(a, m, "state", lease_end_state(t, "preempted"));
    if (t->sweep->reason != NULL)
        value_set_string(a, m, "reason", t->sweep->reason);
    return push(turn, t->group, m, err);
}

enum status notices_exit(const struct turn *turn, struct group *g, const char *reason,
                         struct err *err) {
    struct value *m = message_request(turn->out->arena, "group.exit", NULL);
    value_set_string(turn->out->arena, m, "reason", reason);
    g->state = GROUP_LEAVING;
    return push(turn, g->id, m, err);
}
