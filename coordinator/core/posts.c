#include "coordinator/core/posts.h"

#include <stdio.h>
#include <string.h>

#include "spec/space.h"

#define NAME_TEXT_MAX 200

static struct value *post_new(struct arena *a, const char *op, const char *key, const char *id) {
    struct value *m = message_request(a, op, NULL);
    value_set_string(a, m, key, id);
    return m;
}

enum status post_sweep_create(const struct sweep_state *s, struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    struct value *m = post_new(a, "sweep.create", "sweep", s->id);
    value_set_string(a, m, "name", s->spec->name);
    value_set(a, m, "config", value_copy(a, s->config));
    return out_push(out, OUT_CREATE, s->id, 0, m, err);
}

enum status post_sweep_state(const struct sweep_state *s, struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    struct value *m = post_new(a, "sweep.update", "sweep", s->id);
    struct value *summary = value_map(a);
    value_set_string(a, m, "state", sweep_state_name(s->state));
    value_set_string(a, m, "reason", s->reason != NULL ? s->reason : "");
    value_set_int(a, summary, "planned", s->search->planned(s->searcher));
    value_set_int(a, summary, "finished", s->finished);
    value_set_int(a, summary, "failed", s->failed);
    const struct trial *best = s->best > 0 ? find_trial(s, s->best) : NULL;
    if (best != NULL) {
        struct value *b = value_map(a);
        value_set_string(a, b, "run", best->run);
        value_set_int(a, b, "trial", best->number);
        value_set_real(a, b, "metric", best->metric);
        value_set(a, summary, "best", b);
    }
    value_set(a, m, "summary", summary);
    return out_push(out, OUT_POST, s->id, 0, m, err);
}

enum status trial_config(const struct trial *t, struct arena *a, struct value **point,
                         struct value **config, struct err *err) {
    const struct sweep_state *s = t->sweep;
    *point = s->search->point(s->searcher, a, t->number);
    if (*point == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a trial was configured");
    uint64_t seed = sweep_trial_seed(s->spec->experiment_seed, t->number);
    return sweep_trial_config(a, s->spec, *point, seed, s->base, config, err);
}

static enum status post_run_create(const struct trial *t, struct outbox *out, struct err *err) {
    struct arena *a = out->arena;
    const struct sweep_state *s = t->sweep;
    struct value *point = NULL, *config = NULL;
    char name[NAME_TEXT_MAX + 32];
    /* A configuration that cannot be made fails the trial where it is assigned. */
    enum status st = trial_config(t, a, &point, &config, err);
    if (st == STATUS_NOMEM)
        return st;
    struct value *m = post_new(a, "run.create", "run", t->run);
    (void)snprintf(name, sizeof name, "%.180s/%lld", s->spec->name, (long long)t->number);
    value_set_string(a, m, "experiment", s->spec->name);
    value_set_string(a, m, "sweep", s->id);
    value_set_int(a, m, "trial", t->number);
    value_set_int(a, m, "attempt", t->attempt);
    value_set_string(a, m, "name", name);
    value_set_string(a, m, "state", "queued");
    value_set(a, m, "params", point);
    if (st == STATUS_OK)
        value_set(a, m, "config", config);
    return out_push(out, OUT_POST, s->id, 0, m, err);
}

static enum status post_run_state(const struct trial *t, const char *run, const char *state,
                                  struct outbox *out, struct err *err) {
    struct value *m = post_new(out->arena, "run.update", "run", run);
    value_set_string(out->arena, m, "state", state);
    if (t->reason != NULL && strcmp(state, "running") != 0)
        value_set_string(out->arena, m, "reason", t->reason);
    return out_push(out, OUT_POST, t->sweep->id, 0, m, err);
}

enum status post_trial(const struct sweep_state *s, const struct value *event, struct outbox *out,
                       struct err *err) {
    const char *name = value_get_string(event, "event", "");
    const struct trial *t = find_trial(s, value_get_int(event, "trial", 0));
    if (t != NULL && strcmp(name, "trial.assigned") == 0)
        return post_run_create(t, out, err);
    if (t != NULL && (strcmp(name, "trial.started") == 0 || strcmp(name, "trial.ended") == 0))
        return post_run_state(t, t->run, t->run_state, out, err);
    return STATUS_OK;
}

enum status post_run_again(const struct trial *t, struct outbox *out, struct err *err) {
    enum status st = STATUS_OK;
    /* The attempt before may have ended in the same breath in which this one began. */
    if (t->run_count > 0)
        TRY(post_run_state(t, t->runs[t->run_count - 1], t->last_state, out, err));
    TRY(post_run_create(t, out, err));
    if (strcmp(t->run_state, "queued") != 0)
        TRY(post_run_state(t, t->run, t->run_state, out, err));
out:
    return st;
}
