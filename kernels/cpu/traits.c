/* The CPU backend's operators as the planner sees them. */
#include "kernels/cpu/ops.h"

const struct traits cpu_traits = {
    .name = "cpu",
    .eval_rows = 256,
    .op =
        {
            [OP_DENSE] = {.can_fuse_relu = true},
            [OP_CONV2D] = {.can_fuse_relu = true},
            [OP_BATCH_NORM] = {.can_fuse_relu = true, .can_fuse_pool = true, .dx_in_place = true},
            [OP_RELU] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
            [OP_GELU] = {.dx_in_place = true},
            [OP_TANH] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
            [OP_SIGMOID] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
            [OP_DROPOUT] = {.can_work_in_place = true, .dx_in_place = true},
        },
};
