/* The messages to the tracker. */
#include "coordinator/decide/posts.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/state/best.h"
#include "wire/message.h"

static struct value *post_new(struct arena *a, const char *op, const char *key, const char *id) {
    struct value *m = message_request(a, op, NULL);
    value_set_string(a, m, key, id);
    return m;
}

static enum status push(const struct turn *turn, const struct sweep_state *s, struct value *message,
                        struct err *err) {
    struct outgoing item = {.kind = OUT_POST, .to = s->id, .message = message};
    return turn_push(turn, item, err);
}

/* ---- sweeps ---- */

enum status posts_sweep_create(const struct turn *turn, const struct sweep_state *s,
                               struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *m = post_new(a, "sweep.create", "sweep", s->id);
    value_set_string(a, m, "name", s->spec->name);
    value_set(a, m, "config", value_copy(a, s->config));
    struct outgoing item = {.kind = OUT_CREATE, .to = s->id, .message = m};
    return turn_push(turn, item, err);
}

enum status posts_sweep_state(const struct turn *turn, const struct sweep_state *s,
                              struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *m = post_new(a, "sweep.update", "sweep", s->id);
    struct value *summary = value_map(a);
    value_set_string(a, m, "state", state_sweep_name(s->state));
    value_set_string(a, m, "reason", s->reason != NULL ? s->reason : "");
    value_set_int(a, summary, "planned", s->search->planned(s->searcher));
    value_set_int(a, summary, "finished", s->finished);
    value_set_int(a, summary, "failed", s->failed);
    struct value *best = best_of_sweep(a, s);
    if (best != NULL)
        value_set(a, summary, "best", best);
    value_set(a, m, "summary", summary);
    return push(turn, s, m, err);
}

/* ---- runs ---- */

static enum status run_create(const struct turn *turn, const struct trial *t, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = turn->out->arena;
    const struct sweep_state *s = t->sweep;
    struct value *point = NULL, *config = NULL;
    TRY(state_point(t, a, &point, err));
    /* A configuration that cannot be made fails the trial where it is assigned. */
    bool made = (st = state_trial_config(t, a, &config, err)) == STATUS_OK;
    if (st == STATUS_NOMEM)
        return st;
    struct value *m = post_new(a, "run.create", "run", t->run);
    char *name = arena_printf(a, "%.180s/%lld", s->spec->name, (long long)t->number);
    value_set_string(a, m, "experiment", s->spec->name);
    value_set_string(a, m, "sweep", s->id);
    value_set_int(a, m, "trial", t->number);
    value_set_int(a, m, "attempt", t->attempt);
    value_set(a, m, "name", name != NULL ? value_string(a, name) : NULL);
    value_set_string(a, m, "state", "queued");
    value_set(a, m, "params", point);
    if (made)
        value_set(a, m, "config", config);
    st = push(turn, s, m, err);
out:
    return st;
}

/* `lost`: its group did not say how it ended, so that the state may be corrected. */
static enum status run_state(const struct turn *turn, const struct trial *t, const char *run,
                             const char *state, bool lost, struct err *err) {
    struct arena *a = turn->out->arena;
    struct value *m = post_new(a, "run.update", "run", run);
    value_set_string(a, m, "state", state);
    if (t->reason != NULL && strcmp(state, "running") != 0)
        value_set_string(a, m, "reason", t->reason);
    if (lost)
        value_set_bool(a, m, "lost", true);
    return push(turn, t->sweep, m, err);
}

enum status posts_trial(const struct turn *turn, const struct sweep_state *s,
                        const struct value *event, struct err *err) {
    const char *name = value_get_string(event, "event", "");
    const struct trial *t = state_find_trial(s, value_get_int(event, "trial", 0));
    if (t != NULL && strcmp(name, "trial.assigned") == 0)
        return run_create(turn, t, err);
    if (t != NULL && strcmp(name, "trial.started") == 0)
        return run_state(turn, t, t->run, t->run_state, false, err);
    if (t != NULL && strcmp(name, "trial.ended") == 0)
        return run_state(turn, t, t->run, t->run_state, !value_get_bool(event, "done", false), err);
    return STATUS_OK;
}

enum status posts_run_again(const struct turn *turn, const struct trial *t, struct err *err) {
    enum status st = STATUS_OK;
    /* The attempt before may have ended in the same breath in which this one began. */
    if (t->run_count > 0)
        TRY(run_state(turn, t, t->runs[t->run_count - 1], t->last_state, !t->last_done, err));
    TRY(run_create(turn, t, err));
    if (strcmp(t->run_state, "queued") != 0)
        TRY(run_state(turn, t, t->run, t->run_state, !trial_leased(t) && t->done_epoch != t->epoch,
                      err));
out:
    return st;
}
