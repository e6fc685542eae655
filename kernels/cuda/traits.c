/* The GPU backend's operators as the planner sees them: what they can do and what they take. Each
 * figure is that of the operator's own prepare(). */
#include "kernels/cuda/traits.h"

#include "kernels/cuda/limits.h"
#include "kernels/cuda/partials.h"
#include "kernels/graph/graph.h"

static int64_t block(int64_t bytes) {
    return bytes > 0 ? (int64_t)cuda_block_bytes((size_t)bytes) : 0;
}

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

/* ---- libraries ---- */

/* A product (m, n, k) of `entries` shards beside itself alone, when it is chosen: see
 * matmul_self_check. The strides of operands that all entries share are 0. */
static int64_t check(int64_t a, int64_t b, int64_t d, bool shares_b, int64_t element,
                     int64_t d_element, int64_t entries) {
    for (;; entries /= 2) {
        int64_t all = entries * d * d_element;
        int64_t bytes = (entries * a + (shares_b ? 1 : entries) * b) * element + all;
        if (entries <= 2 || bytes <= CUDA_CHECK_MAX)
            return block(entries * a * element) + block((shares_b ? 1 : entries) * b * element) +
                   block(all) + block(d * d_element);
    }
}

static int64_t largest_check(const struct graph *g, const struct extent *e) {
    int64_t rows = e->shard_rows, element = (int64_t)precision_bytes(e->precision);
    int64_t most = 0;
    for (int i = 0; i < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        if (n->kind != OP_DENSE)
            continue;
        int64_t x = rows * n->in_count, y = rows * n->out_count, w = n->in_count * n->out_count;
        int64_t bytes[] = {check(x, w, y, true, element, element, e->shards),
                           check(y, x, w, false, element, sizeof(float), e->shards),
                           check(y, w, x, true, element, element, e->shards)};
        for (int k = 0; k < 3; k++)
            most = bytes[k] > most ? bytes[k] : most;
    }
    return most;
}

static bool convolves(const struct graph *g) {
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].kind == OP_CONV2D)
            return true;
    return false;
}

/* Workspaces of cuBLASLt and cuDNN, and proving a product when it is chosen. */
static int64_t library_bytes(const struct graph *g, const struct extent *e) {
    return (int64_t)CUDA_BLAS_WORKSPACE + largest_check(g, e) +
           (convolves(g) ? (int64_t)CUDA_DNN_WORKSPACE : 0);
}

const struct traits cuda_traits = {
    .name = "cuda",
    .eval_rows = CUDA_EVAL_ROWS,
    .op = {[OP_DENSE] = {.workspace = dense_bytes},
           [OP_CONV2D] = {.workspace = conv_bytes},
           [OP_BATCH_NORM] = {.workspace = batch_norm_bytes},
           [OP_MAX_POOL] = {.workspace = max_pool_bytes}},
    .block = block,
    .library = library_bytes,
};
