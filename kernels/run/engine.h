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

#include "kernels/graph/model.h"
#include "kernels/run/optimizer.h"

struct device; /* kernels/run/device.h */
struct engine;

const char *precision_name(enum precision p); /* "fp32" … */
size_t precision_bytes(enum precision p);     /* of an element between operators */

struct engine_spec {
    const struct model *model; /* outlives the engine */
    enum loss_kind loss;
    int64_t shard_rows; /* B / V */
    int first_shard;    /* of this rank; a multiple of shard_count */
    int shard_count;    /* V / P, a power of two */
    int64_t eval_rows;  /* rows of an evaluation chunk */
    uint64_t seed;      /* of dropout */
    int walk;           /* g; 0: the planner chooses */
    enum precision precision;
    /* (vector_count) each, device memory of the caller's (shared by the ranks of a node, say),
     * aligned to 64 bytes, outliving the engine; NULL: the engine's own. */
    float *weights, *gradient;
};

/* A stretch of the flat vector whose partial gradient is final. Buckets come in the order of the
 * backward pass: from the end of the vector to its beginning, the one with the scalars first. */
struct bucket {
    int64_t begin,
        end;   /* elements; begin is a multiple of NORM_BLOCK, end too except for the last */
    int layer; /* the lowest layer in it */
};

typedef void bucket_fn(void *arg, int bucket);

enum status engine_new(struct device *device, const struct engine_spec *spec, struct engine **out,
                       struct err *err) MUST_USE;
void engine_destroy(struct engine **e);

float *engine_weights(struct engine *e);  /* (vector_count): shared by training and evaluation */
float *engine_gradient(struct engine *e); /* (vector_count): the partial, scalars at the tail */

int64_t engine_flops(const struct engine *e); /* of a step, this rank's rows */

int engine_bucket_count(const struct engine *e);
const struct bucket *engine_buckets(const struct engine *e);

/* x: (shard_count · shard_rows, in) elements of the precision; the rank's shards in order, each
 * shard's rows together. labels: (rows) int32 for cross entropy; targets: (rows, out) float32 for
 * MSE; the other is NULL. rows_global[i] is the sample's position in the global batch (dropout is
 * keyed by it). `on_bucket` is called as soon as a bucket's partial is final (the work for it is
 * queued), in order 0, 1, 2, …; it may be NULL. Fills the scalars LOSS (sum over samples, folded),
 * CORRECT, ROWS, and STOP from the step's terms. */
enum status engine_step(struct engine *e, const void *x, const int32_t *labels,
                        const float *targets, const int32_t *rows_global, int64_t step,
                        bucket_fn *on_bucket, void *arg, struct err *err) MUST_USE;

/* Waits for its answer. `output` is host memory. Forward without dropout, batch norm by running
 * statistics. loss_sum: over the rows, summed in a fixed order in double. `output` (rows, out) may
 * be NULL. 0 < rows ≤ eval_rows; a chunk of fewer rows gives the bits that the same rows have in a
 * whole one. */
struct eval_result {
    double loss_sum;
    int64_t correct;
    int64_t rows;
};
enum status engine_eval(struct engine *e, const void *x, const int32_t *labels,
                        const float *targets, int64_t rows, void *output, struct eval_result *out,
                        struct err *err) MUST_USE;

/* After a step whose loss or gradient was not finite: the first layer, in forward order, whose
 * output was not finite, or else (in backward order) whose gradient was: "model[3] dense: output is
 * not finite". Runs forward again: the step's x, labels or targets and rows_global must still be
 * there, weights and gradient untouched. An empty text where this rank's own shards are finite. */
void engine_blame(struct engine *e, char *out, size_t len);

/* {walk, self_check, isa, bytes: {weights, gradients, activations, workspace}, buckets,
 * flops_per_step} */
struct value *engine_describe(struct arena *a, const struct engine *e);

/* `name`: "cpu"; "cuda"; "auto": a GPU where one answers, else the CPU. `index`: of this rank among
 * those of its machine; GPUs are taken in turn. UNAVAILABLE for a GPU that is not there, with what
 * was looked for and what to do. */
enum status device_open(const char *name, int index, struct device **out, struct err *err) MUST_USE;
void device_close(struct device **d);

/* What goes into the manifest. CPU: {device, cpu, isa, onednn}; GPU: {device, gpu, isa ("sm_90"),
 * cuda, driver, cublas, cudnn, memory}. */
struct value *device_describe(struct arena *a, const struct device *d);
const char *device_name(const struct device *d); /* "cpu", "cuda" */
bool device_queues(const struct device *d);      /* work goes on after a call has returned */

#endif
