/* The state as people see it: sweep.status and coordinator.status. */
#include "coordinator/decide/snapshot.h"

#include <string.h>

#include "coordinator/state/best.h"
#include "core/json.h"

static void set_metrics(struct arena *a, struct value *v, const struct trial *t) {
    struct value *metrics = NULL;
    if (t->metrics == NULL ||
        json_parse(a, t->metrics, strlen(t->metrics), "metrics", &metrics, NULL) != STATUS_OK)
        metrics = value_map(a);
    const struct value *last = value_get(metrics, t->sweep->spec->metric);
    const struct trial_best *best = best_of(t);
    if (best != NULL) {
        struct value *b = value_map(a);
        value_set_int(a, b, "step", best->step);
        value_set_real(a, b, "metric", best->metric);
        value_set(a, v, "best", b);
    }
    if (last != NULL && (best == NULL || t->sweep->spec->metric_of_last))
        value_set(a, v, "metric", value_copy(a, last));
    else if (best != NULL)
        value_set_real(a, v, "metric", best->metric);
    value_set(a, v, "metrics", metrics);
}

/* The group that works on it, where its beats are ahead of its reports; NULL otherwise. */
static const struct group *ahead(const struct coordinator *c, const struct trial *t) {
    const struct group *g = trial_leased(t) ? group_find(c, t->group) : NULL;
    return g != NULL && g->trial == t && g->step > t->step ? g : NULL;
}

static double units_of(const struct coordinator *c, const struct trial *t) {
    const struct group *g = ahead(c, t);
    return g != NULL ? g->units : t->units;
}

static struct value *trial_status(struct arena *a, const struct coordinator *c,
                                  const struct trial *t) {
    const struct group *g = ahead(c, t);
    struct value *v = value_map(a), *point = NULL;
    if (state_point(t, a, &point, NULL) != STATUS_OK)
        point = value_map(a);
    value_set_int(a, v, "trial", t->number);
    value_set_string(a, v, "run", t->run);
    value_set_string(a, v, "state", state_trial_name(t->state));
    value_set_int(a, v, "attempt", t->attempt);
    value_set_int(a, v, "restarts", t->restarts);
    value_set_string(a, v, "reason", t->reason != NULL ? t->reason : "");
    value_set(a, v, "hyperparameters", point);
    value_set_real(a, v, "units", units_of(c, t));
    value_set_int(a, v, "step", g != NULL ? g->step : t->step);
    set_metrics(a, v, t);
    if (t->digest[0] != '\0')
        value_set_string(a, v, "weights_digest", t->digest);
    return v;
}

/* Of all trials, also where the answer holds a page of them. */
static void set_totals(struct arena *a, struct value *v, const struct coordinator *c,
                       const struct sweep_state *s) {
    double units = 0;
    for (int64_t n = 1; n <= s->created; n++)
        units += units_of(c, state_find_trial(s, n));
    value_set_int(a, v, "planned", s->search->planned(s->searcher));
    value_set_int(a, v, "created", s->created);
    value_set_int(a, v, "finished", s->finished);
    value_set_int(a, v, "failed", s->failed);
    value_set_int(a, v, "running", s->leased);
    value_set_real(a, v, "units", units);
}

struct value *snapshot_sweep(struct arena *a, const struct coordinator *c,
                             const struct sweep_state *s, struct snapshot_page page) {
    struct value *v = value_map(a), *trials = value_list(a);
    value_set_string(a, v, "sweep", s->id);
    value_set_string(a, v, "name", s->spec->name);
    value_set_string(a, v, "state", state_sweep_name(s->state));
    value_set_string(a, v, "reason", s->reason != NULL ? s->reason : "");
    if (s->state == SWEEP_FAILED && s->code != NULL)
        value_set_string(a, v, "code", s->code);
    int64_t newest = s->created > page.limit ? s->created - page.limit : 0;
    int64_t first = page.after >= 0 ? page.after : newest;
    int64_t last = s->created - first > page.limit ? first + page.limit : s->created;
    for (int64_t n = first + 1; n <= last; n++)
        value_push(a, trials, trial_status(a, c, state_find_trial(s, n)));
    value_set(a, v, "trials", trials);
    value_set_bool(a, v, "more", last < s->created);
    struct value *best = best_of_sweep(a, s);
    if (best != NULL)
        value_set(a, v, "best", best);
    int64_t groups = 0;
    for (size_t i = 0; i < c->group_count; i++)
        groups += c->groups[i]->trial != NULL && c->groups[i]->trial->sweep == s;
    value_set_int(a, v, "groups", groups);
    set_totals(a, v, c, s);
    value_set_string(a, v, "metric", s->spec->metric);
    value_set_bool(a, v, "smaller_is_better", s->spec->smaller_is_better);
    value_set_string(a, v, "time_metric", s->spec->time_metric);
    value_set_real(a, v, "max_time", s->spec->max_time);
    return v;
}

static struct value *group_status(struct arena *a, const struct group *g, struct moment now) {
    static const char *const names[] = {
        [GROUP_IDLE] = "idle", [GROUP_BUSY] = "busy", [GROUP_LEAVING] = "leaving"};
    struct value *v = value_map(a);
    value_set_string(a, v, "group", g->id);
    value_set_string(a, v, "host", g->host);
    value_set_int(a, v, "pid", g->pid);
    value_set_int(a, v, "ranks", g->ranks);
    value_set_string(a, v, "device", g->device);
    value_set_string(a, v, "state", names[g->state]);
    value_set_int(a, v, "beat_age_ms", (now.mono_ns - g->beat_ns) / NS_PER_MS);
    if (g->trial != NULL) {
        value_set_string(a, v, "sweep", g->trial->sweep->id);
        value_set_int(a, v, "trial", g->trial->number);
        value_set_string(a, v, "run", g->trial->run);
    }
    return v;
}

struct value *snapshot_coordinator(struct arena *a, const struct coordinator *c,
                                   struct moment now) {
    struct value *v = value_map(a), *groups = value_list(a), *sweeps = value_list(a);
    for (size_t i = 0; i < c->group_count; i++)
        value_push(a, groups, group_status(a, c->groups[i], now));
    for (size_t i = 0; i < c->sweep_count; i++) {
        const struct sweep_state *s = c->sweeps[i];
        struct value *m = value_map(a);
        value_set_string(a, m, "sweep", s->id);
        value_set_string(a, m, "name", s->spec->name);
        value_set_string(a, m, "state", state_sweep_name(s->state));
        value_set_int(a, m, "planned", s->search->planned(s->searcher));
        value_set_int(a, m, "finished", s->finished);
        value_set_int(a, m, "running", s->leased);
        value_push(a, sweeps, m);
    }
    value_set(a, v, "groups", groups);
    return value_set(a, v, "sweeps", sweeps);
}
