/* The CPU backend's operators as the planner sees them. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/ops.h"

/* Each figure is the least that the operator's own prepare() takes: see there. */

static int64_t floats(int64_t count) {
    return count * (int64_t)sizeof(float);
}

/* The packed weights, and their transposes where gradients go further down. */
static int64_t dense_bytes(const struct node *n, const struct extent *e) {
    int64_t in = n->in_count, out = n->out_count;
    int64_t packed = cpu_gemm_packed(in, out) + (n->needs_dx ? cpu_gemm_packed(out, in) : 0);
    return floats(packed + e->shards * e->shard_rows * GEMM_PANEL);
}

/* A leaf of the tree of gradients for each level; what oneDNN reorders comes on top. */
static int64_t conv_bytes(const struct node *n, const struct extent *e) {
    int levels = __builtin_ctz((unsigned)e->shards);
    return floats((levels + 1) * (n->param_end - n->param_begin));
}

const struct traits cpu_traits = {
    .name = "cpu",
    .eval_rows = 256,
    .op = {[OP_DENSE] = {.workspace = dense_bytes},
           [OP_CONV2D] = {.workspace = conv_bytes},
           [OP_BATCH_NORM] = {.joins_pool = true}},
};
