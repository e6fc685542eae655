/* What the sweep.* events do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/state/apply.h"

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

void sweep_state_destroy(struct sweep_state *s) {
    if (s == NULL)
        return;
    for (int64_t i = 0; i < s->created; i++) {
        free(s->trials[i]->metrics);
        free(s->trials[i]->reason);
        free(s->trials[i]->runs);
        free(s->trials[i]);
    }
    if (s->searcher != NULL)
        s->search->destroy(s->searcher);
    free(s->trials);
    free(s->queue);
    free(s->reason);
    arena_release(&s->arena);
    free(s);
}

enum status apply_submitted(struct coordinator *c, const char *id, const struct value *e,
                            struct err *err) {
    enum status st = STATUS_OK;
    struct sweep_state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return state_no_memory(err);
    arena_init(&s->arena, SWEEP_ARENA_MAX);
    (void)snprintf(s->id, sizeof s->id, "%s", id);
    s->key = key_of(id);
    s->order = ++c->submissions;
    s->config = value_copy(&s->arena, value_get(e, "config"));
    s->base = arena_strdup(&s->arena, value_get_string(e, "base", "/"));
    if (s->config == NULL || s->base == NULL) {
        st = state_no_memory(err);
        goto out;
    }
    TRY(sweep_parse(&s->arena, s->config, (struct schema_source){.language = 1}, &s->spec, err));
    s->slots_per_trial = s->spec->slots_per_trial;
    s->max_slots = s->spec->max_slots;
    s->search = searcher_find(s->spec->searcher);
    if (s->search == NULL) {
        st = err_set(err, STATUS_INVALID, "unknown searcher '%s'", s->spec->searcher);
        goto out;
    }
    TRY(s->search->create(s->spec, &s->searcher, err));
    TRY(insert_sweep(c, s, err));
    s->sequence = 1;
    return STATUS_OK;
out:
    sweep_state_destroy(s);
    return st;
}

enum status apply_cancelled(struct sweep_state *s, const struct value *e, struct err *err) {
    s->cancel = true;
    s->state = SWEEP_ACTIVE; /* it may have been paused; settle ends it */
    sweep_cancel_queue(s);
    for (int64_t n = 1; n <= s->created; n++)
        if (trial_leased(find_trial(s, n)))
            find_trial(s, n)->cancel = true;
    return set_text(&s->reason, value_get_string(e, "reason", NULL), err);
}

enum status apply_halted(struct sweep_state *s, const struct value *e, enum sweep_state_kind state,
                         struct err *err) {
    s->state = state;
    return set_text(&s->reason, value_get_string(e, "reason", NULL), err);
}

enum status apply_resumed(struct sweep_state *s, const struct value *e, struct err *err) {
    s->state = SWEEP_ACTIVE;
    s->slots_per_trial = value_get_int(e, "slots_per_trial", s->slots_per_trial);
    if (s->max_slots < s->slots_per_trial)
        s->max_slots = s->slots_per_trial;
    for (int64_t n = 1; n <= s->created; n++) {
        struct trial *t = find_trial(s, n);
        t->restarts = 0;
        if (t->state != TRIAL_FAILED && t->state != TRIAL_CANCELLED)
            continue;
        s->finished--;
        s->failed -= t->state == TRIAL_FAILED;
        t->cancel = false;
        enum status st = trial_enqueue(t, err);
        if (st != STATUS_OK)
            return st;
    }
    return set_text(&s->reason, NULL, err);
}
