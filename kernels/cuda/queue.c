/* Two streams, marks and recordings; the first error, asked for. */
#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/cuda.h"

/* ---- queues ---- */

static void cuda_enter(struct device *d) {
    (void)cuda_ok(d, cudaSetDevice(cuda_of(d)->index), "enter the device");
}

void cuda_sync(struct device *d) {
    for (int q = 0; q < QUEUES; q++)
        (void)cuda_ok(d, cudaStreamSynchronize(cuda_of(d)->stream[q]), "wait for the device");
}

enum status cuda_status(struct device *d, struct err *err) {
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
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return cuda_status(d, err);
}

/* Part of it may be the exchange queue's: it comes between what is before and after on both. */
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
    if (recorded != NULL)
        (void)cudaGraphExecDestroy(recorded);
}

/* ---- the table ---- */

static void range_push(const char *name) {
    (void)nvtxRangePushA(name);
}

static void range_pop(void) {
    (void)nvtxRangePop();
}

const struct device_order cuda_order_table = {
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
