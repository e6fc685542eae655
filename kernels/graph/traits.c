/* What the planner knows of each backend's operators. Plain data, so that a net can be planned for
 * a device that is not here. Operators that are not named have no such talent. */
#include "kernels/cuda/limits.h"
#include "kernels/cuda/partials.h"
#include "kernels/run/device.h"

static int64_t block(int64_t bytes) {
    return bytes > 0 ? (int64_t)cuda_block_bytes((size_t)bytes) : 0;
}

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

/* Side by side, and the levels: two blocks. */
static int64_t partials_blocks(int64_t stretch, int shards) {
    int64_t bytes = stretch * (int64_t)sizeof(float);
    return block(partials_side_by_side(stretch, shards) * bytes) +
           block(partials_levels(stretch, shards) * bytes);
}

/* The shards' gradients, and in bf16 a copy of the layer's weights: see kernels/cuda/dense.c. */
static int64_t dense_bytes(const struct node *n, const struct extent *e) {
    int64_t stretch = n->param_end - n->param_begin;
    int64_t copy = e->precision == PRECISION_BF16 ? stretch * 2 : 0;
    return partials_blocks(stretch, e->shards) + block(copy);
}

/* Copies of weights and bias and of the weights' gradients in the library's layout, the shards'
 * gradients, and the partial sums of the bias: see kernels/cuda/conv.c. The library's own workspace
 * is the device's. */
static int64_t conv_bytes(const struct node *n, const struct extent *e) {
    int64_t stretch = n->param_end - n->param_begin;
    int side = partials_side_by_side(stretch, e->shards);
    int64_t pixels = e->shard_rows * n->out.dim[1] * n->out.dim[2];
    int64_t chunks = (pixels + CONV_CHUNK - 1) / CONV_CHUNK;
    int64_t copies = (stretch + n->out.dim[0]) * (int64_t)sizeof(float);
    int64_t gradients = side * stretch * (int64_t)sizeof(float);
    int64_t sums = side * chunks * n->out.dim[0] * (int64_t)sizeof(float);
    return 2 * block(copies) + block(gradients) + block(sums) + partials_blocks(stretch, e->shards);
}

/* Each shard's statistics, gradients, and sums of its chunks: see kernels/cuda/norm.c. */
static int64_t batch_norm_bytes(const struct node *n, const struct extent *e) {
    int64_t channels = n->in.dim[0], positions = e->shard_rows * (n->in_count / channels);
    int64_t chunks = positions / NORM_CHUNK_MIN + 1;
    if (chunks > NORM_CHUNKS)
        chunks = NORM_CHUNKS;
    int64_t floats = 7 * channels + n->param_end - n->param_begin;
    int64_t doubles = 2 * chunks * channels;
    return 2 * block(e->shards * floats * (int64_t)sizeof(float)) +
           2 * block(e->shards * doubles * (int64_t)sizeof(double));
}

/* Which element of each window won: see kernels/cuda/pool.c. */
static int64_t max_pool_bytes(const struct node *n, const struct extent *e) {
    bool narrow = n->layer->kernel[0] * n->layer->kernel[1] <= POOL_NARROW;
    return block(e->shards * e->shard_rows * n->out_count * (narrow ? 1 : 2));
}

const struct op_traits cuda_traits[OP_KINDS] = {
    [OP_DENSE] = {.can_fuse_relu = true, .workspace = dense_bytes},
    [OP_CONV2D] = {.can_fuse_relu = true, .workspace = conv_bytes},
    [OP_BATCH_NORM] = {.can_fuse_relu = true, .dx_in_place = true, .workspace = batch_norm_bytes},
    [OP_MAX_POOL] = {.workspace = max_pool_bytes},
    [OP_RELU] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_GELU] = {.dx_in_place = true},
    [OP_TANH] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_SIGMOID] = {.can_work_in_place = true, .dx_in_place = true, .keeps_output = true},
    [OP_DROPOUT] = {.can_work_in_place = true, .dx_in_place = true},
};

const char *precision_name(enum precision p) {
    return p == PRECISION_FP32 ? "fp32" : p == PRECISION_TF32 ? "tf32" : "bf16";
}

size_t precision_bytes(enum precision p) {
    return p == PRECISION_BF16 ? 2 : sizeof(float);
}
