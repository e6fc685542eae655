/* When work is done: as late as the rules of CUDA allow.
 *
 * A stream is a queue. Nothing in it is done until something forces it: a wait for the stream, an
 * event or the device, a query (which does a little), a copy that must be complete on return. To
 * force one stream moves another only as far as an event demands, so that a dependency that is
 * missing between two streams shows as wrong numbers instead of passing by luck. A graph plays its
 * nodes in the latest-first order that its edges allow.
 *
 *     cudaEventRecord   puts a mark into the queue     cudaStreamWaitEvent   forces up to that mark
 *     stream 0          waits for the streams that block with it, and they for it */
#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "tests/standin/runtime.h"

using namespace standin;

namespace {

struct capture;

/* A point in a queue: where an event was recorded. */
struct mark {
    CUstream_st *stream;
    uint64_t number; /* of the item that reaches it */
    bool reached = false;
    double ms = 0;
};

struct item {
    uint64_t number; /* over all streams, in the order of calls */
    work what;
};

struct node {
    size_t index; /* in the order of creation */
    work what;
    std::vector<size_t> after;
};

} // namespace

struct CUstream_st {
    bool blocking; /* with stream 0 */
    std::deque<item> queue;
    std::shared_ptr<capture> into;
    std::vector<size_t> last; /* capture: what comes next depends on these nodes */
};

struct CUevent_st {
    bool timing;
    std::shared_ptr<mark> at;
    std::shared_ptr<capture> into; /* recorded in a capture */
    std::vector<size_t> last;
};

struct CUgraph_st {
    std::vector<node> nodes;
};
struct CUgraphExec_st {
    std::shared_ptr<std::vector<node>> nodes;
};

namespace {

struct capture {
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    unsigned long long id;
    bool spoiled = false;
    std::vector<node> nodes;
    std::vector<CUstream_st *> streams;
};

CUstream_st legacy{true, {}, {}, {}};
/* Created, without the legacy one. Never destroyed: a program may end with work queued. */
std::set<CUstream_st *> &streams = *new std::set<CUstream_st *>();
std::vector<std::shared_ptr<capture>> captures;
uint64_t last_number;
unsigned long long last_capture;
int depth; /* of work that runs */

CUstream_st *stream_of(cudaStream_t s) {
    if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread)
        return &legacy;
    return streams.count(s) ? s : nullptr;
}

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/* ---- doing work ---- */

void force_up_to(CUstream_st *s, uint64_t number);

/* Of the two sides of the legacy stream, the one that s is not. */
void force_legacy_order(CUstream_st *s, uint64_t number) {
    if (s == &legacy) {
        for (CUstream_st *other : std::vector<CUstream_st *>(streams.begin(), streams.end()))
            if (other->blocking)
                force_up_to(other, number);
    } else if (s->blocking) {
        force_up_to(&legacy, number);
    }
}

void run(const work &w) {
    depth++;
    w.run();
    depth--;
    check_guards(w.what);
}

void run_first(CUstream_st *s) {
    item i = std::move(s->queue.front());
    s->queue.pop_front();
    force_legacy_order(s, i.number);
    run(i.what);
}

void force_up_to(CUstream_st *s, uint64_t number) {
    while (!s->queue.empty() && s->queue.front().number <= number)
        run_first(s);
}

/* Whether it is empty, after a little work. */
bool nudge(CUstream_st *s, uint64_t number) {
    constexpr int LITTLE = 8;
    for (int i = 0; i < LITTLE && !s->queue.empty() && s->queue.front().number <= number; i++)
        run_first(s);
    return s->queue.empty() || s->queue.front().number > number;
}

void enqueue(CUstream_st *s, work w) {
    s->queue.push_back({++last_number, std::move(w)});
}

/* ---- capture ---- */

void spoil(CUstream_st *s) {
    if (s->into)
        s->into->spoiled = true;
}

void join(CUstream_st *s, const std::shared_ptr<capture> &c, const std::vector<size_t> &after) {
    if (!s->into) {
        s->into = c;
        s->last.clear();
        c->streams.push_back(s);
    }
    for (size_t n : after)
        if (std::find(s->last.begin(), s->last.end(), n) == s->last.end())
            s->last.push_back(n);
}

/* Every node is before the end of the origin stream: all branches have joined it. */
bool joined(const capture &c) {
    std::vector<bool> seen(c.nodes.size());
    std::vector<size_t> todo = c.origin->last;
    while (!todo.empty()) {
        size_t n = todo.back();
        todo.pop_back();
        if (seen[n])
            continue;
        seen[n] = true;
        todo.insert(todo.end(), c.nodes[n].after.begin(), c.nodes[n].after.end());
    }
    return std::all_of(seen.begin(), seen.end(), [](bool b) { return b; });
}

void end_capture(const std::shared_ptr<capture> &c) {
    for (CUstream_st *s : c->streams) {
        s->into.reset();
        s->last.clear();
    }
    captures.erase(std::find(captures.begin(), captures.end(), c));
}

/* A node as soon as all before it are done; of those that may go, the one made last. */
void play(const std::vector<node> &nodes) {
    std::vector<size_t> missing(nodes.size());
    std::vector<std::vector<size_t>> then(nodes.size());
    std::vector<size_t> free;
    for (const node &n : nodes) {
        missing[n.index] = n.after.size();
        for (size_t before : n.after)
            then[before].push_back(n.index);
        if (n.after.empty())
            free.push_back(n.index);
    }
    while (!free.empty()) {
        auto pick = std::max_element(free.begin(), free.end());
        if (order_of_work() == order::random)
            pick = free.begin() + random_word() % free.size();
        size_t n = *pick;
        free.erase(pick);
        run(nodes[n].what);
        for (size_t next : then[n])
            if (--missing[next] == 0)
                free.push_back(next);
    }
}

} // namespace

namespace standin {

cudaError_t submit(cudaStream_t handle, work w) {
    CUstream_st *s = stream_of(handle);
    if (s == nullptr)
        return cudaErrorInvalidResourceHandle;
    if (depth > 0)
        return cudaErrorNotPermitted;
    if (s->into) {
        if (s->into->spoiled)
            return cudaErrorStreamCaptureInvalidated;
        size_t index = s->into->nodes.size();
        s->into->nodes.push_back({index, std::move(w), s->last});
        s->last = {index};
        return cudaSuccess;
    }
    if (s == &legacy) {
        for (const auto &c : captures)
            if (c->origin->blocking) {
                c->spoiled = true;
                return cudaErrorStreamCaptureImplicit;
            }
    }
    enqueue(s, std::move(w));
    return cudaSuccess;
}

bool capturing(cudaStream_t handle) {
    CUstream_st *s = stream_of(handle);
    return s != nullptr && s->into;
}

cudaError_t forbid_capture() {
    for (const auto &c : captures)
        if (c->mode != cudaStreamCaptureModeRelaxed) {
            c->spoiled = true;
            return cudaErrorStreamCaptureUnsupported;
        }
    return cudaSuccess;
}

void force(cudaStream_t handle) {
    CUstream_st *s = stream_of(handle);
    if (s)
        force_up_to(s, last_number);
}

void force_device() {
    uint64_t all = last_number;
    for (CUstream_st *s : std::vector<CUstream_st *>(streams.rbegin(), streams.rend()))
        force_up_to(s, all);
    force_up_to(&legacy, all);
}

bool inside_work() {
    return depth > 0;
}

} // namespace standin

/* ---- streams ---- */

STANDIN_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    call c("cudaStreamCreate");
    if (c.error)
        return c.error;
    if (out == nullptr || flags > cudaStreamNonBlocking)
        return c.done(cudaErrorInvalidValue);
    *out = new CUstream_st{flags != cudaStreamNonBlocking, {}, {}, {}};
    streams.insert(*out);
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    return cudaStreamCreateWithPriority(out, flags, 0);
}
STANDIN_API cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}
STANDIN_API cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    call c("cudaDeviceGetStreamPriorityRange");
    if (c.error)
        return c.error;
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaStreamDestroy(cudaStream_t s) {
    call c("cudaStreamDestroy");
    if (!streams.count(s))
        return c.done(cudaErrorInvalidResourceHandle);
    if (s->into) {
        std::shared_ptr<capture> into = s->into;
        if (into->origin == s) {
            end_capture(into);
        } else {
            into->spoiled = true;
            into->streams.erase(std::find(into->streams.begin(), into->streams.end(), s));
        }
    }
    if (!c.error) /* else what is queued is lost with the device */
        force_up_to(s, last_number);
    streams.erase(s);
    delete s;
    return c.error;
}

/* Of calls that wait for or ask about a stream: an error in a capture. */
static cudaError_t wait_allowed(CUstream_st *s) {
    if (s == nullptr)
        return cudaErrorInvalidResourceHandle;
    if (depth > 0)
        return cudaErrorNotPermitted;
    if (s->into) {
        spoil(s);
        return cudaErrorStreamCaptureUnsupported;
    }
    return forbid_capture();
}

STANDIN_API cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    call c("cudaStreamSynchronize");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    cudaError_t e = wait_allowed(s);
    if (e)
        return c.done(e);
    force_legacy_order(s, last_number);
    force_up_to(s, last_number);
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaStreamQuery(cudaStream_t handle) {
    call c("cudaStreamQuery");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    cudaError_t e = wait_allowed(s);
    if (e)
        return c.done(e);
    if (s->queue.empty())
        return cudaSuccess;
    (void)nudge(s, last_number);
    return c.done(cudaErrorNotReady);
}

STANDIN_API cudaError_t cudaDeviceSynchronize(void) {
    call c("cudaDeviceSynchronize");
    if (c.error)
        return c.error;
    if (depth > 0)
        return c.done(cudaErrorNotPermitted);
    if (!captures.empty()) {
        for (const auto &k : captures)
            k->spoiled = true;
        return c.done(cudaErrorStreamCaptureUnsupported);
    }
    force_device();
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *arg) {
    call c("cudaLaunchHostFunc");
    if (c.error)
        return c.error;
    return c.done(submit(s, {"host function", [=] { fn(arg); }}));
}

/* ---- events ---- */

STANDIN_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    call c("cudaEventCreate");
    if (c.error)
        return c.error;
    if (out == nullptr)
        return c.done(cudaErrorInvalidValue);
    *out = new CUevent_st{!(flags & cudaEventDisableTiming), {}, {}, {}};
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}
STANDIN_API cudaError_t cudaEventDestroy(cudaEvent_t e) {
    call c("cudaEventDestroy");
    if (e == nullptr)
        return c.done(cudaErrorInvalidResourceHandle);
    delete e;
    return c.error;
}

STANDIN_API cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t handle,
                                                 unsigned flags) {
    call c("cudaEventRecord");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    if (e == nullptr || s == nullptr)
        return c.done(cudaErrorInvalidResourceHandle);
    if (s->into && flags != cudaEventRecordExternal) {
        if (s->into->spoiled)
            return c.done(cudaErrorStreamCaptureInvalidated);
        e->at.reset();
        e->into = s->into;
        e->last = s->last;
        return cudaSuccess;
    }
    auto m = std::make_shared<mark>();
    m->stream = s;
    cudaError_t error = submit(handle, {"event", [m] {
                                            m->reached = true;
                                            m->ms = now_ms();
                                        }});
    m->number = last_number;
    if (error == cudaSuccess) {
        e->into.reset();
        e->at = m;
    }
    return c.done(error);
}
STANDIN_API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    return cudaEventRecordWithFlags(e, s, cudaEventRecordDefault);
}

STANDIN_API cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t e, unsigned) {
    call c("cudaStreamWaitEvent");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    if (e == nullptr || s == nullptr)
        return c.done(cudaErrorInvalidResourceHandle);
    if (e->into) { /* recorded in a capture: the stream joins it */
        bool over = std::find(captures.begin(), captures.end(), e->into) == captures.end();
        if (over || (s->into && s->into != e->into)) {
            spoil(s);
            return c.done(cudaErrorStreamCaptureIsolation);
        }
        if (s == &legacy) {
            e->into->spoiled = true;
            return c.done(cudaErrorStreamCaptureImplicit);
        }
        join(s, e->into, e->last);
        return cudaSuccess;
    }
    if (s->into) {
        if (!e->at)
            return cudaSuccess;
        spoil(s);
        return c.done(cudaErrorStreamCaptureIsolation);
    }
    if (!e->at)
        return cudaSuccess;
    std::shared_ptr<mark> m = e->at;
    return c.done(submit(handle, {"wait for an event", [m] {
                                      if (!m->reached)
                                          force_up_to(m->stream, m->number);
                                  }}));
}

static cudaError_t event_allowed(cudaEvent_t e) {
    if (e == nullptr)
        return cudaErrorInvalidResourceHandle;
    if (depth > 0)
        return cudaErrorNotPermitted;
    if (e->into) {
        e->into->spoiled = true;
        return cudaErrorCapturedEvent;
    }
    return forbid_capture(); /* asking is unsafe too unless the capture is relaxed */
}

STANDIN_API cudaError_t cudaEventQuery(cudaEvent_t e) {
    call c("cudaEventQuery");
    if (c.error)
        return c.error;
    cudaError_t error = event_allowed(e);
    if (error)
        return c.done(error);
    if (!e->at || e->at->reached)
        return cudaSuccess;
    (void)nudge(e->at->stream, e->at->number);
    return c.done(cudaErrorNotReady);
}

STANDIN_API cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    call c("cudaEventSynchronize");
    if (c.error)
        return c.error;
    cudaError_t error = event_allowed(e);
    if (error)
        return c.done(error);
    if (e->at && !e->at->reached)
        force_up_to(e->at->stream, e->at->number);
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    call c("cudaEventElapsedTime");
    if (c.error)
        return c.error;
    if (!ms || !from || !to || !from->at || !to->at || !from->timing || !to->timing)
        return c.done(cudaErrorInvalidResourceHandle);
    if (!from->at->reached || !to->at->reached)
        return c.done(cudaErrorNotReady);
    *ms = (float)(to->at->ms - from->at->ms);
    return cudaSuccess;
}

/* ---- capture and graphs ---- */

STANDIN_API cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    call c("cudaStreamBeginCapture");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    if (s == nullptr)
        return c.done(cudaErrorInvalidResourceHandle);
    if (s == &legacy)
        return c.done(cudaErrorStreamCaptureUnsupported);
    if (s->into)
        return c.done(cudaErrorIllegalState);
    auto k = std::make_shared<capture>();
    k->origin = s;
    k->mode = mode;
    k->id = ++last_capture;
    captures.push_back(k);
    join(s, k, {});
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out) {
    call c("cudaStreamEndCapture");
    if (out)
        *out = nullptr;
    CUstream_st *s = stream_of(handle);
    if (s == nullptr)
        return c.done(cudaErrorInvalidResourceHandle);
    if (!s->into)
        return c.done(cudaErrorIllegalState);
    std::shared_ptr<capture> k = s->into;
    if (k->origin != s) {
        k->spoiled = true;
        return c.done(cudaErrorStreamCaptureUnmatched);
    }
    bool whole = joined(*k);
    end_capture(k);
    if (c.error)
        return c.error;
    if (k->spoiled)
        return c.done(cudaErrorStreamCaptureInvalidated);
    if (!whole)
        return c.done(cudaErrorStreamCaptureUnjoined);
    if (out)
        *out = new CUgraph_st{std::move(k->nodes)};
    return cudaSuccess;
}

static cudaStreamCaptureStatus capture_status(const CUstream_st *s) {
    if (!s->into)
        return cudaStreamCaptureStatusNone;
    return s->into->spoiled ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

STANDIN_API cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *out) {
    call c("cudaStreamIsCapturing");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    if (s == nullptr || out == nullptr)
        return c.done(cudaErrorInvalidValue);
    *out = capture_status(s);
    return cudaSuccess;
}

/* The graph and its nodes in the midst of a capture are not shown. */
STANDIN_API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus *out,
                                                 unsigned long long *id, cudaGraph_t *graph,
                                                 const cudaGraphNode_t **,
                                                 const cudaGraphEdgeData **, size_t *count) {
    call c("cudaStreamGetCaptureInfo");
    if (c.error)
        return c.error;
    CUstream_st *s = stream_of(handle);
    if (s == nullptr || out == nullptr)
        return c.done(cudaErrorInvalidValue);
    *out = capture_status(s);
    if (id)
        *id = s->into ? s->into->id : 0;
    if (graph)
        *graph = nullptr;
    if (count)
        *count = 0;
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    call c("cudaThreadExchangeStreamCaptureMode");
    if (c.error)
        return c.error;
    static cudaStreamCaptureMode now = cudaStreamCaptureModeGlobal;
    std::swap(*mode, now);
    return cudaSuccess;
}

STANDIN_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                             unsigned long long) {
    call c("cudaGraphInstantiate");
    if (c.error)
        return c.error;
    if (out == nullptr || graph == nullptr)
        return c.done(cudaErrorInvalidValue);
    *out = new CUgraphExec_st{std::make_shared<std::vector<node>>(graph->nodes)};
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes,
                                          size_t *count) {
    call c("cudaGraphGetNodes");
    if (c.error)
        return c.error;
    if (graph == nullptr || count == nullptr || nodes != nullptr)
        return c.done(cudaErrorInvalidValue);
    *count = graph->nodes.size();
    return cudaSuccess;
}
STANDIN_API cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    call c("cudaGraphUpload");
    return c.error;
}
STANDIN_API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    call c("cudaGraphLaunch");
    if (c.error)
        return c.error;
    if (exec == nullptr)
        return c.done(cudaErrorInvalidValue);
    auto nodes = exec->nodes;
    return c.done(submit(s, {"graph", [nodes] { play(*nodes); }}));
}
STANDIN_API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    call c("cudaGraphDestroy");
    delete graph;
    return c.error;
}
STANDIN_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    call c("cudaGraphExecDestroy");
    delete exec;
    return c.error;
}
