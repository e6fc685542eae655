/* Finds or starts the daemons of a home and keeps alive those that it started. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/text.h"
#include "core/process.h"

enum { READY_MS = 20000, PROBE_MS = 3000, REACH_MS = 5000 };

/* How long a daemon may take to leave in order before it is killed. A coordinator gives its groups 5 s to
 * leave their trials, 3 s to end and 2 s more when they are told by a signal (coordinator/shell/stop.c), and
 * a tracker has to write what has arrived: both have several times that, as a disk may be slow. */
enum { STOP_MS = 40000 };

/* A home whose daemons are just leaving, or that others start and stop at the same moment. */
enum { CHANGE_MS = 45000, CHANGE_STEP_MS = 50 };

enum { FULL_AGAIN_MS = 30000 };

enum place { PLACE_LOG, PLACE_LOCK };

/* HOME/log/NAME.log or HOME/run/NAME.lock */
static enum status in_home(const struct cli *cli, const char *name, enum place place,
                           char out[PATH_TEXT_MAX], struct err *err) {
    char tail[64];
    if (place == PLACE_LOG)
        (void)snprintf(tail, sizeof tail, "log/%s.log", name);
    else
        (void)snprintf(tail, sizeof tail, "run/%s.lock", name);
    return path_join(out, cli->home, tail, err);
}

static enum status lock_of(const struct cli *cli, const char *name, char out[PATH_TEXT_MAX]) {
    return strcmp(name, "tracker") == 0 ? path_join(out, cli->home, "store/lock", NULL)
                                        : in_home(cli, name, PLACE_LOCK, out, NULL);
}

pid_t cli_pid(const struct cli *cli, const char *name) {
    char lock[PATH_TEXT_MAX];
    return lock_of(cli, name, lock) == STATUS_OK ? process_lock_holder(lock) : 0;
}

bool cli_runs(const struct cli *cli, const char *name) {
    return cli_pid(cli, name) > 0;
}

/* Whether one is there to be asked. One that is on its way out is waited for: what it stores last is
 * what we want to read, and its place must be free for the next. */
static bool runs_on(const struct cli *cli, const char *name) {
    char lock[PATH_TEXT_MAX];
    if (lock_of(cli, name, lock) != STATUS_OK)
        return false;
    for (int waited = 0; waited < CHANGE_MS && process_lock_is_leaving(lock); waited += 20)
        (void)poll(NULL, 0, 20);
    return process_lock_holder(lock) > 0;
}

/* The last line of what a log has got since it was `since` bytes long, to say why a daemon did not come up. */
static void last_line(const char *path, int64_t since, char *out, size_t size) {
    struct buf text = BUF_INIT((size_t)64 << 20);
    (void)snprintf(out, size, "it logged nothing");
    if (path_read(path, &text, NULL) == STATUS_OK && (int64_t)text.len > since) {
        size_t end = text.len;
        while (end > 0 && text.data[end - 1] == '\n')
            end--;
        size_t begin = end;
        while (begin > 0 && text.data[begin - 1] != '\n')
            begin--;
        (void)snprintf(out, size, "%.*s", (int)(end - begin), text.data + begin);
    }
    buf_release(&text);
}

static enum status revive(struct cli *cli, struct daemon *d, struct err *err);

/* Waits for the byte that a daemon writes to --ready-fd, or for its end; 0: in vain. A coordinator needs a
 * tracker meanwhile, and the one that we found may be leaving. */
static int poll_ready(struct cli *cli, int fd, const struct daemon *d) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = 0;
    for (int waited = 0; n <= 0 && waited < READY_MS; waited += CHANGE_STEP_MS) {
        n = poll(&p, 1, CHANGE_STEP_MS);
        if (d != &cli->tracker_daemon && cli->place.tracker == NULL)
            (void)!revive(cli, &cli->tracker_daemon, NULL);
    }
    return n;
}

static enum status await_ready(struct cli *cli, int fd, struct daemon *d, const char *log,
                               struct err *err) {
    char byte;
    int n = poll_ready(cli, fd, d);
    if (n > 0 && read(fd, &byte, 1) == 1)
        return STATUS_OK;
    bool ended = false;
    int code = 0;
    char why[ERR_TEXT_MAX];
    for (int i = 0; n > 0 && !ended && i < 100; i++) { /* its pipe has closed: it is ending */
        if (process_poll(d->pid, &ended, &code, NULL) != STATUS_OK)
            break;
        if (!ended)
            (void)poll(NULL, 0, 10);
    }
    if (!ended)
        process_stop(d->pid, true, STOP_MS);
    d->pid = 0;
    last_line(log, d->log_seen, why, sizeof why);
    if (!ended)
        return err_set(err, STATUS_TIMEOUT, "the %s was not ready in %d s; its log is %s: %s",
                       d->name, READY_MS / 1000, log, why);
    for (int s = STATUS_INVALID; s < STATUS_COUNT; s++)
        if (status_exit_code((enum status)s) == code)
            return err_set(err, (enum status)s, "the %s did not start: %s", d->name, why);
    d->killed_by = code > 128 ? code - 128 : 0;
    if (d->killed_by > 0)
        return err_set(err, STATUS_UNAVAILABLE, "the %s was killed by signal %d as it started: %s",
                       d->name, d->killed_by, why);
    return err_set(err, STATUS_UNAVAILABLE, "the %s ended with exit code %d: %s", d->name, code,
                   why);
}

static int64_t file_size(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
}

enum status cli_tracker_args(struct cli *cli, const char **argv, size_t *count, struct err *err) {
    const struct cli_place *p = &cli->place;
    const char *endpoint = p->tracker;
    char text[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    *count = 0;
    if (endpoint == NULL) {
        TRY(path_endpoint(cli->home, "tracker", text, err));
        endpoint = arena_strdup(&cli->arena, text);
    }
    argv[(*count)++] = "--tracker";
    argv[(*count)++] = endpoint;
    if (p->keys != NULL) {
        argv[(*count)++] = "--keys";
        argv[(*count)++] = p->keys;
        argv[(*count)++] = "--tracker-key";
        argv[(*count)++] = p->tracker_key;
    }
out:
    return st;
}

/* Arguments of a daemon that is started here. */
struct start {
    const char *argv[24];
    int count;
    char fd_text[16], slots[24], shares[24];
};

static void add_argument(struct start *s, const char *option, const char *value) {
    s->argv[s->count++] = option;
    s->argv[s->count++] = value;
}

static enum status coordinator_arguments(struct cli *cli, struct start *s, struct err *err) {
    size_t given = 0;
    add_argument(s, "--launch", cli->launch != NULL ? cli->launch : "mpirun");
    (void)snprintf(s->slots, sizeof s->slots, "%lld", (long long)cli->max_slots);
    (void)snprintf(s->shares, sizeof s->shares, "%lld", (long long)cli->slots_per_gpu);
    if (cli->max_slots > 0)
        add_argument(s, "--max-slots", s->slots);
    if (cli->device != NULL)
        add_argument(s, "--device", cli->device);
    if (cli->slots_per_gpu > 0)
        add_argument(s, "--slots-per-gpu", s->shares);
    if (cli->place.tracker == NULL)
        return STATUS_OK;
    enum status st = cli_tracker_args(cli, s->argv + s->count, &given, err);
    s->count += (int)given;
    return st;
}

static enum status start_once(struct cli *cli, struct daemon *d, struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX], exe[64], log[PATH_TEXT_MAX], dir[PATH_TEXT_MAX];
    int fds[2] = {-1, -1};
    (void)snprintf(exe, sizeof exe, "trireme-%s", d->name);
    TRY(path_join(program, cli->bindir, exe, err));
    TRY(path_join(dir, cli->home, "log", err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(in_home(cli, d->name, PLACE_LOG, log, err));
    d->log_seen = file_size(log);
    if (pipe(fds) != 0) {
        st = err_errno(err, errno, "open a pipe");
        goto out;
    }
    (void)fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    struct start s = {.argv = {program}, .count = 1};
    (void)snprintf(s.fd_text, sizeof s.fd_text, "%d", fds[1]);
    add_argument(&s, "--home", cli->home);
    add_argument(&s, "--ready-fd", s.fd_text);
    if (d == &cli->coordinator_daemon)
        TRY(coordinator_arguments(cli, &s, err));
    struct process_spec spec = {
        .argv = s.argv, .log_path = log, .own_group = true, .die_with_parent = true};
    TRY(process_start(&spec, &d->pid, err));
    (void)close(fds[1]);
    fds[1] = -1;
    d->launched_here = true;
    TRY(await_ready(cli, fds[0], d, log, err));
out:
    if (fds[0] >= 0)
        (void)close(fds[0]);
    if (fds[1] >= 0)
        (void)close(fds[1]);
    return st;
}

/* BUSY: somebody else was faster, and that daemon is used; but it may be just leaving, with whoever
 * started it. Then it is tried again, as is one that was killed before it was ready. */
static enum status start_daemon(struct cli *cli, struct daemon *d, struct err *err) {
    enum status st = STATUS_OK;
    for (int waited = 0; waited < CHANGE_MS; waited += CHANGE_STEP_MS) {
        d->killed_by = 0;
        st = start_once(cli, d, err);
        if (d->killed_by > 0 && ++d->restarts <= DAEMON_RESTARTS_MAX) {
            (void)fprintf(
                stderr,
                "trireme: the %s was killed by signal %d as it started; starting it again\n",
                d->name, d->killed_by);
            continue;
        }
        if (st != STATUS_BUSY)
            break;
        d->launched_here = false;
        if (runs_on(cli, d->name))
            return STATUS_OK;
        (void)poll(NULL, 0, CHANGE_STEP_MS);
    }
    return st;
}

/* A tracker that the command line names is somebody else's to start. */
static enum status reach_named(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct session_options options = {.endpoint = cli->place.tracker,
                                      .keys = cli->place.keys != NULL ? &cli->keys : NULL,
                                      .clock = &clock_system};
    struct session_ask hello = {.request = message_request(&cli->arena, "hello", NULL),
                                .timeout_ms = REACH_MS};
    TRY(session_open(cli->net, &options, &cli->tracker, err));
    st = session_call(cli->tracker, &cli->arena, &hello, NULL, err);
    if (st == STATUS_TIMEOUT)
        st = err_set(err, STATUS_UNAVAILABLE, "no tracker answers at %.200s", cli->place.tracker);
out:
    return st;
}

static enum status connect_to(struct cli *cli, const char *name, struct session **out,
                              struct err *err) {
    enum status st = STATUS_OK;
    char endpoint[PATH_TEXT_MAX];
    TRY(path_endpoint(cli->home, name, endpoint, err));
    struct session_options options = {.endpoint = endpoint, .clock = &clock_system};
    TRY(session_open(cli->net, &options, out, err));
out:
    return st;
}

/* Of a home that we may not look into nobody can say what runs there. */
static enum status enter_home(const struct cli *cli, struct err *err) {
    char run[PATH_TEXT_MAX];
    enum status st = path_join(run, cli->home, "run", err);
    if (st == STATUS_OK && access(cli->home, X_OK) != 0)
        return err_errno(err, errno, "look into %s", cli->home);
    if (st == STATUS_OK && access(run, X_OK) != 0 && errno != ENOENT)
        return err_errno(err, errno, "look into %s", run);
    return st;
}

enum status cli_tracker(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    if (cli->tracker != NULL)
        return STATUS_OK;
    if (cli->place.tracker != NULL)
        return reach_named(cli, err);
    TRY(enter_home(cli, err));
    cli->tracker_daemon.name = "tracker";
    if (!runs_on(cli, "tracker"))
        TRY(start_daemon(cli, &cli->tracker_daemon, err));
    TRY(connect_to(cli, "tracker", &cli->tracker, err));
out:
    return st;
}

enum status cli_coordinator(struct cli *cli, bool start, struct err *err) {
    enum status st = STATUS_OK;
    if (cli->coordinator != NULL)
        return STATUS_OK;
    TRY(enter_home(cli, err));
    bool runs = runs_on(cli, "coordinator");
    if (!runs && !start)
        return err_set(err, STATUS_UNAVAILABLE,
                       "no coordinator runs for %s; start one with `trireme coordinator`, or use "
                       "`trireme run`",
                       cli->home);
    if (start) /* the one that runs has its own, and our questions ask for one themselves */
        TRY(cli_tracker(cli, err));
    cli->coordinator_daemon.name = "coordinator";
    cli->may_start = start;
    if (!runs)
        TRY(start_daemon(cli, &cli->coordinator_daemon, err));
    TRY(connect_to(cli, "coordinator", &cli->coordinator, err));
out:
    return st;
}

/* How a daemon ends that would end so again: its key is refused, its store is damaged, its options are
 * wrong. OK: another start may fare better. */
static enum status incurable(int code) {
    static const enum status causes[] = {STATUS_DENIED, STATUS_CORRUPT, STATUS_INVALID};
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if (status_exit_code(causes[i]) == code)
            return causes[i];
    return STATUS_OK;
}

static enum status give_up(const struct cli *cli, const struct daemon *d, enum status cause,
                           struct err *err) {
    char log[PATH_TEXT_MAX], why[ERR_TEXT_MAX] = "its log is missing";
    if (in_home(cli, d->name, PLACE_LOG, log, NULL) == STATUS_OK)
        last_line(log, 0, why, sizeof why);
    return err_set(err, cause, "the %s has ended: %s", d->name, why);
}

/* One daemon: ours that has ended, or somebody else's that has left (it was stopped by whoever
 * started it), is started again. */
static enum status revive(struct cli *cli, struct daemon *d, struct err *err) {
    enum status st = STATUS_OK;
    bool ended = true;
    int code = 0;
    if (d->name == NULL)
        return STATUS_OK;
    if (d->pid > 0) {
        TRY(process_poll(d->pid, &ended, &code, err));
        if (!ended)
            return STATUS_OK;
        d->pid = 0;
        if (incurable(code) != STATUS_OK)
            TRY(give_up(cli, d, incurable(code), err));
        (void)fprintf(stderr, "trireme: the %s ended (exit code %d); starting it again\n", d->name,
                      code);
    } else if (cli_runs(cli, d->name)) {
        return STATUS_OK;
    }
    if (++d->restarts > DAEMON_RESTARTS_MAX)
        return err_set(err, STATUS_UNAVAILABLE, "the %s has ended %d times; see %s/log/%s.log",
                       d->name, d->restarts, cli->home, d->name);
    TRY(start_daemon(cli, d, err));
out:
    return st;
}

/* "2026-11-21T13:05:09.123Z error tracker commit …": the text after time and level. */
static void show_error(struct daemon *d, const char *line, size_t len) {
    static const char level[] = " error ";
    const char *at = memchr(line, ' ', len);
    if (at == NULL || (size_t)(line + len - at) < sizeof level ||
        memcmp(at, level, sizeof level - 1) != 0)
        return;
    char text[sizeof d->last_error];
    at += sizeof level - 1;
    (void)snprintf(text, sizeof text, "%.*s", (int)(line + len - at), at);
    int64_t now_ns = clock_mono_ns(&clock_system), full_ns = d->full_ns;
    bool full = strstr(text, " code=full ") != NULL;
    if (full)
        d->full_ns = now_ns;
    if (strcmp(text, d->last_error) == 0 ||
        (full && full_ns > 0 &&
         now_ns - full_ns < FULL_AGAIN_MS * NS_PER_MS)) /* cli/room.c says it */
        return;
    memcpy(d->last_error, text, sizeof text);
    (void)fputs("trireme: ", stderr);
    text_print_safe(text, stderr);
    (void)fputs("\n", stderr);
}

static void show_errors(const struct cli *cli, struct daemon *d) {
    char log[PATH_TEXT_MAX], part[8192];
    if (!d->launched_here || in_home(cli, d->name, PLACE_LOG, log, NULL) != STATUS_OK ||
        file_size(log) <= d->log_seen)
        return;
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, part, sizeof part, d->log_seen) : 0;
    if (fd >= 0)
        (void)close(fd);
    const char *line = part, *end = part + (n > 0 ? n : 0), *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        show_error(d, line, (size_t)(newline - line));
        line = newline + 1;
    }
    if (line == part && n == (ssize_t)sizeof part)
        line = end; /* no line is that long: pass it over */
    d->log_seen += line - part;
}

enum status cli_supervise(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    show_errors(cli, &cli->tracker_daemon);
    show_errors(cli, &cli->coordinator_daemon);
    TRY(revive(cli, &cli->tracker_daemon, err));
    if (cli->may_start)
        TRY(revive(cli, &cli->coordinator_daemon, err));
out:
    return st;
}

void cli_stop_coordinator(struct cli *cli) {
    if (cli->coordinator != NULL)
        (void)session_close(&cli->coordinator, 0, NULL);
    if (cli->coordinator_daemon.launched_here && cli->coordinator_daemon.pid > 0)
        process_stop(cli->coordinator_daemon.pid, true, STOP_MS);
    cli->coordinator_daemon.pid = 0;
    cli->may_start = false;
}

void cli_close(struct cli *cli) {
    cli_stop_coordinator(cli);
    if (cli->tracker != NULL)
        (void)session_close(&cli->tracker, PROBE_MS, NULL);
    if (cli->tracker_daemon.launched_here && cli->tracker_daemon.pid > 0)
        process_stop(cli->tracker_daemon.pid, true, STOP_MS);
    cli->tracker_daemon.pid = 0;
    net_destroy(&cli->net);
    arena_release(&cli->arena);
}
