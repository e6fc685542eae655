/* Who gets what, and who is sent away. */
#include "coordinator/decide/assign.h"

#include "coordinator/decide/demand.h"
#include "coordinator/decide/event.h"
#include "coordinator/decide/lease.h"
#include "coordinator/decide/notices.h"
#include "core/philox.h"

#define STREAM_RUN (UINT64_C(0x52554e20) << 32) /* "RUN " | word */

/* ---- assignment ---- */

static struct group *idle_group(const struct turn *turn, int64_t ranks) {
    const struct coordinator *c = turn->c;
    for (size_t i = 0; i < c->group_count; i++) {
        struct group *g = c->groups[i];
        bool lasts =
            g->ends_ns == 0 || g->ends_ns - turn->now.wall_ns > COORDINATOR_LAST_MS * NS_PER_MS;
        if (g->state == GROUP_IDLE && g->ranks == ranks && lasts)
            return g;
    }
    return NULL;
}

/* A run's id: the event's time, and 80 bits that are a function of (sweep, trial, epoch). */
static void run_id(const struct sweep_state *s, int64_t trial, int64_t epoch, struct moment now,
                   char out[ULID_TEXT]) {
    struct philox4 r = philox(s->key, STREAM_RUN ^ (uint64_t)epoch, (uint64_t)trial);
    ulid_make(now.wall_ns / NS_PER_MS, r.v[0] & 0xffff, (uint64_t)r.v[1] << 32 | r.v[2], out);
}

/* What this attempt trains with: the log's point, where the trial has one, else the searcher's. */
static enum status choose_point(const struct turn *turn, const struct sweep_state *s,
                                int64_t number, struct value **out, struct err *err) {
    struct arena *a = turn->out->arena;
    const struct trial *t = state_find_trial(s, number);
    if (t != NULL)
        return state_point(t, a, out, err);
    *out = s->search->point(s->searcher, a, number);
    return *out != NULL ? STATUS_OK : state_no_memory(err);
}

static enum status emit_assigned(const struct turn *turn, const struct sweep_state *s,
                                 int64_t number, const struct group *g, struct err *err) {
    struct arena *a = turn->out->arena;
    const struct trial *t = state_find_trial(s, number);
    int64_t epoch = t != NULL ? t->epoch + 1 : 1;
    struct value *point = NULL;
    char run[ULID_TEXT];
    enum status st = choose_point(turn, s, number, &point, err);
    if (st != STATUS_OK)
        return st;
    run_id(s, number, epoch, turn->now, run);
    struct value *e = event_new(a, "trial.assigned");
    value_set_int(a, e, "trial", number);
    value_set_string(a, e, "run", run);
    value_set_int(a, e, "epoch", epoch);
    value_set_int(a, e, "attempt", t != NULL ? t->attempt + 1 : 1);
    value_set_string(a, e, "group", g->id);
    value_set(a, e, "hyperparameters", point);
    return event_emit(turn, s->id, e, err);
}

static enum status assign(const struct turn *turn, struct sweep_state *s, int64_t number,
                          struct group *g, struct err *err) {
    enum status st = emit_assigned(turn, s, number, g, err);
    if (st != STATUS_OK)
        return st;
    struct trial *t = state_find_trial(s, number);
    g->trial = t;
    g->state = GROUP_BUSY;
    t->assigned_ns = turn->now.mono_ns;
    struct err why;
    st = notices_assign(turn, t, &why);
    if (st == STATUS_OK)
        return st;
    if (st == STATUS_NOMEM)
        return state_no_memory(err);
    struct lease_end end = {.state = "failed", .code = "invalid", .reason = why.text};
    return lease_end(turn, t, end, err);
}

enum status assign_trials(const struct turn *turn, struct err *err) {
    enum status st = STATUS_OK;
    const struct coordinator *c = turn->c;
    int64_t used = 0, trial = 0, max_slots = c->options.max_slots;
    for (const struct trial *t = c->leased; t != NULL; t = t->next)
        used += t->sweep->slots_per_trial;
    for (size_t i = 0; i < c->sweep_count && !c->stopping; i++) {
        struct sweep_state *s = c->sweeps[i];
        /* At most as many as there may be groups: a trial that fails at once must not starve us. */
        for (size_t n = 0; n <= c->group_count; n++) {
            struct group *g = NULL;
            if (s->state != SWEEP_ACTIVE || s->cancel || !state_next_trial(s, &trial))
                break;
            if ((s->leased + 1) * s->slots_per_trial > s->max_slots)
                break;
            if (max_slots > 0 && used + s->slots_per_trial > max_slots)
                break;
            if ((g = idle_group(turn, s->slots_per_trial)) == NULL)
                break;
            TRY(assign(turn, s, trial, g, err));
            used += s->slots_per_trial;
        }
    }
out:
    return st;
}

/* ---- groups that are no longer needed ---- */

static bool spare(const struct group *g, const struct demand *demand, size_t n) {
    for (size_t k = 0; k < n; k++)
        if (demand[k].ranks == g->ranks)
            return demand[k].have > demand[k].wanted;
    return true;
}

/* Where slots are short, idle groups of a size that nobody wants make room for the wanted ones;
 * where there are too many (orphans that came back late), idle ones that nobody wants go. */
static enum status make_room(const struct turn *turn, struct err *err) {
    const struct coordinator *c = turn->c;
    struct demand demand[COORDINATOR_DEMAND_MAX];
    size_t n = coordinator_demand(c, demand);
    int64_t used = 0, cap = demand_cap(c);
    const struct demand *needy = NULL;
    for (size_t i = 0; i < c->group_count; i++)
        used += c->groups[i]->ranks;
    for (size_t k = 0; k < n && needy == NULL; k++)
        if (demand[k].have < demand[k].wanted && used + demand[k].ranks > cap)
            needy = &demand[k];
    bool crowded = n > 0 && used > cap;
    for (size_t i = 0; (needy != NULL || crowded) && i < c->group_count; i++)
        if (c->groups[i]->state == GROUP_LEAVING)
            return STATUS_OK; /* one at a time */
    for (size_t i = 0; (needy != NULL || crowded) && i < c->group_count; i++) {
        struct group *g = c->groups[i];
        if (g->state == GROUP_IDLE && spare(g, demand, n) &&
            (needy == NULL || g->ranks != needy->ranks))
            return notices_exit(turn, g, "its slots are needed for other groups", err);
    }
    return STATUS_OK;
}

enum status assign_dismiss(const struct turn *turn, struct err *err) {
    enum status st = STATUS_OK;
    const struct coordinator *c = turn->c;
    for (size_t i = 0; i < c->group_count; i++) {
        struct group *g = c->groups[i];
        if (g->state == GROUP_IDLE &&
            turn->now.mono_ns - g->idle_since_ns > COORDINATOR_IDLE_MS * NS_PER_MS)
            TRY(notices_exit(turn, g, "there was no work for ten minutes", err));
    }
    st = make_room(turn, err);
out:
    return st;
}
