/* A sweep's progress, until it ends. */
#include "client/cli/follow.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/report.h"
#include "client/cli/text.h"

enum { LEADERS_MAX = 20 };
enum { POLL_MS = 200, PLAIN_EVERY_MS = 5000 };

static volatile sig_atomic_t interrupted;

/* The second one ends us at once. timeout(1) sends two with one breath, and means one. */
static void on_interrupt(int signo) {
    static volatile int64_t first_ns;
    int64_t now = clock_mono_ns(&clock_system);
    (void)signo;
    if (interrupted == 0)
        first_ns = now;
    else if (now - first_ns > NS_PER_S)
        _exit(130);
    interrupted = 1;
}

void follow_catch_signals(void) {
    struct sigaction sa = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)sigaction(SIGHUP, &sa, NULL); /* the terminal was closed */
}

/* ---- what a status holds ---- */

struct tally {
    int64_t planned, finished, running, failed;
    double units_done, units_all; /* for the ETA, where the coordinator gives progress */
    const char *state;
    const struct value *best;
};

static bool is_final(const char *state) {
    static const char *const finals[] = {"completed", "stopped", "failed", "cancelled"};
    for (size_t i = 0; i < sizeof finals / sizeof *finals; i++)
        if (strcmp(state, finals[i]) == 0)
            return true;
    return false;
}

static struct tally tally_of(const struct value *s) {
    struct tally t = {.state = value_get_string(s, "state", "active"),
                      .planned = value_get_int(s, "planned", 0),
                      .finished = value_get_int(s, "finished", 0),
                      .best = value_get(s, "best")};
    const struct value *trials = value_get(s, "trials");
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        const char *state = value_get_string(trials->items[i], "state", "");
        t.running += strcmp(state, "running") == 0 || strcmp(state, "assigned") == 0;
        t.failed += strcmp(state, "failed") == 0;
        t.units_done += value_get_real(trials->items[i], "units", 0);
    }
    t.units_all = value_get_real(s, "max_time", 0) * (double)t.planned;
    return t;
}

/* ---- progress ---- */

struct screen {
    bool terminal;
    int64_t started_ns, last_plain_ns;
    double units_first;
    int64_t finished_last;
};

static const char *eta_text(struct arena *a, const struct screen *s, const struct tally *t,
                            int64_t now) {
    double done = t->units_done - s->units_first;
    double share = t->units_all > 0 ? done / (t->units_all - s->units_first) : 0;
    if (share <= 0.01 || share > 1)
        return "-";
    return text_duration(a, (int64_t)((double)(now - s->started_ns) * (1 - share) / share));
}

static void show_progress(struct cli *cli, struct screen *s, const struct value *status) {
    struct arena a;
    arena_init(&a, 64 << 10);
    int64_t now = clock_mono_ns(&clock_system);
    struct tally t = tally_of(status);
    char best[128] = "-";
    if (t.best != NULL && t.best->kind == VALUE_MAP)
        (void)snprintf(best, sizeof best, "%.5g (trial %lld)",
                       value_get_real(t.best, "metric", (double)NAN),
                       (long long)value_get_int(t.best, "trial", 0));
    const char *line =
        arena_printf(&a, "%s  %lld/%lld trials, %lld running%s  best %s  elapsed %s  eta %s",
                     value_get_string(status, "name", "sweep"), (long long)t.finished,
                     (long long)t.planned, (long long)t.running,
                     t.failed > 0 ? arena_printf(&a, ", %lld failed", (long long)t.failed) : "",
                     best, text_duration(&a, now - s->started_ns), eta_text(&a, s, &t, now));
    if (line != NULL && s->terminal) {
        struct winsize w = {.ws_col = 0};
        int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col - 1 : 119;
        (void)fprintf(stderr, "\r\033[K%s%.*s%s", cli->colour_err ? "\033[36m" : "", width, line,
                      cli->colour_err ? "\033[0m" : "");
    } else if (line != NULL && (now - s->last_plain_ns > PLAIN_EVERY_MS * NS_PER_MS ||
                                t.finished != s->finished_last)) {
        (void)fprintf(stderr, "%s\n", line);
        s->last_plain_ns = now;
        s->finished_last = t.finished;
    }
    arena_release(&a);
}

/* ---- following ---- */

/* One sweep.status; a coordinator that is away for a moment (it was killed, it is starting again)
 * is not a failure: *status is left as it was. The answer lives in `a`. */
static enum status poll_status(struct cli *cli, struct arena *a, const char *sweep,
                               struct value **status, struct err *err) {
    struct session_reply reply = {.header = NULL};
    struct value *request = message_request(a, "sweep.status", NULL);
    value_set_string(a, request, "sweep", sweep);
    enum status st =
        session_call(cli->coordinator, a,
                     &(struct session_ask){.request = request, .timeout_ms = 1000}, &reply, err);
    if (st == STATUS_OK)
        *status = value_get(reply.header, "sweep");
    session_reply_release(&reply);
    return st == STATUS_TIMEOUT || st == STATUS_UNAVAILABLE ? STATUS_OK : st;
}

/* Polls until the sweep is final. *status is the last sweep.status "sweep" map (in cli->arena). */
static enum status follow_sweep(struct cli *cli, const char *sweep, bool quiet,
                                struct value **status, struct err *err) {
    enum status st = STATUS_OK;
    struct arena tick;
    struct screen screen = {.terminal = isatty(STDERR_FILENO) == 1,
                            .started_ns = clock_mono_ns(&clock_system),
                            .finished_last = -1,
                            .units_first = -1};
    bool done = false;
    arena_init(&tick, CLI_ARENA_BYTES);
    while (!done) {
        struct value *now = NULL;
        arena_clear(&tick);
        TRY(cli_supervise(cli, err));
        TRY(poll_status(cli, &tick, sweep, &now, err));
        if (now != NULL) {
            if (screen.units_first < 0)
                screen.units_first = tally_of(now).units_done;
            if (!quiet)
                show_progress(cli, &screen, now);
            const char *state = value_get_string(now, "state", "active");
            done = is_final(state) || strcmp(state, "paused") == 0 || interrupted;
            if (done)
                *status = value_copy(&cli->arena, now);
        }
        if (interrupted && !done) {
            done = true;
            *status = NULL;
        }
        if (!done)
            (void)poll(NULL, 0, POLL_MS);
    }
    if (interrupted)
        st = err_set(
            err, STATUS_CANCELLED,
            "interrupted; everything recorded so far is safe. Go on with: trireme resume %s",
            sweep);
out:
    if (screen.terminal && !quiet)
        (void)fputs("\r\033[K", stderr);
    arena_release(&tick);
    return st;
}

static enum status count_active(struct cli *cli, int64_t *active, struct err *err) {
    struct arena a;
    struct session_reply reply = {.header = NULL};
    arena_init(&a, CLI_ARENA_BYTES);
    struct value *request = message_request(&a, "coordinator.status", NULL);
    enum status st =
        session_call(cli->coordinator, &a,
                     &(struct session_ask){.request = request, .timeout_ms = 1000}, &reply, err);
    const struct value *sweeps = st == STATUS_OK ? value_get(reply.header, "sweeps") : NULL;
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++)
        *active += strcmp(value_get_string(sweeps->items[i], "state", ""), "active") == 0;
    session_reply_release(&reply);
    arena_release(&a);
    return st == STATUS_TIMEOUT ? STATUS_OK : st;
}

/* Waits until no other sweep needs the coordinator that we started (a second `trireme run` on the
 * same home uses it). Ctrl-C ends the wait. */
static enum status follow_others(struct cli *cli, bool quiet, struct err *err) {
    enum status st = STATUS_OK;
    bool said = quiet;
    while (cli->coordinator_daemon.launched_here && !interrupted) {
        int64_t active = 0;
        TRY(cli_supervise(cli, err));
        TRY(count_active(cli, &active, err));
        if (active == 0)
            break;
        if (!said)
            (void)fprintf(stderr,
                          "waiting for %lld more sweep%s on this coordinator (Ctrl-C leaves them "
                          "resumable)\n",
                          (long long)active, active > 1 ? "s" : "");
        said = true;
        (void)poll(NULL, 0, POLL_MS);
    }
out:
    return st;
}

enum status follow_to_end(struct cli *cli, const char *sweep, struct follow_options options,
                          struct err *err) {
    struct value *status = NULL;
    enum status st = follow_sweep(cli, sweep, options.quiet, &status, err);
    if (status == NULL)
        return st;
    if (!options.json || !options.quiet)
        report_leaderboard(cli, status, LEADERS_MAX, options.json ? stderr : stdout);
    if (options.json) {
        struct err inner;
        cli->answered = true;
        enum status printed = cli_print_json(report_result(&cli->arena, status), &inner);
        if (st == STATUS_OK && printed != STATUS_OK) {
            *err = inner;
            st = printed;
        }
    }
    report_failures(status);
    const struct value *best = value_get(status, "best");
    if (st == STATUS_OK && !options.json && best != NULL && best->kind == VALUE_MAP)
        (void)fprintf(stderr, "best: run %s\nsweep: %s\n", value_get_string(best, "run", "-"),
                      sweep);
    if (st == STATUS_OK) {
        cli->exit_code = report_exit_code(status);
        (void)!follow_others(cli, options.quiet, err);
    }
    return st;
}
