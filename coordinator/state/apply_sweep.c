/* What the sweep.* events do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/search/registry.h"
#include "coordinator/state/apply_private.h"

static uint64_t key_of(const char *id) {
    struct digest d;
    uint64_t key = 0;
    hash_bytes(id, strlen(id), &d);
    for (int i = 0; i < 8; i++)
        key = key << 8 | d.bytes[i];
    return key;
}

static enum status insert_sweep(struct coordinator *c, struct sweep_state *s, struct err *err) {
    if (c->sweep_count == COORDINATOR_SWEEPS_MAX)
        return err_set(err, STATUS_FULL, "the coordinator holds %d sweeps already; restart it",
                       COORDINATOR_SWEEPS_MAX);
    struct sweep_state **bigger = realloc(c->sweeps, (c->sweep_count + 1) * sizeof *bigger);
    if (bigger == NULL)
        return state_no_memory(err);
    c->sweeps = bigger;
    size_t i = c->sweep_count++;
    for (; i > 0 && bigger[i - 1]->spec->priority > s->spec->priority; i--)
        bigger[i] = bigger[i - 1];
    bigger[i] = s;
    return STATUS_OK;
}

/* The configuration, read by the rules of the language it was written in. */
static enum status take_config(struct sweep_state *s, const struct value *e, struct err *err) {
    enum status st = STATUS_OK;
    s->config = value_copy(&s->arena, value_get(e, "config"));
    s->base = arena_strdup(&s->arena, value_get_string(e, "base", "/"));
    s->language = value_get_int(e, "language", 1);
    if (s->config == NULL || s->base == NULL)
        return state_no_memory(err);
    TRY(state_parse_config(&s->arena, s->config, s->language, &s->spec, err));
    s->slots_per_trial = s->spec->slots_per_trial;
    s->max_slots = s->spec->max_slots;
out:
    return st;
}

enum status apply_sweep_submitted(struct apply *x, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep_state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return state_no_memory(err);
    arena_init(&s->arena, STATE_ARENA_MAX);
    (void)snprintf(s->id, sizeof s->id, "%s", x->id);
    s->key = key_of(x->id);
    TRY(take_config(s, x->event, err));
    s->search = searcher_find(s->spec->searcher);
    if (s->search == NULL) {
        st = err_set(err, STATUS_INVALID, "unknown searcher '%s'", s->spec->searcher);
        goto out;
    }
    TRY(s->search->create(s->spec, &s->searcher, err));
    TRY(insert_sweep(x->c, s, err));
    x->sweep = s;
    return STATUS_OK;
out:
    state_destroy_sweep(s);
    return st;
}

enum status apply_sweep_cancelled(struct apply *x, struct err *err) {
    struct sweep_state *s = x->sweep;
    s->cancel = true;
    s->state = SWEEP_ACTIVE; /* it may have been paused; settling ends it */
    apply_cancel_queue(s);
    for (int64_t n = 1; n <= s->created; n++)
        if (trial_leased(state_find_trial(s, n)))
            state_find_trial(s, n)->cancel = true;
    return state_set_text(&s->reason, value_get_string(x->event, "reason", NULL), err);
}

static enum status halt(struct apply *x, enum sweep_state_kind state, struct err *err) {
    x->sweep->state = state;
    return state_set_text(&x->sweep->reason, value_get_string(x->event, "reason", NULL), err);
}

enum status apply_sweep_failed(struct apply *x, struct err *err) {
    enum status st = state_set_text(&x->sweep->code, value_get_string(x->event, "code", NULL), err);
    return st == STATUS_OK ? halt(x, SWEEP_FAILED, err) : st;
}

enum status apply_sweep_paused(struct apply *x, struct err *err) {
    return halt(x, SWEEP_PAUSED, err);
}

enum status apply_sweep_resumed(struct apply *x, struct err *err) {
    struct sweep_state *s = x->sweep;
    s->state = SWEEP_ACTIVE;
    s->slots_per_trial = value_get_int(x->event, "slots_per_trial", s->slots_per_trial);
    if (s->max_slots < s->slots_per_trial)
        s->max_slots = s->slots_per_trial;
    for (int64_t n = 1; n <= s->created; n++) {
        struct trial *t = state_find_trial(s, n);
        t->restarts = 0;
        if (t->state != TRIAL_FAILED && t->state != TRIAL_CANCELLED)
            continue;
        s->finished--;
        s->failed -= t->state == TRIAL_FAILED;
        t->cancel = false;
        enum status st = apply_enqueue(t, err);
        if (st != STATUS_OK)
            return st;
    }
    return state_set_text(&s->reason, NULL, err);
}
