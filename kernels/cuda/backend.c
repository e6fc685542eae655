/* The GPU backend: opening a device, and what the shared object exports.
 *
 * A device stays open from one trial to the next: context, handles, workspaces, blocks of memory
 * (memory.c) and what the libraries chose (cache.c) are kept, so that a trial starts in
 * milliseconds; what a trial can see of them is zero, reset, or the same as it would be afresh. */
#include <stdlib.h>
#include <string.h>

#include "core/version.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/traits.h"

#ifndef TRIREME_CUDA_ARCH /* what the Makefile compiled kernels for */
#define TRIREME_CUDA_ARCH "80;90a"
#endif

#define OLDEST_MAJOR 8 /* Ampere: tf32 and bf16 */
extern __attribute__((visibility("default"))) const struct backend trireme_backend;

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
        if (c->stream[q] != NULL)
            (void)cudaStreamSynchronize(c->stream[q]);
    cuda_cache_clear(&c->cache);
    if (c->dnn != NULL)
        (void)cudnnDestroy(c->dnn);
    if (c->blas != NULL)
        (void)cublasLtDestroy(c->blas);
    for (int i = 0; i < MARKS; i++)
        if (c->marks[i] != NULL)
            (void)cudaEventDestroy(c->marks[i]);
    if (c->order != NULL)
        (void)cudaEventDestroy(c->order);
    for (int q = 0; q < QUEUES; q++)
        if (c->stream[q] != NULL)
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
    if (p != NULL)
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
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the device");
    c->base.backend = &trireme_backend;
    c->index = index % count;
    c->pinned.host = true;
    TRY(check_device(c, err));
    TRY(open_streams(c, err));
    TRY(take(c, "a step's terms", sizeof *c->state, &c->state, err));
    TRY(probe(c, err));
    for (int q = 0; q < QUEUES; q++)
        TRY(take(c, "partial sums", sizeof(float) * STEP_FOLD_TILES * STEP_FOLD_TILE,
                 &c->fold_tiles[q], err));
    TRY(take(c, "cuBLAS's workspace", CUDA_BLAS_WORKSPACE, &c->blas_workspace, err));
    TRY(open_libraries(c, err));
    *out = &c->base;
    c = NULL;
out:
    if (c != NULL)
        cuda_close(&c->base);
    return st;
}

/* ---- the table ---- */

static const struct operation *const rows[OP_KINDS] = {
#define OP_ROW(kind, name, layer, images, promises) [OP_##kind] = &cuda_##name,
    OPERATORS(OP_ROW)
#undef OP_ROW
};

static const struct device_operators operators_table = {
    .rows = rows,
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
    .traits = &cuda_traits,
    .memory = &cuda_memory_table,
    .order = &cuda_order_table,
    .operators = &operators_table,
    .update = &update_table,
    .open = cuda_open,
    .close = cuda_close,
    .count = cuda_count,
    .describe = cuda_describe,
    .peak_flops = cuda_peak_flops,
};
