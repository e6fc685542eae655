/* What the C files of the GPU backend share. Kernels are in the .cu files, which see nothing of
 * this: each has a small header with plain C functions that launch them on a stream.
 *
 *     backend.c  opening a device; what the shared object exports
 *     traits.c   what the planner knows of it: built on every machine
 *     queue.c    streams, marks, recording
 *     memory.c   blocks that outlive the engines that used them; copies
 *     cache.*    what the libraries were asked and answered, likewise
 *     describe.c what the manifest says of a device, and its peak
 *     errors.c   the first error, in words
 *     step.*     a step's terms, flags and outcome; the folds; finite; conversions
 *     matmul.c   products by cuBLASLt, one pinned algorithm for each shape
 *     dense.* conv.* norm.* pool.* activation.* dropout.* layout.* loss.*    the operators
 *     update.*   the optimizer on owned slices       table.*   data sets and batches
 *
 * Errors: the first one sticks to the device (cuda_ok), everything after it is skipped, and
 * backend->order->status tells it. Bits: every sum has one fixed order; no atomics on floats; kernels are
 * compiled without contraction, so that + − × ÷ √ are IEEE's, as on the CPU. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "kernels/cuda/cache.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/step.h"
#include "kernels/run/device.h"

/* Blocks of one kind of memory, kept when they are released: see memory.c. */
struct cuda_pool {
    bool host; /* page-locked host memory, else the device's */
    struct cuda_block *blocks;
    int count, room;
    size_t used, idle, peak; /* bytes; peak: of `used` */
    uint64_t clock;
};

struct cuda_device {
    struct device base; /* first */
    int index;
    cudaStream_t stream[QUEUES];
    cudaEvent_t marks[MARKS];
    cudaEvent_t order; /* of backend->after */
    bool stamped;      /* the end of the step's backward pass is queued to be noted */
    bool exchanges;    /* the exchange queue was ever waited for or told to wait */
    cublasLtHandle_t blas;
    cudnnHandle_t dnn;
    void *blas_workspace; /* CUDA_BLAS_WORKSPACE bytes, for the compute stream */
    void *dnn_workspace;  /* of the compute stream; see cuda_dnn_reserve */
    size_t dnn_workspace_bytes;
    struct step_state *state;  /* device memory */
    float *fold_tiles[QUEUES]; /* partial sums of more than STEP_SOURCES vectors */
    struct cuda_pool pool, pinned;
    struct cuda_cache cache;
    struct cudaDeviceProp properties;
    enum status failed; /* STATUS_OK, or the first error, told in `err` */
    struct err err;
};

static inline struct cuda_device *cuda_of(struct device *d) {
    return (struct cuda_device *)d;
}
static inline cudaStream_t cuda_stream(struct device *d) {
    return cuda_of(d)->stream[QUEUE_COMPUTE];
}
static inline struct step_state *cuda_state(struct device *d) {
    return cuda_of(d)->state;
}

/* Whether to go on: false when `code` is an error or an earlier one stuck. `what`: "dense: launch
 * of …", for the message; out of memory, ECC errors and lost devices are said in words. */
bool cuda_ok(struct device *d, cudaError_t code, const char *what);
bool cuda_blas_ok(struct device *d, cublasStatus_t code, const char *what);
bool cuda_dnn_ok(struct device *d, cudnnStatus_t code, const char *what);
void cuda_launched(struct device *d, const char *what); /* cuda_ok of cudaGetLastError */
bool cuda_failed(const struct device *d);

/* `code` of a call that looked for devices, in words: what was found, what to do. UNAVAILABLE. */
enum status cuda_absent(cudaError_t code, struct err *err);
void cuda_version_text(int version, char out[16]); /* 13000: "13.0" */

/* memory.c: blocks of device or pinned memory, zeroed in the order of both streams. NULL when
 * exhausted, which does not stick. */
void *cuda_pool_take(struct cuda_device *c, struct cuda_pool *pool, size_t bytes);
void cuda_pool_give(struct cuda_device *c, struct cuda_pool *pool, void *p);
void cuda_pool_trim(struct cuda_pool *pool);  /* gives back what lies idle */
void cuda_pool_clear(struct cuda_pool *pool); /* at close: all of them, used or not */

void *cuda_alloc(struct device *d, size_t bytes);
/* Any two, either of them pageable host memory; waits for both queues. */
void cuda_move(struct device *d, void *dst, const void *src, size_t bytes);

/* queue.c: `later` starts what is queued on it from now on when `earlier` is done with what it has. */
void cuda_order(struct cuda_device *c, enum queue later, enum queue earlier);
void cuda_sync(struct device *d);
enum status cuda_status(struct device *d, struct err *err) MUST_USE;

/* describe.c: rows of the backend's table. */
struct value *cuda_describe(struct arena *a, const struct device *d);
double cuda_peak_flops(struct device *d, enum precision precision);

/* A node's own state on the host (calloc'ed; freed with free), and zeroed device memory for it,
 * counted in n->state_bytes; freed with backend->release. NOMEM says the bytes asked. */
enum status cuda_state_new(struct node *n, size_t bytes, void **out, struct err *err) MUST_USE;
enum status cuda_part(struct node *n, size_t bytes, void **out, struct err *err) MUST_USE;

/* What conv.c asks in prepare: d->dnn_workspace has `bytes` at least, ≤ CUDA_DNN_WORKSPACE. A
 * recorded step may still point at the smaller one of before, which therefore stays until the
 * device closes. */
enum status cuda_dnn_reserve(struct device *d, size_t bytes, struct err *err) MUST_USE;

/* partials: (shards, stride) floats, of which `count` belong to the tensor at `offset`:
 *     dst[offset + i] = add[n−1][offset + i] + (… (add[0][offset + i] + tree over shards))
 * What is not finite raises the step's flag. One launch. */
void cuda_fold_shards(struct device *d, const struct fold *fold, int64_t offset,
                      const float *partials, int64_t stride, int shards, int64_t count);

#define OP_ROW(kind, name, layer, images, promises) extern const struct operation cuda_##name;
OPERATORS(OP_ROW)
#undef OP_ROW

extern const struct device_memory cuda_memory_table; /* memory.c */
extern const struct device_order cuda_order_table;   /* queue.c */

/* step.c: rows of the backend's tables. */
void cuda_begin_step(struct device *d, const struct step_terms *terms);
void cuda_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
               int64_t count);
void cuda_scalars(struct device *d, const struct loss_sum *losses, int shards, int64_t shard_rows,
                  float *tail);
bool cuda_finite(struct device *d, const void *x, int64_t count, enum precision precision);
uint32_t *cuda_flags(struct device *d);
void cuda_outcome(struct device *d, const float *tail, const uint32_t *words, int ranks,
                  struct step_outcome *ring);
void cuda_resume(struct device *d);

/* update.c and table.c: rows of the backend's table. */
enum status cuda_update_new(struct device *d, const struct update_spec *spec, struct update **out,
                            struct err *err) MUST_USE;
void cuda_update_release(struct update *u);
float *cuda_update_slot(struct update *u, int slot);
double *cuda_update_norms(struct update *u, int bucket);
void cuda_update_clip(struct update *u, const double *norms);
double cuda_grad_norm(struct update *u);
void cuda_update_apply(struct update *u, int first, int count);

enum status cuda_table_new(struct device *d, const struct table_spec *spec, struct table **out,
                           struct err *err) MUST_USE;
void cuda_table_release(struct device *d, struct table *t);
void cuda_gather_step(struct device *d, const struct table *t, int64_t rows,
                      enum precision precision, const struct batch *out);
void cuda_gather_rows(struct device *d, const struct table *t, int64_t first, int64_t rows,
                      enum precision precision, const struct batch *out);

#endif
