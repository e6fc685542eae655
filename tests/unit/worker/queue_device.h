/* A device that queues, for tests: two streams of the stand-in CUDA runtime (tests/standin), loaded
 * at run time, and jobs on the host instead of kernels. Nothing in a stream is done before somebody
 * waits for it, so that an order that is missing shows as wrong numbers. Memory is the host's, and
 * is handed to nobody but jobs. */
#ifndef TESTS_UNIT_WORKER_QUEUE_DEVICE_H
#define TESTS_UNIT_WORKER_QUEUE_DEVICE_H

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/value.h"
#include "kernels/host/tree.h"
#include "kernels/run/device.h"

#define SOURCES_MAX 8

/* The runtime's functions that are used, with opaque handles. 0 is success. */
static struct {
    int (*cudaStreamCreateWithFlags)(void **, unsigned);
    int (*cudaStreamDestroy)(void *);
    int (*cudaStreamSynchronize)(void *);
    int (*cudaEventCreateWithFlags)(void **, unsigned);
    int (*cudaEventDestroy)(void *);
    int (*cudaEventRecord)(void *, void *);
    int (*cudaEventQuery)(void *);
    int (*cudaStreamWaitEvent)(void *, void *, unsigned);
    int (*cudaStreamBeginCapture)(void *, int);
    int (*cudaStreamEndCapture)(void *, void **);
    int (*cudaGraphInstantiate)(void **, void *, unsigned long long);
    int (*cudaGraphLaunch)(void *, void *);
    int (*cudaGraphDestroy)(void *);
    int (*cudaGraphExecDestroy)(void *);
    int (*standin_queue)(void *, const char *, void (*)(void *), void *, void (*)(void *));
} rt;

struct queue_device {
    struct device base; /* first */
    void *streams[QUEUES], *order, *marks[MARKS];
    const char *bus;
    uint32_t flags; /* the device's memory */
    bool failed;
};

static struct queue_device *queue_of(struct device *d) {
    return (struct queue_device *)d;
}

static void rt_ok(struct device *d, int code) {
    queue_of(d)->failed |= code != 0;
}

/* Queues a job; a copy of its argument lives until nothing can run it. */
static void queue_job(struct device *d, enum queue q, void (*run)(void *), const void *arg,
                      size_t bytes) {
    void *copy = malloc(bytes);
    if (copy == NULL)
        abort();
    memcpy(copy, arg, bytes);
    rt_ok(d, rt.standin_queue(queue_of(d)->streams[q], "job", run, copy, free));
}

/* ---- the backend ---- */

static void *device_take(struct device *d, size_t bytes) {
    (void)d;
    return calloc(1, bytes);
}

static void device_give(struct device *d, void *p) {
    (void)d;
    free(p);
}

static void device_sync(struct device *d) {
    for (int q = 0; q < QUEUES; q++)
        rt_ok(d, rt.cudaStreamSynchronize(queue_of(d)->streams[q]));
}

struct copy_job {
    void *dst;
    const void *src;
    size_t bytes;
};

static void run_copy(void *arg) {
    const struct copy_job *j = arg;
    memcpy(j->dst, j->src, j->bytes);
}

static void device_copy(struct device *d, enum queue q, void *dst, const void *src, size_t bytes) {
    struct copy_job j = {dst, src, bytes};
    queue_job(d, q, run_copy, &j, sizeof j);
}

/* As the seam has it: after what is queued for computing, and the source is free on return. */
static void device_upload(struct device *d, void *dst, const void *src, size_t bytes) {
    device_copy(d, QUEUE_COMPUTE, dst, src, bytes);
    rt_ok(d, rt.cudaStreamSynchronize(queue_of(d)->streams[QUEUE_COMPUTE]));
}

static void device_enter(struct device *d) {
    (void)d;
}

static enum status device_status(struct device *d, struct err *err) {
    return queue_of(d)->failed ? err_set(err, STATUS_INTERNAL, "the runtime failed") : STATUS_OK;
}

static void device_after(struct device *d, enum queue later, enum queue earlier) {
    struct queue_device *q = queue_of(d);
    rt_ok(d, rt.cudaEventRecord(q->order, q->streams[earlier]));
    rt_ok(d, rt.cudaStreamWaitEvent(q->streams[later], q->order, 0));
}

static void device_mark(struct device *d, enum queue q, int mark) {
    rt_ok(d, rt.cudaEventRecord(queue_of(d)->marks[mark], queue_of(d)->streams[q]));
}

static bool device_reached(struct device *d, int mark) {
    return rt.cudaEventQuery(queue_of(d)->marks[mark]) == 0;
}

static void *device_native(struct device *d, enum queue q) {
    return queue_of(d)->streams[q];
}

static enum status device_record_begin(struct device *d, struct err *err) {
    rt_ok(d, rt.cudaStreamBeginCapture(queue_of(d)->streams[QUEUE_COMPUTE], 1));
    return device_status(d, err);
}

static enum status device_record_end(struct device *d, void **out, struct err *err) {
    void *graph = NULL;
    rt_ok(d, rt.cudaStreamEndCapture(queue_of(d)->streams[QUEUE_COMPUTE], &graph));
    rt_ok(d, graph == NULL || rt.cudaGraphInstantiate(out, graph, 0));
    if (graph != NULL)
        rt_ok(d, rt.cudaGraphDestroy(graph));
    return device_status(d, err);
}

static void device_play(struct device *d, void *recorded) {
    rt_ok(d, rt.cudaGraphLaunch(recorded, queue_of(d)->streams[QUEUE_COMPUTE]));
}

static void device_record_release(struct device *d, void *recorded) {
    rt_ok(d, rt.cudaGraphExecDestroy(recorded));
}

struct fold_job {
    struct queue_device *device;
    float *dst;
    const float *srcs[SOURCES_MAX];
    int n;
    int64_t count;
};

static void run_fold(void *arg) {
    struct fold_job *j = arg;
    tree_sum(j->dst, j->srcs, j->n, j->count);
    for (int64_t i = 0; i < j->count; i++)
        if (!isfinite(j->dst[i]))
            j->device->flags |= OUTCOME_NONFINITE;
}

static void device_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
                        int64_t count) {
    struct fold_job j = {.device = queue_of(d), .dst = dst, .n = n, .count = count};
    memcpy(j.srcs, srcs, (size_t)n * sizeof *srcs);
    queue_job(d, q, run_fold, &j, sizeof j);
}

static uint32_t *device_flags(struct device *d) {
    return &queue_of(d)->flags;
}

struct outcome_job {
    const float *tail;
    const uint32_t *words;
    int ranks;
    struct step_outcome *ring;
};

static void run_outcome(void *arg) {
    const struct outcome_job *j = arg;
    memcpy(j->ring->scalars, j->tail, sizeof j->ring->scalars);
    j->ring->flags = 0;
    for (int r = 0; r < j->ranks; r++)
        j->ring->flags |= j->words[r];
}

static void device_outcome(struct device *d, const float *tail, const uint32_t *words, int ranks,
                           struct step_outcome *ring) {
    struct outcome_job j = {tail, words, ranks, ring};
    queue_job(d, QUEUE_COMPUTE, run_outcome, &j, sizeof j);
}

/* After what is queued for computing, and nothing else. */
static void device_download(struct device *d, void *dst, const void *src, size_t bytes) {
    rt_ok(d, rt.cudaStreamSynchronize(queue_of(d)->streams[QUEUE_COMPUTE]));
    memcpy(dst, src, bytes);
}

static struct value *device_describe_queue(struct arena *a, const struct device *d) {
    struct value *v = value_map(a);
    value_set_string(a, v, "bus", ((const struct queue_device *)d)->bus);
    return v;
}

static const struct device_memory memory_table = {
    .alloc = device_take,
    .release = device_give,
    .host_alloc = device_take,
    .host_release = device_give,
    .upload = device_upload,
    .download = device_download,
    .copy = device_copy,
};

static const struct device_order order_table = {
    .enter = device_enter,
    .sync = device_sync,
    .status = device_status,
    .after = device_after,
    .mark = device_mark,
    .reached = device_reached,
    .native_queue = device_native,
    .record_begin = device_record_begin,
    .record_end = device_record_end,
    .play = device_play,
    .record_release = device_record_release,
};

static const struct device_operators operators_table = {
    .fold = device_fold,
};

static const struct device_update update_table = {
    .flags = device_flags,
    .outcome = device_outcome,
};

static const struct backend queue_backend = {
    .name = "queue",
    .queues = true,
    .memory = &memory_table,
    .order = &order_table,
    .operators = &operators_table,
    .update = &update_table,
    .describe = device_describe_queue,
};

/* ---- opening ---- */

/* False: the stand-ins are not there (a build without CUDA's headers). */
static bool rt_load(const char *folder) {
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/libcudart.so.13", folder);
    if (len < 0 || (size_t)len >= sizeof path)
        return false;
    void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (lib == NULL)
        return false;
#define LOAD(f)                                                                                    \
    void *at_##f = dlsym(lib, #f);                                                                 \
    if (at_##f == NULL)                                                                            \
        return false;                                                                              \
    memcpy(&rt.f, &at_##f, sizeof at_##f);
    LOAD(cudaStreamCreateWithFlags)
    LOAD(cudaStreamDestroy)
    LOAD(cudaStreamSynchronize)
    LOAD(cudaEventCreateWithFlags)
    LOAD(cudaEventDestroy)
    LOAD(cudaEventRecord)
    LOAD(cudaEventQuery)
    LOAD(cudaStreamWaitEvent)
    LOAD(cudaStreamBeginCapture)
    LOAD(cudaStreamEndCapture)
    LOAD(cudaGraphInstantiate)
    LOAD(cudaGraphLaunch)
    LOAD(cudaGraphDestroy)
    LOAD(cudaGraphExecDestroy)
    LOAD(standin_queue)
#undef LOAD
    return true;
}

static struct device *queue_device_open(const char *bus) {
    struct queue_device *q = calloc(1, sizeof *q);
    if (q == NULL)
        abort();
    q->base.backend = &queue_backend;
    q->bus = bus;
    for (int i = 0; i < QUEUES; i++)
        rt_ok(&q->base, rt.cudaStreamCreateWithFlags(&q->streams[i], 1)); /* not blocking */
    rt_ok(&q->base, rt.cudaEventCreateWithFlags(&q->order, 2));           /* no timing */
    for (int i = 0; i < MARKS; i++)
        rt_ok(&q->base, rt.cudaEventCreateWithFlags(&q->marks[i], 2));
    return &q->base;
}

static void queue_device_close(struct device *d) {
    struct queue_device *q = queue_of(d);
    for (int i = 0; i < QUEUES; i++)
        rt_ok(d, rt.cudaStreamDestroy(q->streams[i]));
    rt_ok(d, rt.cudaEventDestroy(q->order));
    for (int i = 0; i < MARKS; i++)
        rt_ok(d, rt.cudaEventDestroy(q->marks[i]));
    free(q);
}

#endif
