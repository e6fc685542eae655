/* Loading the library, making the communicator, and waiting for it with a limit. */
#include "worker/world/nccl.h"

#include "kernels/run/device.h"
#include "worker/world/world.h"

#ifdef TRIREME_NCCL

#include <dlfcn.h>
#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/value.h"

#define LIBRARY         "libnccl.so.2"
#define VERSION_MIN     NCCL_VERSION(2, 18, 0)
#define OPEN_LIMIT_MS   120000 /* a large group over a slow network connects in seconds */
#define CLOSE_LIMIT_MS  5000
#define CHECK_MARK      (MARKS - 1)
#define ARENA_BYTES_MAX ((size_t)1 << 20)
#define PLACE_TEXT      128

/* Everything that is called, by its own name. */
#define FUNCTIONS(X)                                                                               \
    X(ncclGetVersion)                                                                              \
    X(ncclGetUniqueId)                                                                             \
    X(ncclGetErrorString)                                                                          \
    X(ncclGetLastError)                                                                            \
    X(ncclCommInitRankConfig)                                                                      \
    X(ncclCommGetAsyncError)                                                                       \
    X(ncclCommFinalize)                                                                            \
    X(ncclCommDestroy)                                                                             \
    X(ncclCommAbort)                                                                               \
    X(ncclGroupStart)                                                                              \
    X(ncclGroupEnd)                                                                                \
    X(ncclSend)                                                                                    \
    X(ncclRecv)                                                                                    \
    X(ncclReduce)

struct api {
#define MEMBER(f) __typeof__(f) *f;
    FUNCTIONS(MEMBER)
#undef MEMBER
};

/* A communicator on its way out. */
struct ending {
    pthread_t thread;
    ncclResult_t (*abort)(ncclComm_t comm);
    ncclComm_t comm;
    atomic_bool over;
};

struct nccl {
    struct world *world;
    struct device *device;
    void *library;
    struct api api;
    ncclComm_t comm; /* NULL: none, or aborted */
    cudaStream_t stream;
    bool sums;             /* it has added something: the connections of sums are made */
    ncclResult_t failed;   /* in the group under way */
    struct ending *ending; /* NULL: not aborted, or over */
    char version[32];
};

/* ---- waiting and failing ---- */

static void *end(void *arg) {
    struct ending *e = arg;
    (void)e->abort(e->comm);
    atomic_store(&e->over, true);
    return NULL;
}

/* What is queued gives up at once. But ncclCommAbort returns only when no recorded step holds any
 * of it, blocking or not, and those who hold one wait for this thread: another goes there. */
void nccl_abort(struct nccl *n) {
    ncclComm_t comm = n->comm;
    n->comm = NULL;
    if (comm == NULL)
        return;
    struct ending *e = calloc(1, sizeof *e);
    if (e != NULL)
        *e = (struct ending){.abort = n->api.ncclCommAbort, .comm = comm};
    if (e != NULL && pthread_create(&e->thread, NULL, end, e) == 0) {
        n->ending = e;
        return;
    }
    free(e);
    (void)n->api.ncclCommAbort(comm);
}

/* When the recorded steps are gone. One that does not end is left behind, with what it uses. */
static void await_end(struct nccl *n) {
    int64_t limit = clock_mono_ns(&clock_system) + CLOSE_LIMIT_MS * NS_PER_MS;
    unsigned rounds = 0;
    struct ending *e = n->ending;
    n->ending = NULL;
    if (e == NULL)
        return;
    while (!atomic_load(&e->over) && clock_mono_ns(&clock_system) < limit)
        world_relax(n->world, &rounds);
    if (!atomic_load(&e->over)) {
        (void)pthread_detach(e->thread);
        return;
    }
    (void)pthread_join(e->thread, NULL);
    free(e);
}

/* Says what NCCL says, and ends everything that is queued: kernels that wait for a lost peer would
 * wait for ever. */
static enum status fail(struct nccl *n, ncclResult_t code, const char *what, struct err *err) {
    const char *text = n->api.ncclGetErrorString(code);
    const char *more = n->api.ncclGetLastError(n->comm);
    bool lost = code == ncclRemoteError || code == ncclSystemError;
    enum status st = err_set(
        err, STATUS_UNAVAILABLE, "%s%s: NCCL %s says: %s%s%s; set NCCL_DEBUG=INFO to learn more",
        lost ? "a peer was lost: " : "", what, n->version, text != NULL ? text : "unknown error",
        more != NULL && more[0] != '\0' ? ": " : "", more != NULL ? more : "");
    nccl_abort(n);
    return st;
}

static ncclResult_t state_of(const struct nccl *n) {
    ncclResult_t state = ncclSuccess;
    ncclResult_t asked = n->api.ncclCommGetAsyncError(n->comm, &state);
    return asked == ncclSuccess ? state : asked;
}

/* Until the communicator is through with what a call began. */
static enum status settle(struct nccl *n, ncclResult_t code, int64_t limit_ms, const char *what,
                          struct err *err) {
    int64_t end = clock_mono_ns(&clock_system) + limit_ms * NS_PER_MS;
    unsigned rounds = 0;
    while (code == ncclInProgress && clock_mono_ns(&clock_system) < end) {
        world_relax(n->world, &rounds);
        code = state_of(n);
    }
    if (code == ncclInProgress) {
        nccl_abort(n);
        return err_set(err, STATUS_UNAVAILABLE, "%s: NCCL %s did not finish in %lld s", what,
                       n->version, (long long)limit_ms / 1000);
    }
    return code == ncclSuccess ? STATUS_OK : fail(n, code, what, err);
}

static enum status aborted(struct err *err) {
    return err_set(err, STATUS_UNAVAILABLE, "a peer was lost: NCCL's communicator was ended");
}

enum status nccl_check(struct nccl *n, struct err *err) {
    if (n->comm == NULL)
        return aborted(err);
    ncclResult_t state = state_of(n);
    return state == ncclSuccess || state == ncclInProgress ? STATUS_OK
                                                           : fail(n, state, "exchange", err);
}

/* ---- opening ---- */

static enum status load(struct nccl *n, struct err *err) {
    const char *name = getenv("TRIREME_NCCL");
    if (name == NULL || name[0] == '\0')
        name = LIBRARY;
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (n->library == NULL)
        return err_set(err, STATUS_UNAVAILABLE,
                       "NCCL cannot be loaded (%s): install it, or name the file in TRIREME_NCCL, "
                       "or exchange by memory or messages",
                       dlerror());
#define LOAD(f)                                                                                    \
    void *symbol_##f = dlsym(n->library, #f);                                                      \
    memcpy(&n->api.f, &symbol_##f, sizeof symbol_##f); /* ISO C has no cast for this */            \
    if (symbol_##f == NULL)                                                                        \
        return err_set(err, STATUS_UNAVAILABLE, "NCCL: %s lacks " #f ": 2.18 or newer is needed",  \
                       name);
    FUNCTIONS(LOAD)
#undef LOAD
    int v = 0;
    if (n->api.ncclGetVersion(&v) != ncclSuccess)
        v = 0;
    (void)snprintf(n->version, sizeof n->version, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    if (v < VERSION_MIN)
        return err_set(err, STATUS_UNAVAILABLE,
                       "NCCL: %s is version %s, 2.18 or newer is needed (TRIREME_NCCL names "
                       "another file)",
                       name, n->version);
    return STATUS_OK;
}

static enum status prepare(struct nccl *n, struct err *err) {
    struct device *d = n->device;
    n->stream = d->backend->order->native_queue(d, QUEUE_EXCHANGE);
    if (n->stream == NULL)
        return err_set(err, STATUS_UNAVAILABLE,
                       "NCCL moves between GPUs, and the device is %s: exchange by memory or "
                       "messages",
                       d->backend->name);
    d->backend->order->enter(d);
    return load(n, err);
}

/* Where a rank's GPU is. */
struct place {
    char host[PLACE_TEXT], bus[PLACE_TEXT];
};

static void find_place(const struct device *d, struct place *p) {
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    memset(p, 0, sizeof *p);
    if (gethostname(p->host, sizeof p->host - 1) != 0)
        p->host[0] = '\0';
    const struct value *v = d->backend->describe(&arena, d);
    (void)snprintf(p->bus, sizeof p->bus, "%s", value_get_string(v, "bus", ""));
    arena_release(&arena);
}

/* The first two ranks on one GPU; the same answer on every rank. */
static enum status compare_places(const struct place *all, int size, struct err *err) {
    for (int a = 0; a < size; a++)
        for (int b = a + 1; b < size; b++)
            if (strcmp(all[a].host, all[b].host) == 0 && strcmp(all[a].bus, all[b].bus) == 0)
                return err_set(err, STATUS_UNAVAILABLE,
                               "ranks %d and %d share a GPU (%s, %s), and NCCL wants one for each: "
                               "start no more ranks on a node than it has GPUs, or exchange by "
                               "memory or messages",
                               a, b, all[a].host, all[a].bus);
    return STATUS_OK;
}

static enum status check_places(struct nccl *n, struct err *err) {
    struct place mine;
    int size = world_size(n->world);
    struct place *all = calloc((size_t)size, sizeof *all);
    if (all == NULL) /* the others have begun: one rank alone cannot turn back */
        world_abort(n->world, status_exit_code(STATUS_NOMEM));
    find_place(n->device, &mine);
    enum status st = world_gather(n->world, &mine, sizeof mine, all, err);
    if (st == STATUS_OK)
        st = compare_places(all, size, err);
    free(all);
    return st;
}

static enum status share_id(struct nccl *n, ncclUniqueId *id, struct err *err) {
    bool first = world_rank(n->world) == 0;
    void *bytes = first ? id : NULL;
    size_t len = sizeof *id;
    enum status st = STATUS_OK;
    if (first) {
        ncclResult_t code = n->api.ncclGetUniqueId(id);
        if (code != ncclSuccess)
            st = fail(n, code, "open NCCL", err);
    }
    st = world_agree(n->world, st, err);
    if (st == STATUS_OK)
        st = world_share(n->world, &bytes, &len, err);
    if (st == STATUS_OK && bytes != id) {
        memcpy(id, bytes, sizeof *id);
        free(bytes);
    }
    return st;
}

static enum status connect(struct nccl *n, ncclUniqueId id, struct err *err) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t code = n->api.ncclCommInitRankConfig(&n->comm, world_size(n->world), id,
                                                      world_rank(n->world), &config);
    if (code != ncclSuccess && code != ncclInProgress)
        return fail(n, code, "open NCCL", err);
    return settle(n, code, OPEN_LIMIT_MS, "open NCCL", err);
}

static enum status await_check(struct nccl *n, struct err *err) {
    struct device *d = n->device;
    int64_t end = clock_mono_ns(&clock_system) + OPEN_LIMIT_MS * NS_PER_MS;
    enum status st = STATUS_OK;
    unsigned rounds = 0;
    while (st == STATUS_OK && !d->backend->order->reached(d, CHECK_MARK)) {
        world_relax(n->world, &rounds);
        st = nccl_check(n, err);
        if (st == STATUS_OK && clock_mono_ns(&clock_system) > end) {
            nccl_abort(n);
            st = err_set(err, STATUS_UNAVAILABLE, "NCCL %s moved nothing in %d s", n->version,
                         OPEN_LIMIT_MS / 1000);
        }
    }
    return st == STATUS_OK ? d->backend->order->status(d, err) : st;
}

/* Everyone's number to everyone: (ranks) sent, (ranks) received. */
static enum status try_words(struct nccl *n, uint32_t *words, uint32_t *seen, struct err *err) {
    struct device *d = n->device;
    int rank = world_rank(n->world), size = world_size(n->world);
    for (int r = 0; r < size; r++)
        seen[r] = (uint32_t)rank << 16 ^ (uint32_t)r;
    size_t bytes = (size_t)size * sizeof *words;
    d->backend->memory->upload(d, words, seen, bytes);
    d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    nccl_group_start(n);
    for (int r = 0; r < size; r++) {
        nccl_receive(n, words + size + r, sizeof *words, r);
        nccl_send(n, words + r, sizeof *words, r);
    }
    enum status st = nccl_group_end(n, err);
    d->backend->order->mark(d, QUEUE_EXCHANGE, CHECK_MARK);
    if (st == STATUS_OK)
        st = await_check(n, err);
    if (st != STATUS_OK)
        return st;
    d->backend->memory->download(d, seen, words + size, bytes);
    for (int r = 0; r < size; r++)
        if (seen[r] != ((uint32_t)r << 16 ^ (uint32_t)rank))
            return err_set(err, STATUS_UNAVAILABLE,
                           "NCCL %s moved wrong bytes from rank %d to rank %d: exchange by memory "
                           "or messages",
                           n->version, r, rank);
    return STATUS_OK;
}

static enum status try_out(struct nccl *n, struct err *err) {
    struct device *d = n->device;
    size_t size = (size_t)world_size(n->world);
    uint32_t *words = d->backend->memory->alloc(d, 2 * size * sizeof *words);
    uint32_t *seen = calloc(size, sizeof *seen);
    enum status st = STATUS_NOMEM;
    if (words != NULL && seen != NULL)
        st = try_words(n, words, seen, err);
    else
        (void)err_set(err, st, "no memory to open NCCL");
    if (words != NULL)
        d->backend->memory->release(d, words);
    free(seen);
    return st;
}

enum status nccl_open(struct world *w, struct device *d, struct nccl **out, struct err *err) {
    ncclUniqueId id;
    enum status st = STATUS_OK;
    *out = NULL;
    memset(&id, 0, sizeof id);
    struct nccl *n = calloc(1, sizeof *n);
    if (n == NULL)
        world_abort(w, status_exit_code(STATUS_NOMEM));
    n->world = w;
    n->device = d;
    TRY(world_agree(w, prepare(n, err), err));
    TRY(check_places(n, err));
    TRY(share_id(n, &id, err));
    TRY(world_agree(w, connect(n, id, err), err));
    TRY(world_agree(w, try_out(n, err), err));
    *out = n;
    n = NULL;
out:
    if (n != NULL)
        nccl_abort(n); /* a peer may be gone: nothing to be polite about */
    nccl_close(&n);
    return st;
}

/* The library stays loaded: its threads may outlive the communicator by a moment. */
void nccl_close(struct nccl **nccl) {
    struct nccl *n = *nccl;
    struct err err = {0};
    if (n == NULL)
        return;
    if (n->comm != NULL) {
        n->device->backend->order->enter(n->device);
        ncclResult_t code = n->api.ncclCommFinalize(n->comm);
        if (settle(n, code, CLOSE_LIMIT_MS, "close NCCL", &err) == STATUS_OK)
            (void)n->api.ncclCommDestroy(n->comm);
    }
    await_end(n);
    free(n);
    *nccl = NULL;
}

const char *nccl_version(const struct nccl *n) {
    return n->version;
}

/* ---- moving ---- */

static void keep(struct nccl *n, ncclResult_t code) {
    if (n->failed == ncclSuccess && code != ncclInProgress)
        n->failed = code;
}

void nccl_group_start(struct nccl *n) {
    n->failed = ncclSuccess;
    if (n->comm != NULL)
        keep(n, n->api.ncclGroupStart());
}

void nccl_send(struct nccl *n, const void *bytes, size_t len, int to) {
    if (n->comm != NULL && n->failed == ncclSuccess)
        keep(n, n->api.ncclSend(bytes, len, ncclInt8, to, n->comm, n->stream));
}

void nccl_receive(struct nccl *n, void *bytes, size_t len, int from) {
    if (n->comm != NULL && n->failed == ncclSuccess)
        keep(n, n->api.ncclRecv(bytes, len, ncclInt8, from, n->comm, n->stream));
}

void nccl_reduce(struct nccl *n, float *at, int64_t count, int root) {
    if (n->comm != NULL && n->failed == ncclSuccess)
        keep(n, n->api.ncclReduce(at, at, (size_t)count, ncclFloat32, ncclSum, root, n->comm,
                                  n->stream));
}

/* One, two, three … of the ranks: everyone gets a sum, which is exact in any order. */
static enum status try_sums(struct nccl *n, float *sums, float *seen, struct err *err) {
    struct device *d = n->device;
    int rank = world_rank(n->world), size = world_size(n->world);
    size_t bytes = (size_t)size * sizeof *sums;
    float expected = (float)(size * (size + 1) / 2);
    for (int r = 0; r < size; r++)
        seen[r] = (float)(rank + 1);
    d->backend->memory->upload(d, sums, seen, bytes);
    d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    nccl_group_start(n);
    for (int r = 0; r < size; r++)
        nccl_reduce(n, sums + r, 1, r);
    enum status st = nccl_group_end(n, err);
    d->backend->order->mark(d, QUEUE_EXCHANGE, CHECK_MARK);
    if (st == STATUS_OK)
        st = await_check(n, err);
    if (st != STATUS_OK)
        return st;
    d->backend->memory->download(d, seen, sums, bytes);
    return seen[rank] == expected
               ? STATUS_OK
               : err_set(err, STATUS_UNAVAILABLE,
                         "NCCL %s adds %g where %g is right: leave out bitwise: false", n->version,
                         (double)seen[rank], (double)expected);
}

enum status nccl_open_sums(struct nccl *n, struct err *err) {
    struct device *d = n->device;
    size_t size = (size_t)world_size(n->world);
    if (n->sums)
        return STATUS_OK;
    float *sums = d->backend->memory->alloc(d, size * sizeof *sums);
    float *seen = calloc(size, sizeof *seen);
    enum status st = sums != NULL && seen != NULL
                         ? STATUS_OK
                         : err_set(err, STATUS_NOMEM, "no memory to try the sums of NCCL");
    st = world_agree(n->world, st, err);
    if (st == STATUS_OK)
        st = world_agree(n->world, try_sums(n, sums, seen, err), err);
    n->sums = st == STATUS_OK;
    if (sums != NULL)
        d->backend->memory->release(d, sums);
    free(seen);
    return st;
}

enum status nccl_group_end(struct nccl *n, struct err *err) {
    if (n->comm == NULL)
        return aborted(err);
    ncclResult_t code = n->api.ncclGroupEnd();
    if (n->failed != ncclSuccess)
        return fail(n, n->failed, "exchange", err);
    return settle(n, code, OPEN_LIMIT_MS, "exchange", err);
}

#else /* a build without NCCL's header */

enum status nccl_open(struct world *w, struct device *d, struct nccl **out, struct err *err) {
    (void)w;
    (void)d;
    *out = NULL;
    return err_set(err, STATUS_UNAVAILABLE,
                   "this build has no NCCL: build with CUDA=1, or exchange by memory or messages");
}

void nccl_close(struct nccl **n) {
    *n = NULL;
}

const char *nccl_version(const struct nccl *n) {
    (void)n;
    return "none";
}

void nccl_group_start(struct nccl *n) {
    (void)n;
}

void nccl_send(struct nccl *n, const void *bytes, size_t len, int to) {
    (void)n;
    (void)bytes;
    (void)len;
    (void)to;
}

void nccl_receive(struct nccl *n, void *bytes, size_t len, int from) {
    (void)n;
    (void)bytes;
    (void)len;
    (void)from;
}

void nccl_reduce(struct nccl *n, float *at, int64_t count, int root) {
    (void)n;
    (void)at;
    (void)count;
    (void)root;
}

enum status nccl_open_sums(struct nccl *n, struct err *err) {
    return nccl_group_end(n, err);
}

enum status nccl_group_end(struct nccl *n, struct err *err) {
    (void)n;
    return err_set(err, STATUS_INTERNAL, "NCCL in a build without it");
}

enum status nccl_check(struct nccl *n, struct err *err) {
    return nccl_group_end(n, err);
}

void nccl_abort(struct nccl *n) {
    (void)n;
}

#endif
