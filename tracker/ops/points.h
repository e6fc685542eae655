/* What run.get says of a run's metrics. */
#ifndef TRACKER_OPS_POINTS_H
#define TRACKER_OPS_POINTS_H

#include "tracker/ops/op.h"

/* [{key, rank, count, last, last_step, min, max}]; null for what is not finite. */
enum status points_list(struct op *op, const char *run, struct value **out) MUST_USE;

#endif
