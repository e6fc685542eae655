/* Experiments, for those that enter something into one. */
#ifndef TRACKER_OPS_EXPERIMENTS_H
#define TRACKER_OPS_EXPERIMENTS_H

#include "tracker/ops/op.h"

/* Its record, created when missing, with `add_runs` more runs. */
enum status experiments_ensure(struct op *op, const char *name, int64_t add_runs,
                               struct value **out) MUST_USE;

#endif
