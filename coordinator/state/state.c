/* Reading the state, and the ends of its parts. What changes sweeps and trials is in apply*.c. */
#include "coordinator/state/state.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "spec/language.h"
#include "spec/space.h"

enum status state_no_memory(struct err *err) {
    return err_set(err, STATUS_NOMEM, "out of memory in the coordinator's state");
}

enum status state_set_text(char **slot, const char *text, struct err *err) {
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL && copy == NULL)
        return state_no_memory(err);
    free(*slot);
    *slot = copy;
    return STATUS_OK;
}

/* ---- names ---- */

const char *state_trial_name(enum trial_state state) {
    static const char *const names[] = {
        [TRIAL_QUEUED] = "queued",       [TRIAL_ASSIGNED] = "assigned", [TRIAL_RUNNING] = "running",
        [TRIAL_COMPLETED] = "completed", [TRIAL_STOPPED] = "stopped",   [TRIAL_FAILED] = "failed",
        [TRIAL_CANCELLED] = "cancelled",
    };
    return names[state];
}

const char *state_sweep_name(enum sweep_state_kind state) {
    static const char *const names[] = {
        [SWEEP_ACTIVE] = "active", [SWEEP_PAUSED] = "paused",       [SWEEP_COMPLETED] = "completed",
        [SWEEP_FAILED] = "failed", [SWEEP_CANCELLED] = "cancelled",
    };
    return names[state];
}

/* ---- finding ---- */

struct sweep_state *state_find_sweep(const struct coordinator *c, const char *id) {
    for (size_t i = 0; i < c->sweep_count; i++)
        if (strcmp(c->sweeps[i]->id, id) == 0)
            return c->sweeps[i];
    return NULL;
}

struct trial *state_find_trial(const struct sweep_state *s, int64_t number) {
    return number >= 1 && number <= s->created ? s->trials[number - 1] : NULL;
}

bool state_next_trial(const struct sweep_state *s, int64_t *number) {
    if (s->queued > 0) {
        *number = s->queue[0];
        return true;
    }
    *number = s->created + 1;
    return s->search->ready(s->searcher) == SEARCH_READY;
}

/* ---- what a trial trains with ---- */

enum status state_parse_config(struct arena *a, const struct value *config, int64_t language,
                               struct sweep **out, struct err *err) {
    if (language < 1 || language > SPEC_LANGUAGE)
        return err_set(err, STATUS_TOO_NEW,
                       "the sweep is written in version %lld of the sweep language, and this "
                       "coordinator knows versions up to %d; use a newer one",
                       (long long)language, SPEC_LANGUAGE);
    struct schema_source source = {.language = (int)language};
    return sweep_parse(a, config, source, out, err);
}

enum status state_point(const struct trial *t, struct arena *a, struct value **out,
                        struct err *err) {
    return json_parse(a, t->point, strlen(t->point), "hyperparameters", out, err);
}

enum status state_trial_config(const struct trial *t, struct arena *a, struct value **out,
                               struct err *err) {
    const struct sweep_state *s = t->sweep;
    struct value *point = NULL;
    enum status st = state_point(t, a, &point, err);
    if (st != STATUS_OK)
        return st;
    uint64_t seed = sweep_trial_seed(s->spec->experiment_seed, t->number);
    return sweep_trial_config(a, s->spec, point, seed, s->base, out, err);
}

/* ---- ends ---- */

void state_destroy_sweep(struct sweep_state *s) {
    if (s == NULL)
        return;
    for (int64_t i = 0; i < s->created; i++) {
        struct trial *t = s->trials[i];
        free(t->point);
        free(t->metrics);
        free(t->reason);
        free(t->rule);
        free(t->runs);
        free(t->bests);
        free(t);
    }
    if (s->searcher != NULL)
        s->search->destroy(s->searcher);
    free(s->trials);
    free(s->queue);
    free(s->reason);
    free(s->code);
    arena_release(&s->arena);
    free(s);
}

void state_forget_sweep(struct coordinator *c, struct sweep_state *s, int64_t mono_ns) {
    for (size_t i = 0; i < c->group_count; i++)
        if (c->groups[i]->trial != NULL && c->groups[i]->trial->sweep == s)
            group_freed(c->groups[i], mono_ns);
    struct trial **slot = &c->leased;
    while (*slot != NULL) {
        struct trial *t = *slot;
        if (t->sweep != s) {
            slot = &t->next;
            continue;
        }
        *slot = t->next;
        if (t->next != NULL)
            t->next->before = t->before;
        c->leased_count--;
    }
    size_t at = 0;
    while (c->sweeps[at] != s)
        at++;
    c->sweep_count--;
    memmove(&c->sweeps[at], &c->sweeps[at + 1],
            (c->sweep_count - at) * sizeof(struct sweep_state *));
    state_destroy_sweep(s);
}
