/* Starts groups, notices their end. */
#include "coordinator/shell/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/launch.h"
#include "core/log.h"
#include "core/process.h"

#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 8000
#define SIZES_MAX      COORDINATOR_DEMAND_MAX
#define ARGV_MAX       26
#define GPUS_TEXT      (PLACEMENT_TEXT_MAX + 32)

struct child {
    pid_t pid;
    int64_t ranks;
    bool here; /* it has said hello */
    struct placed placed;
    char token[LAUNCHER_TOKEN_MAX + 1];
    char log[PATH_TEXT_MAX];
    off_t log_start; /* where its own output begins */
};

/* Groups of one size. */
struct size {
    int64_t ranks;
    int deaths; /* in a row, before a hello */
    int64_t not_before_ns;
};

struct launcher {
    struct launcher_events events;
    enum launch_with with;
    char home[PATH_TEXT_MAX], worker[PATH_TEXT_MAX];
    char coordinator[PATH_TEXT_MAX], tracker[PATH_TEXT_MAX];
    char device[16], share[24]; /* ranks on one GPU */
    struct placement placement;
    struct child children[LAUNCHER_GROUPS_MAX];
    size_t count;
    struct size sizes[SIZES_MAX];
    size_t size_count;
    int64_t started; /* numbers tokens and logs */
};

enum status launcher_new(const struct launcher_options *o, const struct launcher_events *events,
                         struct launcher **out, struct err *err) {
    struct launcher *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the launcher");
    l->events = *events;
    l->with = o->with;
    (void)snprintf(l->home, sizeof l->home, "%s", o->home);
    (void)snprintf(l->worker, sizeof l->worker, "%s", o->worker);
    (void)snprintf(l->coordinator, sizeof l->coordinator, "%s", o->coordinator);
    (void)snprintf(l->tracker, sizeof l->tracker, "%s", o->tracker);
    (void)snprintf(l->device, sizeof l->device, "%s", o->device != NULL ? o->device : "auto");
    (void)snprintf(l->share, sizeof l->share, "%lld",
                   o->placement != NULL && o->placement->count > 0
                       ? (long long)o->placement->slots_per_gpu
                       : 1LL);
    if (o->placement != NULL)
        l->placement = *o->placement;
    *out = l;
    return STATUS_OK;
}

void launcher_destroy(struct launcher **l) {
    free(*l);
    *l = NULL;
}

static struct size *size_of(struct launcher *l, int64_t ranks) {
    for (size_t i = 0; i < l->size_count; i++)
        if (l->sizes[i].ranks == ranks)
            return &l->sizes[i];
    size_t i = l->size_count < SIZES_MAX ? l->size_count++ : 0; /* forget the oldest */
    l->sizes[i] = (struct size){.ranks = ranks};
    return &l->sizes[i];
}

/* ---- starting ---- */

/* "CUDA_VISIBLE_DEVICES=…", or "" without GPUs. */
static void fill_gpus(const struct launcher *l, const struct placed *placed, char out[GPUS_TEXT]) {
    char list[PLACEMENT_TEXT_MAX];
    placement_text(&l->placement, placed, list);
    (void)snprintf(out, GPUS_TEXT, "%s%s", list[0] != '\0' ? "CUDA_VISIBLE_DEVICES=" : "", list);
}

static void fill_env(const char *env[], const char *token, const char *home, const char *gpus) {
    size_t n = launch_settings(env);
    env[n++] = token;
    env[n++] = home;
    if (gpus[0] != '\0')
        env[n++] = gpus;
    env[n] = NULL;
}

static const char *program_of(const struct launcher *l) {
    return l->with == LAUNCH_SRUN ? "srun" : "mpirun";
}

/* With -K1 Slurm ends the step when one rank dies: without it the others spin for ever. --exact
 * leaves the other slots to the other groups; with GPUs --overlap, as the first step would take all
 * of the job's. ipc:// reaches this node only. srun sets CUDA_VISIBLE_DEVICES itself, so that ours
 * is set behind it, by env. */
static void fill_argv(const struct launcher *l, const char *ranks, const char *gpus,
                      const char *argv[ARGV_MAX]) {
    static const char *const mpirun[] = {"mpirun", "--oversubscribe", "--bind-to", "none"};
    static const char *const srun[] = {"srun",      "--mpi=pmix",        "-K1",
                                       "--nodes=1", "--cpus-per-task=1", "--cpu-bind=none"};
    size_t n = 0;
    bool wrapped = l->with == LAUNCH_SRUN && gpus[0] != '\0';
    if (l->with == LAUNCH_SRUN) {
        memcpy(argv, srun, sizeof srun);
        n = sizeof srun / sizeof srun[0];
        argv[n++] = wrapped ? "--overlap" : "--exact";
        const char *node = getenv("SLURMD_NODENAME");
        if (node != NULL) {
            argv[n++] = "--nodelist";
            argv[n++] = node;
        }
    } else {
        memcpy(argv, mpirun, sizeof mpirun);
        n = sizeof mpirun / sizeof mpirun[0];
    }
    argv[n++] = "-n";
    argv[n++] = ranks;
    if (wrapped) {
        argv[n++] = "env";
        argv[n++] = gpus;
    }
    const char *const tail[] = {
        l->worker,  "--coordinator", l->coordinator, "--tracker", l->tracker,
        "--device", l->device,       "--gpu-share",  l->share,    NULL};
    memcpy(argv + n, tail, sizeof tail);
}

static enum status start(struct launcher *l, int64_t ranks, const struct placed *placed,
                         struct err *err) {
    enum status st = STATUS_OK;
    struct child *c = &l->children[l->count];
    char token[LAUNCHER_TOKEN_MAX + 32], home[PATH_TEXT_MAX + 32], number[16];
    char dir[PATH_TEXT_MAX], name[48], gpus[GPUS_TEXT];
    const char *env[LAUNCH_SETTINGS_MAX + 4];
    struct stat info;
    *c = (struct child){.ranks = ranks, .placed = *placed};
    if (access(l->worker, X_OK) != 0)
        return err_errno(err, errno, "worker %s", l->worker);
    l->started++;
    (void)snprintf(c->token, sizeof c->token, "%ld-%lld", (long)getpid(), (long long)l->started);
    (void)snprintf(token, sizeof token, "TRIREME_LAUNCH=%s", c->token);
    (void)snprintf(home, sizeof home, "TRIREME_HOME=%s", l->home);
    (void)snprintf(number, sizeof number, "%lld", (long long)ranks);
    (void)snprintf(name, sizeof name, "group-%lld.log", (long long)l->started);
    TRY(path_join(dir, l->home, "log", err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(path_join(c->log, dir, name, err));
    c->log_start = stat(c->log, &info) == 0 ? info.st_size : 0;
    fill_gpus(l, placed, gpus);
    fill_env(env, token, home, gpus);
    const char *argv[ARGV_MAX];
    fill_argv(l, number, gpus, argv);
    struct process_spec spec = {.argv = argv, .env = env, .log_path = c->log, .own_group = true};
    TRY(process_start(&spec, &c->pid, err));
    l->count++;
    log_line(LOG_INFO, "launch", "pid=%ld ranks=%lld log=%s%s%s", (long)c->pid, (long long)ranks,
             c->log, gpus[0] != '\0' ? " " : "", gpus);
out:
    return st;
}

static size_t on_the_way(const struct launcher *l, int64_t ranks) {
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        n += l->children[i].ranks == ranks && !l->children[i].here;
    return n;
}

static void died_early(struct launcher *l, struct size *size, const char *reason, int64_t mono_ns) {
    int64_t wait_ms = BACKOFF_MIN_MS << (size->deaths < 6 ? size->deaths : 6);
    size->not_before_ns =
        mono_ns + (wait_ms < BACKOFF_MAX_MS ? wait_ms : BACKOFF_MAX_MS) * NS_PER_MS;
    if (++size->deaths < LAUNCHER_DEATHS_MAX)
        return;
    size->deaths = 0;
    l->events.failed(l->events.arg, size->ranks, reason);
}

void launcher_tick(struct launcher *l, const struct demand *demand, size_t count, int64_t mono_ns) {
    for (size_t i = 0; i < count; i++) {
        const struct demand *d = &demand[i];
        struct size *size = size_of(l, d->ranks);
        int64_t missing = d->wanted - d->have - (int64_t)on_the_way(l, d->ranks);
        for (; missing > 0 && mono_ns >= size->not_before_ns; missing--) {
            struct err err;
            struct placed placed;
            if (l->count == LAUNCHER_GROUPS_MAX ||
                !placement_take(&l->placement, d->ranks, &placed))
                break;
            enum status st = start(l, d->ranks, &placed, &err);
            if (st == STATUS_OK)
                continue;
            placement_give(&l->placement, &placed);
            log_err(LOG_ERROR, "launch", &err);
            /* No mpirun or no worker at all: trying again will not help. */
            bool missing_file = st == STATUS_NOT_FOUND || st == STATUS_DENIED;
            bool mpirun = strstr(err.text, "mpirun") != NULL;
            if (missing_file)
                size->deaths = LAUNCHER_DEATHS_MAX - 1;
            char text[ERR_TEXT_MAX + 128];
            (void)snprintf(text, sizeof text, "%s%s", err.text,
                           missing_file && mpirun
                               ? " (is Open MPI installed? the package openmpi-bin has mpirun)"
                               : "");
            died_early(l, size, text, mono_ns);
            break;
        }
    }
}

bool launcher_hello(struct launcher *l, const char *token) {
    char ours[LAUNCHER_TOKEN_MAX + 1];
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->children[i].token, token) != 0)
            continue;
        l->children[i].here = true;
        size_of(l, l->children[i].ranks)->deaths = 0;
        return true;
    }
    (void)snprintf(ours, sizeof ours, "%ld-", (long)getpid());
    return strncmp(token, ours, strlen(ours)) != 0;
}

/* ---- ending ---- */

/* The last lines of what this child wrote, on one line. */
static void log_tail(const struct child *c, char out[LAUNCHER_TAIL_MAX + 1]) {
    out[0] = '\0';
    int fd = open(c->log, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0)
        return;
    ssize_t n = 0;
    if (fstat(fd, &info) == 0) {
        off_t from = info.st_size > LAUNCHER_TAIL_MAX ? info.st_size - LAUNCHER_TAIL_MAX : 0;
        n = pread(fd, out, LAUNCHER_TAIL_MAX, from > c->log_start ? from : c->log_start);
    }
    (void)close(fd);
    out[n > 0 ? n : 0] = '\0';
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = ' ';
}

/* Its place in the table goes to the last one. */
static void forget(struct launcher *l, size_t i) {
    placement_give(&l->placement, &l->children[i].placed);
    l->children[i] = l->children[--l->count];
}

static void gone(struct launcher *l, const struct child *c, int code, int64_t mono_ns) {
    char tail[LAUNCHER_TAIL_MAX + 1], reason[LAUNCHER_TAIL_MAX + PATH_TEXT_MAX + 128];
    log_tail(c, tail);
    (void)snprintf(reason, sizeof reason, "%s ended with exit code %d%s%s (%s)", program_of(l),
                   code, tail[0] != '\0' ? "; its last words: " : "", tail, c->log);
    log_line(code == 0 ? LOG_INFO : LOG_WARN, "group_ended", "pid=%ld code=%d log=%s", (long)c->pid,
             code, c->log);
    struct size *size = size_of(l, c->ranks);
    l->events.lost(l->events.arg, c->token, reason);
    if (!c->here)
        died_early(l, size, reason, mono_ns);
    else if (size->not_before_ns < mono_ns + BACKOFF_MIN_MS * NS_PER_MS)
        size->not_before_ns = mono_ns + BACKOFF_MIN_MS * NS_PER_MS;
}

void launcher_reap(struct launcher *l, int64_t mono_ns) {
    for (size_t i = 0; i < l->count;) {
        bool ended = false;
        int code = 0;
        struct err err;
        enum status st = process_poll(l->children[i].pid, &ended, &code, &err);
        if (st == STATUS_OK && !ended) {
            i++;
            continue;
        }
        struct child c = l->children[i];
        forget(l, i);
        gone(l, &c, st == STATUS_OK ? code : -1, mono_ns);
    }
}

size_t launcher_alive(const struct launcher *l) {
    return l->count;
}

static void signal_all(const struct launcher *l, int signo) {
    for (size_t i = 0; i < l->count; i++)
        (void)kill(-l->children[i].pid, signo);
}

static void drop_ended(struct launcher *l) {
    for (size_t i = 0; i < l->count;) {
        bool ended = false;
        int code = 0;
        if (process_poll(l->children[i].pid, &ended, &code, NULL) == STATUS_OK && !ended)
            i++;
        else
            forget(l, i);
    }
}

void launcher_stop(struct launcher *l, int grace_ms) {
    static const struct timespec nap = {.tv_nsec = 10 * NS_PER_MS};
    signal_all(l, SIGTERM);
    for (int waited = 0; l->count > 0 && waited < grace_ms; waited += 10) {
        drop_ended(l);
        if (l->count > 0)
            (void)nanosleep(&nap, NULL);
    }
    while (l->count > 0) {
        process_stop(l->children[0].pid, true, 0);
        forget(l, 0);
    }
}
