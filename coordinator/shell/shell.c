#include "coordinator/shell/shell.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/shell/shell_impl.h"
#include "core/log.h"
#include "core/version.h"

#define TICK_MS        100
#define TICK_ARENA_MAX ((size_t)1 << 30)
#define TICK_BYTES     ((size_t)64 << 20) /* a batch ends when its messages fill so much */
#define ORPHAN_MS      2000 /* groups of an earlier coordinator come back before we launch */
#define LEAVE_MS       5000 /* for groups to leave their trials at a shutdown */
#define EXIT_MS        3000 /* for groups to end by themselves */
#define STOP_GRACE_MS  2000 /* for those that are left to end when they are told by a signal */

struct moment shell_now(const struct shell *s) {
    return (struct moment){.wall_ns = clock_wall_ns(s->options.clock),
                           .mono_ns = clock_mono_ns(s->options.clock)};
}

static void give_up(struct shell *s, const struct err *err) {
    if (s->fatal.status == STATUS_OK)
        s->fatal = *err;
    loop_stop(s->loop);
}

/* ---- a tick: from requests to answers ---- */

static void begin_tick(struct shell *s) {
    arena_clear(&s->tick);
    s->out = (struct outbox){.arena = &s->tick};
    s->answer_count = 0;
}

static void launch(struct shell *s) {
    struct demand demand[COORDINATOR_DEMAND_MAX];
    int64_t now = clock_mono_ns(s->options.clock);
    if (s->launcher == NULL || s->stopping || now < s->launch_after_ns)
        return;
    launcher_tick(s->launcher, demand, coordinator_demand(s->core, demand), now);
}

static void end_tick(struct shell *s) {
    struct err err;
    enum status st = coordinator_step(s->core, shell_now(s), &s->out, &err);
    if (st == STATUS_OK)
        st = store_outbox(s, &err);
    if (st != STATUS_OK) {
        give_up(s, &err);
        return;
    }
    send_answers(s); /* a hello's answer before its first trial */
    send_notices(s);
    begin_tick(s);
    launch(s);
}

static void add_answer(struct shell *s, struct net_socket *socket, const struct net_peer *to,
                       struct value *message) {
    s->answer_socket[s->answer_count] = socket;
    s->answers[s->answer_count++] = (struct answer){.to = *to, .message = message};
}

/* ---- requests ---- */

static bool may(enum net_role role, const char *op) {
    bool looks = strcmp(op, "sweep.status") == 0 || strcmp(op, "coordinator.status") == 0 ||
                 strcmp(op, "hello") == 0;
    return looks || role != NET_VIEWER;
}

static struct value *answer_hello(struct arena *a) {
    struct value *v = value_map(a);
    value_set_string(a, v, "server", "trireme-coordinator");
    value_set_string(a, v, "version", TRIREME_VERSION);
    value_set_int(a, v, "format", 1);
    return v;
}

static void begin_stop(struct shell *s, const char *reason, struct err *err) {
    if (s->stopping)
        return;
    log_line(LOG_INFO, "stopping", "running=%zu", coordinator_leases(s->core));
    s->stopping = true;
    s->stop_at_ns = clock_mono_ns(s->options.clock) + LEAVE_MS * NS_PER_MS;
    enum status st = coordinator_shutdown(s->core, reason, shell_now(s), &s->out, err);
    if (st != STATUS_OK)
        give_up(s, err);
}

/* Sweeps that are over are not in memory after a restart: fetched when somebody asks. */
static enum status fetch_sweep(struct shell *s, const char *op, const char *sweep,
                               struct err *err) {
    bool wanted = strcmp(op, "sweep.status") == 0 || strcmp(op, "sweep.resume") == 0 ||
                  strcmp(op, "sweep.cancel") == 0;
    if (!wanted || coordinator_knows(s->core, sweep))
        return STATUS_OK;
    return restore_one(s, sweep, err);
}

static enum status serve(struct shell *s, const struct value *r, const struct net_message *m,
                         struct net_socket *socket, struct value **reply, struct err *err) {
    enum status st = STATUS_OK;
    const char *op = value_get_string(r, "op", ""), *group = value_get_string(r, "group", NULL);
    if (!may(m->role, op))
        return err_set(err, STATUS_DENIED, "%s needs the role submitter", op);
    if (strcmp(op, "hello") == 0) {
        *reply = answer_hello(&s->tick);
        return STATUS_OK;
    }
    if (strcmp(op, "coordinator.shutdown") == 0) {
        begin_stop(s, "the coordinator was shut down", err);
        return STATUS_OK;
    }
    if (group != NULL)
        TRY(note_peer(s, group, socket, &m->peer, err));
    if (s->launcher != NULL && value_get(r, "launch") != NULL &&
        !launcher_hello(s->launcher, value_get_string(r, "launch", "")))
        return err_set(err, STATUS_CONFLICT, "the process that started this group has ended");
    TRY(fetch_sweep(s, op, value_get_string(r, "sweep", ""), err));
    st = coordinator_handle(s->core, r, shell_now(s), &s->out, reply, err);
    if (st == STATUS_NOMEM || st == STATUS_CORRUPT)
        give_up(s, err);
out:
    return st;
}

static void take_request(struct shell *s, struct net_socket *socket, struct net_message *m) {
    struct message request;
    struct value *fields = NULL;
    struct err err = {.status = STATUS_OK};
    enum status st = message_parse(&s->tick, m->header.data, m->header.len, &request, &err);
    if (st == STATUS_OK && request.type->server != SERVER_COORDINATOR &&
        strcmp(request.type->op, "hello") != 0)
        st = err_set(&err, STATUS_INVALID, "%s is not for the coordinator", request.type->op);
    if (st == STATUS_OK)
        st = serve(s, request.header, m, socket, &fields, &err);
    struct value *answer = st == STATUS_OK ? message_reply(&s->tick, request.id)
                                           : message_failure(&s->tick, request.id, &err);
    for (size_t i = 0; st == STATUS_OK && fields != NULL && i < fields->count; i++)
        value_set(&s->tick, answer, fields->members[i].key, fields->members[i].value);
    add_answer(s, socket, &m->peer, answer);
}

static void take_all(struct shell *s, struct net_socket *socket) {
    while (s->answer_count < SHELL_BATCH_MAX && s->tick.bytes_used < TICK_BYTES &&
           s->fatal.status == STATUS_OK) {
        struct net_message m;
        bool got = false;
        struct err err;
        enum status st = net_receive(socket, &m, &got, &err);
        if (st != STATUS_OK && st != STATUS_INVALID) {
            give_up(s, &err);
            return;
        }
        if (st == STATUS_INVALID)
            add_answer(s, socket, &m.peer, message_failure(&s->tick, "", &err));
        else if (got)
            take_request(s, socket, &m);
        if (st == STATUS_OK && !got)
            return;
        net_message_release(&m);
    }
}

static void on_readable(void *arg) {
    struct shell *s = arg;
    for (size_t i = 0; i < s->socket_count; i++)
        take_all(s, s->sockets[i]);
    if (s->fatal.status == STATUS_OK)
        end_tick(s);
}

/* ---- children, signals, time ---- */

static void on_lost(void *arg, const char *token, const char *reason) {
    struct shell *s = arg;
    struct err err;
    const char *group = coordinator_launched(s->core, token);
    if (group != NULL &&
        coordinator_lost(s->core, group, reason, shell_now(s), &s->out, &err) != STATUS_OK)
        give_up(s, &err);
}

static void on_launch_failed(void *arg, int64_t ranks, const char *reason) {
    struct shell *s = arg;
    struct err err;
    log_line(LOG_ERROR, "cannot_launch", "ranks=%lld text=\"%s\"", (long long)ranks, reason);
    if (coordinator_launch_failed(s->core, ranks, reason, shell_now(s), &s->out, &err) != STATUS_OK)
        give_up(s, &err);
}

static void on_child(void *arg) {
    struct shell *s = arg;
    if (s->launcher == NULL)
        return;
    launcher_reap(s->launcher, clock_mono_ns(s->options.clock));
    if (s->fatal.status == STATUS_OK)
        end_tick(s);
}

static void on_signal(void *arg) {
    struct shell *s = arg;
    struct err err;
    begin_stop(s, "the coordinator was ended by a signal", &err);
    end_tick(s);
}

/* When all have left, or the time is over: the rest is interrupted, sweeps pause, groups go. */
static void interrupt(struct shell *s) {
    struct err err;
    enum status st = coordinator_interrupt(s->core, "the coordinator was shut down; resume goes on",
                                           shell_now(s), &s->out, &err);
    if (st == STATUS_OK)
        st = store_outbox(s, &err);
    if (st != STATUS_OK) {
        give_up(s, &err);
        return;
    }
    send_answers(s);
    send_notices(s);
    begin_tick(s);
    s->dismissed = true;
    s->stop_at_ns = clock_mono_ns(s->options.clock) + EXIT_MS * NS_PER_MS;
}

static bool all_gone(const struct shell *s) {
    return s->dismissed && coordinator_groups(s->core) == 0 &&
           (s->launcher == NULL || launcher_alive(s->launcher) == 0);
}

/* stopping: trials are left → interrupted: groups end → the loop ends. */
static void go_on_stopping(struct shell *s) {
    /* Without a tracker nobody can leave a trial in order. */
    bool late = clock_mono_ns(s->options.clock) >= s->stop_at_ns || session_lost(s->tracker);
    if (!s->dismissed && (late || coordinator_leases(s->core) == 0))
        interrupt(s);
    else if (s->dismissed && (late || all_gone(s)))
        loop_stop(s->loop);
}

static void on_timer(void *arg) {
    struct shell *s = arg;
    struct err err;
    if (session_pump(s->tracker, &err) != STATUS_OK) {
        give_up(s, &err);
        return;
    }
    /* What has arrived must be heard before anybody is called silent. */
    on_readable(s);
    if (s->stopping && s->fatal.status == STATUS_OK)
        go_on_stopping(s);
}

/* ---- life ---- */

static enum status open_sockets(struct shell *s, struct net *net, struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; i < s->options.endpoint_count; i++) {
        TRY(net_bind(net, NET_ROUTER, (struct net_place){s->options.endpoints[i], s->options.keys},
                     &s->sockets[s->socket_count], err));
        s->socket_count++;
        log_line(LOG_INFO, "listening", "endpoint=%s", s->options.endpoints[i]);
    }
    struct session_options session = {.endpoint = s->options.tracker,
                                      .keys = s->options.tracker_keys,
                                      .clock = s->options.clock,
                                      .on_answer = on_tracker_answer,
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
                                       .device = s->options.device,
                                       .placement = &s->options.placement,
                                       .coordinator = endpoint,
                                       .tracker = s->options.tracker};
    struct launcher_events events = {.lost = on_lost, .failed = on_launch_failed, .arg = s};
    s->launch_after_ns = 0;
    return launcher_new(&options, &events, &s->launcher, err);
}

enum status shell_new(struct net *net, const struct shell_options *options, struct shell **out,
                      struct err *err) {
    enum status st = STATUS_OK;
    struct shell *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the coordinator");
    s->options = *options;
    arena_init(&s->tick, TICK_ARENA_MAX);
    begin_tick(s);
    *out = s;
    TRY(coordinator_new(&options->core, &s->core, err));
    TRY(open_sockets(s, net, err));
    TRY(open_loop(s, err));
    TRY(open_launcher(s, err));
    TRY(restore_all(s, err));
    /* Sweeps that go on have had groups, and those are looking for us: here in a moment. */
    struct demand demand[COORDINATOR_DEMAND_MAX];
    if (coordinator_demand(s->core, demand) > 0)
        s->launch_after_ns = clock_mono_ns(s->options.clock) + ORPHAN_MS * NS_PER_MS;
    begin_tick(s);
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
    /* After an error of ours the groups stay: the next coordinator takes them over. Whoever was
     * told to end leaves nobody behind. */
    if ((st == STATUS_OK || s->stopping) && s->launcher != NULL)
        launcher_stop(s->launcher, STOP_GRACE_MS);
    return st;
}

void shell_destroy(struct shell **shell) {
    struct shell *s = *shell;
    if (s == NULL)
        return;
    launcher_destroy(&s->launcher);
    loop_destroy(&s->loop);
    (void)session_close(&s->tracker, 1000, NULL);
    for (size_t i = 0; i < s->socket_count; i++)
        net_close(&s->sockets[i]);
    coordinator_destroy(&s->core);
    arena_release(&s->tick);
    free(s->peers);
    free(s->peer_socket);
    free(s);
    *shell = NULL;
}
