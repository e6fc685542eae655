/* Connections that come in over tcp: ended when they fill the memory, and when their key is taken
 * back. Real sockets, without ZeroMQ. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "tests/unit/cmocka_all.h"
#include "wire/net_guard.h"

#define KEY_A "0123456789abcdefghijABCDEFGHIJ0123456789"
#define KEY_B "9876543210abcdefghijABCDEFGHIJ0123456789"

struct fixture {
    struct guard *g;
    struct err err;
    char dir[64];
    int listener;
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-guard-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(guard_new(&f->g, &f->err), STATUS_OK);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    guard_destroy(&f->g);
    (void)close(f->listener);
    (void)nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

struct pair {
    int theirs, ours; /* the client's end, the server's */
};

static struct pair come_in(struct fixture *f) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    struct pair p = {.theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(connect(p.theirs, (struct sockaddr *)&a, sizeof a), 0);
    int fd = accept(f->listener, NULL, NULL);
    p.ours = fcntl(fd, F_DUPFD_CLOEXEC, 100); /* a number that nobody else takes */
    (void)close(fd);
    assert_true(p.ours >= 0);
    guard_accepted(f->g, 0, p.ours);
    return p;
}

static void leave(struct fixture *f, struct pair *p) {
    guard_closed(f->g, p->ours);
    (void)close(p->ours);
    (void)close(p->theirs);
}

/* Through the connection and out of the kernel, as libzmq would take it. False: it was ended. */
static bool pass_bytes(struct pair *p, size_t len) {
    static char block[1 << 16];
    while (len > 0) {
        size_t n = len < sizeof block ? len : sizeof block;
        if (send(p->theirs, block, n, MSG_NOSIGNAL) != (ssize_t)n ||
            recv(p->ours, block, n, MSG_WAITALL) != (ssize_t)n)
            return false;
        len -= n;
    }
    return true;
}

static bool is_open(const struct pair *p) {
    char c;
    return recv(p->theirs, &c, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static void allow(const struct fixture *f, const char *name, const char *text) {
    char path[128];
    struct err err;
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(path_write(path, text, strlen(text), 0600, &err), STATUS_OK);
}

static void messages_without_an_end(void **state) {
    struct fixture *f = *state;
    const size_t step = (size_t)32 << 20;
    struct pair bad = come_in(f), good = come_in(f);
    size_t sent = 0;
    for (; is_open(&bad) && sent < 2 * GUARD_BYTES_MAX; sent += step) {
        assert_true(pass_bytes(&bad, step));
        assert_true(pass_bytes(&good, step));
        guard_heard(f->g, good.ours, "viewer " KEY_A);
        guard_tick(f->g);
    }
    assert_true(sent > GUARD_BYTES_MAX && sent <= GUARD_BYTES_MAX + 2 * step);
    assert_false(is_open(&bad));
    assert_true(is_open(&good)); /* as much, but its messages end */
    leave(f, &bad);
    leave(f, &good);
}

static void all_together(void **state) {
    struct fixture *f = *state;
    enum { COUNT = 4 };
    struct pair p[COUNT];
    int open = 0;
    for (int i = 0; i < COUNT; i++)
        p[i] = come_in(f);
    for (int i = 0; i < COUNT; i++)
        assert_true(pass_bytes(&p[i], ((size_t)140 + (size_t)i) << 20));
    guard_tick(f->g);
    for (int i = 0; i < COUNT; i++)
        open += is_open(&p[i]);
    assert_int_equal(open, COUNT - 1);
    assert_false(is_open(&p[COUNT - 1])); /* the one with the most */
    guard_tick(f->g);
    assert_true(is_open(&p[0]));
    for (int i = 0; i < COUNT; i++)
        leave(f, &p[i]);
}

static void look(struct fixture *f) {
    for (int i = 0; i < GUARD_KEYS_EVERY; i++)
        guard_tick(f->g);
}

static void keys_are_taken_back(void **state) {
    struct fixture *f = *state;
    char path[128];
    allow(f, "a", KEY_A " viewer a\n");
    allow(f, "b", KEY_B " submitter b\n");
    guard_add_keys(f->g, 0, f->dir);
    struct pair a = come_in(f), b = come_in(f), silent = come_in(f);
    struct pair a2 = come_in(f);
    struct net_revoked r;
    guard_heard(f->g, a.ours, "viewer " KEY_A " Ann's laptop");
    guard_heard(f->g, a2.ours, "viewer " KEY_A " Ann's laptop");
    guard_heard(f->g, b.ours, "submitter " KEY_B);
    look(f);
    assert_true(is_open(&a) && is_open(&a2) && is_open(&b) && is_open(&silent));
    assert_false(guard_take_revoked(f->g, &r));
    (void)snprintf(path, sizeof path, "%s/a", f->dir);
    assert_int_equal(unlink(path), 0);
    look(f);
    assert_false(is_open(&a) || is_open(&a2));
    assert_true(is_open(&b));
    assert_false(is_open(&silent)); /* it may have been a's */
    assert_true(guard_take_revoked(f->g, &r));
    assert_string_equal(r.key, KEY_A);
    assert_string_equal(r.name, "Ann's laptop");
    assert_int_equal(r.role, NET_VIEWER);
    assert_int_equal(r.connections, 2);
    assert_false(guard_take_revoked(f->g, &r));
    struct pair later = come_in(f);
    look(f);
    assert_true(is_open(&later));
    allow(f, "b", KEY_B " viewer b, who may less now\n");
    look(f);
    assert_false(is_open(&b));
    look(f);
    assert_true(guard_take_revoked(f->g, &r));
    assert_string_equal(r.key, KEY_B);
    assert_string_equal(r.name, "");
    assert_int_equal(r.role, NET_SUBMITTER);
    assert_false(guard_take_revoked(f->g, &r));
    leave(f, &a);
    leave(f, &a2);
    leave(f, &b);
    leave(f, &silent);
    leave(f, &later);
}

static void numbers_are_used_again(void **state) {
    struct fixture *f = *state;
    struct pair first = come_in(f);
    (void)close(first.ours); /* closed, and nobody has said so yet */
    struct pair second = come_in(f);
    assert_int_equal(second.ours, first.ours);
    guard_closed(f->g, first.ours); /* of the first */
    allow(f, "a", KEY_A " viewer a\n");
    guard_add_keys(f->g, 0, f->dir);
    guard_heard(f->g, second.ours, "viewer " KEY_A);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/a", f->dir);
    assert_int_equal(unlink(path), 0);
    look(f);
    assert_false(is_open(&second));
    leave(f, &second);
    (void)close(first.theirs);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(messages_without_an_end),
        T(all_together),
        T(keys_are_taken_back),
        T(numbers_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
