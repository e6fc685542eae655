/* The digest of what is durable, and the invariants of the state. */
#include "coordinator/state/inspect.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/state/state.h"

/* ---- digest ---- */

static void add_text(struct hash *h, const char *text) {
    if (text != NULL)
        hash_add(h, text, strlen(text) + 1);
}

static void digest_trial(struct hash *h, const struct trial *t) {
    char text[640];
    int n =
        snprintf(text, sizeof text,
                 "%lld|%d|%lld|%lld|%lld|%s|%s|%lld|%lld|%a|%s|%d|%a|%d|%s|%zu|%d|%d|%a|%a|",
                 (long long)t->number, (int)t->state, (long long)t->epoch, (long long)t->attempt,
                 (long long)t->restarts, t->run, t->group, (long long)t->done_epoch,
                 (long long)t->step, t->units, t->digest, t->ranked, t->metric, t->cancel,
                 t->run_state, t->run_count, t->reported, t->reported && t->verdict.stop,
                 t->reported ? t->verdict.until : 0.0, t->until);
    hash_add(h, text, (size_t)n);
    hash_add(h, t->runs, t->run_count * sizeof *t->runs);
    for (size_t i = 0; i < t->best_count; i++) {
        n = snprintf(text, sizeof text, "%lld|%a|", (long long)t->bests[i].step,
                     t->bests[i].metric);
        hash_add(h, text, (size_t)n);
    }
    add_text(h, t->point);
    add_text(h, t->metrics);
    add_text(h, t->reason);
    add_text(h, t->reported ? t->rule : NULL);
}

static void digest_sweep(struct hash *h, const struct sweep_state *s) {
    char text[512];
    int n =
        snprintf(text, sizeof text, "%s|%d|%d|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%lld|%lld|",
                 s->id, (int)s->state, s->cancel, (long long)s->language, (long long)s->sequence,
                 (long long)s->slots_per_trial, (long long)s->max_slots, (long long)s->created,
                 (long long)s->queued, (long long)s->leased, (long long)s->finished,
                 (long long)s->failed, (long long)s->best);
    hash_add(h, text, (size_t)n);
    add_text(h, s->base);
    for (int64_t i = 0; i < s->queued; i++)
        hash_add(h, &s->queue[i], sizeof s->queue[i]);
    add_text(h, s->reason);
    add_text(h, s->code);
    for (int64_t i = 1; i <= s->created; i++)
        digest_trial(h, state_find_trial(s, i));
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
        const struct trial *t = state_find_trial(s, n);
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
