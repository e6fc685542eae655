/* What the tracker is told: the coordinator is the only writer of run and sweep states. Every post
 * may be made twice. Private to the core. */
#ifndef COORDINATOR_CORE_POSTS_H
#define COORDINATOR_CORE_POSTS_H

#include "coordinator/state/state.h"

enum status post_sweep_create(const struct sweep_state *s, struct outbox *out,
                              struct err *err) MUST_USE;
enum status post_sweep_state(const struct sweep_state *s, struct outbox *out,
                             struct err *err) MUST_USE;

/* What follows from a trial event that was just applied: run.create or run.update. */
enum status post_trial(const struct sweep_state *s, const struct value *event, struct outbox *out,
                       struct err *err) MUST_USE;

/* The last attempt at `t`, again, as the tracker should have it. */
enum status post_run_again(const struct trial *t, struct outbox *out, struct err *err) MUST_USE;

/* The configuration of a trial. */
enum status trial_config(const struct trial *t, struct arena *a, struct value **point,
                         struct value **config, struct err *err) MUST_USE;

#endif
