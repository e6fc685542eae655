/* All trials of a sweep, page by page, from a small coordinator in another thread: the status that it gives
 * holds the newest ones alone. */
#include "tests/unit/cmocka_all.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/follow.h"
#include "core/json.h"

#define SWEEP "01ARZ3NDEKTSV4RRFFQ69G5FAV"

struct fake {
    char dir[64], endpoint[128];
    int64_t trials, page; /* numbered from 1; at most so many in an answer */
    struct net *net;
    pthread_t thread;
    atomic_bool stop;
    atomic_int asked, wrong; /* requests; those that were not what follow promises */
    atomic_int mute;         /* so many requests stay unanswered */
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static struct value *answer(struct fake *f, struct arena *a, const struct value *request,
                            const char *id) {
    struct value *reply = message_reply(a, id), *sweep = value_map(a), *trials = value_list(a);
    int64_t after = value_get_int(request, "after", -1), last = after;
    bool right = after >= 0 && strcmp(value_get_string(request, "sweep", ""), SWEEP) == 0;
    f->wrong += !right;
    for (int64_t i = after + 1; i <= f->trials && i <= after + f->page; i++) {
        struct value *t = value_map(a);
        value_set_int(a, t, "trial", i);
        value_push(a, trials, t);
        last = i;
    }
    value_set(a, sweep, "trials", trials);
    value_set_bool(a, sweep, "more", last < f->trials);
    value_set(a, reply, "sweep", sweep);
    return reply;
}

static void serve_one(struct fake *f, struct net_socket *socket) {
    struct net_message m = {0};
    bool got = false;
    struct arena a;
    struct message in;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    arena_init(&a, (size_t)16 << 20);
    if (net_receive(socket, &m, &got, NULL) == STATUS_OK && got &&
        message_parse(&a, m.header.data, m.header.len, &in, NULL) == STATUS_OK) {
        bool asks = strcmp(in.type->op, "sweep.status") == 0;
        f->asked += asks;
        struct value *reply = asks ? answer(f, &a, in.header, in.id) : message_reply(&a, in.id);
        if (asks && f->mute > 0)
            f->mute--;
        else if (json_dump(reply, JSON_COMPACT, &text, NULL) == STATUS_OK)
            (void)!net_send(
                socket, &(struct net_outgoing){.peer = &m.peer, .header = {text.data, text.len}},
                NULL);
    }
    net_message_release(&m);
    buf_release(&text);
    arena_release(&a);
}

static void *serve(void *arg) {
    struct fake *f = arg;
    struct net_socket *socket = NULL;
    bool readable;
    if (net_bind(f->net, NET_ROUTER, (struct net_place){f->endpoint, NULL}, &socket, NULL) !=
        STATUS_OK)
        return NULL;
    while (!f->stop)
        if (net_wait(socket, 20, &readable, NULL) == STATUS_OK && readable)
            serve_one(f, socket);
    net_close(&socket);
    return NULL;
}

/* The trials that the client has in the end, and what it asked for. */
static void read_trials(int64_t trials, int64_t page, int mute, int asked) {
    struct fake f = {
        .trials = trials, .page = page, .mute = mute, .dir = "/tmp/trireme-test-XXXXXX"};
    struct cli cli = {.home = "/nonexistent", .exit_code = -1};
    struct arena a;
    struct err err;
    arena_init(&a, (size_t)64 << 20);
    assert_non_null(mkdtemp(f.dir));
    (void)snprintf(f.endpoint, sizeof f.endpoint, "ipc://%s/s", f.dir);
    must(net_new(&f.net, &err), &err);
    must(net_new(&cli.net, &err), &err);
    assert_int_equal(pthread_create(&f.thread, NULL, serve, &f), 0);
    struct session_options options = {.endpoint = f.endpoint, .clock = &clock_system};
    must(session_open(cli.net, &options, &cli.coordinator, &err), &err);

    struct value *status = value_map(&a), *newest = value_list(&a);
    value_push(&a, newest, value_map(&a));
    value_set(&a, status, "trials", newest);
    must(follow_read_trials(&cli, &a, SWEEP, status, &err), &err);
    const struct value *all = value_get(status, "trials");
    assert_int_equal(all->count, trials);
    for (size_t i = 0; i < all->count; i++)
        assert_int_equal(value_get_int(all->items[i], "trial", 0), (int64_t)i + 1);
    assert_true(f.asked >= asked);
    assert_true(mute > 0 || f.asked == asked);
    assert_int_equal(f.wrong, 0);

    (void)session_close(&cli.coordinator, 0, NULL);
    f.stop = true;
    (void)pthread_join(f.thread, NULL);
    net_destroy(&cli.net);
    net_destroy(&f.net);
    (void)unlink(f.endpoint + strlen("ipc://"));
    assert_int_equal(rmdir(f.dir), 0);
    arena_release(&a);
}

static void every_trial_is_read_once(void **state) {
    (void)state;
    read_trials(0, 10, 0, 1);  /* an empty page is the last */
    read_trials(7, 10, 0, 1);  /* one page */
    read_trials(10, 10, 0, 1); /* exactly one */
    read_trials(11, 10, 0, 2); /* one trial over */
    read_trials(35, 10, 0, 4); /* the coordinator may give less than was asked for */
}

static void a_coordinator_that_is_away_is_asked_again(void **state) {
    (void)state;
    read_trials(15, 10, 1, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trial_is_read_once),
        cmocka_unit_test(a_coordinator_that_is_away_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
