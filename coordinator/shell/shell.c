/* Life of the shell: sockets, loop, launcher; what the loop calls. */
#include "coordinator/shell/shell.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/shell/keeper.h"
#include "coordinator/shell/shell_private.h"
#include "core/log.h"

#define TICK_MS        100
#define TICK_ARENA_MAX ((size_t)1 << 30)
#define ORPHAN_MS      2000 /* groups of an earlier coordinator come back before we launch */
#define DELIVER_MS     1000 /* for what groups left in their spools */
#define STOP_GRACE_MS  (KEEPER_GRACE_MS + 500) /* for keepers to end those that are left */

/* ---- what the loop calls ---- */

static void on_readable(void *arg) {
    struct shell *s = arg;
    for (size_t i = 0; i < s->socket_count; i++)
        shell_take_all(s, s->sockets[i]);
    if (s->fatal.status == STATUS_OK)
        shell_end_tick(s);
}

static void on_lost(void *arg, const char *token, const char *reason) {
    struct shell *s = arg;
    struct err err;
    struct turn turn = shell_turn(s);
    const char *group = coordinator_launched(s->core, token);
    if (group != NULL && coordinator_lost(&turn, group, reason, &err) != STATUS_OK)
        shell_give_up(s, &err);
}

static void on_launch_failed(void *arg, int64_t ranks, enum status why, const char *reason) {
    struct shell *s = arg;
    struct err err;
    struct turn turn = shell_turn(s);
    log_line(LOG_ERROR, "cannot_launch", "ranks=%lld code=%s text=\"%s\"", (long long)ranks,
             status_name(why), reason);
    if (coordinator_launch_failed(&turn, ranks, why, reason, &err) != STATUS_OK)
        shell_give_up(s, &err);
}

static bool is_known(void *arg, const char *token) {
    const struct shell *s = arg;
    return coordinator_launched(s->core, token) != NULL;
}

static void on_child(void *arg) {
    struct shell *s = arg;
    if (s->launcher == NULL)
        return;
    launcher_reap(s->launcher, clock_mono_ns(s->options.clock));
    if (s->fatal.status == STATUS_OK)
        shell_end_tick(s);
}

static void on_signal(void *arg) {
    struct shell *s = arg;
    shell_begin_stop(s, "the coordinator was ended by a signal");
    shell_end_tick(s);
}

static void on_timer(void *arg) {
    struct shell *s = arg;
    struct err err;
    if (shell_post_revoked(s, &err) != STATUS_OK || session_pump(s->tracker, &err) != STATUS_OK) {
        shell_give_up(s, &err);
        return;
    }
    /* What has arrived must be heard before anybody is called silent. */
    on_readable(s);
    shell_deliver(s);
    if (s->launcher != NULL) {
        launcher_watch(s->launcher, clock_mono_ns(s->options.clock));
        launcher_reap(s->launcher,
                      clock_mono_ns(s->options.clock)); /* adopted ones send no signal */
    }
    if (s->stopping && s->fatal.status == STATUS_OK)
        shell_go_on_stopping(s);
}

/* ---- life ---- */

static enum status open_sockets(struct shell *s, struct net *net, struct err *err) {
    enum status st = STATUS_OK;
    char endpoint[NET_ENDPOINT_MAX];
    for (size_t i = 0; i < s->options.endpoint_count; i++) {
        TRY(net_bind(net, NET_ROUTER, (struct net_place){s->options.endpoints[i], s->options.keys},
                     &s->sockets[s->socket_count], err));
        TRY(net_endpoint(s->sockets[s->socket_count++], endpoint, err)); /* with its port */
        log_line(LOG_INFO, "listening", "endpoint=%s", endpoint);
    }
    struct session_options session = {.endpoint = s->options.tracker,
                                      .keys = s->options.tracker_keys,
                                      .clock = s->options.clock,
                                      .on_answer = shell_on_tracker_answer,
                                      .arg = s};
    TRY(session_open(net, &session, &s->tracker, err));
out:
    return st;
}

static enum status open_loop(struct shell *s, struct err *err) {
    enum status st = STATUS_OK;
    TRY(loop_new(s->options.clock, &s->loop, err));
    TRY(loop_add_signal(s->loop, SIGTERM, on_signal, s, err));
    TRY(loop_add_signal(s->loop, SIGINT, on_signal, s, err));
    TRY(loop_add_signal(s->loop, SIGHUP, on_signal, s, err)); /* whoever started us has gone */
    TRY(loop_add_signal(s->loop, SIGCHLD, on_child, s, err));
    TRY(loop_add_timer(s->loop, TICK_MS, on_timer, s, err));
    for (size_t i = 0; i < s->socket_count; i++)
        TRY(loop_add_socket(s->loop, s->sockets[i], on_readable, s, err));
out:
    return st;
}

static enum status open_launcher(struct shell *s, struct err *err) {
    if (s->options.worker == NULL)
        return STATUS_OK;
    char endpoint[NET_ENDPOINT_MAX];
    size_t at = 0; /* ipc where there is one: launched groups have no keys */
    while (at + 1 < s->socket_count && strncmp(s->options.endpoints[at], "ipc://", 6) != 0)
        at++;
    enum status st = net_endpoint(s->sockets[at], endpoint, err);
    if (st != STATUS_OK)
        return st;
    struct launcher_options options = {.with = s->options.srun ? LAUNCH_SRUN : LAUNCH_MPIRUN,
                                       .home = s->options.home,
                                       .worker = s->options.worker,
                                       .keeper = "/proc/self/exe",
                                       .device = s->options.device,
                                       .placement = &s->options.placement,
                                       .coordinator = endpoint,
                                       .tracker = s->options.tracker,
                                       .keys = s->options.worker_keys,
                                       .tracker_key = s->options.tracker_key};
    struct launcher_events events = {
        .lost = on_lost, .failed = on_launch_failed, .known = is_known, .arg = s};
    st = launcher_new(&options, &events, &s->launcher, err);
    if (st == STATUS_OK)
        launcher_adopt(s->launcher, clock_mono_ns(s->options.clock));
    return st;
}

enum status shell_new(struct net *net, const struct shell_options *options, struct shell **out,
                      struct err *err) {
    enum status st = STATUS_OK;
    struct shell *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the coordinator");
    s->options = *options;
    s->net = net;
    arena_init(&s->tick, TICK_ARENA_MAX);
    shell_begin_tick(s);
    *out = s;
    TRY(coordinator_new(&options->core, &s->core, err));
    TRY(open_sockets(s, net, err));
    TRY(open_loop(s, err));
    TRY(open_launcher(s, err));
    TRY(shell_restore_all(s, err));
    /* Sweeps that go on have had groups, and those are looking for us: here in a moment. */
    struct demand demand[COORDINATOR_DEMAND_MAX];
    if (coordinator_demand(s->core, demand) > 0)
        s->launch_after_ns = clock_mono_ns(s->options.clock) + ORPHAN_MS * NS_PER_MS;
    shell_begin_tick(s);
out:
    if (st != STATUS_OK)
        shell_destroy(out);
    return st;
}

enum status shell_run(struct shell *s, struct err *err) {
    enum status st = loop_run(s->loop, err);
    if (st == STATUS_OK && s->fatal.status != STATUS_OK) {
        *err = s->fatal;
        st = s->fatal.status;
    }
    if (s->stopping && !s->dismissed)
        shell_say_goodbye(s);
    /* After an error of ours the groups stay for a while (keeper.h): the next coordinator takes them
     * over. Whoever was told to end leaves nobody behind. */
    if ((st == STATUS_OK || s->stopping) && s->launcher != NULL)
        launcher_stop(s->launcher, STOP_GRACE_MS);
    if (st == STATUS_OK && !session_lost(s->tracker))
        shell_deliver_all(s, DELIVER_MS);
    return st;
}

void shell_destroy(struct shell **shell) {
    struct shell *s = *shell;
    if (s == NULL)
        return;
    (void)session_close(&s->spool, 0, NULL);
    launcher_destroy(&s->launcher);
    loop_destroy(&s->loop);
    (void)session_close(&s->tracker, 1000, NULL);
    for (size_t i = 0; i < s->socket_count; i++)
        net_close(&s->sockets[i]);
    coordinator_destroy(&s->core);
    arena_release(&s->tick);
    free(s->peers);
    free(s);
    *shell = NULL;
}
