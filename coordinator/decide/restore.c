/* The way back after a crash: from stored events to the state, and to a tracker that knows it. */
#include "coordinator/decide/coordinator.h"
#include "coordinator/decide/posts.h"
#include "coordinator/state/apply.h"

/* How far back posts may have been lost with a crash: those of the last batch of events. */
#define REPOST_EVENTS 20000

enum status coordinator_restore(struct coordinator *c, const char *sweep, int64_t sequence,
                                const struct value *event, struct err *err) {
    const struct sweep_state *s = state_find_sweep(c, sweep);
    int64_t expected = s != NULL ? s->sequence + 1 : 1;
    if (sequence != expected)
        return err_set(err, STATUS_CORRUPT,
                       "the log of sweep %s has event %lld where %lld should follow", sweep,
                       (long long)sequence, (long long)expected);
    return apply_event(c, sweep, event, err);
}

enum status coordinator_restored(const struct turn *turn, const char *sweep, struct err *err) {
    enum status st = STATUS_OK;
    const struct sweep_state *s = state_find_sweep(turn->c, sweep);
    if (s == NULL)
        return err_set(err, STATUS_NOT_FOUND, "sweep %s has no events", sweep);
    for (int64_t n = 1; n <= s->created; n++) {
        struct trial *t = state_find_trial(s, n);
        if (trial_leased(t))
            t->deadline_ns = turn->now.mono_ns + turn->c->options.lease_ms * NS_PER_MS;
        if (trial_leased(t) || t->ended_sequence > s->sequence - REPOST_EVENTS)
            TRY(posts_run_again(turn, t, err));
    }
    TRY(posts_sweep_state(turn, s, err));
out:
    return st;
}

void coordinator_forget(struct coordinator *c, const char *sweep) {
    struct sweep_state *s = state_find_sweep(c, sweep);
    if (s != NULL)
        state_forget_sweep(c, s, 0);
}
