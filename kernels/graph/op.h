/* The operators: what a node of a graph can be, and what the planner knows of each.
 *
 *     OPS ──▶ enum op_kind, op_name(), the layer that becomes it, how it wants images to lie
 *         ──▶ the tables of operators in kernels/cpu/operators.c and kernels/cuda/operators.c
 *
 * A new operator is a row of OPS and a file in each backend that defines `cpu_<name>` and
 * `cuda_<name>` (kernels/README.md lists every step).
 *
 * Images lie as (B, H, W, C) between most operators, whatever the user sees: the row says what an
 * operator wants, and the planner puts TO_NHWC or TO_NCHW in front where the data lies otherwise. */
#ifndef KERNELS_GRAPH_OP_H
#define KERNELS_GRAPH_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/graph/model.h"
#include "spec/training.h"

/* How an operator wants images to lie. */
enum op_layout { OP_ANY, OP_NCHW, OP_NHWC };

#define OP_NO_LAYER (-1) /* made by the planner alone */

/* clang-format off */
/*      kind           name           of the layer      images   in words */
#define OPS(ROW)                                                           \
    ROW(DENSE,         dense,         LAYER_DENSE,      OP_NCHW, "dense")      \
    ROW(CONV2D,        conv2d,        LAYER_CONV2D,     OP_NHWC, "conv2d")     \
    ROW(BATCH_NORM,    batch_norm,    LAYER_BATCH_NORM, OP_NHWC, "batch_norm") \
    ROW(MAX_POOL,      max_pool,      LAYER_MAX_POOL,   OP_NHWC, "max_pool")   \
    ROW(AVG_POOL,      avg_pool,      LAYER_AVG_POOL,   OP_NHWC, "avg_pool")   \
    ROW(RELU,          relu,          LAYER_RELU,       OP_ANY,  "relu")       \
    ROW(GELU,          gelu,          LAYER_GELU,       OP_ANY,  "gelu")       \
    ROW(TANH,          tanh,          LAYER_TANH,       OP_ANY,  "tanh")       \
    ROW(SIGMOID,       sigmoid,       LAYER_SIGMOID,    OP_ANY,  "sigmoid")    \
    ROW(DROPOUT,       dropout,       LAYER_DROPOUT,    OP_ANY,  "dropout")    \
    ROW(TO_NHWC,       to_nhwc,       OP_NO_LAYER,      OP_NHWC, "to nhwc")    \
    ROW(TO_NCHW,       to_nchw,       OP_NO_LAYER,      OP_NCHW, "to nchw")    \
    ROW(CROSS_ENTROPY, cross_entropy, OP_NO_LAYER,      OP_NCHW, "cross entropy") \
    ROW(MSE,           mse,           OP_NO_LAYER,      OP_NCHW, "mse")
/* clang-format on */

enum op_kind {
#define OP_ROW(kind, name, layer, images, words) OP_##kind,
    OPS(OP_ROW)
#undef OP_ROW
        OP_KINDS
};

const char *op_name(enum op_kind kind);
enum op_layout op_wants(enum op_kind kind);
enum op_kind op_of_layer(enum layer_kind kind); /* OP_KINDS: none, the planner sees to it */

const char *precision_name(enum precision p); /* "fp32" … */
size_t precision_bytes(enum precision p);     /* of an element between operators */

/* Sizes the operators prepare for. */
struct extent {
    int64_t shard_rows;
    int shards; /* of one call at most: the walk g; rows ≤ shards · shard_rows, in evaluation too */
    uint64_t seed;
    enum precision precision;
};

struct node;
struct graph;

/* What the planner must know of one operator of a backend. Zero: it has no such talent. */
struct op_traits {
    bool can_work_in_place; /* forward with y = x; backward_data needs y, not x */
    bool can_fuse_relu;
    bool can_fuse_pool; /* a max pool whose stride is its kernel, of at most FUSED_POOL_MAX */
    bool dx_in_place;   /* backward_data with dx = dy */
    bool keeps_output;  /* backward needs y: nothing may overwrite it */
    /* Bytes that the operator keeps beside its output, at most; NULL: none worth counting. */
    int64_t (*workspace)(const struct node *n, const struct extent *e);
};
#define FUSED_POOL_MAX 255 /* elements of a window */

/* What the planner must know of a backend, without a device and without its libraries: a table in
 * each backend's traits.c, which is built on every machine. */
struct traits {
    const char *name;  /* of the backend: "cpu", "cuda" */
    int64_t eval_rows; /* of a chunk of evaluation */
    struct op_traits op[OP_KINDS];
    /* What a buffer of so many bytes really takes; NULL: as many. */
    int64_t (*block)(int64_t bytes);
    /* What the backend's libraries take while this graph is trained; NULL: nothing. */
    int64_t (*library)(const struct graph *g, const struct extent *e);
};

#endif
