/* A keeper's life; the places of a group. */
#include "coordinator/shell/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/process.h"

#define LOOK_MS      200
#define SWEEP_MS     5
#define SWEEP_MAX    1000 /* looks for what is left: five seconds */
#define CHILDREN_MAX 512
#define FILES_MAX    16 /* open directories while one is removed */

/* ---- places ---- */

/* Two homes may have a coordinator of the same pid, one after the other: the hash tells them apart. */
enum status keeper_places(const char *home, const char *token, struct keeper_places *out,
                          struct err *err) {
    char hex[DIGEST_HEX];
    struct digest d;
    hash_bytes(home, strlen(home), &d);
    hash_hex(&d, hex);
    int n = snprintf(out->lock, sizeof out->lock, "%s/run/group-%s.lock", home, token);
    int m = snprintf(out->session, sizeof out->session, "%s/run/group-%s.d", home, token);
    (void)snprintf(out->shared, sizeof out->shared, "/dev/shm/trireme-%.16s-%.80s", hex, token);
    if (n < 0 || m < 0 || (size_t)n >= sizeof out->lock || (size_t)m >= sizeof out->session)
        return err_set(err, STATUS_TOO_LARGE, "the path of %.200s is too long", home);
    return STATUS_OK;
}

void keeper_prepare(struct keeper_places *p) {
    if (mkdir(p->session, 0700) != 0 && errno != EEXIST)
        p->session[0] = '\0';
    if (mkdir(p->shared, 0700) != 0 && errno != EEXIST)
        p->shared[0] = '\0';
}

bool keeper_alone(const char *token) {
    return strncmp(token, LAUNCH_ALONE, sizeof LAUNCH_ALONE - 1) == 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    (void)!remove(path);
    return 0;
}

void keeper_clean(const struct keeper_places *p) {
    if (p->session[0] != '\0')
        (void)nftw(p->session, remove_one, FILES_MAX, FTW_DEPTH | FTW_PHYS);
    if (p->shared[0] != '\0')
        (void)nftw(p->shared, remove_one, FILES_MAX, FTW_DEPTH | FTW_PHYS);
    (void)unlink(p->lock);
}

/* ---- children, of whatever depth: orphans come to us ---- */

static pid_t parent_of(const char *pid) {
    char path[64], text[512];
    (void)snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    const char *close = strrchr(text, ')'); /* "pid (any name) S ppid …" */
    return close != NULL && strlen(close) > 4 ? (pid_t)strtol(close + 4, NULL, 10) : 0;
}

/* The children of this process, at most `max`. */
static size_t list_children(pid_t *out, size_t max) {
    DIR *proc = opendir("/proc");
    const struct dirent *e;
    size_t n = 0;
    while (proc != NULL && n < max && (e = readdir(proc)) != NULL)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == getpid())
            out[n++] = (pid_t)strtol(e->d_name, NULL, 10);
    if (proc != NULL)
        (void)closedir(proc);
    return n;
}

/* Kills and collects them once; how many there are to come back for. */
static size_t kill_once(bool (*spare)(void *arg, pid_t pid), void *arg) {
    pid_t pids[CHILDREN_MAX];
    size_t n = list_children(pids, CHILDREN_MAX), killed = 0;
    for (size_t i = 0; i < n; i++) {
        if (spare != NULL && spare(arg, pids[i]))
            continue;
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, WNOHANG);
        killed++;
    }
    return killed;
}

void keeper_take_orphans(void) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        log_line(LOG_WARN, "subreaper", "text=\"%s\"", strerror(errno));
}

void keeper_kill_orphans(bool (*spare)(void *arg, pid_t pid), void *arg) {
    for (int i = 0; i < SWEEP_MAX && kill_once(spare, arg) > 0; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = SWEEP_MS * NS_PER_MS}, NULL);
}

/* ---- a keeper's life ---- */

struct keeper {
    const char *watch; /* the lock of the home's coordinator; NULL: there is none to watch */
    pid_t pid;         /* mpirun */
    bool ended;
    int code;
    int64_t alone_ns; /* since when no coordinator is there; 0: one is */
    int64_t kill_ns;  /* when all are killed; 0: nobody was told to end yet */
};

static void reap(struct keeper *k) {
    int status;
    pid_t got;
    while ((got = waitpid(-1, &status, WNOHANG)) > 0) {
        if (got != k->pid)
            continue;
        k->ended = true;
        k->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}

static void tell_to_end(struct keeper *k, int64_t now_ns, const char *reason) {
    if (k->kill_ns != 0)
        return;
    if (k->watch != NULL) /* else who asked is still there, or nobody is */
        log_line(LOG_INFO, "ending", "reason=\"%s\"", reason);
    k->kill_ns = now_ns + KEEPER_GRACE_MS * NS_PER_MS;
    (void)kill(k->pid, SIGTERM);
    (void)kill(k->pid, SIGCONT); /* a stopped process does not see TERM */
}

static void look(struct keeper *k) {
    int64_t now_ns = clock_mono_ns(&clock_system);
    if (k->watch == NULL || process_lock_holder(k->watch) > 0)
        k->alone_ns = 0;
    else if (k->alone_ns == 0)
        k->alone_ns = now_ns;
    else if (now_ns - k->alone_ns > KEEPER_ALONE_MS * NS_PER_MS)
        tell_to_end(k, now_ns, "its coordinator has gone, and no other came");
    if (k->kill_ns != 0 && now_ns > k->kill_ns)
        (void)kill(k->pid, SIGKILL); /* what it leaves behind follows it */
}

static void keep(struct keeper *k, const sigset_t *set) {
    static const struct timespec nap = {.tv_nsec = LOOK_MS * NS_PER_MS};
    while (!k->ended) {
        int signo = sigtimedwait(set, NULL, &nap);
        if (signo > 0 && signo != SIGCHLD)
            tell_to_end(k, clock_mono_ns(&clock_system), "it was told to end");
        reap(k);
        look(k);
    }
    keeper_kill_orphans(NULL, NULL);
}

static enum status start(struct keeper *k, char **argv, struct err *err) {
    union { /* process_start's argv is const */
        char **in;
        const char *const *out;
    } args = {.in = argv};
    struct process_spec spec = {
        .argv = args.out, .own_group = true, .die_with_parent = true, .die_at_once = true};
    keeper_take_orphans();
    return process_start(&spec, &k->pid, err);
}

/* A coordinator makes the places of its groups, and tells them. */
static enum status settle_alone(const char *home, struct keeper_places *p, struct err *err) {
    char dir[PATH_TEXT_MAX];
    enum status st = path_join(dir, home, "run", err);
    if (st == STATUS_OK)
        st = path_mkdirs(dir, 0700, err);
    if (st != STATUS_OK)
        return st;
    keeper_prepare(p);
    if (p->session[0] != '\0')
        (void)setenv("OMPI_MCA_orte_tmpdir_base", p->session, 0);
    if (p->shared[0] != '\0')
        (void)setenv("OMPI_MCA_btl_vader_backing_directory", p->shared, 0);
    if (p->shared[0] != '\0')
        (void)setenv("OMPI_MCA_osc_sm_backing_directory", p->shared, 0);
    return STATUS_OK;
}

bool keeper_is(int argc, char **argv) {
    return argc > 3 && strcmp(argv[0], KEEPER_NAME) == 0;
}

int keeper_main(int argc, char **argv) {
    enum status st = STATUS_OK;
    struct err whole = {.status = STATUS_OK}, *err = &whole;
    struct keeper_places places = {.lock = ""};
    struct keeper k = {.code = 0};
    char watch[PATH_TEXT_MAX];
    sigset_t set;
    int lock = -1;
    (void)argc;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    TRY(log_open("keeper", NULL, err));
    TRY(path_join(watch, argv[1], "run/coordinator.lock", err));
    TRY(keeper_places(argv[1], argv[2], &places, err));
    if (keeper_alone(argv[2]))
        TRY(settle_alone(argv[1], &places, err));
    TRY(process_lock(places.lock, &lock, err));
    k.watch = keeper_alone(argv[2]) ? NULL : watch;
    TRY(start(&k, argv + 3, err));
    keep(&k, &set);
out:
    if (st != STATUS_OK)
        (void)fprintf(stderr, "%s\n", err->text);
    if (lock >= 0)
        keeper_clean(&places);
    return st != STATUS_OK ? status_exit_code(st) : k.code;
}
