/* The best evaluations of a trial: each that was strictly better than all before it.
 *
 *     step      200   400   600   800          an attempt that goes on from step 500 has seen those up
 *     metric    0.9   0.4   0.5   0.3          to there: 0.4 is its best until it does better
 *     kept       ▲     ▲           ▲ best
 *
 * They are rebuilt from trial.reported and trial.ended; nothing of them is stored. */
#ifndef COORDINATOR_STATE_BEST_H
#define COORDINATOR_STATE_BEST_H

#include "coordinator/state/state.h"

/* An evaluation after `step` steps; what is not finite is passed over. NOMEM. */
enum status best_note(struct trial *t, int64_t step, double metric, struct err *err) MUST_USE;

/* The attempt goes on from here: what came later has not happened to it. */
void best_resume(struct trial *t, int64_t step);

const struct trial_best *best_of(const struct trial *t); /* NULL: none yet */

/* {run, trial, metric, step} of the sweep's best trial, for people; NULL: none yet. While the sweep has not
 * come to its end, of what was evaluated so far. */
struct value *best_of_sweep(struct arena *a, const struct sweep_state *s);

#endif
