/* The GPU backend: a device with its two streams, recording, and the table of what it offers.
 *
 * A device stays open from one trial to the next: context, handles, workspaces, blocks of memory
 * (memory.c) and what the libraries chose (cache.c) are kept, so that a trial starts in
 * milliseconds; what a trial can see of them is zero, reset, or the same as it would be afresh. */
#include <assert.h>
#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>
#include <string.h>

#include "core/version.h"
#include "kernels/cuda/cuda.h"

#ifndef TRIREME_CUDA_ARCH /* what the Makefile compiled kernels for */
#define TRIREME_CUDA_ARCH "80;90a"
#endif

#define OLDEST_MAJOR 8     /* Ampere: tf32 and bf16 */
#define FOLD_TILE    16384 /* elements of a partial sum of more than STEP_SOURCES vectors */
#define FOLD_TILES   STEP_SOURCES

extern __attribute__((visibility("default"))) const struct backend trireme_backend;

/* ---- queues ---- */

static void cuda_enter(struct device *d) {
    (void)cuda_ok(d, cudaSetDevice(cuda_of(d)->index), "enter the device");
}

static void cuda_sync(struct device *d) {
    for (int q = 0; q < QUEUES; q++)
        (void)cuda_ok(d, cudaStreamSynchronize(cuda_of(d)->stream[q]), "wait for the device");
}

static enum status cuda_status(struct device *d, struct err *err) {
    const struct cuda_device *c = cuda_of(d);
    cuda_launched(d, "an earlier kernel");
    return c->failed == STATUS_OK ? STATUS_OK : err_set(err, c->failed, "%s", c->err.text);
}

/* One event serves all: a wait means the record before it, whatever is recorded later. */
void cuda_order(struct cuda_device *c, enum queue later, enum queue earlier) {
    struct device *d = &c->base;
    if (!cuda_failed(d) && cuda_ok(d, cudaEventRecord(c->order, c->stream[earlier]), "record"))
        (void)cuda_ok(d, cudaStreamWaitEvent(c->stream[later], c->order, 0), "wait for a queue");
}

/* Where computing waits for the exchange for the first time, the backward pass has ended. */
static void cuda_after(struct device *d, enum queue later, enum queue earlier) {
    struct cuda_device *c = cuda_of(d);
    if (later == earlier || cuda_failed(d))
        return;
    c->exchanges |= later == QUEUE_EXCHANGE;
    if (later == QUEUE_COMPUTE && !c->stamped) {
        c->stamped = true;
        step_stamp(c->state, c->stream[QUEUE_COMPUTE]);
        cuda_launched(d, "launch of the clock");
    }
    cuda_order(c, later, earlier);
}

static void cuda_mark(struct device *d, enum queue q, int mark) {
    struct cuda_device *c = cuda_of(d);
    if (!cuda_failed(d))
        (void)cuda_ok(d, cudaEventRecord(c->marks[mark], c->stream[q]), "mark");
}

static bool cuda_reached(struct device *d, int mark) {
    if (cuda_failed(d))
        return true;
    cudaError_t code = cudaEventQuery(cuda_of(d)->marks[mark]);
    if (code != cudaErrorNotReady)
        return cuda_ok(d, code, "the work before a mark") || true;
    (void)cudaGetLastError(); /* "not ready" stays behind as if it were an error */
    return false;
}

static void *cuda_native_queue(struct device *d, enum queue q) {
    return (void *)cuda_of(d)->stream[q];
}

/* ---- recording ---- */

/* The exchange queue joins at once, so that record_end can join it back whether it was used or
 * not. Thread-local: other threads of the process go on as they like. */
static enum status cuda_record_begin(struct device *d, struct err *err) {
    struct cuda_device *c = cuda_of(d);
    enum status st = cuda_status(d, err);
    if (st != STATUS_OK)
        return st;
    cudaStream_t stream = c->stream[QUEUE_COMPUTE];
    c->stamped = false;
    if (cuda_ok(d, cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "record"))
        cuda_order(c, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    return cuda_status(d, err);
}

/* Played, it would run at the priority of the queue it is played on: it keeps those of the queues
 * that it was made from, so that the exchange still goes first. */
static enum status cuda_record_end(struct device *d, void **out, struct err *err) {
    struct cuda_device *c = cuda_of(d);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    *out = NULL;
    cuda_order(c, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    /* Ended in any case: the streams must be of use again. */
    cudaError_t code = cudaStreamEndCapture(c->stream[QUEUE_COMPUTE], &graph);
    if (cuda_ok(d, code, "the end of a recording") &&
        cuda_ok(d, cudaGraphInstantiate(&exec, graph, cudaGraphInstantiateFlagUseNodePriority),
                "make a recording"))
        *out = exec;
    if (graph)
        (void)cudaGraphDestroy(graph);
    return cuda_status(d, err);
}

/* Part of it may be the exchange queue's: it stands between what is before and after on both. */
static void cuda_play(struct device *d, void *recorded) {
    struct cuda_device *c = cuda_of(d);
    if (c->exchanges)
        cuda_order(c, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    if (!cuda_failed(d))
        (void)cuda_ok(d, cudaGraphLaunch(recorded, c->stream[QUEUE_COMPUTE]), "play a recording");
    if (c->exchanges)
        cuda_order(c, QUEUE_EXCHANGE, QUEUE_COMPUTE);
}

static void cuda_record_release(struct device *d, void *recorded) {
    (void)d;
    if (recorded)
        (void)cudaGraphExecDestroy(recorded);
}

/* ---- memory ---- */

static void *cuda_alloc(struct device *d, size_t bytes) {
    return cuda_pool_take(cuda_of(d), &cuda_of(d)->pool, bytes);
}

static void cuda_release(struct device *d, void *p) {
    cuda_pool_give(cuda_of(d), &cuda_of(d)->pool, p);
}

static void *cuda_host_alloc(struct device *d, size_t bytes) {
    return cuda_pool_take(cuda_of(d), &cuda_of(d)->pinned, bytes);
}

static void cuda_host_release(struct device *d, void *p) {
    cuda_pool_give(cuda_of(d), &cuda_of(d)->pinned, p);
}

/* What lies idle is as good as free: it goes back before an allocation fails. */
static void cuda_memory(struct device *d, int64_t *available, int64_t *total) {
    size_t free_bytes = 0, all = 0;
    (void)cuda_ok(d, cudaMemGetInfo(&free_bytes, &all), "ask for free memory");
    *available = (int64_t)(free_bytes + cuda_of(d)->pool.idle);
    *total = (int64_t)all;
}

static void cuda_copy(struct device *d, enum queue q, void *dst, const void *src, size_t bytes) {
    cudaStream_t stream = cuda_of(d)->stream[q];
    if (bytes > 0 && !cuda_failed(d))
        (void)cuda_ok(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream), "copy");
}

/* These two wait, and so may as well wait for what the exchange wrote or still reads. */
static void cuda_move(struct device *d, void *dst, const void *src, size_t bytes) {
    cuda_order(cuda_of(d), QUEUE_COMPUTE, QUEUE_EXCHANGE);
    cuda_copy(d, QUEUE_COMPUTE, dst, src, bytes);
    if (!cuda_failed(d))
        (void)cuda_ok(d, cudaStreamSynchronize(cuda_stream(d)), "copy");
}

/* ---- a step ---- */

/* The step before may still read its terms on the exchange queue. */
static void cuda_begin_step(struct device *d, const struct step_terms *terms) {
    struct cuda_device *c = cuda_of(d);
    assert(terms->slot >= 0 && terms->slot < OUTCOME_SLOTS);
    c->stamped = false;
    cuda_order(c, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    if (cuda_failed(d))
        return;
    step_begin(c->state, terms, c->stream[QUEUE_COMPUTE]);
    cuda_launched(d, "launch of the step's beginning");
}

static void fold_once(struct cuda_device *c, enum queue q, float *dst, const float *const *srcs,
                      int64_t at, int n, int64_t count) {
    struct step_sources from = {0};
    for (int i = 0; i < n; i++)
        from.at[i] = srcs[i] + at;
    step_fold(c->state, dst, &from, n, count, c->stream[q]);
}

/* More vectors than a launch takes: tile by tile, subtrees first. */
static void fold_tiles(struct cuda_device *c, enum queue q, float *dst, const float *const *srcs,
                       int n, int64_t count) {
    const float *tiles[FOLD_TILES];
    int parts = n / STEP_SOURCES;
    for (int64_t at = 0; at < count; at += FOLD_TILE) {
        int64_t len = count - at < FOLD_TILE ? count - at : FOLD_TILE;
        for (int i = 0; i < parts; i++) {
            float *tile = c->fold_tiles[q] + (ptrdiff_t)i * FOLD_TILE;
            fold_once(c, q, tile, srcs + i * STEP_SOURCES, at, STEP_SOURCES, len);
            tiles[i] = tile;
        }
        fold_once(c, q, dst + at, tiles, 0, parts, len);
    }
}

static void cuda_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
                      int64_t count) {
    struct cuda_device *c = cuda_of(d);
    assert(n > 0 && (n & (n - 1)) == 0 && n <= STEP_SOURCES * FOLD_TILES);
    if (count == 0 || cuda_failed(d))
        return;
    if (n <= STEP_SOURCES)
        fold_once(c, q, dst, srcs, 0, n, count);
    else
        fold_tiles(c, q, dst, srcs, n, count);
    cuda_launched(d, "launch of the fold");
}

void cuda_fold_shards(struct device *d, const struct fold *fold, int64_t offset,
                      const float *partials, int64_t stride, int shards, int64_t count) {
    assert(shards > 0 && (shards & (shards - 1)) == 0);
    if (count == 0 || cuda_failed(d))
        return;
    step_fold_shards(cuda_state(d), fold, offset, partials, stride, shards, count, cuda_stream(d));
    cuda_launched(d, "launch of the fold of shards");
}

static void cuda_scalars(struct device *d, const struct loss_sum *losses, int shards,
                         int64_t shard_rows, float *tail) {
    assert(shards > 0 && (shards & (shards - 1)) == 0);
    if (cuda_failed(d))
        return;
    step_scalars(cuda_state(d), losses, shards, shard_rows, tail, cuda_stream(d));
    cuda_launched(d, "launch of the scalars");
}

static bool cuda_finite(struct device *d, const void *x, int64_t count, enum precision precision) {
    uint32_t found = 0;
    if (count == 0 || cuda_failed(d))
        return true;
    step_find(cuda_state(d), x, count, precision == PRECISION_BF16, cuda_stream(d));
    cuda_launched(d, "launch of the search for what is not finite");
    cuda_move(d, &found, &cuda_state(d)->found, sizeof found);
    return found == 0;
}

static void cuda_convert(struct device *d, const float *src, void *dst, int64_t count,
                         enum precision precision) {
    if (count == 0 || cuda_failed(d))
        return;
    if (precision != PRECISION_BF16) {
        cuda_copy(d, QUEUE_COMPUTE, dst, src, (size_t)count * sizeof *src);
        return;
    }
    step_convert_bf16(src, dst, count, cuda_stream(d));
    cuda_launched(d, "launch of a conversion");
}

static uint32_t *cuda_flags(struct device *d) {
    return &cuda_state(d)->flags;
}

static void cuda_outcome(struct device *d, const float *tail, const uint32_t *words, int ranks,
                         struct step_outcome *ring) {
    if (cuda_failed(d))
        return;
    step_outcome_write(cuda_state(d), tail, words, ranks, ring, cuda_stream(d));
    cuda_launched(d, "launch of the outcome");
}

static void cuda_resume(struct device *d) {
    cuda_order(cuda_of(d), QUEUE_COMPUTE, QUEUE_EXCHANGE);
    if (cuda_failed(d))
        return;
    step_resume(cuda_state(d), cuda_stream(d));
    cuda_launched(d, "launch of the reset");
}

/* ---- opening ---- */

static int cuda_count(struct err *err) {
    int count = 0; /* the runtime leaves it alone when it fails */
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0)
        return count;
    (void)cuda_absent(code == cudaSuccess ? cudaErrorNoDevice : code, err);
    return 0;
}

static void cuda_close(struct device *d) {
    struct cuda_device *c = cuda_of(d);
    (void)cudaSetDevice(c->index);
    for (int q = 0; q < QUEUES; q++)
        if (c->stream[q])
            (void)cudaStreamSynchronize(c->stream[q]);
    cuda_cache_clear(&c->cache);
    if (c->dnn)
        (void)cudnnDestroy(c->dnn);
    if (c->blas)
        (void)cublasLtDestroy(c->blas);
    for (int i = 0; i < MARKS; i++)
        if (c->marks[i])
            (void)cudaEventDestroy(c->marks[i]);
    if (c->order)
        (void)cudaEventDestroy(c->order);
    for (int q = 0; q < QUEUES; q++)
        if (c->stream[q])
            (void)cudaStreamDestroy(c->stream[q]);
    cuda_pool_clear(&c->pool);
    cuda_pool_clear(&c->pinned);
    (void)cudaGetLastError(); /* of this device: the next one starts clean */
    free(c);
}

/* What can be told without waking the device up. */
static enum status check_device(struct cuda_device *c, struct err *err) {
    int mode = cudaComputeModeDefault;
    struct device *d = &c->base;
    if (!cuda_ok(d, cudaGetDeviceProperties(&c->properties, c->index), "ask what it is") ||
        !cuda_ok(d, cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, c->index),
                 "ask its mode"))
        return cuda_status(d, err);
    if (mode == cudaComputeModeProhibited)
        return err_set(err, STATUS_UNAVAILABLE,
                       "GPU %d (%s) is in compute mode prohibited: `nvidia-smi -i %d -c 0` opens "
                       "it, CUDA_VISIBLE_DEVICES chooses another",
                       c->index, c->properties.name, c->index);
    if (c->properties.major < OLDEST_MAJOR)
        return err_set(
            err, STATUS_UNAVAILABLE,
            "GPU %d (%s) is sm_%d%d; sm_%d0 is the oldest that serves: choose another by "
            "CUDA_VISIBLE_DEVICES, or device: cpu",
            c->index, c->properties.name, c->properties.major, c->properties.minor, OLDEST_MAJOR);
    return STATUS_OK;
}

/* A rank has one core, which its decoding thread and the tracker's client want too: waits block
 * instead of spinning. The few microseconds more count only where the host waits, which a running
 * step never makes it do. The exchange is the step's critical path: its kernels go first. */
static enum status open_streams(struct cuda_device *c, struct err *err) {
    struct device *d = &c->base;
    int least = 0, greatest = 0;
    bool ok =
        cuda_ok(d, cudaSetDevice(c->index), "open it") &&
        cuda_ok(d, cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "set how to wait") &&
        cuda_ok(d, cudaDeviceGetStreamPriorityRange(&least, &greatest), "ask for priorities") &&
        cuda_ok(
            d,
            cudaStreamCreateWithPriority(&c->stream[QUEUE_COMPUTE], cudaStreamNonBlocking, least),
            "make a stream") &&
        cuda_ok(d,
                cudaStreamCreateWithPriority(&c->stream[QUEUE_EXCHANGE], cudaStreamNonBlocking,
                                             greatest),
                "make a stream") &&
        cuda_ok(d, cudaEventCreateWithFlags(&c->order, cudaEventDisableTiming), "make an event");
    for (int i = 0; ok && i < MARKS; i++)
        ok = cuda_ok(d, cudaEventCreateWithFlags(&c->marks[i], cudaEventDisableTiming),
                     "make an event");
    return cuda_status(d, err);
}

static enum status take(struct cuda_device *c, const char *what, size_t bytes, void *out,
                        struct err *err) {
    void *p = cuda_alloc(&c->base, bytes);
    memcpy(out, &p, sizeof p); /* a pointer to any pointer: ISO C has no cast for it */
    if (p)
        return STATUS_OK;
    if (cuda_failed(&c->base))
        return cuda_status(&c->base, err);
    return err_set(err, STATUS_NOMEM,
                   "GPU %d (%s) has no memory for %zu bytes of %s: see nvidia-smi "
                   "for who holds it",
                   c->index, c->properties.name, bytes, what);
}

/* Whether kernels of this library run here is known when one has. */
static enum status probe(struct cuda_device *c, struct err *err) {
    step_probe(c->state, c->stream[QUEUE_COMPUTE]);
    cudaError_t code = cudaGetLastError();
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorUnsupportedPtxVersion ||
        code == cudaErrorInvalidDeviceFunction || code == cudaErrorJitCompilerNotFound)
        return err_set(err, STATUS_UNAVAILABLE,
                       "GPU %d (%s) is sm_%d%d; this build has kernels for CUDA_ARCH=\"%s\": "
                       "rebuild with that number added, or update the driver (%s)",
                       c->index, c->properties.name, c->properties.major, c->properties.minor,
                       TRIREME_CUDA_ARCH, cudaGetErrorName(code));
    if (cuda_ok(&c->base, code, "launch of a first kernel"))
        cuda_sync(&c->base);
    return cuda_status(&c->base, err);
}

static enum status open_libraries(struct cuda_device *c, struct err *err) {
    struct device *d = &c->base;
    if (cuda_blas_ok(d, cublasLtCreate(&c->blas), "open cuBLASLt") &&
        cuda_dnn_ok(d, cudnnCreate(&c->dnn), "open cuDNN"))
        (void)cuda_dnn_ok(d, cudnnSetStream(c->dnn, c->stream[QUEUE_COMPUTE]), "open cuDNN");
    return cuda_status(d, err);
}

static enum status cuda_open(int index, struct device **out, struct err *err) {
    enum status st = STATUS_OK;
    int count = cuda_count(err);
    if (count == 0)
        return STATUS_UNAVAILABLE;
    struct cuda_device *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, STATUS_NOMEM, "no memory for the device");
    c->base.backend = &trireme_backend;
    c->index = index % count;
    c->pinned.host = true;
    TRY(check_device(c, err));
    TRY(open_streams(c, err));
    TRY(take(c, "a step's terms", sizeof *c->state, &c->state, err));
    TRY(probe(c, err));
    for (int q = 0; q < QUEUES; q++)
        TRY(take(c, "partial sums", sizeof(float) * FOLD_TILES * FOLD_TILE, &c->fold_tiles[q],
                 err));
    TRY(take(c, "cuBLAS's workspace", CUDA_BLAS_WORKSPACE, &c->blas_workspace, err));
    TRY(open_libraries(c, err));
    *out = &c->base;
    c = NULL;
out:
    if (c)
        cuda_close(&c->base);
    return st;
}

/* ---- the table ---- */

static void range_push(const char *name) {
    (void)nvtxRangePushA(name);
}

static void range_pop(void) {
    (void)nvtxRangePop();
}

static const struct operation *const table[OP_KINDS] = {
    [OP_DENSE] = &cuda_dense,
    [OP_CONV2D] = &cuda_conv2d,
    [OP_BATCH_NORM] = &cuda_batch_norm,
    [OP_MAX_POOL] = &cuda_max_pool,
    [OP_AVG_POOL] = &cuda_avg_pool,
    [OP_RELU] = &cuda_relu,
    [OP_GELU] = &cuda_gelu,
    [OP_TANH] = &cuda_tanh,
    [OP_SIGMOID] = &cuda_sigmoid,
    [OP_DROPOUT] = &cuda_dropout,
    [OP_TO_NHWC] = &cuda_to_nhwc,
    [OP_TO_NCHW] = &cuda_to_nchw,
    [OP_CROSS_ENTROPY] = &cuda_cross_entropy,
    [OP_MSE] = &cuda_mse,
};

static const struct device_memory memory_table = {
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .room = cuda_memory,
    .upload = cuda_move,
    .download = cuda_move,
    .copy = cuda_copy,
    .convert = cuda_convert,
    .table_new = cuda_table_new,
    .table_release = cuda_table_release,
    .gather_step = cuda_gather_step,
    .gather_rows = cuda_gather_rows,
};

static const struct device_order order_table = {
    .enter = cuda_enter,
    .sync = cuda_sync,
    .status = cuda_status,
    .after = cuda_after,
    .mark = cuda_mark,
    .reached = cuda_reached,
    .native_queue = cuda_native_queue,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .play = cuda_play,
    .record_release = cuda_record_release,
    .range_push = range_push,
    .range_pop = range_pop,
};

static const struct device_operators operators_table = {
    .rows = table,
    .fold = cuda_fold,
    .scalars = cuda_scalars,
    .finite = cuda_finite,
};

static const struct device_update update_table = {
    .begin_step = cuda_begin_step,
    .flags = cuda_flags,
    .outcome = cuda_outcome,
    .resume = cuda_resume,
    .create = cuda_update_new,
    .release = cuda_update_release,
    .slot = cuda_update_slot,
    .norms = cuda_update_norms,
    .clip = cuda_update_clip,
    .norm = cuda_grad_norm,
    .apply = cuda_update_apply,
};

const struct backend trireme_backend = {
    .name = "cuda",
    .build = trireme_build_id,
    .queues = true,
    .eval_rows = 4096,
    .traits = cuda_traits,
    .memory = &memory_table,
    .order = &order_table,
    .operators = &operators_table,
    .update = &update_table,
    .open = cuda_open,
    .close = cuda_close,
    .count = cuda_count,
    .describe = cuda_describe,
    .peak_flops = cuda_peak_flops,
};
