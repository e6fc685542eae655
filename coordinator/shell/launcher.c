/* Starts groups, notices their end, ends them. */
#include "coordinator/shell/launcher.h"

#include <dirent.h>
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

#include "coordinator/shell/keeper.h"
#include "core/disk.h"
#include "core/launch.h"
#include "core/log.h"
#include "core/process.h"

#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 8000
#define SIZES_MAX      COORDINATOR_DEMAND_MAX
#define ARGV_MAX       (3 + LAUNCH_ARGV_MAX + 14)
#define GPUS_TEXT      (PLACEMENT_TEXT_MAX + 32)
#define SETTING_MAX    (PATH_TEXT_MAX + 48)
#define ROOM_SAY_MS    60000
#define KILL_AFTER_MS  (KEEPER_GRACE_MS + 1500) /* a keeper that was told to end, and has not */

struct child {
    pid_t pid; /* its keeper */
    int64_t ranks;
    bool here;                            /* it has said hello */
    bool adopted;                         /* an earlier coordinator's: no child of ours */
    bool said;                            /* that it is late */
    int64_t started_ns, lost_ns, told_ns; /* 0: not lost, not told to end */
    const char *why;                      /* it was told to; static */
    struct placed placed;
    char token[LAUNCHER_TOKEN_MAX + 1];
    char log[PATH_TEXT_MAX];
    off_t log_start; /* where its own output begins */
    struct keeper_places places;
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
    char home[PATH_TEXT_MAX], worker[PATH_TEXT_MAX], keeper[PATH_TEXT_MAX];
    char coordinator[PATH_TEXT_MAX], tracker[PATH_TEXT_MAX];
    char keys[PATH_TEXT_MAX], tracker_key[96]; /* "": none */
    char device[16], share[24];                /* ranks on one GPU */
    struct placement placement;
    struct child children[LAUNCHER_GROUPS_MAX];
    size_t count;
    struct size sizes[SIZES_MAX];
    size_t size_count;
    int64_t started;    /* numbers tokens and logs */
    int64_t no_room_ns; /* when it was last said that there is none; 0: there was */
};

static void copy(char *out, size_t size, const char *text) {
    (void)snprintf(out, size, "%s", text != NULL ? text : "");
}

enum status launcher_new(const struct launcher_options *o, const struct launcher_events *events,
                         struct launcher **out, struct err *err) {
    struct launcher *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the launcher");
    l->events = *events;
    l->with = o->with;
    copy(l->home, sizeof l->home, o->home);
    copy(l->worker, sizeof l->worker, o->worker);
    copy(l->keeper, sizeof l->keeper, o->keeper);
    copy(l->coordinator, sizeof l->coordinator, o->coordinator);
    copy(l->tracker, sizeof l->tracker, o->tracker);
    copy(l->keys, sizeof l->keys, o->keys);
    copy(l->tracker_key, sizeof l->tracker_key, o->tracker_key);
    copy(l->device, sizeof l->device, o->device != NULL ? o->device : "auto");
    (void)snprintf(l->share, sizeof l->share, "%lld",
                   o->placement != NULL && o->placement->count > 0
                       ? (long long)o->placement->slots_per_gpu
                       : 1LL);
    if (o->placement != NULL)
        l->placement = *o->placement;
    keeper_take_orphans();
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

/* The environment of a group. Open MPI's files go where the keeper removes them: a world that is
 * killed does not. */
struct settings {
    char text[6][SETTING_MAX], gpus[GPUS_TEXT];
    const char *env[LAUNCH_SETTINGS_MAX + 8];
    size_t count, texts;
};

static void set(struct settings *s, const char *name, const char *value) {
    char *text = s->text[s->texts++];
    if (value[0] == '\0')
        return;
    (void)snprintf(text, SETTING_MAX, "%s=%s", name, value);
    s->env[s->count++] = text;
}

static void set_unless(struct settings *s, const char *name, const char *value) {
    if (getenv(name) == NULL)
        set(s, name, value);
}

static void fill_settings(const struct launcher *l, const struct child *c, struct settings *s) {
    s->texts = 0;
    s->count = launch_settings(s->env);
    set(s, "TRIREME_LAUNCH", c->token);
    set(s, "TRIREME_HOME", l->home);
    set_unless(s, "OMPI_MCA_orte_tmpdir_base", c->places.session);
    set_unless(s, "OMPI_MCA_btl_vader_backing_directory", c->places.shared);
    set_unless(s, "OMPI_MCA_osc_sm_backing_directory", c->places.shared);
    fill_gpus(l, &c->placed, s->gpus);
    if (s->gpus[0] != '\0')
        s->env[s->count++] = s->gpus;
    s->env[s->count] = NULL;
}

static const char *program_of(const struct launcher *l) {
    return l->with == LAUNCH_SRUN ? "srun" : "mpirun";
}

static void fill_argv(const struct launcher *l, const struct child *c, const char *ranks,
                      const char *gpus, const char *argv[ARGV_MAX]) {
    struct launch_plan plan = {
        .srun = l->with == LAUNCH_SRUN, .beside = true, .ranks = ranks, .gpus = gpus};
    size_t n = 0;
    argv[n++] = KEEPER_NAME;
    argv[n++] = l->home;
    argv[n++] = c->token;
    n += launch_argv(&plan, argv + n);
    const char *const tail[] = {l->worker,   "--coordinator", l->coordinator,
                                "--tracker", l->tracker,      "--device",
                                l->device,   "--gpu-share",   l->share};
    memcpy(argv + n, tail, sizeof tail);
    n += sizeof tail / sizeof tail[0];
    if (l->keys[0] != '\0') {
        argv[n++] = "--keys";
        argv[n++] = l->keys;
    }
    if (l->tracker_key[0] != '\0') {
        argv[n++] = "--tracker-key";
        argv[n++] = l->tracker_key;
    }
    argv[n] = NULL;
}

/* Names the child after the number in its token: also those of an earlier coordinator. */
static enum status name_child(const struct launcher *l, struct child *c, struct err *err) {
    enum status st = STATUS_OK;
    char dir[PATH_TEXT_MAX], name[48];
    struct stat info;
    const char *dash = strrchr(c->token, '-');
    (void)snprintf(name, sizeof name, "group-%.20s.log", dash != NULL ? dash + 1 : "0");
    TRY(path_join(dir, l->home, "log", err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(path_join(c->log, dir, name, err));
    TRY(keeper_places(l->home, c->token, &c->places, err));
    c->log_start = stat(c->log, &info) == 0 ? info.st_size : 0;
out:
    return st;
}

/* The launcher is looked up here: a keeper that cannot find it would be a child that died. */
static enum status find_program(const char *name, struct err *err) {
    char path[PATH_TEXT_MAX];
    const char *at = getenv("PATH");
    for (size_t len; at != NULL && *at != '\0'; at += len + (at[len] == ':')) {
        len = strcspn(at, ":");
        (void)snprintf(path, sizeof path, "%.*s/%s", (int)len, at, name);
        if (len > 0 && access(path, X_OK) == 0)
            return STATUS_OK;
    }
    return err_errno(err, ENOENT, "start %s: execute", name);
}

static enum status start(struct launcher *l, int64_t ranks, const struct placed *placed,
                         int64_t mono_ns, struct err *err) {
    enum status st = STATUS_OK;
    struct child *c = &l->children[l->count];
    char number[16];
    struct settings settings;
    const char *argv[ARGV_MAX];
    *c = (struct child){.ranks = ranks, .placed = *placed, .started_ns = mono_ns};
    if (access(l->worker, X_OK) != 0)
        return err_errno(err, errno, "worker %s", l->worker);
    TRY(find_program(program_of(l), err));
    l->started++;
    (void)snprintf(c->token, sizeof c->token, "%ld-%lld", (long)getpid(), (long long)l->started);
    (void)snprintf(number, sizeof number, "%lld", (long long)ranks);
    TRY(name_child(l, c, err));
    keeper_prepare(&c->places);
    fill_settings(l, c, &settings);
    fill_argv(l, c, number, settings.gpus, argv);
    struct process_spec spec = {.program = l->keeper,
                                .argv = argv,
                                .env = settings.env,
                                .log_path = c->log,
                                .own_group = true};
    st = process_start(&spec, &c->pid, err);
    if (st != STATUS_OK) {
        keeper_clean(&c->places);
        goto out;
    }
    l->count++;
    log_line(LOG_INFO, "launch", "pid=%ld ranks=%lld log=%s%s%s", (long)c->pid, (long long)ranks,
             c->log, settings.gpus[0] != '\0' ? " " : "", settings.gpus);
out:
    return st;
}

static size_t on_the_way(const struct launcher *l, int64_t ranks) {
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        n += l->children[i].ranks == ranks && !l->children[i].here && !l->children[i].adopted;
    return n;
}

/* A group that ended before it was here. */
struct early_death {
    int weight; /* of LAUNCHER_DEATHS_MAX deaths */
    enum status why;
    const char *reason;
};

static void died_early(struct launcher *l, struct size *size, struct early_death d,
                       int64_t mono_ns) {
    int64_t wait_ms = BACKOFF_MIN_MS << (size->deaths < 6 ? size->deaths : 6);
    size->not_before_ns =
        mono_ns + (wait_ms < BACKOFF_MAX_MS ? wait_ms : BACKOFF_MAX_MS) * NS_PER_MS;
    size->deaths += d.weight;
    if (size->deaths < LAUNCHER_DEATHS_MAX)
        return;
    size->deaths = 0;
    l->events.failed(l->events.arg, size->ranks, d.why, d.reason);
}

/* No mpirun or no worker at all: trying again will not help. */
static void not_started(struct launcher *l, struct size *size, enum status st,
                        const struct err *err, int64_t mono_ns) {
    char text[ERR_TEXT_MAX + 128];
    bool missing = st == STATUS_NOT_FOUND || st == STATUS_DENIED;
    bool mpirun = strstr(err->text, "mpirun") != NULL;
    log_err(LOG_ERROR, "launch", err);
    (void)snprintf(
        text, sizeof text, "%s%s", err->text,
        missing && mpirun ? " (is Open MPI installed? the package openmpi-bin has mpirun)" : "");
    died_early(l, size, (struct early_death){missing ? LAUNCHER_DEATHS_MAX : 1, st, text}, mono_ns);
}

/* Open MPI's words for a session folder that does not fit name no disk: it is not tried. Those that are on the
 * way have not taken all of theirs yet. */
static bool has_room(struct launcher *l, int64_t mono_ns) {
    char text[DISK_TEXT_MAX];
    uint64_t room = disk_room(l->home);
    uint64_t coming = 0;
    for (size_t i = 0; i < l->count; i++)
        coming += !l->children[i].here && !l->children[i].adopted;
    if (room >= DISK_LEAST_BYTES * (1 + coming)) {
        l->no_room_ns = 0;
        return true;
    }
    if (room >= DISK_LEAST_BYTES)
        return false; /* one after the other */
    if (l->no_room_ns == 0 || mono_ns - l->no_room_ns > ROOM_SAY_MS * NS_PER_MS) {
        l->no_room_ns = mono_ns;
        disk_text(l->home, room, text);
        log_line(LOG_WARN, "no_room", "text=\"%.1000s: no group is started below %llu KiB\"", text,
                 (unsigned long long)(DISK_LEAST_BYTES >> 10));
    }
    return false;
}

void launcher_tick(struct launcher *l, const struct demand *demand, size_t count, int64_t mono_ns) {
    for (size_t i = 0; i < count; i++) {
        const struct demand *d = &demand[i];
        struct size *size = size_of(l, d->ranks);
        int64_t missing = d->wanted - d->have - (int64_t)on_the_way(l, d->ranks);
        for (; missing > 0 && mono_ns >= size->not_before_ns; missing--) {
            struct err err;
            struct placed placed;
            if (l->count == LAUNCHER_GROUPS_MAX || !has_room(l, mono_ns) ||
                !placement_take(&l->placement, d->ranks, &placed))
                break;
            enum status st = start(l, d->ranks, &placed, mono_ns, &err);
            if (st == STATUS_OK)
                continue;
            placement_give(&l->placement, &placed);
            not_started(l, size, st, &err, mono_ns);
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

/* ---- those of an earlier coordinator ---- */

static void adopt(struct launcher *l, const char *token, int64_t mono_ns) {
    struct child *c = &l->children[l->count];
    *c = (struct child){.adopted = true, .started_ns = mono_ns};
    copy(c->token, sizeof c->token, token);
    if (name_child(l, c, NULL) != STATUS_OK)
        return;
    c->pid = process_lock_holder(c->places.lock);
    if (c->pid == 0)
        keeper_clean(&c->places);
    if (c->pid == 0 || keeper_alone(token))
        return;
    l->count++;
    log_line(LOG_INFO, "adopted", "keeper=%ld token=%s log=%s", (long)c->pid, token, c->log);
}

void launcher_adopt(struct launcher *l, int64_t mono_ns) {
    char dir[PATH_TEXT_MAX], token[LAUNCHER_TOKEN_MAX + 1];
    static const char before[] = "group-", after[] = ".lock";
    DIR *d = path_join(dir, l->home, "run", NULL) == STATUS_OK ? opendir(dir) : NULL;
    const struct dirent *e;
    while (d != NULL && l->count < LAUNCHER_GROUPS_MAX && (e = readdir(d)) != NULL) {
        size_t len = strlen(e->d_name), ends = sizeof before + sizeof after - 2;
        if (len <= ends || len - ends > LAUNCHER_TOKEN_MAX ||
            strncmp(e->d_name, before, sizeof before - 1) != 0 ||
            strcmp(e->d_name + len - (sizeof after - 1), after) != 0)
            continue;
        (void)snprintf(token, sizeof token, "%.*s", (int)(len - ends),
                       e->d_name + sizeof before - 1);
        adopt(l, token, mono_ns);
    }
    if (d != NULL)
        (void)closedir(d);
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
    keeper_clean(&l->children[i].places);
    if (!l->children[i].adopted)
        placement_give(&l->placement, &l->children[i].placed);
    l->children[i] = l->children[--l->count];
}

static void gone(struct launcher *l, const struct child *c, int code, int64_t mono_ns) {
    char tail[LAUNCHER_TAIL_MAX + 1], reason[LAUNCHER_TAIL_MAX + PATH_TEXT_MAX + 1280];
    char full[DISK_TEXT_MAX] = "";
    uint64_t room = disk_room(l->home); /* its session folder has gone by now */
    bool tight = !c->here && code != 0 && room < 2 * DISK_LEAST_BYTES;
    log_tail(c, tail);
    if (tight)
        disk_text(l->home, room, full);
    (void)snprintf(reason, sizeof reason, "%.1000s%s%s%s ended with exit code %d%s%s (%s)", full,
                   tight ? ": " : "", c->why != NULL ? c->why : "", program_of(l), code,
                   tail[0] != '\0' ? "; its last words: " : "", tail, c->log);
    log_line(code == 0 ? LOG_INFO : LOG_WARN, "group_ended", "pid=%ld code=%d log=%s", (long)c->pid,
             code, c->log);
    l->events.lost(l->events.arg, c->token, reason);
    if (c->adopted)
        return;
    struct size *size = size_of(l, c->ranks);
    if (!c->here) /* without room it is tried again when there is some: no death of this size */
        died_early(l, size,
                   (struct early_death){tight && room < DISK_LEAST_BYTES ? 0
                                        : c->told_ns > 0                 ? 2
                                                                         : 1,
                                        tight ? STATUS_FULL : STATUS_UNAVAILABLE, reason},
                   mono_ns);
    else if (size->not_before_ns < mono_ns + BACKOFF_MIN_MS * NS_PER_MS)
        size->not_before_ns = mono_ns + BACKOFF_MIN_MS * NS_PER_MS;
}

/* A keeper that was adopted is no child: its lock tells. */
static bool has_ended(const struct child *c, int *code) {
    bool ended = false;
    *code = 0;
    if (c->adopted)
        return process_lock_holder(c->places.lock) != c->pid;
    if (process_poll(c->pid, &ended, code, NULL) == STATUS_OK)
        return ended;
    *code = -1;
    return true;
}

static bool is_keeper(void *arg, pid_t pid) {
    const struct launcher *l = arg;
    for (size_t i = 0; i < l->count; i++)
        if (l->children[i].pid == pid)
            return true;
    return false;
}

/* A keeper that was killed has left us whatever its group had started. */
static void bury(struct launcher *l, size_t i) {
    forget(l, i);
    keeper_kill_orphans(is_keeper, l);
}

void launcher_reap(struct launcher *l, int64_t mono_ns) {
    for (size_t i = 0; i < l->count;) {
        int code = 0;
        if (!has_ended(&l->children[i], &code)) {
            i++;
            continue;
        }
        struct child c = l->children[i];
        bury(l, i);
        gone(l, &c, code, mono_ns);
    }
}

size_t launcher_alive(const struct launcher *l) {
    return l->count;
}

static void tell_to_end(struct child *c, int64_t mono_ns) {
    if (c->told_ns == 0)
        c->told_ns = mono_ns;
    (void)kill(c->pid, SIGTERM);
    (void)kill(c->pid, SIGCONT); /* a stopped process does not see TERM */
}

/* ---- those that hang ---- */

static void await_hello(struct child *c, int64_t mono_ns) {
    int64_t waited_ms = (mono_ns - c->started_ns) / NS_PER_MS;
    if (!c->said && waited_ms > LAUNCHER_HELLO_SAY_MS) {
        c->said = true;
        log_line(
            LOG_ERROR, "no_hello",
            "a worker group of %lld rank(s) has been starting for %lld s and has not said hello; "
            "it is ended after %d s; what it does is in %s",
            (long long)c->ranks, (long long)(waited_ms / 1000), LAUNCHER_HELLO_MAX_MS / 1000,
            c->log);
    }
    if (waited_ms <= LAUNCHER_HELLO_MAX_MS)
        return;
    c->why = "the group did not say hello in time and was ended: ";
    tell_to_end(c, mono_ns);
}

static void await_end(struct launcher *l, struct child *c, int64_t mono_ns) {
    if (l->events.known(l->events.arg, c->token))
        c->lost_ns = 0;
    else if (c->lost_ns == 0)
        c->lost_ns = mono_ns;
    else if (mono_ns - c->lost_ns > (c->here ? LAUNCHER_LOST_MS : LAUNCHER_ADOPT_MS) * NS_PER_MS) {
        log_line(LOG_WARN, "group_hangs", "pid=%ld log=%s", (long)c->pid, c->log);
        c->why = "the group was lost and has been ended: ";
        tell_to_end(c, mono_ns);
    }
}

void launcher_watch(struct launcher *l, int64_t mono_ns) {
    for (size_t i = 0; i < l->count; i++) {
        struct child *c = &l->children[i];
        if (c->told_ns > 0 && mono_ns - c->told_ns > KILL_AFTER_MS * NS_PER_MS)
            (void)kill(c->pid, SIGKILL); /* mpirun and the ranks follow it */
        else if (c->told_ns > 0)
            continue;
        else if (c->here || c->adopted)
            await_end(l, c, mono_ns);
        else
            await_hello(c, mono_ns);
    }
}

/* ---- the end of all ---- */

static void drop_ended(struct launcher *l) {
    int code = 0;
    for (size_t i = 0; i < l->count;) {
        if (has_ended(&l->children[i], &code))
            bury(l, i);
        else
            i++;
    }
}

static void await_all(struct launcher *l, int grace_ms) {
    static const struct timespec nap = {.tv_nsec = 10 * NS_PER_MS};
    for (int waited = 0; l->count > 0 && waited < grace_ms; waited += 10) {
        drop_ended(l);
        if (l->count > 0)
            (void)nanosleep(&nap, NULL);
    }
}

void launcher_stop(struct launcher *l, int grace_ms) {
    for (size_t i = 0; i < l->count; i++)
        tell_to_end(&l->children[i], 1);
    await_all(l, grace_ms);
    for (size_t i = 0; i < l->count; i++)
        (void)kill(l->children[i].pid, SIGKILL);
    await_all(l, KILL_AFTER_MS);
    while (l->count > 0)
        forget(l, 0);
}
