/* The shell against a small tracker in a thread of its own, and a script of requests in another: what
 * is restored, what is stored before anybody is told, what happens while the tracker is away. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/shell/shell.h"
#include "core/json.h"
#include "wire/session.h"

#define SWEEPS_MAX 1200
#define EVENTS_MAX 3000
#define GROUP      "01J0000000000000000000000A"
#define PATIENCE   30000 /* ms: nothing here takes long */

#define CONFIG_OF(trials)                                                                          \
    "{\"name\":\"t\",\"searcher\":{\"name\":\"random\",\"max_trials\":" trials                     \
    ",\"max_time\":4},\"max_restarts\":2,\"data\":{\"train\":{\"format\":\"npy\",\"images\":"      \
    "\"a\",\"labels\":\"b\"},\"validation_split\":0.2},\"model\":[{\"dense\":{\"out\":2}}],"       \
    "\"training\":{\"loss\":\"cross_entropy\",\"optimizer\":{\"name\":\"sgd\",\"lr\":0.1},"        \
    "\"global_batch_size\":8}}"
#define CONFIG CONFIG_OF("3")
#define SUBMITTED_OF(trials)                                                                       \
    "{\"event\":\"sweep.submitted\",\"config\":" CONFIG_OF(trials) ",\"base\":\"/\"}"
#define SUBMITTED SUBMITTED_OF("3")

struct log {
    char id[ULID_TEXT];
    char *events[EVENTS_MAX];
    size_t count;
};

struct fixture {
    char dir[64], tracker[128], coordinator[128];
    struct net *net, *far_net; /* the shell's; the tracker's */
    struct net_socket *socket;
    pthread_t thread, script;
    bool scripted;
    atomic_bool end, mute; /* mute: takes nothing, answers nothing */
    struct log *logs;      /* ascending ids, as they were submitted */
    size_t log_count;
    const char *refuse;  /* an op that is answered with conflict */
    atomic_int posts[4]; /* run.log, run.update, sweep.update, event.append */
    struct shell *shell;
    struct err err, script_err;
    enum status script_status,
        (*play)(struct fixture *f, struct session *s, struct arena *a, struct err *err);
    atomic_int seen;    /* what a script has to say */
    size_t most_events; /* in one event.append */
    int64_t lease_ms;
    char text[640];
};

static const char *const counted[] = {"run.log", "run.update", "sweep.update", "event.append"};
enum { LOGGED, RUN_UPDATED, SWEEP_UPDATED, APPENDED };

static void nap(void) {
    (void)nanosleep(&(struct timespec){.tv_nsec = 2 * NS_PER_MS}, NULL);
}

/* ---- the tracker ---- */

static void sweep_id(size_t i, char out[ULID_TEXT]) {
    ulid_make(1790000000000 + (int64_t)i, 0, i, out);
}

static struct log *find_log(struct fixture *f, const char *id) {
    for (size_t i = 0; i < f->log_count; i++)
        if (strcmp(f->logs[i].id, id) == 0)
            return &f->logs[i];
    return NULL;
}

static struct log *add_log(struct fixture *f, const char *id, const char *first) {
    struct log *l = &f->logs[f->log_count++];
    (void)snprintf(l->id, sizeof l->id, "%s", id);
    if (first != NULL)
        l->events[l->count++] = strdup(first);
    return l;
}

static void add_event(struct log *l, const char *text) {
    l->events[l->count++] = strdup(text);
}

/* Newest first, as the tracker lists them. */
static void list_sweeps(struct fixture *f, struct arena *a, const struct value *r,
                        struct value *out) {
    int64_t limit = value_get_int(r, "limit", 100);
    struct value *list = value_list(a);
    for (size_t i = f->log_count; i-- > 0 && limit > 0; limit--) {
        struct value *v = value_map(a);
        value_set_string(a, v, "sweep", f->logs[i].id);
        value_push(a, list, v);
    }
    value_set(a, out, "sweeps", list);
}

static void read_events(struct fixture *f, struct arena *a, const struct value *r,
                        struct value *out) {
    const struct log *l = find_log(f, value_get_string(r, "sweep", ""));
    size_t after = (size_t)value_get_int(r, "after", 0),
           limit = (size_t)value_get_int(r, "limit", 0);
    struct value *list = value_list(a);
    for (size_t i = after; l != NULL && i < l->count && i < after + limit; i++) {
        struct value *e = NULL;
        if (json_parse(a, l->events[i], strlen(l->events[i]), "event", &e, NULL) == STATUS_OK)
            value_push(a, list, e);
    }
    value_set(a, out, "events", list);
    value_set_int(a, out, "first", list->count > 0 ? (int64_t)after + 1 : 0);
    value_set_int(a, out, "last", l != NULL ? (int64_t)l->count : 0);
}

static void append_events(struct fixture *f, struct arena *a, const struct value *r,
                          struct value *out) {
    struct log *l = find_log(f, value_get_string(r, "sweep", ""));
    const struct value *events = value_get(r, "events");
    if (l == NULL)
        l = add_log(f, value_get_string(r, "sweep", ""), NULL);
    if (events->count > f->most_events)
        f->most_events = events->count;
    for (size_t i = 0; i < events->count; i++) {
        struct buf text = BUF_INIT(1 << 20);
        if (value_get_int(r, "first", 0) + (int64_t)i == (int64_t)l->count + 1 &&
            json_dump(events->items[i], JSON_COMPACT, &text, NULL) == STATUS_OK)
            l->events[l->count++] = strdup(buf_text(&text));
        buf_release(&text);
    }
    value_set_int(a, out, "last", (int64_t)l->count);
}

static struct value *answer_of(struct fixture *f, struct arena *a, const struct message *in) {
    const char *op = in->type->op;
    struct err why;
    if (f->refuse != NULL && strcmp(op, f->refuse) == 0) {
        (void)err_set(&why, STATUS_CONFLICT, "somebody else writes here");
        return message_failure(a, in->id, &why);
    }
    struct value *out = message_reply(a, in->id);
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++)
        f->posts[i] += strcmp(op, counted[i]) == 0;
    if (strcmp(op, "sweep.list") == 0)
        list_sweeps(f, a, in->header, out);
    else if (strcmp(op, "event.read") == 0)
        read_events(f, a, in->header, out);
    else if (strcmp(op, "event.append") == 0)
        append_events(f, a, in->header, out);
    return out;
}

static void serve_one(struct fixture *f, struct net_message *m) {
    struct arena a;
    struct message in;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    arena_init(&a, (size_t)64 << 20);
    if (message_parse(&a, m->header.data, m->header.len, &in, NULL) == STATUS_OK &&
        json_dump(answer_of(f, &a, &in), JSON_COMPACT, &text, NULL) == STATUS_OK)
        (void)!net_send(f->socket,
                        &(struct net_outgoing){.peer = &m->peer, .header = {text.data, text.len}},
                        NULL);
    buf_release(&text);
    arena_release(&a);
}

static void *serve(void *arg) {
    struct fixture *f = arg;
    while (!f->end) {
        struct net_message m = {0};
        bool got = false;
        if (f->mute || net_receive(f->socket, &m, &got, NULL) != STATUS_OK || !got)
            nap();
        if (got)
            serve_one(f, &m);
        net_message_release(&m);
    }
    return NULL;
}

/* ---- the script ---- */

static void *run_script(void *arg) {
    struct fixture *f = arg;
    struct net *net = NULL;
    struct session *s = NULL;
    struct arena a;
    enum status st = STATUS_OK;
    struct err *err = &f->script_err;
    arena_init(&a, (size_t)256 << 20);
    struct session_options o = {.endpoint = f->coordinator, .clock = &clock_system};
    TRY(net_new(&net, err));
    TRY(session_open(net, &o, &s, err));
    TRY(f->play(f, s, &a, err));
out:
    f->script_status = st;
    if (st != STATUS_OK)
        (void)kill(getpid(), SIGTERM);
    if (s != NULL)
        (void)session_close(&s, 0, NULL);
    net_destroy(&net);
    arena_release(&a);
    return NULL;
}

static enum status ask(struct session *s, struct arena *a, struct value *request, int timeout_ms,
                       struct value **reply, struct err *err) {
    struct session_reply r = {.header = NULL};
    enum status st = session_call(
        s, a, &(struct session_ask){.request = request, .timeout_ms = timeout_ms}, &r, err);
    if (st == STATUS_OK && reply != NULL)
        *reply = r.header;
    session_reply_release(&r);
    return st;
}

static struct value *about(struct arena *a, const char *op, const char *sweep) {
    struct value *m = message_request(a, op, NULL);
    if (sweep != NULL)
        value_set_string(a, m, "sweep", sweep);
    return m;
}

static enum status submission(struct arena *a, struct value **out, struct err *err) {
    char id[ULID_TEXT];
    struct value *config = NULL;
    sweep_id(SWEEPS_MAX, id);
    enum status st = json_parse(a, CONFIG, strlen(CONFIG), "config", &config, err);
    *out = about(a, "sweep.submit", id);
    value_set(a, *out, "config", config);
    value_set_string(a, *out, "base", "/");
    return st;
}

static enum status shut_down(struct session *s, struct arena *a, struct err *err) {
    return ask(s, a, about(a, "coordinator.shutdown", NULL), PATIENCE, NULL, err);
}

/* ---- setup ---- */

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL); /* all threads: the shell's loop reads it */
    while (sigtimedwait(&set, NULL, &(struct timespec){.tv_nsec = 0}) > 0)
        ; /* one that the test before looked at, and left */
    if (f == NULL || (f->logs = calloc(SWEEPS_MAX + 1, sizeof *f->logs)) == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-shell-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    (void)snprintf(f->tracker, sizeof f->tracker, "ipc://%s/t", f->dir);
    (void)snprintf(f->coordinator, sizeof f->coordinator, "ipc://%s/c", f->dir);
    f->lease_ms = 15000;
    *state = f;
    return net_new(&f->net, &f->err) == STATUS_OK && net_new(&f->far_net, &f->err) == STATUS_OK &&
                   net_bind(f->far_net, NET_ROUTER, (struct net_place){f->tracker, NULL},
                            &f->socket, &f->err) == STATUS_OK &&
                   pthread_create(&f->thread, NULL, serve, f) == 0
               ? 0
               : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char command[96];
    f->mute = false;
    f->end = true;
    shell_destroy(&f->shell);
    (void)pthread_join(f->thread, NULL);
    net_close(&f->socket);
    net_destroy(&f->net);
    net_destroy(&f->far_net);
    for (size_t i = 0; i < f->log_count; i++)
        for (size_t k = 0; k < f->logs[i].count; k++)
            free(f->logs[i].events[k]);
    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    int rc = system(command);
    free(f->logs);
    free(f);
    return rc;
}

static enum status start(struct fixture *f) {
    struct shell_options o = {
        .clock = &clock_system,
        .endpoints = {f->coordinator},
        .endpoint_count = 1,
        .tracker = f->tracker,
        .home = f->dir,
        .lock = -1,
        .core = {.lease_ms = f->lease_ms, .beat_ms = 1000, .machine_slots = 4}};
    return shell_new(f->net, &o, &f->shell, &f->err);
}

/* The shell in this thread, a script in another, until the shell's end. */
static enum status run(struct fixture *f, enum status (*play)(struct fixture *f, struct session *s,
                                                              struct arena *a, struct err *err)) {
    f->play = play;
    if (start(f) != STATUS_OK)
        fail_msg("%s", f->err.text);
    assert_int_equal(pthread_create(&f->script, NULL, run_script, f), 0);
    enum status st = shell_run(f->shell, &f->err);
    (void)pthread_join(f->script, NULL);
    return st;
}

static void script_is_fine(const struct fixture *f) {
    if (f->script_status != STATUS_OK)
        fail_msg("%s", f->script_err.text);
}

/* ---- restoring ---- */

static enum status count_sweeps(struct fixture *f, struct session *s, struct arena *a,
                                struct err *err) {
    struct value *reply = NULL;
    enum status st = ask(s, a, about(a, "coordinator.status", NULL), PATIENCE, &reply, err);
    const struct value *sweeps = value_get(reply, "sweeps");
    for (size_t i = 0; st == STATUS_OK && i < sweeps->count; i++) {
        char id[ULID_TEXT];
        sweep_id(i, id);
        f->seen += strcmp(value_get_string(sweeps->items[i], "sweep", ""), id) == 0;
    }
    return st == STATUS_OK ? shut_down(s, a, err) : st;
}

/* More than any page of the tracker's own choice, in the order of their submission. */
static void all_active_sweeps_come_back(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < SWEEPS_MAX; i++) {
        char id[ULID_TEXT];
        sweep_id(i, id);
        (void)add_log(f, id, SUBMITTED);
    }
    assert_int_equal(run(f, count_sweeps), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, SWEEPS_MAX);
    for (size_t i = 0; i < SWEEPS_MAX; i++) { /* each is told that it pauses */
        assert_int_equal(f->logs[i].count, 2);
        assert_non_null(strstr(f->logs[i].events[1], "sweep.paused"));
    }
}

static enum status look_at_first(struct fixture *f, struct session *s, struct arena *a,
                                 struct err *err) {
    struct value *reply = NULL;
    char id[ULID_TEXT];
    sweep_id(0, id);
    enum status st = ask(s, a, about(a, "sweep.status", id), PATIENCE, &reply, err);
    const struct value *trials = value_at(reply, "sweep.trials");
    if (st == STATUS_OK)
        f->seen = trials->count == 1 ? (int)value_get_int(trials->items[0], "attempt", 0) : -1;
    return st == STATUS_OK ? shut_down(s, a, err) : st;
}

/* A log is read page by page, to its end. */
static void long_logs_are_read_to_their_end(void **state) {
    struct fixture *f = *state;
    char id[ULID_TEXT], run_id[ULID_TEXT], text[400];
    enum { ATTEMPTS = 1000 };
    sweep_id(0, id);
    struct log *l = add_log(f, id, SUBMITTED);
    for (int i = 1; i <= ATTEMPTS; i++) {
        ulid_make(1790000000000 + i, 1, (uint64_t)i, run_id);
        (void)snprintf(text, sizeof text,
                       "{\"event\":\"trial.assigned\",\"trial\":1,\"run\":\"%s\",\"epoch\":%d,"
                       "\"attempt\":%d,\"group\":\"" GROUP "\",\"hyperparameters\":{}}",
                       run_id, i, i);
        add_event(l, text);
        (void)snprintf(text, sizeof text,
                       "{\"event\":\"trial.ended\",\"trial\":1,\"run\":\"%s\",\"epoch\":%d,"
                       "\"state\":\"preempted\"}",
                       run_id, i);
        add_event(l, text);
    }
    assert_int_equal(run(f, look_at_first), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, ATTEMPTS);
}

/* One damaged log, between two that are whole, keeps nobody from going on; whoever asks for it is told. */
static enum status look_at_damaged(struct fixture *f, struct session *s, struct arena *a,
                                   struct err *err) {
    struct value *reply = NULL;
    char id[ULID_TEXT];
    enum status st = ask(s, a, about(a, "coordinator.status", NULL), PATIENCE, &reply, err);
    if (st != STATUS_OK)
        return st;
    f->seen = (int)value_get(reply, "sweeps")->count;
    sweep_id(1, id);
    struct err why;
    if (ask(s, a, about(a, "sweep.status", id), PATIENCE, &reply, &why) != STATUS_OK)
        (void)snprintf(f->text, sizeof f->text, "%s: %s", status_name(why.status), why.text);
    return shut_down(s, a, err);
}

static void a_damaged_log_stops_nobody(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < 3; i++) {
        char id[ULID_TEXT];
        sweep_id(i, id);
        struct log *l = add_log(f, id, SUBMITTED);
        if (i == 1)
            add_event(l, "{\"event\":\"trial.ended\",\"trial\":1,\"epoch\":1,\"state\":\"x\"}");
    }
    (void)run(f, look_at_damaged);
    script_is_fine(f);
    assert_int_equal(f->seen, 2);
    assert_non_null(strstr(f->text, "there is no such trial"));
}

static void an_empty_log_is_no_sweep(void **state) {
    struct fixture *f = *state;
    char id[ULID_TEXT];
    sweep_id(0, id);
    (void)add_log(f, id, NULL); /* sweep.create arrived, its first event did not */
    assert_int_equal(start(f), STATUS_OK);
}

/* ---- storing ---- */

static enum status submit(struct fixture *f, struct session *s, struct arena *a, struct err *err) {
    struct value *m = NULL;
    (void)f;
    enum status st = submission(a, &m, err);
    return st == STATUS_OK ? ask(s, a, m, PATIENCE, NULL, err) : st;
}

/* Somebody else writes the log: the end, and nobody is told that it worked. */
static enum status submit_in_vain(struct fixture *f, struct session *s, struct arena *a,
                                  struct err *err) {
    struct value *m = NULL;
    enum status st = submission(a, &m, err);
    if (st == STATUS_OK)
        f->seen = ask(s, a, m, 1500, NULL, NULL) == STATUS_OK;
    return st;
}

static void refused_events_are_the_end(void **state) {
    struct fixture *f = *state;
    f->refuse = "event.append";
    assert_int_equal(run(f, submit_in_vain), STATUS_CONFLICT);
    script_is_fine(f);
    assert_non_null(strstr(f->err.text, "the tracker refused events"));
    assert_int_equal(f->seen, 0);
}

/* While the tracker is away nobody is told what would not survive. */
static enum status submit_while_away(struct fixture *f, struct session *s, struct arena *a,
                                     struct err *err) {
    struct value *m = NULL;
    enum status st = submission(a, &m, err);
    f->mute = true;
    if (st == STATUS_OK)
        f->seen = ask(s, a, m, 1500, NULL, NULL) == STATUS_OK ? 1 : 0;
    f->mute = false;
    if (st == STATUS_OK)
        st = ask(s, a, m, PATIENCE, NULL, err); /* the same again: it has it by now, once */
    return st == STATUS_OK ? shut_down(s, a, err) : st;
}

static void answers_wait_for_the_tracker(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, submit_while_away), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, 0);
    assert_int_equal(f->log_count, 1);
    assert_int_equal(f->logs[0].count, 2);
    assert_non_null(strstr(f->logs[0].events[0], "sweep.submitted"));
    assert_non_null(strstr(f->logs[0].events[1], "sweep.paused"));
    assert_true(f->posts[SWEEP_UPDATED] > 0);
}

/* Very many leases whose groups do not come back end in one breath: stored in bounded pieces. */
enum { LEASES = 1300 };

static enum status await_expiry(struct fixture *f, struct session *s, struct arena *a,
                                struct err *err) {
    enum status st = STATUS_OK;
    struct value *reply = NULL;
    char id[ULID_TEXT];
    sweep_id(0, id);
    for (int i = 0; i < PATIENCE / 10 && f->seen == 0; i++) {
        struct value *m = about(a, "sweep.status", id);
        value_set_int(a, m, "limit", 1);
        TRY(ask(s, a, m, PATIENCE, &reply, err));
        f->seen = value_get_int(value_get(reply, "sweep"), "running", -1) == 0;
        nap();
    }
    TRY(shut_down(s, a, err));
out:
    return st;
}

static void many_events_are_stored_in_pieces(void **state) {
    struct fixture *f = *state;
    char id[ULID_TEXT], run_id[ULID_TEXT], text[400];
    sweep_id(0, id);
    struct log *l = add_log(f, id, SUBMITTED_OF("2000"));
    for (int i = 1; i <= LEASES; i++) {
        ulid_make(1790000000000 + i, 1, (uint64_t)i, run_id);
        (void)snprintf(text, sizeof text,
                       "{\"event\":\"trial.assigned\",\"trial\":%d,\"run\":\"%s\",\"epoch\":1,"
                       "\"attempt\":1,\"group\":\"%s\",\"hyperparameters\":{}}",
                       i, run_id, run_id);
        add_event(l, text);
    }
    f->lease_ms = 100;
    assert_int_equal(run(f, await_expiry), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, 1);
    assert_int_equal(f->most_events, 1000);
    assert_int_equal(l->count, 1 + LEASES + LEASES + 1);
    for (int i = 0; i < LEASES; i++)
        assert_non_null(strstr(l->events[1 + LEASES + i], "did not come back within 100 ms"));
    assert_true(f->posts[RUN_UPDATED] >= LEASES);
}

/* ---- ending ---- */

static void on_notice(void *arg, const struct message_type *type, const struct value *notice) {
    struct fixture *f = arg;
    (void)notice;
    f->seen += strcmp(type->op, "group.exit") == 0;
}

static struct value *hello_of(struct arena *a, const char *group) {
    struct value *hello = message_request(a, "group.hello", NULL);
    value_set_string(a, hello, "group", group);
    value_set_int(a, hello, "ranks", 1);
    value_set_string(a, hello, "host", "h");
    value_set_int(a, hello, "pid", 1);
    value_set_string(a, hello, "device", "cpu");
    value_set_string(a, hello, "build", "b");
    return hello;
}

static enum status be_a_group(struct fixture *f, struct session *s, struct arena *a,
                              struct err *err) {
    enum status st = STATUS_OK;
    struct session *mine = NULL;
    struct net *net = NULL;
    struct session_options o = {
        .endpoint = f->coordinator, .clock = &clock_system, .on_notice = on_notice, .arg = f};
    TRY(net_new(&net, err));
    TRY(session_open(net, &o, &mine, err));
    TRY(ask(mine, a, hello_of(a, GROUP), PATIENCE, NULL, err));
    f->mute = true;
    TRY(submit_in_vain(f, s, a, err)); /* now it waits for the tracker */
    f->seen = 0;
    (void)kill(getpid(), SIGTERM);
    for (int i = 0; i < PATIENCE / 50 && f->seen == 0; i++)
        TRY(session_wait(mine, 50, err));
out:
    if (mine != NULL)
        (void)session_close(&mine, 0, NULL);
    net_destroy(&net);
    return st;
}

/* Told to end while it waits for a tracker that is there and does not answer. */
static void a_signal_ends_the_start(void **state) {
    struct fixture *f = *state;
    f->mute = true;
    (void)kill(getpid(), SIGTERM);
    assert_int_equal(start(f), STATUS_UNAVAILABLE);
    assert_non_null(strstr(f->err.text, "did not answer"));
}

/* More groups than the shell first has room for: each is known by its own address. */
enum { MANY = 200 };

static enum status be_many(struct fixture *f, struct session *s, struct arena *a, struct err *err) {
    enum status st = STATUS_OK;
    struct session *mine = NULL;
    struct net *net = NULL;
    char id[ULID_TEXT];
    struct session_options o = {
        .endpoint = f->coordinator, .clock = &clock_system, .on_notice = on_notice, .arg = f};
    TRY(net_new(&net, err));
    TRY(session_open(net, &o, &mine, err));
    for (int i = 0; i < MANY; i++) { /* not in the order of their ids */
        (void)snprintf(id, sizeof id, "01J00000000000000000000%03u",
                       (unsigned)(i * 7 % MANY) % 1000U);
        TRY(ask(mine, a, hello_of(a, id), PATIENCE, NULL, err));
    }
    TRY(shut_down(s, a, err));
    for (int i = 0; i < PATIENCE / 50 && f->seen < MANY; i++)
        TRY(session_wait(mine, 50, err));
out:
    if (mine != NULL)
        (void)session_close(&mine, 0, NULL);
    net_destroy(&net);
    return st;
}

static void every_group_is_told(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, be_many), STATUS_OK);
    script_is_fine(f);
    assert_true(f->seen >= MANY); /* some are told twice: a notice may be lost */
}

/* No tracker: nothing can be stored, but groups are sent home, and the end is said to be what it is. */
static void groups_are_told_without_a_tracker(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, be_a_group), STATUS_UNAVAILABLE);
    script_is_fine(f);
    assert_int_equal(f->seen, 1);
    assert_non_null(strstr(f->err.text, "go on from their logs"));
}

/* ---- spools ---- */

/* What a group of this home could not say before it was killed. */
static void write_spool(struct fixture *f, char path[128]) {
    struct session *s = NULL;
    struct arena a;
    char dir[96], nobody[128];
    struct net *net = NULL;
    (void)snprintf(nobody, sizeof nobody, "ipc://%s/nobody", f->dir);
    (void)snprintf(dir, sizeof dir, "%s/cache", f->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    (void)snprintf(path, 128, "%.80s/worker-" GROUP ".spool", dir);
    arena_init(&a, 1 << 20);
    if (net_new(&net, &f->err) != STATUS_OK)
        fail_msg("%s", f->err.text);
    struct session_options o = {.endpoint = nobody, .spool = path, .clock = &clock_system};
    assert_int_equal(session_open(net, &o, &s, &f->err), STATUS_OK);
    struct value *m = message_request(&a, "run.update", NULL);
    value_set_string(&a, m, "run", GROUP);
    value_set_string(&a, m, "state", "failed");
    assert_int_equal(session_post(s, m, NET_NO_FRAMES, &f->err), STATUS_OK);
    (void)!session_close(&s, 0, &f->err);
    net_destroy(&net);
    arena_release(&a);
    assert_int_equal(access(path, F_OK), 0);
}

static enum status await_delivery(struct fixture *f, struct session *s, struct arena *a,
                                  struct err *err) {
    for (int i = 0; i < PATIENCE / 2 && (f->posts[RUN_UPDATED] == 0 || access(f->text, F_OK) == 0);
         i++)
        nap();
    f->seen = f->posts[RUN_UPDATED];
    return shut_down(s, a, err);
}

static void spools_are_delivered(void **state) {
    struct fixture *f = *state;
    char path[128];
    write_spool(f, path);
    (void)snprintf(f->text, sizeof f->text, "%s", path);
    assert_int_equal(run(f, await_delivery), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, 1);
    assert_int_not_equal(access(path, F_OK), 0);
    (void)strcat(path, ".bad");
    assert_int_not_equal(access(path, F_OK), 0); /* nor is it kept as what it is not */
}

static void what_is_no_spool_is_put_aside(void **state) {
    struct fixture *f = *state;
    char path[128], aside[140];
    write_spool(f, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("nothing that a spool would begin with, and long enough", file);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(aside, sizeof aside, "%s.bad", path);
    (void)snprintf(f->text, sizeof f->text, "%s", path);
    f->posts[RUN_UPDATED] = 1;
    assert_int_equal(run(f, await_delivery), STATUS_OK);
    assert_int_equal(access(aside, F_OK), 0);
}

/* ---- roles and requests ---- */

static enum status ask_nonsense(struct fixture *f, struct session *s, struct arena *a,
                                struct err *err) {
    struct err why;
    struct value *reply = NULL;
    char id[ULID_TEXT];
    sweep_id(7, id);
    f->seen = ask(s, a, about(a, "run.list", NULL), PATIENCE, &reply, &why) == STATUS_INVALID;
    f->seen += ask(s, a, about(a, "sweep.status", id), PATIENCE, &reply, &why) == STATUS_NOT_FOUND;
    f->seen += ask(s, a, about(a, "hello", NULL), PATIENCE, &reply, &why) == STATUS_OK &&
               strcmp(value_get_string(reply, "server", ""), "trireme-coordinator") == 0;
    enum status st = submit(f, s, a, err);
    return st == STATUS_OK ? shut_down(s, a, err) : st;
}

static void what_is_not_ours_is_refused(void **state) {
    struct fixture *f = *state;
    assert_int_equal(run(f, ask_nonsense), STATUS_OK);
    script_is_fine(f);
    assert_int_equal(f->seen, 3);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(all_active_sweeps_come_back),
        CASE(long_logs_are_read_to_their_end),
        CASE(a_damaged_log_stops_nobody),
        CASE(an_empty_log_is_no_sweep),
        CASE(refused_events_are_the_end),
        CASE(answers_wait_for_the_tracker),
        CASE(groups_are_told_without_a_tracker),
        CASE(many_events_are_stored_in_pieces),
        CASE(every_group_is_told),
        CASE(a_signal_ends_the_start),
        CASE(spools_are_delivered),
        CASE(what_is_no_spool_is_put_aside),
        CASE(what_is_not_ours_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
