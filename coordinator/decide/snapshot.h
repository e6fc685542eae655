/* The state as people see it. Private to decide/. */
#ifndef COORDINATOR_DECIDE_SNAPSHOT_H
#define COORDINATOR_DECIDE_SNAPSHOT_H

#include "coordinator/state/state.h"

/* Which trials: those after number `after`, or the newest where it is negative; at most `limit`. */
struct snapshot_page {
    int64_t after, limit;
};

/* As sweep.status and coordinator.status answer; broken values when the arena is exhausted. */
struct value *snapshot_sweep(struct arena *a, const struct coordinator *c,
                             const struct sweep_state *s, struct snapshot_page page);
struct value *snapshot_coordinator(struct arena *a, const struct coordinator *c, struct moment now);

#endif
