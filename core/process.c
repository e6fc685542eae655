/* Child processes and pid files. */
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

extern char **environ;

/* What the child tells its parent through a close-on-exec pipe when it does not get to exec. */
struct child_failure {
    int step; /* index into step_names */
    int errnum;
};
enum { STEP_GROUP, STEP_PARENT, STEP_STDIO, STEP_WORKDIR, STEP_EXEC };
static const char *const step_names[] = {"make a process group", "tie to its parent",
                                         "redirect its output", "change directory", "execute"};

/* ---- standard streams ---- */

void process_guard_stdio(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        /* The lowest free number, which is fd: all below are open. Not for what it would be used for,
         * as gnulib's stdopen does it: reading from 0 and writing to 1 and 2 still fail. */
        int got = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (got != fd)
            _exit(status_exit_code(STATUS_IO)); /* no /dev/null, and nobody to tell */
    }
}

/* ---- start ---- */

static bool same_key(const char *a, const char *b) {
    size_t len = strcspn(b, "=");
    return strncmp(a, b, len) == 0 && a[len] == '=';
}

static bool overridden(const char *entry, const char *const *env) {
    for (size_t i = 0; env != NULL && env[i] != NULL; i++)
        if (same_key(entry, env[i]))
            return true;
    return false;
}

/* Ours, with `env` in front of what it replaces. An array of borrowed strings for the caller to
 * free; NULL when memory is exhausted. Made before the fork: the child must not allocate. */
static char **merged_environment(const char *const *env) {
    size_t ours = 0, theirs = 0, n = 0;
    while (environ != NULL && environ[ours] != NULL)
        ours++;
    while (env != NULL && env[theirs] != NULL)
        theirs++;
    char **all = calloc(ours + theirs + 1, sizeof *all);
    if (all == NULL)
        return NULL;
    for (size_t i = 0; i < ours; i++)
        if (!overridden(environ[i], env))
            all[n++] = environ[i];
    if (theirs > 0)
        memcpy(all + n, env, theirs * sizeof *all);
    return all;
}

static void reset_signals(void) {
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &sa, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Only async-signal-safe calls from here to exec: other threads of the parent may have held any
 * lock at the fork. Returns the step that failed. */
static int become(const struct process_spec *spec, char *const *env, int log_fd, pid_t parent) {
    reset_signals();
    if (spec->own_group && setpgid(0, 0) != 0)
        return STEP_GROUP;
    if (spec->die_with_parent) {
        if (prctl(PR_SET_PDEATHSIG, spec->die_at_once ? SIGKILL : SIGHUP) != 0)
            return STEP_PARENT;
        errno = ESRCH;
        if (getppid() != parent) /* it ended before the prctl */
            return STEP_PARENT;
    }
    if (log_fd >= 0 && (dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0))
        return STEP_STDIO;
    if (spec->stdout_fd > 0 && dup2(spec->stdout_fd, STDOUT_FILENO) < 0)
        return STEP_STDIO;
    if (log_fd >= 0 || spec->own_group) { /* a background group that reads a terminal is stopped */
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0)
            return STEP_STDIO;
    }
    if (spec->workdir != NULL && chdir(spec->workdir) != 0)
        return STEP_WORKDIR;
    union { /* exec's argv is not const for historical reasons only */
        const char *const *in;
        char *const *out;
    } argv = {.in = spec->argv};
    execvpe(spec->program != NULL ? spec->program : spec->argv[0], argv.out, env);
    return STEP_EXEC;
}

static void report_and_exit(int fd, int step) {
    struct child_failure f = {.step = step, .errnum = errno};
    ssize_t n = write(fd, &f, sizeof f);
    _exit(n == (ssize_t)sizeof f ? 127 : 126);
}

/* Waits until the child has executed (the pipe closes) or told why it could not. */
static enum status await_exec(int fd, pid_t pid, const char *name, struct err *err) {
    struct child_failure f;
    ssize_t n;
    do
        n = read(fd, &f, sizeof f);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return STATUS_OK;
    int why = n == (ssize_t)sizeof f ? f.errnum : EIO;
    const char *what = n == (ssize_t)sizeof f ? step_names[f.step] : "hear from it";
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return err_errno(err, why, "start %s: %s", name, what);
}

static enum status fork_and_exec(const struct process_spec *spec, char *const *env, int log_fd,
                                 pid_t *out, struct err *err) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_errno(err, errno, "start %s: pipe", spec->argv[0]);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* our handlers must not run in the child */
    pid_t parent = getpid();
    pid_t pid = fork();
    int why = errno;
    if (pid == 0)
        report_and_exit(fds[1], become(spec, env, log_fd, parent));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(fds[1]);
    enum status st = pid < 0 ? err_errno(err, why, "start %s: fork", spec->argv[0])
                             : await_exec(fds[0], pid, spec->argv[0], err);
    close(fds[0]);
    if (st == STATUS_OK)
        *out = pid;
    return st;
}

enum status process_start(const struct process_spec *spec, pid_t *out, struct err *err) {
    int log_fd = -1;
    enum status st = STATUS_OK;
    char **env = merged_environment(spec->env);
    if (env == NULL)
        return err_set(err, STATUS_NOMEM, "start %s: out of memory", spec->argv[0]);
    if (spec->log_path != NULL) {
        log_fd = open(spec->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (log_fd < 0)
            st = err_errno(err, errno, "start %s: open %s", spec->argv[0], spec->log_path);
    }
    if (st == STATUS_OK)
        st = fork_and_exec(spec, env, log_fd, out, err);
    if (log_fd >= 0)
        close(log_fd);
    free(env);
    return st;
}

void process_follow_parent(void) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* ---- wait and stop ---- */

enum status process_say_ready(int64_t fd, struct err *err) {
    if (fd < 0)
        return STATUS_OK;
    if (write((int)fd, "1", 1) != 1)
        return err_errno(err, errno, "write to --ready-fd %d", (int)fd);
    (void)close((int)fd);
    return STATUS_OK;
}

enum status process_poll(pid_t pid, bool *ended, int *exit_code, struct err *err) {
    int status;
    pid_t got;
    do
        got = waitpid(pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == ECHILD)
        return err_set(err, STATUS_NOT_FOUND, "process %d is not our child", (int)pid);
    if (got < 0)
        return err_errno(err, errno, "wait for process %d", (int)pid);
    *ended = got == pid;
    if (*ended)
        *exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return STATUS_OK;
}

/* A child that is no longer ours counts as ended. */
static bool has_ended(pid_t pid) {
    bool ended;
    int exit_code;
    return process_poll(pid, &ended, &exit_code, NULL) != STATUS_OK || ended;
}

void process_stop(pid_t pid, bool whole_group, int grace_ms) {
    if (pid <= 1)
        return; /* kill(-1) would end everything we may signal */
    pid_t target = whole_group ? -pid : pid;
    int64_t deadline = clock_mono_ns(&clock_system) + grace_ms * NS_PER_MS;
    bool reaped = has_ended(pid);
    bool group_left = whole_group && kill(target, 0) == 0;
    if (!reaped || group_left) {
        kill(target, SIGTERM);
        kill(target, SIGCONT); /* a stopped process does not see TERM */
    }
    while (!reaped || group_left) {
        if (clock_mono_ns(&clock_system) >= deadline) {
            kill(target, SIGKILL);
            while (!reaped && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5 * NS_PER_MS}, NULL);
        reaped = reaped || has_ended(pid);
        group_left = whole_group && kill(target, 0) == 0;
    }
}

/* ---- pid files ---- */

#define LEAVING       "leaving"
#define LOCK_TEXT_MAX 40 /* "PID\n", or "PID leaving\n" */

static bool read_lock(int fd, char text[LOCK_TEXT_MAX]) {
    ssize_t n = pread(fd, text, LOCK_TEXT_MAX - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static pid_t read_pid(int fd) {
    char text[LOCK_TEXT_MAX];
    if (!read_lock(fd, text))
        return 0;
    long pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

/* Open-file-description locks: they conflict between any two opens, also of one process, can be
 * asked for without being taken, and end with the descriptor (which is close-on-exec). */
static struct flock whole_file(void) {
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
}

static enum status write_pid(int fd, const char *path, struct err *err) {
    char text[24];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return err_errno(err, errno, "write %s", path);
    return STATUS_OK;
}

enum status process_lock(const char *path, int *fd, struct err *err) {
    int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (f < 0)
        return err_errno(err, errno, "open %s", path);
    struct flock lock = whole_file();
    enum status st;
    if (fcntl(f, F_OFD_SETLK, &lock) == 0)
        st = write_pid(f, path, err);
    else if (errno == EAGAIN || errno == EACCES)
        st = err_set(err, STATUS_BUSY, "%s is held by process %ld", path, (long)read_pid(f));
    else
        st = err_errno(err, errno, "lock %s", path);
    if (st == STATUS_OK)
        *fd = f;
    else
        close(f);
    return st;
}

pid_t process_lock_holder(const char *path) {
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return 0;
    struct flock lock = whole_file();
    bool held = fcntl(f, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    pid_t pid = held ? read_pid(f) : 0;
    close(f);
    return pid;
}

void process_lock_leaving(int fd) {
    char text[LOCK_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%ld " LEAVING "\n", (long)getpid());
    if (fd >= 0)
        (void)!pwrite(fd, text, (size_t)n, 0);
}

bool process_lock_is_leaving(const char *path) {
    char text[LOCK_TEXT_MAX] = "";
    if (process_lock_holder(path) == 0)
        return false;
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return false;
    bool leaving = read_lock(f, text) && strstr(text, LEAVING) != NULL;
    close(f);
    return leaving;
}
