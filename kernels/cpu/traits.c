/* The CPU backend's operators as the planner sees them. */
#include "kernels/cpu/ops.h"

const struct traits cpu_traits = {
    .name = "cpu",
    .eval_rows = 256,
    .op = {[OP_BATCH_NORM] = {.joins_pool = true}},
};
