/* Between events.c and events_sweep.c: the steps of which events consist. */
#ifndef COORDINATOR_STATE_APPLY_H
#define COORDINATOR_STATE_APPLY_H

#include "coordinator/state/state.h"

enum status state_no_memory(struct err *err);

/* Back into the sweep's queue; the caller sees to its lease. */
enum status trial_enqueue(struct trial *t, struct err *err) MUST_USE;
/* Final: counted, ranked, told to the searcher. */
void trial_finish(struct trial *t, enum trial_state state);
/* All that are queued become cancelled. */
void sweep_cancel_queue(struct sweep_state *s);

enum status apply_submitted(struct coordinator *c, const char *id, const struct value *e,
                            struct err *err) MUST_USE;
enum status apply_cancelled(struct sweep_state *s, const struct value *e, struct err *err) MUST_USE;
enum status apply_halted(struct sweep_state *s, const struct value *e, enum sweep_state_kind state,
                         struct err *err) MUST_USE;
enum status apply_resumed(struct sweep_state *s, const struct value *e, struct err *err) MUST_USE;

#endif
