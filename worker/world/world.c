/* MPI moves bytes and nothing else: no reduction of MPI's is used anywhere. */
#include "worker/world/world.h"

#include <assert.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/disk.h"
#include "core/log.h"
#include "worker/world/segment.h"

#define MESSAGE_BYTES_MAX ((size_t)1 << 30) /* MPI counts in int */
#define PAGE_BYTES        ((size_t)4096)
#define MPI_SEGMENT       ((uint64_t)8 << 20) /* what Open MPI may write of its own, for each rank */
#define SPIN_ROUNDS       2000u
#define YIELD_ROUNDS      4000u
#define YIELD_CROWDED     64u
#define SLEEP_MIN_NS      20000L
#define SLEEP_MAX_NS      1000000L

#ifdef __SANITIZE_ADDRESS__
/* LeakSanitizer asks for this by name. Open MPI keeps memory that its unloaded plugins pointed to:
 * a world of one is looked at for leaks, ranks under mpirun are not. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
    int started = 0;
    return MPI_Initialized(&started) == MPI_SUCCESS && started;
}
#endif

struct world {
    int rank, size, local_rank, local_size;
    bool mpi;     /* MPI was started */
    bool crowded; /* more ranks on this node than cores */
    MPI_Comm all, node;
    MPI_Comm
        door; /* of world_meet alone: a rank that leaves must not answer another's collective */
    bool one_node;
    struct segment segment;
    size_t part_bytes; /* of each rank's part of it */
    bool lent;
    void **bases;
    char no_memory[ERR_TEXT_MAX]; /* why ranks of one node share none; "" */
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
};

static enum status mpi_fail(struct err *err, int code, const char *what) {
    char text[MPI_MAX_ERROR_STRING];
    int len = 0;
    if (MPI_Error_string(code, text, &len) != MPI_SUCCESS)
        len = 0;
    return err_set(err, STATUS_UNAVAILABLE, "%s: MPI says: %.*s", what, len, text);
}

#define MPI_TRY(expr, what)                                                                        \
    do {                                                                                           \
        int mpi_code = (expr);                                                                     \
        if (mpi_code != MPI_SUCCESS)                                                               \
            return mpi_fail(err, mpi_code, what);                                                  \
    } while (0)

/* ---- opening and closing ---- */

bool world_is_launched(void) {
    static const char *const signs[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (getenv(signs[i]) != NULL)
            return true;
    return false;
}

/* "Open MPI v4.1.4, package: …" → "Open MPI 4.1.4" */
static void read_library(struct world *w) {
    int len = 0;
    if (MPI_Get_library_version(w->library, &len) != MPI_SUCCESS)
        w->library[0] = '\0';
    w->library[strcspn(w->library, ",\n")] = '\0';
    char *v = strstr(w->library, " v");
    if (v != NULL)
        memmove(v + 1, v + 2, strlen(v + 2) + 1);
}

/* Open MPI's own messages between ranks of a node go through files of some MiB for each, whose pages it
 * takes as it needs them: where there is not room for all, in another directory. Every rank finds the
 * same by itself, and it does no harm where two differ. */
static void place_messages(void) {
    static const char setting[] = "OMPI_MCA_btl_vader_backing_directory";
    const char *ranks = getenv("OMPI_COMM_WORLD_LOCAL_SIZE"), *dir = getenv(setting);
    const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK"), *elsewhere = getenv("TMPDIR");
    uint64_t need = (ranks != NULL ? strtoull(ranks, NULL, 10) : 1) * MPI_SEGMENT;
    if (dir == NULL || access(dir, W_OK) != 0)
        dir = "/dev/shm";
    uint64_t room = disk_room(dir);
    if (elsewhere == NULL || elsewhere[0] == '\0')
        elsewhere = "/tmp";
    if (room >= need || disk_room(elsewhere) < need)
        return;
    if (rank != NULL && strcmp(rank, "0") == 0)
        log_line(LOG_WARN, "shared_memory", "directory=%s free=%llu needed=%llu messages_by=%s",
                 dir, (unsigned long long)room, (unsigned long long)need, elsewhere);
    (void)setenv(setting, elsewhere, 1);
}

static enum status start_mpi(struct world *w, struct err *err) {
    /* Quicker to start and for our message sizes; the user's own setting wins. */
    (void)setenv("OMPI_MCA_pml", "ob1", 0);
    (void)setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    place_messages();
    int provided = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return err_set(
            err, STATUS_UNAVAILABLE,
            "MPI cannot be started: launch with mpirun -n N or srun --mpi=pmix, or alone "
            "for one rank");
    w->mpi = true;
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &w->all), "open world");
    MPI_TRY(MPI_Comm_set_errhandler(w->all, MPI_ERRORS_RETURN), "open world");
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &w->door), "open world");
    MPI_TRY(MPI_Comm_set_errhandler(w->door, MPI_ERRORS_RETURN), "open world");
    MPI_TRY(MPI_Comm_rank(w->all, &w->rank), "open world");
    MPI_TRY(MPI_Comm_size(w->all, &w->size), "open world");
    MPI_TRY(MPI_Comm_split_type(w->all, MPI_COMM_TYPE_SHARED, w->rank, MPI_INFO_NULL, &w->node),
            "open world");
    MPI_TRY(MPI_Comm_set_errhandler(w->node, MPI_ERRORS_RETURN), "open world");
    MPI_TRY(MPI_Comm_rank(w->node, &w->local_rank), "open world");
    MPI_TRY(MPI_Comm_size(w->node, &w->local_size), "open world");
    w->one_node = w->local_size == w->size;
    w->crowded = w->local_size > sysconf(_SC_NPROCESSORS_ONLN);
    read_library(w);
    if (w->size > WORLD_RANKS_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a world of %d ranks: at most %d", w->size,
                       WORLD_RANKS_MAX);
    return STATUS_OK;
}

enum status world_open(struct world **out, struct err *err) {
    *out = NULL;
    struct world *w = calloc(1, sizeof *w);
    if (w == NULL)
        return err_set(err, STATUS_NOMEM, "open world");
    w->size = w->local_size = 1;
    (void)snprintf(w->library, sizeof w->library, "none");
    if (world_is_launched()) {
        enum status st = start_mpi(w, err);
        if (st != STATUS_OK) {
            free(w);
            return st;
        }
    }
    *out = w;
    return STATUS_OK;
}

static void free_segment(struct world *w) {
    segment_release(&w->segment);
    w->part_bytes = 0;
    free(w->bases);
    w->bases = NULL;
}

void world_close(struct world **w) {
    if (*w == NULL)
        return;
    free_segment(*w);
    if ((*w)->mpi) {
        (void)MPI_Comm_free(&(*w)->node);
        (void)MPI_Comm_free(&(*w)->door);
        (void)MPI_Comm_free(&(*w)->all);
        (void)MPI_Finalize();
    }
    free(*w);
    *w = NULL;
}

void world_abort(struct world *w, int exit_code) {
    if (w != NULL && w->mpi)
        (void)MPI_Abort(w->all, exit_code);
    _exit(exit_code);
}

int world_rank(const struct world *w) {
    return w->rank;
}

int world_size(const struct world *w) {
    return w->size;
}

int world_local_rank(const struct world *w) {
    return w->local_rank;
}

int world_local_size(const struct world *w) {
    return w->local_size;
}

const char *world_library(const struct world *w) {
    return w->library;
}

/* ---- waiting ---- */

void world_relax(const struct world *w, unsigned *rounds) {
    unsigned n = (*rounds)++, yields = w->crowded ? YIELD_CROWDED : YIELD_ROUNDS;
    if (!w->crowded && n < SPIN_ROUNDS) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
        return;
    }
    if (n < yields) {
        (void)sched_yield();
        return;
    }
    long ns = SLEEP_MIN_NS * (1 + (long)((n - yields) / 16));
    struct timespec t = {.tv_nsec = ns < SLEEP_MAX_NS ? ns : SLEEP_MAX_NS};
    (void)nanosleep(&t, NULL);
}

static enum status await(struct world *w, MPI_Request *r, const char *what, struct err *err) {
    unsigned rounds = 0;
    for (int done = 0;; world_relax(w, &rounds)) {
        MPI_TRY(MPI_Test(r, &done, MPI_STATUS_IGNORE), what);
        if (done)
            return STATUS_OK;
    }
}

/* ---- collective calls ---- */

static enum status broadcast(struct world *w, void *bytes, size_t len, struct err *err) {
    for (size_t at = 0; at < len;) {
        size_t n = len - at < MESSAGE_BYTES_MAX ? len - at : MESSAGE_BYTES_MAX;
        MPI_Request r;
        MPI_TRY(MPI_Ibcast((char *)bytes + at, (int)n, MPI_BYTE, 0, w->all, &r), "share bytes");
        enum status st = await(w, &r, "share bytes", err);
        if (st != STATUS_OK)
            return st;
        at += n;
    }
    return STATUS_OK;
}

enum status world_share(struct world *w, void **bytes, size_t *len, struct err *err) {
    if (w->size == 1)
        return STATUS_OK;
    uint64_t n = *len;
    enum status st = broadcast(w, &n, sizeof n, err);
    if (st != STATUS_OK)
        return st;
    void *mine = *bytes;
    if (w->rank != 0) {
        mine = malloc(n > 0 ? (size_t)n : 1);
        if (mine == NULL) /* the others have begun: one rank alone cannot turn back */
            world_abort(w, status_exit_code(STATUS_NOMEM));
    }
    st = broadcast(w, mine, (size_t)n, err);
    if (w->rank == 0)
        return st;
    if (st != STATUS_OK) {
        free(mine);
        return st;
    }
    *bytes = mine;
    *len = (size_t)n;
    return STATUS_OK;
}

enum status world_gather(struct world *w, const void *mine, size_t len, void *out,
                         struct err *err) {
    if (w->size == 1) {
        memcpy(out, mine, len);
        return STATUS_OK;
    }
    if (len > MESSAGE_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "gather %zu bytes a rank: at most %zu", len,
                       MESSAGE_BYTES_MAX);
    MPI_Request r;
    MPI_TRY(MPI_Iallgather(mine, (int)len, MPI_BYTE, out, (int)len, MPI_BYTE, w->all, &r),
            "gather");
    return await(w, &r, "gather", err);
}

enum status world_barrier(struct world *w, struct err *err) {
    if (w->size == 1)
        return STATUS_OK;
    MPI_Request r;
    MPI_TRY(MPI_Ibarrier(w->all, &r), "barrier");
    return await(w, &r, "barrier", err);
}

bool world_meet(struct world *w, int timeout_ms) {
    if (w->size == 1)
        return true;
    MPI_Request r;
    unsigned rounds = 0;
    int64_t end = clock_mono_ns(&clock_system) + timeout_ms * NS_PER_MS;
    if (MPI_Ibarrier(w->door, &r) != MPI_SUCCESS)
        return false;
    for (int done = 0; clock_mono_ns(&clock_system) < end; world_relax(w, &rounds))
        if (MPI_Test(&r, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done)
            return done != 0;
    return false;
}

enum status world_agree(struct world *w, enum status mine, struct err *err) {
    if (w->size == 1)
        return mine;
    int32_t code = (int32_t)mine;
    int32_t *codes = calloc((size_t)w->size, sizeof *codes);
    if (codes == NULL)
        world_abort(w, status_exit_code(STATUS_NOMEM));
    enum status st = world_gather(w, &code, sizeof code, codes, err);
    int first = 0;
    while (st == STATUS_OK && first < w->size && codes[first] == STATUS_OK)
        first++;
    if (st == STATUS_OK && first < w->size) {
        struct err words = {.status = (enum status)codes[first]};
        if (w->rank == first && err != NULL)
            words = *err;
        MPI_Request r;
        int code_mpi = MPI_Ibcast(words.text, sizeof words.text, MPI_BYTE, first, w->all, &r);
        if (code_mpi != MPI_SUCCESS)
            st = mpi_fail(err, code_mpi, "agree");
        else
            st = await(w, &r, "agree", err);
        if (st == STATUS_OK) {
            words.text[sizeof words.text - 1] = '\0';
            st = err_set(err, (enum status)codes[first], "%s", words.text);
        }
    }
    free(codes);
    return st;
}

/* ---- point to point ---- */

static_assert(sizeof(MPI_Request) <= sizeof(void *[2]), "a request fits");

static void keep_request(struct world_request *r, MPI_Request q) {
    memcpy(r->opaque, &q, sizeof q);
    r->active = true;
}

enum status world_send(struct world *w, const struct world_message *m, struct world_request *r,
                       struct err *err) {
    if (m->len > MESSAGE_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "send %zu bytes: at most %zu", m->len,
                       MESSAGE_BYTES_MAX);
    MPI_Request q;
    MPI_TRY(MPI_Isend(m->bytes, (int)m->len, MPI_BYTE, m->peer, m->tag, w->all, &q), "send");
    keep_request(r, q);
    return STATUS_OK;
}

enum status world_receive(struct world *w, const struct world_message *m, struct world_request *r,
                          struct err *err) {
    if (m->len > MESSAGE_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "receive %zu bytes: at most %zu", m->len,
                       MESSAGE_BYTES_MAX);
    MPI_Request q;
    MPI_TRY(MPI_Irecv(m->bytes, (int)m->len, MPI_BYTE, m->peer, m->tag, w->all, &q), "receive");
    keep_request(r, q);
    return STATUS_OK;
}

enum status world_test(struct world *w, struct world_request *r, bool *done, struct err *err) {
    (void)w;
    *done = true;
    if (!r->active)
        return STATUS_OK;
    MPI_Request q;
    int flag = 0;
    memcpy(&q, r->opaque, sizeof q);
    MPI_TRY(MPI_Test(&q, &flag, MPI_STATUS_IGNORE), "exchange");
    memcpy(r->opaque, &q, sizeof q);
    r->active = !flag;
    *done = flag;
    return STATUS_OK;
}

enum status world_wait(struct world *w, struct world_request *r, struct err *err) {
    unsigned rounds = 0;
    for (bool done = false;; world_relax(w, &rounds)) {
        enum status st = world_test(w, r, &done, err);
        if (st != STATUS_OK || done)
            return st;
    }
}

/* ---- memory of the node ---- */

/* Rank 0's file on every rank. */
static enum status share_segment(struct world *w, size_t total, struct err *err) {
    char path[SEGMENT_PATH_MAX] = "";
    void *at = path;
    size_t len = sizeof path;
    enum status st = w->rank == 0 ? segment_create(&w->segment, total, err) : STATUS_OK;
    st = world_agree(w, st, err);
    if (st != STATUS_OK)
        return st;
    memcpy(path, w->segment.path, sizeof path);
    st = world_share(w, &at, &len, err);
    if (st == STATUS_OK && w->rank != 0) {
        st = segment_open(&w->segment, at, total, err);
        free(at);
    }
    return world_agree(w, st, err);
}

/* Each rank takes the pages of its part; room must stay for Open MPI's own files. */
static enum status take_pages(struct world *w, size_t bytes, struct err *err) {
    uint64_t keep = (uint64_t)w->size * MPI_SEGMENT;
    enum status st = segment_take(&w->segment, bytes * (size_t)w->rank, bytes, err);
    st = world_agree(w, st, err);
    if (st == STATUS_OK && w->rank == 0 && disk_room(segment_directory()) < keep)
        st = err_set(err, STATUS_FULL,
                     "%zu bytes of shared memory in %s would leave less than %llu for MPI",
                     w->segment.bytes, segment_directory(), (unsigned long long)keep);
    st = world_agree(w, st, err);
    if (st == STATUS_OK)
        st = world_agree(w, segment_map(&w->segment, err), err);
    return st;
}

static enum status open_segment(struct world *w, size_t bytes, struct err *err) {
    enum status st = share_segment(w, bytes * (size_t)w->size, err);
    if (st == STATUS_OK)
        st = take_pages(w, bytes, err);
    if (w->rank == 0)
        segment_unlink(&w->segment); /* every rank that could has it open */
    return st;
}

/* All ranks heard the same answer: messages will do. */
static void do_without(struct world *w, const struct err *why) {
    free_segment(w);
    if (w->rank == 0 && strcmp(w->no_memory, why->text) != 0)
        log_line(LOG_WARN, "shared_memory", "exchange=messages text=\"%s\"", why->text);
    (void)snprintf(w->no_memory, sizeof w->no_memory, "%s", why->text);
}

enum status world_shared_memory(struct world *w, size_t bytes, void ***bases, struct err *err) {
    *bases = NULL;
    if (!w->one_node || w->size == 1 || w->lent)
        return STATUS_OK;
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (w->bases == NULL || w->part_bytes < bytes) {
        struct err why = {0};
        free_segment(w);
        w->bases = calloc((size_t)w->size, sizeof *w->bases);
        if (w->bases == NULL)
            world_abort(w, status_exit_code(STATUS_NOMEM));
        enum status st = open_segment(w, bytes, &why);
        if (st == STATUS_UNAVAILABLE) { /* MPI itself */
            *err = why;
            return st;
        }
        if (st != STATUS_OK) {
            do_without(w, &why);
            return STATUS_OK;
        }
        for (int r = 0; r < w->size; r++)
            w->bases[r] = (char *)w->segment.base + bytes * (size_t)r;
        w->part_bytes = bytes;
        w->no_memory[0] = '\0';
    }
    *bases = w->bases;
    w->lent = true;
    return STATUS_OK;
}

const char *world_no_memory(const struct world *w) {
    return w->no_memory;
}

void world_return_memory(struct world *w) {
    w->lent = false;
}
