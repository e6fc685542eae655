/* The state as people see it. Private to decide/. */
#ifndef COORDINATOR_DECIDE_SNAPSHOT_H
#define COORDINATOR_DECIDE_SNAPSHOT_H

#include "coordinator/state/state.h"

/* As sweep.status and coordinator.status answer; broken values when the arena is exhausted. */
struct value *snapshot_sweep(struct arena *a, const struct coordinator *c,
                             const struct sweep_state *s);
struct value *snapshot_coordinator(struct arena *a, const struct coordinator *c, struct moment now);

#endif
