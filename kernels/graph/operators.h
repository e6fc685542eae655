/* The operators: what a node of a graph can be, and what each promises.
 *
 *     OPERATORS ──▶ enum op_kind, op_name(), the layer that becomes it, how images lie, promises
 *               ──▶ the tables of kernels/cpu/backend.c and kernels/cuda/backend.c
 *
 * A new operator is a row of OPERATORS and a file in each backend that defines `cpu_<name>` or
 * `cuda_<name>` (kernels/README.md lists every step).
 *
 * Images lie as (B, H, W, C) between most operators, whatever the user sees: the row says how an
 * operator wants and leaves them, and the planner puts TO_NHWC or TO_NCHW in front where they lie
 * otherwise. */
#ifndef KERNELS_GRAPH_OPERATORS_H
#define KERNELS_GRAPH_OPERATORS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/graph/model.h"
#include "spec/training.h"

enum op_layout { OP_ANY, OP_NCHW, OP_NHWC };

/* What every backend's operator of a kind promises to the planner; 0: nothing. */
enum op_promise {
    OP_IN_PLACE = 1,    /* forward with y = x; backward_data needs y, not x */
    OP_DX_IN_PLACE = 2, /* backward_data with dx = dy */
    OP_KEEPS_Y = 4,     /* backward needs y: nothing may overwrite it */
    OP_JOINS_RELU = 8,  /* a relu behind it is done at once */
};

#define OP_NO_LAYER (-1) /* made by the planner alone */

/* clang-format off */
/*      kind           name           of the layer      images   promises */
#define OPERATORS(ROW)                                                                          \
    ROW(DENSE,         dense,         LAYER_DENSE,      OP_NCHW, OP_JOINS_RELU)                  \
    ROW(CONV2D,        conv2d,        LAYER_CONV2D,     OP_NHWC, OP_JOINS_RELU)                  \
    ROW(BATCH_NORM,    batch_norm,    LAYER_BATCH_NORM, OP_NHWC, OP_JOINS_RELU | OP_DX_IN_PLACE) \
    ROW(MAX_POOL,      max_pool,      LAYER_MAX_POOL,   OP_NHWC, 0)                              \
    ROW(AVG_POOL,      avg_pool,      LAYER_AVG_POOL,   OP_NHWC, 0)                              \
    ROW(RELU,          relu,          LAYER_RELU,       OP_ANY,  OP_IN_PLACE | OP_DX_IN_PLACE | OP_KEEPS_Y) \
    ROW(GELU,          gelu,          LAYER_GELU,       OP_ANY,  OP_DX_IN_PLACE)                 \
    ROW(TANH,          tanh,          LAYER_TANH,       OP_ANY,  OP_IN_PLACE | OP_DX_IN_PLACE | OP_KEEPS_Y) \
    ROW(SIGMOID,       sigmoid,       LAYER_SIGMOID,    OP_ANY,  OP_IN_PLACE | OP_DX_IN_PLACE | OP_KEEPS_Y) \
    ROW(DROPOUT,       dropout,       LAYER_DROPOUT,    OP_ANY,  OP_IN_PLACE | OP_DX_IN_PLACE)   \
    ROW(TO_NHWC,       to_nhwc,       OP_NO_LAYER,      OP_NHWC, 0)                              \
    ROW(TO_NCHW,       to_nchw,       OP_NO_LAYER,      OP_NCHW, 0)                              \
    ROW(CROSS_ENTROPY, cross_entropy, OP_NO_LAYER,      OP_NCHW, 0)                              \
    ROW(MSE,           mse,           OP_NO_LAYER,      OP_NCHW, 0)
/* clang-format on */

enum op_kind {
#define OP_ROW(kind, name, layer, images, promises) OP_##kind,
    OPERATORS(OP_ROW)
#undef OP_ROW
        OP_KINDS
};

const char *op_name(enum op_kind kind);
enum op_layout op_wants(enum op_kind kind);
bool op_promises(enum op_kind kind, enum op_promise what);
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

/* What one backend's operator can do beyond its promises. */
struct op_traits {
    bool joins_pool; /* a max pool whose stride is its kernel, of at most OP_POOL_MAX elements */
    /* Bytes that the operator keeps beside its output, at most; NULL: none worth counting. */
    int64_t (*workspace)(const struct node *n, const struct extent *e);
};
#define OP_POOL_MAX 255

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
