/* The steps of which events consist: leases, the queue, the end of a trial. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/state/apply_private.h"

enum status apply_corrupt(const struct apply *x, const char *why, struct err *err) {
    return err_set(err, STATUS_CORRUPT, "event %lld of sweep %s (%s): %s",
                   x->sweep != NULL ? (long long)x->sweep->sequence + 1 : 1LL, x->id,
                   value_get_string(x->event, "event", "?"), why);
}

void apply_begin_lease(struct coordinator *c, struct trial *t) {
    t->before = NULL;
    t->next = c->leased;
    if (c->leased != NULL)
        c->leased->before = t;
    c->leased = t;
    c->leased_count++;
    t->sweep->leased++;
}

void apply_end_lease(struct coordinator *c, struct trial *t) {
    if (t->before != NULL)
        t->before->next = t->next;
    else
        c->leased = t->next;
    if (t->next != NULL)
        t->next->before = t->before;
    t->next = t->before = NULL;
    t->deadline_ns = 0;
    c->leased_count--;
    t->sweep->leased--;
}

enum status apply_enqueue(struct trial *t, struct err *err) {
    struct sweep_state *s = t->sweep;
    if (s->queued == s->queue_cap) {
        int64_t cap = s->queue_cap == 0 ? 16 : s->queue_cap * 2;
        int64_t *bigger = realloc(s->queue, (size_t)cap * sizeof *bigger);
        if (bigger == NULL)
            return state_no_memory(err);
        s->queue = bigger;
        s->queue_cap = cap;
    }
    int64_t i = s->queued;
    for (; i > 0 && s->queue[i - 1] > t->number; i--)
        s->queue[i] = s->queue[i - 1];
    s->queue[i] = t->number;
    s->queued++;
    t->state = TRIAL_QUEUED;
    return STATUS_OK;
}

void apply_dequeue(struct trial *t) {
    struct sweep_state *s = t->sweep;
    int64_t i = 0;
    while (i < s->queued && s->queue[i] != t->number)
        i++;
    assert(i < s->queued);
    s->queued--;
    memmove(&s->queue[i], &s->queue[i + 1], (size_t)(s->queued - i) * sizeof *s->queue);
}

void apply_finish(struct trial *t, enum trial_state state) {
    struct sweep_state *s = t->sweep;
    t->state = state;
    s->finished++;
    s->failed += state == TRIAL_FAILED;
    double sign = s->spec->smaller_is_better ? 1.0 : -1.0;
    const struct trial *best = state_find_trial(s, s->best);
    if (t->ranked && (best == NULL || sign * t->metric < sign * best->metric ||
                      (!(sign * best->metric < sign * t->metric) && t->number < best->number)))
        s->best = t->number;
    struct search_exit e = {.trial = t->number,
                            .ranked = t->ranked,
                            .metric = t->ranked ? sign * t->metric : 0.0,
                            .units = t->units};
    s->search->exited(s->searcher, &e);
}

void apply_cancel_queue(struct sweep_state *s) {
    while (s->queued > 0) {
        struct trial *t = state_find_trial(s, s->queue[s->queued - 1]);
        s->queued--;
        apply_finish(t, TRIAL_CANCELLED);
    }
}
