/* The engine: runs a model on one rank's shards of a batch and leaves ONE partial gradient: the
 * fold of the rank's aligned subtree (design, section 6).
 *
 *     shards of the rank:  s0 s1 s2 s3          the fixed binary tree over all V shards
 *                           └─┬─┘ └─┬─┘
 *                             └──┬──┘    ──▶ grad[vector_count] ──▶ exchange (worker)
 *
 * Gradients are sums over samples (the optimizer multiplies by 1/B), so that every shard weighs the
 * same. Weight gradients are formed shard by shard, with the same shapes whatever the number of
 * ranks, and folded while they are in cache. The planner picks the walk: g shards at a time through
 * the whole net (g = 1: shard by shard, g = all: layer by layer); g never changes bits, which a
 * self-check at creation proves on this machine (else g is 1 and forward is done shard by shard).
 *
 * Nothing is allocated and no primitive is created inside engine_step and engine_eval.
 *
 * All pointers to numbers are the device's memory, host memory on the CPU. A backend that queues
 * (device.h) returns from engine_step before the work is done.
 *
 * Threading: an engine belongs to one thread. Lifetime: destroy before its device. */
#ifndef KERNELS_RUN_ENGINE_H
#define KERNELS_RUN_ENGINE_H

#include "kernels/graph/plan.h"

struct device; /* kernels/run/device.h */
struct engine;

/* (vector_count) each, device memory of the caller's (shared by the ranks of a node, say), aligned
 * to 64 bytes, outliving the engine; NULL: the engine's own. */
struct engine_vectors {
    float *weights, *gradient;
    bool none; /* an engine to be described only: its bytes are counted and not taken */
};

/* vectors: NULL: the engine's own. */
enum status engine_new(struct device *device, const struct plan_spec *spec,
                       const struct engine_vectors *vectors, struct engine **out,
                       struct err *err) MUST_USE;
void engine_destroy(struct engine **e);

float *engine_weights(struct engine *e);  /* (vector_count): shared by training and evaluation */
float *engine_gradient(struct engine *e); /* (vector_count): the partial, scalars at the tail */

int64_t engine_flops(const struct engine *e); /* of a step, this rank's rows */

int engine_bucket_count(const struct engine *e);
const struct bucket *engine_buckets(const struct engine *e);

/* Rows for a step or an evaluation, in device memory. */
struct engine_batch {
    int64_t rows;               /* evaluation: 1 to eval_rows; a step takes all of its shards' */
    const void *x;              /* (rows, in), elements of the precision, shard after shard */
    const int32_t *labels;      /* (rows): cross entropy; else NULL */
    const float *targets;       /* (rows, out): MSE; else NULL */
    const int32_t *rows_global; /* (rows), a step's: positions in the global batch, dropout's key */
};

/* Called as soon as a bucket's partial is final (the work for it is queued): 0, 1, 2, … */
struct engine_hook {
    void (*on_bucket)(void *arg, int bucket);
    void *arg;
};

/* `step` counts from 1. hook may be NULL. Fills the scalars LOSS (sum over samples, folded),
 * CORRECT, ROWS, and STOP from the step's terms. INVALID: a label that is not a class. */
enum status engine_step(struct engine *e, const struct engine_batch *batch, int64_t step,
                        const struct engine_hook *hook, struct err *err) MUST_USE;

struct eval_result {
    double loss_sum; /* over the rows, in a fixed order in double */
    int64_t correct;
    int64_t rows;
};

/* Waits for its answer. Forward without dropout, batch norm by running statistics. `output`: host
 * memory for (rows, out), or NULL. Without labels and targets there is no loss. A chunk of fewer
 * rows gives the bits that the same rows have in a whole one. */
enum status engine_eval(struct engine *e, const struct engine_batch *batch, void *output,
                        struct eval_result *out, struct err *err) MUST_USE;

/* After a step whose loss or gradient was not finite: the first layer, in forward order, whose
 * output was not finite, or else (in backward order) whose gradient was: "model[3] dense: output is
 * not finite". Runs forward again: the step's x, labels or targets and rows_global must still be
 * there, weights and gradient untouched. An empty text where this rank's own shards are finite. */
void engine_blame(struct engine *e, char *out, size_t len);

/* {walk, self_check, isa, bytes: {weights, gradients, activations, workspace}, buckets,
 * flops_per_step} */
struct value *engine_describe(struct arena *a, const struct engine *e);

#endif
