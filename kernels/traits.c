/* What the planner knows of each backend's operators. Plain data, so that a net can be planned for a
 * device that is not here. Operators that are not named have no such talent. */
#include "kernels/device.h"

const struct op_traits cpu_traits[OP_KINDS] = {
    [OP_DENSE] = {.can_fuse_relu = true},
    [OP_CONV2D] = {.can_fuse_relu = true},
    [OP_BATCH_NORM] = {.can_fuse_relu = true, .can_fuse_pool = true, .dx_in_place = true},
    [OP_RELU] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_GELU] = {.dx_in_place = true},
    [OP_TANH] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_SIGMOID] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_DROPOUT] = {.can_work_in_place = true, .dx_in_place = true},
};

const struct op_traits cuda_traits[OP_KINDS] = {
    [OP_DENSE] = {.can_fuse_relu = true},
    [OP_CONV2D] = {.can_fuse_relu = true},
    [OP_BATCH_NORM] = {.can_fuse_relu = true, .dx_in_place = true},
    [OP_RELU] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_GELU] = {.dx_in_place = true},
    [OP_TANH] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_SIGMOID] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_DROPOUT] = {.can_work_in_place = true, .dx_in_place = true},
};
