/* The device seam: buffers, a stream, and the operator table. kernels/engine.c and plan.c know only
 * what stands here; kernels/cpu/ is the first backend, and another one may come from a shared
 * object that exports one `const struct backend`.
 *
 *     model ──plan.c──▶ nodes: [dense+relu] [dense+relu] [dense] [cross entropy]
 *                         │ each node points at one row of backend->operators
 *                         ▼
 *     prepare (once) · refresh (weights changed) · forward · backward_weights · backward_data
 *
 * A new operator is a new value of enum op_kind, a row in each backend's table, and a line in
 * plan.c that says which layers become it.
 *
 * Data of images lies as (B, H, W, C) between operators whatever the user sees; OP_TO_NHWC and
 * OP_TO_NCHW stand where that matters.
 *
 * Bits: a row's result may depend on that row only (forward, backward_data) or on its shard only
 * (backward_weights, batch statistics), never on how many shards one call covers. */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include "kernels/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum op_kind {
    OP_DENSE,
    OP_CONV2D,
    OP_BATCH_NORM,
    OP_MAX_POOL,
    OP_AVG_POOL,
    OP_RELU,
    OP_GELU,
    OP_TANH,
    OP_SIGMOID,
    OP_DROPOUT,
    OP_TO_NHWC, /* (B, C, H, W) → (B, H, W, C) */
    OP_TO_NCHW, /* and back */
    OP_CROSS_ENTROPY,
    OP_MSE,
    OP_KINDS
};

#define NODE_PARAMS    4
#define FUSED_POOL_MAX 255 /* elements of a window */
#define FOLD_MAX       32  /* levels of a tree; V ≤ 2^31 */

/* One operator in the plan. */
struct node {
    enum op_kind kind;
    const struct operation *op;
    const struct layer *layer;   /* NULL for layout and loss */
    struct shape in, out;        /* (C, H, W) or (F): the user's order of dimensions */
    int64_t in_count, out_count; /* elements of one sample */
    int64_t param[NODE_PARAMS];  /* offsets in the flat vector, in the layer's order; −1: none */
    int64_t param_begin, param_end; /* the layer's stretch of the flat vector; equal: none */
    bool relu;                      /* y = max(0, ·) at once; backward masks by y > 0 */
    const struct layer *pool;       /* a max pool joined on: y is its output; NULL: none */
    bool needs_dx;                  /* false where nothing trains below */
    bool in_place;                  /* y is x */
    float *y;                       /* the plan's buffer, (group rows, out_count) */
    void *state;                    /* the operator's own */
    size_t state_bytes;             /* for engine_describe */
};

/* Sizes the operators prepare for. */
struct extent {
    int64_t shard_rows;
    int shards; /* of one call at most: the walk g; rows ≤ shards · shard_rows, in evaluation too */
    uint64_t seed;
};

/* Where the partial gradient of one group of shards goes: dst = add[n−1] + (… + (add[0] + group)).
 * All are flat vectors; an operator touches its own stretch only. */
struct fold {
    float *dst;
    int adds;
    const float *add[FOLD_MAX];
};

struct loss_sum {
    double loss; /* summed over rows in order */
    int64_t correct;
};

/* One call. Pointers are the device's; x, y, dx, dy are (rows, elements of a sample). */
struct pass {
    bool training;
    int shards; /* rows = shards · shard_rows in training; 1 in evaluation */
    int64_t rows, shard_rows;
    const float *x;
    float *y;
    float *dy;            /* backward_weights may change it (the mask of a fused relu) */
    float *dx;            /* may be dy where the operator works element by element */
    const float *weights; /* the flat vector */
    const struct fold *fold;
    const int32_t *rows_global; /* training: of these rows */
    int64_t step;
    const int32_t *labels;   /* loss */
    const float *targets;    /* loss */
    struct loss_sum *losses; /* loss: one per shard */
};

/* A row of the table; NULL where there is nothing to do. backward_weights comes before
 * backward_data, so that a bucket can leave early. The loss writes dy = ∂loss/∂x into pass.dx in
 * forward. Nothing but prepare may allocate. */
struct operation {
    const char *name;
    enum status (*prepare)(struct device *d, struct node *n, const struct extent *e,
                           struct err *err);
    void (*release)(struct device *d, struct node *n);
    void (*refresh)(const struct node *n, const float *weights, bool training);
    void (*forward)(const struct node *n, const struct pass *p);
    void (*backward_weights)(const struct node *n, const struct pass *p);
    void (*backward_data)(const struct node *n, const struct pass *p);
    bool (*self_check)(const struct node *n); /* same bits for a row alone and among others */
    bool can_work_in_place;                   /* forward with y = x; backward_data needs y, not x */
    bool can_fuse_relu;
    bool can_fuse_pool; /* a max pool whose stride is its kernel, of at most FUSED_POOL_MAX */
    bool dx_in_place;   /* backward_data with dx = dy */
    bool keeps_output;  /* backward needs y: nothing may overwrite it */
};

struct backend {
    const char *name; /* "cpu", "cuda" */
    enum status (*open)(struct device **out, struct err *err);
    void (*close)(struct device *d);
    void *(*alloc)(struct device *d, size_t bytes); /* zeroed, aligned to 64 bytes; NULL */
    void (*release)(struct device *d, void *p);
    void (*upload)(struct device *d, void *dst, const void *src, size_t bytes);
    void (*download)(struct device *d, void *dst, const void *src, size_t bytes);
    void (*enter)(
        struct device *d); /* at the start of a call from a thread: streams, thread counts */
    void (*sync)(struct device *d); /* all work has ended */
    /* dst[i] = the tree sum over n neighbours; n a power of two */
    void (*fold)(float *dst, const float *const *srcs, int n, int64_t count);
    bool (*finite)(const float *x, int64_t count);
    struct value *(*describe)(struct arena *a, const struct device *d);
    const struct operation *const *operators; /* [OP_KINDS] */
};

/* The start of every backend's own device. */
struct device {
    const struct backend *backend;
    size_t cache_bytes[2]; /* L2, last level: what the planner divides by */
};

extern const struct backend cpu_backend;

#ifdef __cplusplus
}
#endif

#endif
