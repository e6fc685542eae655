/* The search space as a function: which point belongs to which trial, and with which seed.
 *
 * single, grid and random need no results, so their points are pure functions of (sweep, trial
 * number): the coordinator's searchers and `trireme preview` ask the same function.
 *
 *     grid     trial n is the n-th point, the last axis in the file varies fastest
 *     random   parameter i of trial n: Philox(experiment_seed, stream | i, n)
 *     single   as random, for its one trial
 *
 * Nothing here keeps state or looks at a clock. */
#ifndef SPEC_SPACE_H
#define SPEC_SPACE_H

#include "spec/sweep.h"

/* {name: value} of the active hyperparameters of trial n (from 1 to sweep->max_trials), in the
 * order of the file; NULL when the arena is exhausted. */
struct value *sweep_point(struct arena *a, const struct sweep *sweep, int64_t trial);

/* What a trial's `seed` is: from the experiment's seed and the trial's number only; under 2^53, so
 * that any language's JSON keeps it. */
uint64_t sweep_trial_seed(uint64_t experiment_seed, int64_t trial);

/* Points of the grid, SWEEP_TRIALS_MAX + 1 where there are more than that. */
int64_t sweep_grid_size(const struct sweep *sweep);

/* A cursor over the grid, for those who walk it in order (sweep_point has to count from the start
 * where there are conditionals). */
struct sweep_grid {
    int64_t digit[SWEEP_PARAMS_MAX]; /* private */
};
void sweep_grid_first(struct sweep_grid *grid);
bool sweep_grid_next(const struct sweep *sweep,
                     struct sweep_grid *grid); /* false: it was the last */
struct value *sweep_grid_point(struct arena *a, const struct sweep *sweep,
                               const struct sweep_grid *grid);

/* Values of one parameter: the i-th along a grid axis, and the one at u in [0, 1). */
int64_t sweep_axis_count(const struct hyperparameter *p);
struct value *sweep_axis_value(struct arena *a, const struct hyperparameter *p, int64_t i);
struct value *sweep_draw(struct arena *a, const struct hyperparameter *p, double u);

#endif
