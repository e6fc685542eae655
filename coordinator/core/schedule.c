/* Who gets what: sweeps by priority (1 before 99) and submission, retries before new trials, groups
 * of exactly the ranks a sweep asks for. */
#include <stdio.h>
#include <string.h>

#include "coordinator/core/posts.h"
#include "core/philox.h"

#define STREAM_RUN (UINT64_C(0x52554e20) << 32) /* "RUN " | word */

bool next_trial(const struct sweep_state *s, int64_t *trial) {
    if (s->queued > 0) {
        *trial = s->queue[0];
        return true;
    }
    *trial = s->created + 1;
    return s->search->ready(s->searcher) == SEARCH_READY;
}

/* ---- slots ---- */

static int64_t slots_cap(const struct coordinator *c) {
    if (c->options.gpu_slots &&
        (c->options.max_slots == 0 || c->options.max_slots > c->options.machine_slots))
        return c->options.machine_slots;
    if (c->options.max_slots > 0)
        return c->options.max_slots;
    int64_t cap = c->options.machine_slots;
    for (size_t i = 0; i < c->sweep_count; i++)
        if (c->sweeps[i]->state == SWEEP_ACTIVE && c->sweeps[i]->max_slots > cap)
            cap = c->sweeps[i]->max_slots;
    return cap;
}

/* Groups that the sweep can use at a time. */
static int64_t width(const struct sweep_state *s) {
    int64_t planned = s->search->planned(s->searcher);
    int64_t left = s->leased + s->queued + (planned > s->created ? planned - s->created : 0);
    int64_t fit = s->max_slots / s->slots_per_trial;
    return left < fit ? left : fit;
}

size_t coordinator_demand(const struct coordinator *c, struct demand out[COORDINATOR_DEMAND_MAX]) {
    size_t n = 0;
    int64_t cap = slots_cap(c), budget = cap;
    for (size_t i = 0; i < c->sweep_count && !c->stopping; i++) {
        const struct sweep_state *s = c->sweeps[i];
        if (s->state != SWEEP_ACTIVE || s->cancel)
            continue;
        int64_t wanted = width(s), affordable = budget / s->slots_per_trial;
        bool alone = c->options.gpu_slots && s->slots_per_trial > cap && budget == cap;
        if (wanted > affordable)
            wanted = alone ? 1 : affordable;
        size_t k = 0;
        while (k < n && out[k].ranks != s->slots_per_trial)
            k++;
        if (wanted == 0 || k == COORDINATOR_DEMAND_MAX)
            continue;
        if (k == n)
            out[n++] = (struct demand){.ranks = s->slots_per_trial};
        out[k].wanted += wanted;
        budget = alone ? 0 : budget - wanted * s->slots_per_trial;
    }
    for (size_t i = 0; i < c->group_count; i++)
        for (size_t k = 0; k < n; k++)
            out[k].have +=
                out[k].ranks == c->groups[i]->ranks && c->groups[i]->state != GROUP_LEAVING;
    return n;
}

/* ---- assignment ---- */

static struct group *idle_group(const struct coordinator *c, int64_t ranks, struct moment now) {
    for (size_t i = 0; i < c->group_count; i++) {
        struct group *g = c->groups[i];
        bool lasts = g->ends_ns == 0 || g->ends_ns - now.wall_ns > COORDINATOR_LAST_MS * NS_PER_MS;
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

enum status send_assign(const struct trial *t, struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    const struct sweep_state *s = t->sweep;
    struct value *point = NULL, *config = NULL;
    enum status st = trial_config(t, a, &point, &config, err);
    if (st != STATUS_OK)
        return st;
    struct value *m = message_request(a, "trial.assign", NULL), *runs = value_list(a);
    value_set(a, m, "lease", lease_of(a, t));
    value_set(a, m, "config", config);
    value_set_real(a, m, "until", s->search->until(s->searcher, t->number));
    for (size_t i = t->run_count; i-- > 0;)
        value_push(a, runs, value_string(a, t->runs[i]));
    value_set(a, m, "resume", runs);
    return out_push(out, OUT_NOTICE, t->group, 0, m, err);
}

static enum status assign(struct coordinator *c, struct sweep_state *s, int64_t number,
                          struct group *g, struct moment now, struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    struct trial *t = find_trial(s, number);
    int64_t epoch = t != NULL ? t->epoch + 1 : 1;
    char run[ULID_TEXT];
    run_id(s, number, epoch, now, run);
    struct value *e = event_new(a, "trial.assigned");
    value_set_int(a, e, "trial", number);
    value_set_string(a, e, "run", run);
    value_set_int(a, e, "epoch", epoch);
    value_set_int(a, e, "attempt", t != NULL ? t->attempt + 1 : 1);
    value_set_string(a, e, "group", g->id);
    value_set(a, e, "hyperparameters", s->search->point(s->searcher, a, number));
    enum status st = event_emit(c, s->id, e, now, out, err);
    if (st != STATUS_OK)
        return st;
    t = find_trial(s, number);
    g->trial = t;
    g->state = GROUP_BUSY;
    t->assigned_ns = now.mono_ns;
    struct err why;
    st = send_assign(t, out, &why);
    if (st == STATUS_OK || st == STATUS_NOMEM)
        return st;
    return end_lease(c, t, "failed", "invalid", why.text, now, out, err);
}

enum status assign_trials(struct coordinator *c, struct moment now, struct outbox *out,
                          struct err *err) {
    enum status st = STATUS_OK;
    int64_t used = 0, trial = 0;
    for (const struct trial *t = c->leased; t != NULL; t = t->next)
        used += t->sweep->slots_per_trial;
    for (size_t i = 0; i < c->sweep_count && !c->stopping; i++) {
        struct sweep_state *s = c->sweeps[i];
        /* At most as many as there may be groups: a trial that fails at once must not starve us. */
        for (size_t n = 0; n <= c->group_count; n++) {
            struct group *g = NULL;
            if (s->state != SWEEP_ACTIVE || s->cancel || !next_trial(s, &trial))
                break;
            if ((s->leased + 1) * s->slots_per_trial > s->max_slots)
                break;
            if (c->options.max_slots > 0 && used + s->slots_per_trial > c->options.max_slots)
                break;
            if ((g = idle_group(c, s->slots_per_trial, now)) == NULL)
                break;
            TRY(assign(c, s, trial, g, now, out, err));
            used += s->slots_per_trial;
        }
    }
out:
    return st;
}

/* ---- groups that are no longer needed ---- */

static enum status dismiss(struct group *g, const char *reason, struct outbox *out,
                           struct err *err) {
    struct value *m = message_request(out->arena, "group.exit", NULL);
    value_set_string(out->arena, m, "reason", reason);
    g->state = GROUP_LEAVING;
    return out_push(out, OUT_NOTICE, g->id, 0, m, err);
}

static bool spare(const struct group *g, const struct demand *demand, size_t n) {
    for (size_t k = 0; k < n; k++)
        if (demand[k].ranks == g->ranks)
            return demand[k].have > demand[k].wanted;
    return true;
}

/* Where slots are short, idle groups of a size that nobody wants make room for the wanted ones;
 * where there are too many (orphans that came back late), idle ones that nobody wants go. */
static enum status make_room(struct coordinator *c, struct outbox *out, struct err *err) {
    struct demand demand[COORDINATOR_DEMAND_MAX];
    size_t n = coordinator_demand(c, demand);
    int64_t used = 0, cap = slots_cap(c);
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
            return dismiss(g, "its slots are needed for other groups", out, err);
    }
    return STATUS_OK;
}

enum status dismiss_groups(struct coordinator *c, struct moment now, struct outbox *out,
                           struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; i < c->group_count; i++) {
        struct group *g = c->groups[i];
        if (g->state == GROUP_IDLE &&
            now.mono_ns - g->idle_since_ns > COORDINATOR_IDLE_MS * NS_PER_MS)
            TRY(dismiss(g, "there was no work for ten minutes", out, err));
    }
    st = make_room(c, out, err);
out:
    return st;
}
