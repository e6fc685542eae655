/* The state for people (status), for comparison (digest), and for tests (check). */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/state/state.h"
#include "core/json.h"

static void set_metrics(struct arena *a, struct value *v, const struct trial *t) {
    struct value *metrics = NULL;
    if (t->metrics == NULL ||
        json_parse(a, t->metrics, strlen(t->metrics), "metrics", &metrics, NULL) != STATUS_OK)
        metrics = value_map(a);
    const struct value *m = value_get(metrics, t->sweep->spec->metric);
    if (m != NULL)
        value_set(a, v, "metric", value_copy(a, m));
    value_set(a, v, "metrics", metrics);
}

static struct value *trial_status(struct arena *a, const struct coordinator *c,
                                  const struct trial *t) {
    const struct sweep_state *s = t->sweep;
    const struct group *g = trial_leased(t) ? find_group(c, t->group) : NULL;
    bool live = g != NULL && g->trial == t && g->step > t->step; /* beats are ahead of reports */
    struct value *v = value_map(a);
    value_set_int(a, v, "trial", t->number);
    value_set_string(a, v, "run", t->run);
    value_set_string(a, v, "state", trial_state_name(t->state));
    value_set_int(a, v, "attempt", t->attempt);
    value_set_int(a, v, "restarts", t->restarts);
    value_set_string(a, v, "reason", t->reason != NULL ? t->reason : "");
    value_set(a, v, "hyperparameters", s->search->point(s->searcher, a, t->number));
    value_set_real(a, v, "units", live ? g->units : t->units);
    value_set_int(a, v, "step", live ? g->step : t->step);
    set_metrics(a, v, t);
    if (t->digest[0] != '\0')
        value_set_string(a, v, "weights_digest", t->digest);
    return v;
}

struct value *sweep_status(struct arena *a, const struct coordinator *c,
                           const struct sweep_state *s) {
    struct value *v = value_map(a), *trials = value_list(a);
    value_set_string(a, v, "sweep", s->id);
    value_set_string(a, v, "name", s->spec->name);
    value_set_string(a, v, "state", sweep_state_name(s->state));
    value_set_string(a, v, "reason", s->reason != NULL ? s->reason : "");
    int64_t first = s->created > COORDINATOR_STATUS_MAX ? s->created - COORDINATOR_STATUS_MAX : 0;
    for (int64_t n = first + 1; n <= s->created; n++)
        value_push(a, trials, trial_status(a, c, find_trial(s, n)));
    value_set(a, v, "trials", trials);
    const struct trial *best = s->best > 0 ? find_trial(s, s->best) : NULL;
    if (best != NULL) {
        struct value *b = value_map(a);
        value_set_string(a, b, "run", best->run);
        value_set_int(a, b, "trial", best->number);
        value_set_real(a, b, "metric", best->metric);
        value_set(a, v, "best", b);
    }
    int64_t groups = 0;
    for (size_t i = 0; i < c->group_count; i++)
        groups += c->groups[i]->trial != NULL && c->groups[i]->trial->sweep == s;
    value_set_int(a, v, "groups", groups);
    value_set_int(a, v, "planned", s->search->planned(s->searcher));
    value_set_int(a, v, "finished", s->finished);
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

struct value *coordinator_status(struct arena *a, const struct coordinator *c, struct moment now) {
    struct value *v = value_map(a), *groups = value_list(a), *sweeps = value_list(a);
    for (size_t i = 0; i < c->group_count; i++)
        value_push(a, groups, group_status(a, c->groups[i], now));
    for (size_t i = 0; i < c->sweep_count; i++) {
        const struct sweep_state *s = c->sweeps[i];
        struct value *m = value_map(a);
        value_set_string(a, m, "sweep", s->id);
        value_set_string(a, m, "name", s->spec->name);
        value_set_string(a, m, "state", sweep_state_name(s->state));
        value_set_int(a, m, "planned", s->search->planned(s->searcher));
        value_set_int(a, m, "finished", s->finished);
        value_set_int(a, m, "running", s->leased);
        value_push(a, sweeps, m);
    }
    value_set(a, v, "groups", groups);
    return value_set(a, v, "sweeps", sweeps);
}

/* ---- digest ---- */

static void digest_trial(struct hash *h, const struct trial *t) {
    char text[512];
    int n = snprintf(
        text, sizeof text, "%lld|%d|%lld|%lld|%lld|%s|%s|%lld|%lld|%a|%s|%d|%a|%d|%s|%zu|",
        (long long)t->number, (int)t->state, (long long)t->epoch, (long long)t->attempt,
        (long long)t->restarts, t->run, t->group, (long long)t->done_epoch, (long long)t->step,
        t->units, t->digest, t->ranked, t->metric, t->cancel, t->run_state, t->run_count);
    hash_add(h, text, (size_t)n);
    hash_add(h, t->runs, t->run_count * sizeof *t->runs);
    if (t->metrics != NULL)
        hash_add(h, t->metrics, strlen(t->metrics) + 1);
    if (t->reason != NULL)
        hash_add(h, t->reason, strlen(t->reason) + 1);
}

static void digest_sweep(struct hash *h, const struct sweep_state *s) {
    char text[512];
    int n = snprintf(text, sizeof text, "%s|%d|%d|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%s|",
                     s->id, (int)s->state, s->cancel, (long long)s->sequence,
                     (long long)s->slots_per_trial, (long long)s->max_slots, (long long)s->created,
                     (long long)s->queued, (long long)s->leased, (long long)s->finished,
                     (long long)s->failed, (long long)s->best, s->base);
    hash_add(h, text, (size_t)n);
    for (int64_t i = 0; i < s->queued; i++)
        hash_add(h, &s->queue[i], sizeof s->queue[i]);
    if (s->reason != NULL)
        hash_add(h, s->reason, strlen(s->reason) + 1);
    for (int64_t i = 1; i <= s->created; i++)
        digest_trial(h, find_trial(s, i));
}

/* Sweeps in the order of their ids: how they were loaded does not matter. */
enum status coordinator_digest(const struct coordinator *c, struct digest *out, struct err *err) {
    struct hash *h = hash_new();
    if (h == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a digest");
    const char *last = "";
    for (size_t n = 0; n < c->sweep_count; n++) {
        const struct sweep_state *next = NULL;
        for (size_t i = 0; i < c->sweep_count; i++)
            if (strcmp(c->sweeps[i]->id, last) > 0 &&
                (next == NULL || strcmp(c->sweeps[i]->id, next->id) < 0))
                next = c->sweeps[i];
        if (next == NULL)
            break;
        digest_sweep(h, next);
        last = next->id;
    }
    hash_end(h, out);
    hash_destroy(&h);
    return STATUS_OK;
}

/* ---- invariants ---- */

static void check_sweep(const struct sweep_state *s) {
    int64_t leased = 0, finished = 0, failed = 0, queued = 0;
    for (int64_t n = 1; n <= s->created; n++) {
        const struct trial *t = find_trial(s, n);
        assert(t->number == n && t->sweep == s);
        assert(t->restarts <= s->spec->max_restarts);
        assert(t->attempt <= t->epoch);
        leased += trial_leased(t);
        finished += trial_final(t);
        failed += t->state == TRIAL_FAILED;
        queued += t->state == TRIAL_QUEUED;
    }
    assert(leased == s->leased && finished == s->finished && failed == s->failed);
    assert(queued == s->queued);
    for (int64_t i = 1; i < s->queued; i++)
        assert(s->queue[i - 1] < s->queue[i]);
    assert(s->leased * s->slots_per_trial <= s->max_slots || s->slots_per_trial > 1);
    assert(s->state != SWEEP_COMPLETED || (s->leased == 0 && s->queued == 0));
}

void coordinator_check(const struct coordinator *c) {
    size_t leased = 0;
    for (const struct trial *t = c->leased; t != NULL; t = t->next, leased++) {
        assert(trial_leased(t));
        for (const struct trial *u = t->next; u != NULL; u = u->next)
            assert(strcmp(t->group, u->group) != 0); /* one lease a group */
    }
    assert(leased == c->leased_count);
    for (size_t i = 0; i < c->group_count; i++) {
        const struct group *g = c->groups[i];
        assert(i == 0 || strcmp(c->groups[i - 1]->id, g->id) < 0);
        assert((g->state == GROUP_BUSY) == (g->trial != NULL) || g->state == GROUP_LEAVING);
        assert(g->trial == NULL || (trial_leased(g->trial) && strcmp(g->trial->group, g->id) == 0));
    }
    for (size_t i = 0; i < c->sweep_count; i++)
        check_sweep(c->sweeps[i]);
}
