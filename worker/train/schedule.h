/* The learning rate of a step: constant, in steps or cosine, behind a linear warm-up.
 *
 *     warm-up:  lr · s / warmup_steps                                    for s ≤ warmup_steps
 *     step:     lr · factor^⌊units done / every⌋                         units of time_metric
 *     cosine:   min + (lr − min)/2 · (1 + cos(π (s − 1 − w)/(total − w)))
 *               Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts
 *
 * A function of the step alone: resuming needs no state. */
#ifndef WORKER_TRAIN_SCHEDULE_H
#define WORKER_TRAIN_SCHEDULE_H

#include "spec/schedule.h"

/* Of step `step` (from 1) of `total`; steps_per_unit turns `every` into steps. */
double schedule_lr(const struct spec_schedule *s, double lr, int64_t step, int64_t total,
                   double steps_per_unit);

#endif
