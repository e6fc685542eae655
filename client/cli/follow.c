/* A sweep's progress, until it ends. */
#include "client/cli/follow.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/progress.h"
#include "client/cli/ranking.h"
#include "client/cli/report.h"
#include "client/cli/room.h"

#define FOLLOW_BYTES_MAX ((size_t)4 << 30) /* a million trials */
enum { LEADERS_MAX = 20, POLL_MS = 200 };
enum { PAGE = 1000, ASK_MS = 1000 }; /* trials in an answer; how long one may take */

/* A coordinator that is not ours and stays away: after this long it is said. */
enum { AWAY_MS = 10000 };

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

bool follow_interrupted(void) {
    return interrupted != 0;
}

void follow_catch_signals(void) {
    struct sigaction sa = {.sa_handler = on_interrupt}, before;
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    /* The terminal has gone: as Ctrl-C, unless nohup says that it does not matter. */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(SIGHUP, &sa, NULL);
}

enum status follow_use_others(struct cli *cli, struct follow_wishes wishes, bool quiet,
                              struct err *err) {
    if (cli->coordinator_daemon.launched_here)
        return STATUS_OK;
    int pid = (int)cli_pid(cli, "coordinator");
    const char *option = wishes.launch != NULL        ? "launch"
                         : wishes.max_slots > 0       ? "max-slots"
                         : cli->place.tracker != NULL ? "tracker"
                                                      : NULL;
    if (option != NULL)
        return err_set(
            err, STATUS_CONFLICT,
            "--%s cannot be met: a coordinator (process %d) runs for %s already, with its "
            "own; leave the option out, or use another TRIREME_HOME",
            option, pid, cli->home);
    if (!quiet)
        (void)fprintf(stderr,
                      "using the coordinator that runs for this home (process %d): its slots are "
                      "shared by all its sweeps\n",
                      pid);
    return STATUS_OK;
}

/* ---- status ---- */

static bool is_final(const char *state) {
    static const char *const finals[] = {"completed", "stopped", "failed", "cancelled"};
    for (size_t i = 0; i < sizeof finals / sizeof *finals; i++)
        if (strcmp(state, finals[i]) == 0)
            return true;
    return false;
}

/* One sweep.status: the newest PAGE trials, or those after number `after` where that is not negative. A
 * coordinator that is away for a moment (it was killed, it is starting again) is not a failure: *status is
 * left as it was. The answer lives in `a`. */
static enum status poll_status(struct cli *cli, struct arena *a, const char *sweep, int64_t after,
                               struct value **status, struct err *err) {
    struct session_reply reply = {.header = NULL};
    struct value *request = message_request(a, "sweep.status", NULL);
    value_set_string(a, request, "sweep", sweep);
    value_set_int(a, request, "limit", PAGE);
    if (after >= 0)
        value_set_int(a, request, "after", after);
    enum status st =
        session_call(cli->coordinator, a,
                     &(struct session_ask){.request = request, .timeout_ms = ASK_MS}, &reply, err);
    if (st == STATUS_OK)
        *status = value_get(reply.header, "sweep");
    session_reply_release(&reply);
    return st == STATUS_TIMEOUT || st == STATUS_UNAVAILABLE ? STATUS_OK : st;
}

enum status follow_read_trials(struct cli *cli, struct arena *a, const char *sweep,
                               struct value *status, struct err *err) {
    enum status st = STATUS_OK;
    struct value *all = value_list(a);
    bool more = true;
    for (int64_t after = 0; more;) {
        struct value *page = NULL;
        TRY(cli_supervise(cli, err));
        TRY(poll_status(cli, a, sweep, after, &page, err));
        const struct value *trials = value_get(page, "trials");
        if (page == NULL)
            continue; /* the coordinator is away */
        for (size_t i = 0; trials != NULL && i < trials->count; i++)
            value_push(a, all, trials->items[i]);
        more = trials != NULL && trials->count > 0 && value_get_bool(page, "more", false);
        if (more)
            after = value_get_int(trials->items[trials->count - 1], "trial", 0);
    }
    value_set(a, status, "trials", all);
    if (status->broken)
        st = err_set(err, STATUS_NOMEM, "out of memory for the %lld trials of the sweep",
                     (long long)value_get_int(status, "created", 0));
out:
    return st;
}

/* ---- following ---- */

/* Somebody else's coordinator has left. Where the sweep has ended or was paused before that, one that starts
 * nothing can tell how; where it has not, whoever started the coordinator has to do it again: said once. */
static void look_after_away(struct cli *cli, const char *sweep, int64_t since_ns, bool *said) {
    int64_t away_ms = (clock_mono_ns(&clock_system) - since_ns) / NS_PER_MS;
    if (away_ms < ASK_MS || cli->may_start || cli_runs(cli, "coordinator"))
        return;
    struct value *request = message_request(&cli->arena, "sweep.get", NULL), *reply = NULL;
    value_set_string(&cli->arena, request, "sweep", sweep);
    if (cli_ask(cli, request, &reply, NULL) == STATUS_OK &&
        strcmp(value_get_string(value_get(reply, "sweep"), "state", "active"), "active") != 0) {
        cli->launch = "none";
        cli->may_start = true;
        return;
    }
    if (*said || away_ms < AWAY_MS)
        return;
    *said = true;
    (void)fprintf(stderr,
                  "trireme: the coordinator has ended; waiting for it to come back (`trireme "
                  "coordinator`), or end this with Ctrl-C\n");
}

struct following {
    const char *sweep;
    bool quiet;
    struct room room;
    struct value *status;
};

/* Polls until the sweep is final, or paused, or there has been no room for too long, or we are interrupted
 * (then the status is NULL, or the last that is known). The status lives in `a`. */
static enum status follow_sweep(struct cli *cli, struct arena *a, struct following *f,
                                struct err *err) {
    enum status st = STATUS_OK;
    struct progress progress;
    int64_t heard_ns = clock_mono_ns(&clock_system);
    bool done = false, said = false;
    progress_begin(&progress, cli);
    while (!done) {
        struct value *now = NULL;
        arena_clear(a);
        TRY(cli_supervise(cli, err));
        TRY(poll_status(cli, a, f->sweep, -1, &now, err));
        done = interrupted;
        if (now != NULL) {
            const char *state = value_get_string(now, "state", "active");
            heard_ns = clock_mono_ns(&clock_system);
            done = done || is_final(state) || strcmp(state, "paused") == 0;
            if (!f->quiet)
                progress_show(&progress, now);
        }
        look_after_away(cli, f->sweep, heard_ns, &said);
        if (!done)
            room_look(&f->room, cli, now);
        done = done || f->room.over;
        f->status = now;
        if (!done)
            (void)poll(NULL, 0, POLL_MS);
    }
out:
    progress_end(&progress);
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

/* ---- the end ---- */

/* Why a command that followed a sweep ends before the sweep does, and how to go on. */
static enum status say_unfinished(const struct cli *cli, const char *sweep,
                                  const struct value *status, struct err *err) {
    bool paused = strcmp(value_get_string(status, "state", ""), "paused") == 0;
    const char *reason = value_get_string(status, "reason", "");
    if (paused)
        return err_set(err, STATUS_CANCELLED,
                       "the sweep is paused%s%s. Go on with: trireme resume %s",
                       reason[0] != '\0' ? ": " : "", reason, sweep);
    if (cli->coordinator_daemon.launched_here)
        return err_set(
            err, STATUS_CANCELLED,
            "interrupted; everything recorded so far is safe. Go on with: trireme resume %s",
            sweep);
    return err_set(
        err, STATUS_CANCELLED,
        "detached: the sweep goes on, as its coordinator (process %d) is not ours. Look at "
        "it with: trireme status; end it with: trireme cancel %s",
        (int)cli_pid(cli, "coordinator"), sweep);
}

static enum status print_end(struct cli *cli, struct arena *a, struct value *status,
                             struct follow_options options, struct err *err) {
    enum status st = STATUS_OK;
    if (!options.json || !options.quiet)
        report_leaderboard(cli, status, LEADERS_MAX, options.json ? stderr : stdout);
    if (options.json) {
        cli->answered = true;
        st = cli_print_json(report_result(a, status), err);
    }
    report_failures(a, status);
    return st;
}

static int by_number(const void *a, const void *b) {
    const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
    int64_t p = value_get_int(x, "trial", 0), q = value_get_int(y, "trial", 0);
    return (p > q) - (p < q);
}

/* What only the coordinator knew of a trial (its units) stays as it was; a trial that never ran, too. */
static struct value *merge_trials(struct arena *a, const struct value *before,
                                  const struct value *now) {
    struct value *list = value_list(a);
    for (size_t i = 0; i < now->count; i++)
        value_push(a, list, value_copy(a, now->items[i]));
    size_t count = list->count;
    for (size_t i = 0; before != NULL && i < before->count; i++) {
        struct value *old = before->items[i];
        struct value **at =
            count == 0 ? NULL
                       : bsearch(&old, list->items, count, sizeof(struct value *), by_number);
        if (at == NULL)
            value_push(a, list, old);
        for (size_t k = 0; at != NULL && k < old->count; k++)
            if (value_get(*at, old->members[k].key) == NULL)
                value_set(a, *at, old->members[k].key, old->members[k].value);
    }
    return list;
}

/* We were interrupted, and the coordinator is ours: it ends now, and what is reported is how it left the
 * sweep. Where the tracker cannot say, *status stays as it was. */
static void read_stopped(struct cli *cli, struct arena *a, const char *sweep,
                         struct value **status) {
    struct value *reply = NULL, *request = message_request(&cli->arena, "sweep.get", NULL);
    struct ranking ranking;
    if (!interrupted || *status == NULL || !cli->coordinator_daemon.launched_here ||
        is_final(value_get_string(*status, "state", "")))
        return;
    cli_stop_coordinator(cli);
    value_set_string(&cli->arena, request, "sweep", sweep);
    if (cli_ask(cli, request, &reply, NULL) != STATUS_OK ||
        ranking_of_sweep(cli, sweep, &ranking, NULL) != STATUS_OK || ranking.trials == NULL)
        return;
    static const char *const counts[] = {"planned", "finished", "failed", "best"};
    const struct value *now = value_get(reply, "sweep"), *summary = value_get(now, "summary");
    struct value *out = value_copy(a, *status);
    value_set_string(a, out, "state", value_get_string(now, "state", "active"));
    value_set_string(a, out, "reason", value_get_string(now, "reason", NULL));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (value_get(summary, counts[i]) != NULL)
            value_set(a, out, counts[i], value_copy(a, value_get(summary, counts[i])));
    value_set(a, out, "trials", merge_trials(a, value_get(*status, "trials"), ranking.trials));
    if (!out->broken)
        *status = out;
}

enum status follow_to_end(struct cli *cli, const char *sweep, struct follow_options options,
                          struct err *err) {
    enum status st = STATUS_OK;
    struct following f = {.sweep = sweep, .quiet = options.quiet};
    struct arena a; /* of all trials */
    arena_init(&a, FOLLOW_BYTES_MAX);
    TRY(follow_sweep(cli, &a, &f, err));
    struct value *status = f.status;
    if (f.room.stuck_ns == 0)
        read_stopped(cli, &a, sweep, &status);
    bool final = status != NULL && is_final(value_get_string(status, "state", ""));
    if (status != NULL) {
        if (status == f.status && value_get_int(status, "created", 0) > PAGE &&
            f.room.stuck_ns == 0)
            TRY(follow_read_trials(cli, &a, sweep, status, err));
        TRY(print_end(cli, &a, status, options, err));
    }
    if (!final) {
        bool paused = strcmp(value_get_string(f.status, "state", ""), "paused") == 0;
        st = f.room.stuck_ns > 0 && !paused ? room_refuse(&f.room, cli, sweep, err)
                                            : say_unfinished(cli, sweep, f.status, err);
        goto out;
    }
    const struct value *best = value_get(status, "best");
    if (!options.json && best != NULL && best->kind == VALUE_MAP)
        (void)fprintf(stderr, "best: run %s\nsweep: %s\n", value_get_string(best, "run", "-"),
                      sweep);
    cli->exit_code = report_exit_code(status);
    (void)!follow_others(cli, options.quiet, err);
out:
    arena_release(&a);
    return st;
}
