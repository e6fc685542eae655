/* What the tracker is told: the coordinator is the only writer of run and sweep states. Every post
 * may be made twice. Private to decide/. */
#ifndef COORDINATOR_DECIDE_POSTS_H
#define COORDINATOR_DECIDE_POSTS_H

#include "coordinator/decide/turn.h"
#include "coordinator/state/state.h"

enum status posts_sweep_create(const struct turn *turn, const struct sweep_state *s,
                               struct err *err) MUST_USE;
enum status posts_sweep_state(const struct turn *turn, const struct sweep_state *s,
                              struct err *err) MUST_USE;

/* What follows from a trial event that was just applied: run.create or run.update. */
enum status posts_trial(const struct turn *turn, const struct sweep_state *s,
                        const struct value *event, struct err *err) MUST_USE;

/* The last attempt at `t`, again, as the tracker should have it. */
enum status posts_run_again(const struct turn *turn, const struct trial *t,
                            struct err *err) MUST_USE;

#endif
