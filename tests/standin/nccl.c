/* A stand-in for libnccl.so.2: the symbols that worker/world/nccl.c loads. Bytes move over MPI, in the
 * order of the streams: a group is one piece of work of the stand-in runtime (standin.h), and may
 * be recorded in a graph.
 *
 * Like the library: calls of a communicator that does not block answer "in progress" first;
 * ncclReduce adds in an order of its own (from the last rank to the first), which is not that of
 * any tree, and makes its connections the first time, which cannot be recorded; ncclCommAbort
 * returns when no recorded graph holds a group any more; two ranks on one GPU are the caller's
 * business.
 *
 *     TRIREME_STANDIN_NCCL_FAIL=N   the N-th group moves nothing, and a peer counts as lost from
 *                                   then on (ncclRemoteError), until ncclCommAbort
 *     TRIREME_STANDIN_NCCL_VERSION=N   what ncclGetVersion says (21809 …)
 *
 * Work runs on the thread that forces it, which is the one that MPI knows. */
#include <mpi.h>
#include <nccl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/standin/standin.h"

#define API      __attribute__((visibility("default")))
#define PIECE    ((size_t)1 << 30) /* MPI counts in int */
#define SPINS    64
#define SLEEP_NS 20000L
#define PENDING  2 /* questions that are answered "in progress" */
#define TAG_PAIR 0
#define TAG_SUM  1
#define TEXT     256

/* Lives as long as the process: work that is queued may still point here after an abort. */
struct ncclComm {
    struct ncclComm *next;
    MPI_Comm mpi;
    int rank, size, pending;
    bool summed;       /* the connections of ncclReduce are made */
    _Atomic bool over; /* an abort comes from a thread of its own */
    _Atomic long held; /* groups that are queued or recorded */
    ncclResult_t state;
    long groups, fail_at;
    char text[TEXT];
};

enum kind { SEND, RECEIVE, SUM };

struct move {
    enum kind kind;
    const char *from;
    char *to;
    size_t bytes;
    int peer;
};

struct group {
    struct ncclComm *comm;
    cudaStream_t stream;
    int count, room;
    struct move *moves;
};

static struct ncclComm *all_comms;
static _Thread_local int depth;
static _Thread_local struct group open_group;

/* ---- doing a group ---- */

struct posted {
    MPI_Request *requests;
    int count, room;
};

static bool post(struct posted *p, struct ncclComm *c, bool send, char *at, size_t bytes, int peer,
                 int tag) {
    do {
        size_t n = bytes < PIECE ? bytes : PIECE;
        if (p->count == p->room) {
            p->room = p->room ? 2 * p->room : 64;
            p->requests = realloc(p->requests, (size_t)p->room * sizeof *p->requests);
            if (p->requests == NULL)
                return false;
        }
        MPI_Request *r = &p->requests[p->count++];
        int code = send ? MPI_Isend(at, (int)n, MPI_BYTE, peer, tag, c->mpi, r)
                        : MPI_Irecv(at, (int)n, MPI_BYTE, peer, tag, c->mpi, r);
        if (code != MPI_SUCCESS)
            return false;
        at += n;
        bytes -= n;
    } while (bytes > 0);
    return true;
}

static bool finish(struct posted *p) {
    bool fine = true;
    int spins = 0;
    for (int i = 0, done = 0; i < p->count && fine; i += done) {
        fine = MPI_Test(&p->requests[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS;
        if (done || !fine)
            continue;
        struct timespec t = {.tv_nsec = SLEEP_NS};
        if (spins++ < SPINS)
            (void)sched_yield();
        else
            (void)nanosleep(&t, NULL);
    }
    free(p->requests);
    return fine;
}

/* What a rank sends to itself: the n-th send is for the n-th receive. */
static bool move_within(const struct group *g) {
    int r = 0;
    for (int s = 0; s < g->count; s++) {
        const struct move *out = &g->moves[s];
        if (out->kind != SEND || out->peer != g->comm->rank)
            continue;
        while (r < g->count && (g->moves[r].kind != RECEIVE || g->moves[r].peer != g->comm->rank))
            r++;
        if (r == g->count || g->moves[r].bytes != out->bytes)
            return false;
        memmove(g->moves[r++].to, out->from, out->bytes);
    }
    return true;
}

/* At the root: the other ranks' contributions come one after the other, the last rank's first. */
static bool add_up(const struct group *g, const struct move *m) {
    struct ncclComm *c = g->comm;
    size_t count = m->bytes / sizeof(float);
    float *sum = malloc(m->bytes + 1), *part = malloc(m->bytes + 1);
    bool fine = sum != NULL && part != NULL;
    for (int r = c->size - 1; r >= 0 && fine; r--) {
        float *into = r == c->size - 1 ? sum : part;
        if (r == c->rank) {
            memcpy(into, m->from, m->bytes);
        } else {
            struct posted p = {0};
            fine = post(&p, c, false, (char *)into, m->bytes, r, TAG_SUM) && finish(&p);
        }
        for (size_t i = 0; into == part && i < count; i++)
            sum[i] += part[i];
    }
    if (fine)
        memcpy(m->to, sum, m->bytes);
    free(sum);
    free(part);
    return fine;
}

static bool move_all(const struct group *g) {
    struct ncclComm *c = g->comm;
    struct posted p = {0};
    bool fine = move_within(g);
    for (int i = 0; i < g->count && fine; i++) {
        const struct move *m = &g->moves[i];
        if (m->kind == RECEIVE && m->peer != c->rank)
            fine = post(&p, c, false, m->to, m->bytes, m->peer, TAG_PAIR);
        else if (m->kind == SEND && m->peer != c->rank)
            fine = post(&p, c, true, (char *)(uintptr_t)m->from, m->bytes, m->peer, TAG_PAIR);
        else if (m->kind == SUM && m->peer != c->rank)
            fine = post(&p, c, true, (char *)(uintptr_t)m->from, m->bytes, m->peer, TAG_SUM);
    }
    for (int i = 0; i < g->count && fine; i++)
        if (g->moves[i].kind == SUM && g->moves[i].peer == c->rank)
            fine = add_up(g, &g->moves[i]);
    return finish(&p) && fine;
}

static void run_group(void *arg) {
    const struct group *g = arg;
    struct ncclComm *c = g->comm;
    if (c->over || c->state != ncclSuccess)
        return;
    if (++c->groups == c->fail_at) {
        c->state = ncclRemoteError;
        (void)snprintf(c->text, sizeof c->text, "peer closed the connection in group %ld",
                       c->groups);
    } else if (!move_all(g)) {
        c->state = ncclInternalError;
        (void)snprintf(c->text, sizeof c->text, "group %ld does not match its peers'", c->groups);
    }
}

static void free_group(void *arg) {
    struct group *g = arg;
    g->comm->held--;
    free(g->moves);
    free(g);
}

/* ---- groups ---- */

API ncclResult_t ncclGroupStart(void) {
    depth++;
    return ncclSuccess;
}

API ncclResult_t ncclGroupEnd(void) {
    if (depth == 0)
        return ncclInvalidUsage;
    if (--depth > 0 || open_group.count == 0)
        return ncclSuccess;
    struct group *g = malloc(sizeof *g);
    if (g == NULL)
        return ncclSystemError;
    *g = open_group;
    open_group = (struct group){0};
    g->comm->pending = PENDING;
    g->comm->held++;
    return standin_queue(g->stream, "NCCL group", run_group, g, free_group) == cudaSuccess
               ? ncclInProgress
               : ncclUnhandledCudaError;
}

static ncclResult_t add(struct ncclComm *c, cudaStream_t stream, struct move m) {
    struct group *g = &open_group;
    if (c == NULL || c->over || m.peer < 0 || m.peer >= c->size)
        return ncclInvalidArgument;
    if (g->count > 0 && (g->comm != c || g->stream != stream))
        return ncclInvalidUsage; /* the stand-in knows groups on one stream only */
    if (g->count == g->room) {
        int room = g->room ? 2 * g->room : 16;
        struct move *moves = realloc(g->moves, (size_t)room * sizeof *moves);
        if (moves == NULL)
            return ncclSystemError;
        g->moves = moves;
        g->room = room;
    }
    g->comm = c;
    g->stream = stream;
    g->moves[g->count++] = m;
    if (depth > 0)
        return ncclSuccess;
    (void)ncclGroupStart();
    return ncclGroupEnd();
}

static size_t size_of(ncclDataType_t type) {
    switch ((int)type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 4;
    }
}

API ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                          ncclComm_t c, cudaStream_t stream) {
    struct move m = {.kind = SEND, .from = from, .bytes = count * size_of(type), .peer = peer};
    return add(c, stream, m);
}

API ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                          cudaStream_t stream) {
    struct move m = {.kind = RECEIVE, .to = to, .bytes = count * size_of(type), .peer = peer};
    return add(c, stream, m);
}

API ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                            ncclRedOp_t op, int root, ncclComm_t c, cudaStream_t stream) {
    if (type != ncclFloat32 || op != ncclSum)
        return ncclInvalidArgument;
    enum cudaStreamCaptureStatus recorded = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &recorded) != cudaSuccess ||
        (recorded != cudaStreamCaptureStatusNone && c != NULL && !c->summed))
        return ncclInvalidUsage;
    if (c != NULL)
        c->summed = true;
    struct move m = {
        .kind = SUM, .from = from, .to = to, .bytes = count * sizeof(float), .peer = root};
    return add(c, stream, m);
}

/* ---- communicators ---- */

API ncclResult_t ncclGetVersion(int *version) {
    const char *said = getenv("TRIREME_STANDIN_NCCL_VERSION");
    *version = said != NULL ? (int)strtol(said, NULL, 10) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

API ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 0, sizeof *id);
    (void)snprintf(id->internal, sizeof id->internal, "stand-in %ld %ld", (long)getpid(),
                   (long)time(NULL));
    return ncclSuccess;
}

/* A duplicate of the world, and everybody with the same id. */
static ncclResult_t join(struct ncclComm *c, const ncclUniqueId *id) {
    int started = 0, size = 0, same = 0, wrong = 0;
    if (MPI_Initialized(&started) != MPI_SUCCESS || !started)
        return c->size == 1 ? ncclSuccess : ncclSystemError;
    if (MPI_Comm_dup(MPI_COMM_WORLD, &c->mpi) != MPI_SUCCESS ||
        MPI_Comm_set_errhandler(c->mpi, MPI_ERRORS_RETURN) != MPI_SUCCESS ||
        MPI_Comm_size(c->mpi, &size) != MPI_SUCCESS || size != c->size)
        return ncclInvalidArgument;
    ncclUniqueId first = *id;
    if (MPI_Bcast(&first, (int)sizeof first, MPI_BYTE, 0, c->mpi) != MPI_SUCCESS)
        return ncclSystemError;
    same = memcmp(&first, id, sizeof first) != 0;
    if (MPI_Allreduce(&same, &wrong, 1, MPI_INT, MPI_MAX, c->mpi) != MPI_SUCCESS)
        return ncclSystemError;
    return wrong ? ncclInvalidArgument : ncclSuccess;
}

API ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                        ncclConfig_t *config) {
    struct ncclComm *c = calloc(1, sizeof *c);
    const char *fail = getenv("TRIREME_STANDIN_NCCL_FAIL");
    *out = NULL;
    if (c == NULL)
        return ncclSystemError;
    c->next = all_comms;
    all_comms = c;
    c->rank = rank;
    c->size = size;
    c->fail_at = fail != NULL ? strtol(fail, NULL, 10) : -1;
    c->state = join(c, &id);
    c->pending = PENDING;
    *out = c;
    return config != NULL && config->blocking == 0 ? ncclInProgress : c->state;
}

API ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    if (c == NULL || c->over)
        return ncclInvalidArgument;
    *state = c->pending > 0 ? ncclInProgress : c->state;
    c->pending -= c->pending > 0;
    return ncclSuccess;
}

API ncclResult_t ncclCommFinalize(ncclComm_t c) {
    if (c == NULL || c->over)
        return ncclInvalidArgument;
    c->pending = PENDING;
    return ncclInProgress;
}

API ncclResult_t ncclCommDestroy(ncclComm_t c) {
    if (c == NULL || c->over)
        return ncclInvalidArgument;
    c->over = true;
    return ncclSuccess;
}

API ncclResult_t ncclCommAbort(ncclComm_t c) {
    if (c == NULL || c->over)
        return ncclInvalidArgument;
    c->over = true;
    (void)fprintf(stderr, "nccl stand-in: rank %d aborts its communicator after %ld groups\n",
                  c->rank, c->groups);
    while (c->held > 0)
        (void)nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    return ncclSuccess;
}

API const char *ncclGetErrorString(ncclResult_t code) {
    switch ((int)code) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error";
    case ncclSystemError:
        return "unhandled system error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclInProgress:
        return "in progress";
    default:
        return "internal error";
    }
}

API const char *ncclGetLastError(ncclComm_t c) {
    return c != NULL ? c->text : "";
}
