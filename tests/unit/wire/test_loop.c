/* The loop: readiness, removal in mid-round, timers on a clock of the test's own, signals. */
#include "tests/unit/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/alloc_fail.h"
#include "wire/loop.h"

/* A clock that moves by `step_ns` each time it is read. */
struct fake {
    int64_t now_ns, step_ns;
};

static int64_t fake_now(void *self) {
    struct fake *f = self;
    f->now_ns += f->step_ns;
    return f->now_ns;
}

struct fixture {
    struct loop *loop;
    struct fake fake;
    struct err err;
    int fd[3];
    int calls[3];
    int stop_after;
    struct net *net;
    struct net_socket *server, *client;
};

#define OK(f, expr)                                                                                \
    do {                                                                                           \
        if ((expr) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #expr, (f)->err.text);                                              \
    } while (0)

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    f->fake.step_ns = NS_PER_MS;
    const struct clock clock = {.mono_ns = fake_now, .wall_ns = fake_now, .self = &f->fake};
    for (size_t i = 0; i < 3; i++)
        f->fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *state = f;
    return loop_new(&clock, &f->loop, &f->err) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    loop_destroy(&f->loop);
    loop_destroy(&f->loop);
    for (size_t i = 0; i < 3; i++)
        (void)close(f->fd[i]);
    free(f);
    return 0;
}

static void wake(const struct fixture *f, size_t i) {
    const uint64_t one = 1;
    assert_int_equal(write(f->fd[i], &one, sizeof one), sizeof one);
}

static void count_and_stop(struct fixture *f, size_t i) {
    f->calls[i]++;
    if (f->calls[0] + f->calls[1] + f->calls[2] >= f->stop_after)
        loop_stop(f->loop);
}

/* Level-triggered: what is not read comes again. */
static void on_first(void *arg) {
    count_and_stop(arg, 0);
}
static void on_second(void *arg) {
    count_and_stop(arg, 1);
}
static void on_third(void *arg) {
    count_and_stop(arg, 2);
}

static void test_descriptors(void **state) {
    struct fixture *f = *state;
    OK(f, loop_add_fd(f->loop, f->fd[0], on_first, f, &f->err));
    OK(f, loop_add_fd(f->loop, f->fd[1], on_second, f, &f->err));
    OK(f, loop_add_fd(f->loop, f->fd[2], on_third, f, &f->err));
    wake(f, 0);
    wake(f, 2);
    f->stop_after = 6;
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 3);
    assert_int_equal(f->calls[1], 0);
    assert_int_equal(f->calls[2], 3);
}

static void remove_second(void *arg) {
    struct fixture *f = arg;
    loop_remove_fd(f->loop, f->fd[1]);
    loop_remove_fd(f->loop, f->fd[0]);
    OK(f, loop_add_fd(f->loop, f->fd[2], on_third, f, &f->err));
    f->calls[0]++;
}

/* A source that is removed by another one's callback is not called in the same round any more. */
static void test_remove_in_round(void **state) {
    struct fixture *f = *state;
    OK(f, loop_add_fd(f->loop, f->fd[0], remove_second, f, &f->err));
    OK(f, loop_add_fd(f->loop, f->fd[1], on_second, f, &f->err));
    for (size_t i = 0; i < 3; i++)
        wake(f, i);
    f->stop_after = 3;
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 1);
    assert_int_equal(f->calls[1], 0);
    assert_int_equal(f->calls[2], 2);
    loop_remove_fd(f->loop, -1);
    loop_remove_socket(f->loop, NULL);
}

static void test_stop_before_run(void **state) {
    struct fixture *f = *state;
    OK(f, loop_add_fd(f->loop, f->fd[0], on_first, f, &f->err));
    wake(f, 0);
    loop_stop(f->loop);
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 0);
    f->stop_after = 1; /* and it may run again */
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 1);
}

/* ---- timers ---- */

static void test_timers(void **state) {
    struct fixture *f = *state;
    f->fake.step_ns = NS_PER_MS;
    OK(f, loop_add_timer(f->loop, 10, on_first, f, &f->err));
    OK(f, loop_add_timer(f->loop, 40, on_second, f, &f->err));
    f->stop_after = 25;
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 20);
    assert_int_equal(f->calls[1], 5);
}

static void jump(void *arg) {
    struct fixture *f = arg;
    uint64_t n;
    assert_int_equal(read(f->fd[0], &n, sizeof n), sizeof n);
    f->fake.now_ns += 1000 * NS_PER_S;
    f->calls[1]++;
}

/* A machine that slept through a thousand periods gets one call, then goes on in step. */
static void test_missed_periods(void **state) {
    struct fixture *f = *state;
    f->fake.step_ns = 1;
    OK(f, loop_add_timer(f->loop, 1000, on_third, f, &f->err));
    OK(f, loop_add_fd(f->loop, f->fd[0], jump, f, &f->err));
    wake(f, 0);
    f->stop_after = 2;
    int64_t before = f->fake.now_ns;
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[1], 1);
    assert_int_equal(f->calls[2], 1);
    assert_true(f->fake.now_ns - before < 1001 * NS_PER_S);
}

static void test_bad_timers(void **state) {
    struct fixture *f = *state;
    assert_int_equal(loop_add_timer(f->loop, 0, on_first, f, &f->err), STATUS_INVALID);
    assert_int_equal(loop_add_timer(f->loop, INT64_MAX, on_first, f, &f->err), STATUS_INVALID);
    enum status st = STATUS_OK;
    int added = 0;
    for (; st == STATUS_OK && added < 1000; added++)
        st = loop_add_timer(f->loop, 1, on_first, f, &f->err);
    assert_int_equal(st, STATUS_FULL);
}

static void test_full(void **state) {
    struct fixture *f = *state;
    assert_int_equal(loop_add_fd(f->loop, -1, on_first, f, &f->err), STATUS_INVALID);
    enum status st = STATUS_OK;
    int added = 0;
    for (; st == STATUS_OK && added < 1000; added++)
        st = loop_add_fd(f->loop, f->fd[1], on_second, f, &f->err);
    assert_int_equal(st, STATUS_FULL);
    loop_remove_fd(f->loop, f->fd[1]); /* all of them; the slots come back */
    f->stop_after = 1;
    OK(f, loop_add_timer(f->loop, 1, on_first, f, &f->err));
    OK(f, loop_run(f->loop, &f->err));
    OK(f, loop_add_fd(f->loop, f->fd[1], on_second, f, &f->err));
}

/* ---- signals ---- */

static void test_signals(void **state) {
    struct fixture *f = *state;
    OK(f, loop_add_signal(f->loop, SIGUSR1, on_first, f, &f->err));
    OK(f, loop_add_signal(f->loop, SIGTERM, on_second, f, &f->err));
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    f->stop_after = 2;
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[0], 1);
    assert_int_equal(f->calls[1], 1);
    assert_int_equal(loop_add_signal(f->loop, 12345, on_first, f, &f->err), STATUS_INVALID);
}

/* ---- sockets ---- */

static void on_request(void *arg) {
    struct fixture *f = arg;
    struct net_message m;
    bool got;
    OK(f, net_receive(f->server, &m, &got, &f->err));
    if (got)
        OK(f, net_send(
                  f->server,
                  &(struct net_outgoing){.peer = &m.peer, .header = {m.header.data, m.header.len}},
                  &f->err));
    net_message_release(&m);
    f->calls[0]++;
}

static void on_reply(void *arg) {
    struct fixture *f = arg;
    struct net_message m;
    bool got;
    OK(f, net_receive(f->client, &m, &got, &f->err));
    if (got && ++f->calls[1] == 100)
        loop_stop(f->loop);
    net_message_release(&m);
}

static void test_sockets(void **state) {
    struct fixture *f = *state;
    OK(f, net_new(&f->net, &f->err));
    OK(f, net_bind(f->net, NET_ROUTER, (struct net_place){"inproc://loop", NULL}, &f->server,
                   &f->err));
    OK(f, net_connect(f->net, NET_DEALER, (struct net_place){"inproc://loop", NULL}, &f->client,
                      &f->err));
    OK(f, loop_add_socket(f->loop, f->server, on_request, f, &f->err));
    OK(f, loop_add_socket(f->loop, f->client, on_reply, f, &f->err));
    for (int i = 0; i < 100; i++)
        OK(f, net_send(f->client, &(struct net_outgoing){.header = {"x", 1}}, &f->err));
    OK(f, loop_run(f->loop, &f->err));
    assert_int_equal(f->calls[1], 100);
    loop_remove_socket(f->loop, f->server);
    loop_remove_socket(f->loop, f->client);
    net_close(&f->server);
    net_close(&f->client);
    net_destroy(&f->net);
}

/* ---- memory ---- */

static enum status new_scenario(void *arg) {
    (void)arg;
    struct loop *l = NULL;
    enum status st = loop_new(&clock_system, &l, NULL);
    loop_destroy(&l);
    return st;
}

static void test_memory(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(new_scenario, NULL), 1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_descriptors),
        T(test_remove_in_round),
        T(test_stop_before_run),
        T(test_timers),
        T(test_missed_periods),
        T(test_bad_timers),
        T(test_full),
        T(test_signals),
        T(test_sockets),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
