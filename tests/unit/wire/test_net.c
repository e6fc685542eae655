/* Real sockets: ipc in a directory of our own, tcp on loopback with CURVE. Foreign peers are raw
 * ZeroMQ sockets: what a stranger may send is not what net.c would. */
#include "tests/unit/cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "wire/net.h"

#define WAIT_MS 60000 /* a failure, not a measure: nothing here takes so long */

struct fixture {
    char dir[64];
    char endpoint[128];
    struct net *net;
    struct err err;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-net-XXXXXX");
    if (mkdtemp(f->dir) == NULL || net_new(&f->net, &f->err) != STATUS_OK)
        return -1;
    (void)snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/a.sock", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    net_destroy(&f->net);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    int rc = system(command);
    free(f);
    return rc;
}

#define OK(f, expr)                                                                                \
    do {                                                                                           \
        if ((expr) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #expr, (f)->err.text);                                              \
    } while (0)

static struct net_socket *bind_at(struct fixture *f, enum net_kind kind) {
    struct net_socket *s = NULL;
    OK(f, net_bind(f->net, kind, (struct net_place){f->endpoint, NULL}, &s, &f->err));
    return s;
}

static struct net_socket *connect_to(struct fixture *f, enum net_kind kind) {
    struct net_socket *s = NULL;
    OK(f, net_connect(f->net, kind, (struct net_place){f->endpoint, NULL}, &s, &f->err));
    return s;
}

static void say(struct fixture *f, struct net_socket *s, const char *text) {
    OK(f, net_send(s, &(struct net_outgoing){.header = {text, strlen(text)}}, &f->err));
}

/* Waits for the next message, or for what is answered instead of it. */
static enum status hear_any(struct fixture *f, struct net_socket *s, struct net_message *m) {
    for (;;) {
        bool readable = false, got = false;
        OK(f, net_wait(s, WAIT_MS, &readable, &f->err));
        if (!readable)
            fail_msg("nothing came");
        enum status st = net_receive(s, m, &got, &f->err);
        if (got || st != STATUS_OK)
            return st;
    }
}

static void hear(struct fixture *f, struct net_socket *s, struct net_message *m, const char *text) {
    OK(f, hear_any(f, s, m));
    assert_int_equal(m->header.len, strlen(text));
    assert_memory_equal(m->header.data, text, strlen(text));
}

/* ---- ipc ---- */

static void test_round_trip(void **state) {
    struct fixture *f = *state;
    struct net_socket *client = connect_to(f, NET_DEALER); /* before the server is there */
    static const double column[] = {1.5, -0.0};
    const struct net_frame frames[] = {{column, sizeof column}, {"", 0}};
    OK(f, net_send(client, &(struct net_outgoing){.header = {"{}", 2}, .frames = {frames, 2}},
                   &f->err));

    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct net_message m;
    hear(f, server, &m, "{}");
    assert_true(m.peer.len > 0 && !m.peer.delimiter);
    assert_int_equal(m.role, NET_ADMIN);
    assert_int_equal(m.frame_count, 2);
    assert_int_equal(m.frames[0].len, sizeof column);
    assert_memory_equal(m.frames[0].data, column, sizeof column);
    assert_int_equal(m.frames[1].len, 0);
    OK(f, net_send(
              server,
              &(struct net_outgoing){.peer = &m.peer, .header = {"[1]", 3}, .frames = {frames, 1}},
              &f->err));
    net_message_release(&m);
    net_message_release(&m);

    hear(f, client, &m, "[1]");
    assert_int_equal(m.peer.len, 0);
    assert_int_equal(m.frame_count, 1);
    net_message_release(&m);
    net_close(&client);
    net_close(&client);
    net_close(&server);
}

static void test_nothing_there(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct net_message m;
    bool got = true, readable = true;
    OK(f, net_receive(server, &m, &got, &f->err));
    assert_false(got);
    OK(f, net_wait(server, 0, &readable, &f->err));
    assert_false(readable);
    char where[NET_ENDPOINT_MAX];
    OK(f, net_endpoint(server, where, &f->err));
    assert_string_equal(where, f->endpoint);
    net_close(&server);
}

static void test_peer_gone(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER), *client = connect_to(f, NET_DEALER);
    struct net_message m;
    say(f, client, "hello");
    hear(f, server, &m, "hello");
    net_close(&client);
    enum status st = STATUS_OK;
    for (int i = 0; i < WAIT_MS && st != STATUS_NOT_FOUND; i++) {
        bool readable;
        st = net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {"x", 1}}, &f->err);
        OK(f, net_wait(server, 1, &readable, &f->err));
    }
    assert_int_equal(st, STATUS_NOT_FOUND);
    const struct net_peer nobody = {.id = {1, 2, 3}, .len = 3}, empty = {.len = 0};
    assert_int_equal(
        net_send(server, &(struct net_outgoing){.peer = &nobody, .header = {"x", 1}}, &f->err),
        STATUS_NOT_FOUND);
    assert_int_equal(
        net_send(server, &(struct net_outgoing){.peer = &empty, .header = {"x", 1}}, &f->err),
        STATUS_NOT_FOUND);
    net_message_release(&m);
    net_close(&server);
}

/* A server that can be over and done with: net_close alone comes to an end in the background. */
static struct net_socket *bind_apart(struct fixture *f, struct net **net) {
    struct net_socket *s = NULL;
    OK(f, net_new(net, &f->err));
    OK(f, net_bind(*net, NET_ROUTER, (struct net_place){f->endpoint, NULL}, &s, &f->err));
    return s;
}

/* Sends until the socket refuses: its one connection is over. */
static void expect_over(struct fixture *f, struct net_socket *once) {
    enum status st = STATUS_OK;
    for (int i = 0; i < WAIT_MS && st == STATUS_OK; i++) {
        bool readable;
        st = net_send(once, &(struct net_outgoing){.header = {"x", 1}}, &f->err);
        OK(f, net_wait(once, 1, &readable, &f->err));
    }
    assert_int_equal(st, STATUS_FULL);
}

static void test_dealer_once(void **state) {
    struct fixture *f = *state;
    struct net *apart = NULL;
    struct net_socket *server = bind_apart(f, &apart), *once = connect_to(f, NET_DEALER_ONCE);
    struct net_message m;
    say(f, once, "hello");
    hear(f, server, &m, "hello");
    OK(f, net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {"yes", 3}}, &f->err));
    net_message_release(&m);
    hear(f, once, &m, "yes");
    net_message_release(&m);
    net_close(&server);
    net_destroy(&apart);
    server = bind_at(f, NET_ROUTER); /* a new server at the same place is not spoken to */
    expect_over(f, once);
    net_close(&once);
    net_close(&server);
}

static void test_queue_full(void **state) {
    struct fixture *f = *state;
    struct net_socket *client = connect_to(f, NET_DEALER);
    const struct net_frame frame = {"0123456789", 10};
    for (int i = 0; i < NET_QUEUE_MAX; i++)
        OK(f, net_send(client, &(struct net_outgoing){.header = {"x", 1}, .frames = {&frame, 1}},
                       &f->err));
    assert_int_equal(net_send(client,
                              &(struct net_outgoing){.header = {"x", 1}, .frames = {&frame, 1}},
                              &f->err),
                     STATUS_FULL);

    /* All of them arrive, whole and no one twice, once somebody listens. */
    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct net_message m;
    for (int i = 0; i < NET_QUEUE_MAX; i++) {
        hear(f, server, &m, "x");
        assert_int_equal(m.frame_count, 1);
        net_message_release(&m);
    }
    OK(f, net_send(client, &(struct net_outgoing){.header = {"y", 1}}, &f->err));
    hear(f, server, &m, "y");
    net_message_release(&m);
    net_close(&client);
    net_close(&server);
}

/* A client that does not read fills its own queue, not the server. */
static void test_slow_reader(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER), *client = connect_to(f, NET_DEALER);
    struct net_message m;
    say(f, client, "hello");
    hear(f, server, &m, "hello");
    static char big[4096];
    enum status st = STATUS_OK;
    int sent = 0;
    while (st == STATUS_OK && sent < 100 * NET_QUEUE_MAX) {
        st = net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {big, sizeof big}},
                      &f->err);
        sent += st == STATUS_OK;
    }
    assert_int_equal(st, STATUS_FULL);
    struct net_peer peer = m.peer;
    net_message_release(&m);
    for (int i = 0; i < sent; i++) {
        OK(f, hear_any(f, client, &m));
        net_message_release(&m);
    }
    OK(f, net_send(server, &(struct net_outgoing){.peer = &peer, .header = {"end", 3}}, &f->err));
    hear(f, client, &m, "end");
    net_message_release(&m);
    net_close(&client);
    net_close(&server);
}

static void test_send_bounds(void **state) {
    struct fixture *f = *state;
    struct net_socket *client = connect_to(f, NET_DEALER);
    char *big = calloc(1, NET_FRAME_MAX + 1);
    assert_non_null(big);
    const struct net_frame frame = {big, NET_FRAME_MAX + 1};
    struct net_frame many[NET_FRAMES_MAX + 1] = {{NULL, 0}};
    const struct net_peer peer = {.id = {1}, .len = 1};
    struct err *e = &f->err;
    assert_int_equal(
        net_send(client, &(struct net_outgoing){.header = {big, NET_HEADER_MAX + 1}}, e),
        STATUS_TOO_LARGE);
    assert_int_equal(
        net_send(client, &(struct net_outgoing){.header = {"x", 1}, .frames = {&frame, 1}}, e),
        STATUS_TOO_LARGE);
    assert_int_equal(
        net_send(client,
                 &(struct net_outgoing){.header = {"x", 1}, .frames = {many, NET_FRAMES_MAX + 1}},
                 e),
        STATUS_TOO_LARGE);
    assert_int_equal(net_send(client, &(struct net_outgoing){.peer = &peer, .header = {"x", 1}}, e),
                     STATUS_INTERNAL);
    assert_int_equal(
        net_send(client, &(struct net_outgoing){.topic = "topic", .header = {"x", 1}}, e),
        STATUS_INTERNAL);
    assert_int_equal(net_subscribe(client, "run.", e), STATUS_INVALID);
    free(big);
    net_close(&client);
}

/* ---- strangers ---- */

struct stranger {
    void *ctx, *zmq;
};

static struct stranger stranger_new(struct fixture *f, int type, const char *identity) {
    struct stranger s = {.ctx = zmq_ctx_new()};
    int linger = 0;
    s.zmq = zmq_socket(s.ctx, type);
    (void)zmq_setsockopt(s.zmq, ZMQ_LINGER, &linger, sizeof linger);
    if (identity != NULL)
        (void)zmq_setsockopt(s.zmq, ZMQ_ROUTING_ID, identity, strlen(identity));
    assert_int_equal(zmq_connect(s.zmq, f->endpoint), 0);
    return s;
}

static void stranger_end(struct stranger *s) {
    (void)zmq_close(s->zmq);
    (void)zmq_ctx_term(s->ctx);
}

static void throw_part(struct stranger *s, const void *data, size_t len, bool more) {
    assert_int_equal(zmq_send(s->zmq, data, len, more ? ZMQ_SNDMORE : 0), (int)len);
}

static void expect_invalid(struct fixture *f, struct net_socket *server, bool with_peer,
                           const char *words) {
    struct net_message m;
    assert_int_equal(hear_any(f, server, &m), STATUS_INVALID);
    if (strstr(f->err.text, words) == NULL)
        fail_msg("'%s' does not say '%s'", f->err.text, words);
    assert_int_equal(m.peer.len > 0, with_peer);
    assert_null(m.parts);
    if (with_peer)
        OK(f,
           net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {"no", 2}}, &f->err));
    net_message_release(&m);
}

static void test_oversized(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct stranger s = stranger_new(f, ZMQ_DEALER, NULL);
    char *big = calloc(1, 2 * NET_FRAME_MAX + 1), answer[8];
    assert_non_null(big);

    throw_part(&s, big, NET_HEADER_MAX + 1, false);
    expect_invalid(f, server, true, "header");
    throw_part(&s, "{}", 2, true);
    throw_part(&s, big, NET_FRAME_MAX + 1, false);
    expect_invalid(f, server, true, "frame");
    for (int extra = 1; extra < 40; extra += 7) {
        throw_part(&s, "{}", 2, true);
        for (int i = 0; i < NET_FRAMES_MAX + extra; i++)
            throw_part(&s, "abc", 3, i + 1 < NET_FRAMES_MAX + extra);
        expect_invalid(f, server, true, "more than 16 frames");
    }
    throw_part(&s, "{}", 2, false);
    struct net_message m;
    hear(f, server, &m, "{}");
    net_message_release(&m);
    assert_int_equal(zmq_recv(s.zmq, answer, sizeof answer, 0), 2);
    assert_memory_equal(answer, "no", 2);

    /* Far beyond the bounds libzmq itself ends the connection; the next one is served. */
    throw_part(&s, big, 2 * NET_FRAME_MAX + 1, false);
    stranger_end(&s);
    s = stranger_new(f, ZMQ_DEALER, NULL);
    throw_part(&s, "{}", 2, false);
    hear(f, server, &m, "{}");
    net_message_release(&m);
    stranger_end(&s);
    free(big);
    net_close(&server);
}

static void test_malformed(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct stranger s = stranger_new(f, ZMQ_DEALER, NULL);
    struct net_message m;
    throw_part(&s, "", 0, false); /* an empty header is a message: its parser refuses it */
    hear(f, server, &m, "");
    net_message_release(&m);
    stranger_end(&s);

    s = stranger_new(f, ZMQ_DEALER, "seventeen-bytes-x");
    throw_part(&s, "{}", 2, false);
    expect_invalid(f, server, false, "identity of 17 bytes");
    stranger_end(&s);
    s = stranger_new(f, ZMQ_DEALER, "sixteen-bytes-xx");
    throw_part(&s, "{}", 2, false);
    hear(f, server, &m, "{}");
    assert_int_equal(m.peer.len, 16);
    net_message_release(&m);
    stranger_end(&s);
    net_close(&server);
}

static void test_req_socket(void **state) {
    struct fixture *f = *state;
    struct net_socket *server = bind_at(f, NET_ROUTER);
    struct stranger s = stranger_new(f, ZMQ_REQ, NULL);
    struct net_message m;
    char answer[8];
    throw_part(&s, "{}", 2, false);
    hear(f, server, &m, "{}");
    assert_true(m.peer.delimiter);
    OK(f, net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {"yes", 3}}, &f->err));
    assert_int_equal(zmq_recv(s.zmq, answer, sizeof answer, 0), 3);
    net_message_release(&m);
    stranger_end(&s);
    net_close(&server);
}

/* ---- the socket file ---- */

static void refuse_bind(struct fixture *f, const char *endpoint, enum status status,
                        const char *words) {
    struct net_socket *s = NULL;
    assert_int_equal(net_bind(f->net, NET_ROUTER, (struct net_place){endpoint, NULL}, &s, &f->err),
                     status);
    assert_null(s);
    if (strstr(f->err.text, words) == NULL)
        fail_msg("'%s' does not say '%s'", f->err.text, words);
}

static void test_live_and_stale(void **state) {
    struct fixture *f = *state;
    const char *path = f->endpoint + strlen("ipc://");
    struct net *apart = NULL;
    struct net_socket *first = bind_apart(f, &apart);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    refuse_bind(f, f->endpoint, STATUS_BUSY, "in use");

    struct net_socket *client = connect_to(f, NET_DEALER); /* the probe did no harm */
    struct net_message m;
    say(f, client, "still here");
    hear(f, first, &m, "still here");
    net_message_release(&m);
    net_close(&client);
    net_close(&first);
    net_destroy(&apart);
    assert_int_equal(stat(path, &st), -1); /* an orderly end leaves no file behind */

    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    (void)close(fd); /* a process that was killed leaves the file behind */
    struct net_socket *again = bind_at(f, NET_ROUTER);
    net_close(&again);
}

static void test_refused_places(void **state) {
    struct fixture *f = *state;
    const char *path = f->endpoint + strlen("ipc://");
    char other[256];
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    refuse_bind(f, f->endpoint, STATUS_EXISTS, "not a socket");
    (void)unlink(path);

    assert_int_equal(chmod(f->dir, 0750), 0);
    refuse_bind(f, f->endpoint, STATUS_DENIED, "chmod 700");
    struct net_socket *s = NULL;
    assert_int_equal(
        net_connect(f->net, NET_DEALER, (struct net_place){f->endpoint, NULL}, &s, &f->err),
        STATUS_DENIED);
    assert_int_equal(chmod(f->dir, 0700), 0);

    (void)snprintf(other, sizeof other, "ipc://%s/missing/a.sock", f->dir);
    refuse_bind(f, other, STATUS_NOT_FOUND, "missing");
    OK(f, net_connect(f->net, NET_DEALER, (struct net_place){other, NULL}, &s, &f->err));
    net_close(&s);
    refuse_bind(f, "ipc://@abstract", STATUS_INVALID, "absolute");
    refuse_bind(f, "ipc://relative.sock", STATUS_INVALID, "absolute");
    refuse_bind(f, "pgm://x", STATUS_INVALID, "must begin with");
    (void)snprintf(other, sizeof other, "ipc://%s/%0100d", f->dir, 0);
    refuse_bind(f, other, STATUS_TOO_LARGE, "107 bytes");
    char endless[400];
    (void)snprintf(endless, sizeof endless, "ipc:///%0300d", 0);
    refuse_bind(f, endless, STATUS_TOO_LARGE, "255 bytes");
}

/* ---- the feed ---- */

static void test_feed(void **state) {
    struct fixture *f = *state;
    struct net_socket *pub = bind_at(f, NET_PUB), *sub = connect_to(f, NET_SUB);
    OK(f, net_subscribe(sub, "run.A", &f->err));
    const struct net_frame column = {"12345678", 8};
    bool readable = false;
    for (int i = 0; i < WAIT_MS && !readable; i++) { /* until the subscription has arrived */
        OK(f, net_send(pub, &(struct net_outgoing){.topic = "run.B", .header = {"other", 5}},
                       &f->err));
        OK(f, net_send(pub,
                       &(struct net_outgoing){
                           .topic = "run.A", .header = {"{}", 2}, .frames = {&column, 1}},
                       &f->err));
        OK(f, net_wait(sub, 1, &readable, &f->err));
    }
    struct net_message m;
    hear(f, sub, &m, "{}");
    assert_int_equal(m.topic.len, 5);
    assert_memory_equal(m.topic.data, "run.A", 5);
    assert_int_equal(m.frame_count, 1);
    net_message_release(&m);
    assert_int_equal(net_send(sub, &(struct net_outgoing){.header = {"x", 1}}, &f->err),
                     STATUS_INTERNAL);
    net_close(&sub);
    net_close(&pub);
}

/* ---- tcp ---- */

struct pair {
    char public_key[41], secret_key[41];
};

static void make_pair(struct fixture *f, struct pair *p) {
    OK(f, net_keygen(p->public_key, p->secret_key, &f->err));
    assert_int_equal(strlen(p->public_key), 40);
    assert_int_equal(strlen(p->secret_key), 40);
}

static void allow(struct fixture *f, const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_tcp_without_keys(void **state) {
    struct fixture *f = *state;
    struct pair p;
    make_pair(f, &p);
    struct net_socket *s = NULL;
    refuse_bind(f, "tcp://127.0.0.1:*", STATUS_DENIED, "trireme keygen");
    const struct net_keys half = {.public_key = p.public_key, .secret_key = p.secret_key};
    assert_int_equal(
        net_bind(f->net, NET_ROUTER, (struct net_place){"tcp://127.0.0.1:*", &half}, &s, &f->err),
        STATUS_DENIED);
    assert_int_equal(
        net_connect(f->net, NET_DEALER, (struct net_place){"tcp://127.0.0.1:1", NULL}, &s, &f->err),
        STATUS_DENIED);
    assert_int_equal(net_connect(f->net, NET_DEALER, (struct net_place){"tcp://127.0.0.1:1", &half},
                                 &s, &f->err),
                     STATUS_DENIED);
    struct net_keys wrong = half;
    wrong.allowed_dir = f->dir;
    assert_int_equal(chmod(f->dir, 0770), 0);
    assert_int_equal(
        net_bind(f->net, NET_ROUTER, (struct net_place){"tcp://127.0.0.1:*", &wrong}, &s, &f->err),
        STATUS_DENIED);
    assert_int_equal(chmod(f->dir, 0700), 0);
    wrong.allowed_dir = "/nonexistent/keys";
    assert_int_equal(
        net_bind(f->net, NET_ROUTER, (struct net_place){"tcp://127.0.0.1:*", &wrong}, &s, &f->err),
        STATUS_NOT_FOUND);
    wrong.allowed_dir = NULL;
    wrong.server_key = "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~";
    assert_int_equal(net_connect(f->net, NET_DEALER,
                                 (struct net_place){"tcp://127.0.0.1:1", &wrong}, &s, &f->err),
                     STATUS_INVALID);
    assert_null(s);
}

static struct net_socket *connect_tcp(struct fixture *f, const char *endpoint, const struct pair *p,
                                      const struct pair *server) {
    struct net_socket *s = NULL;
    const struct net_keys keys = {
        .public_key = p->public_key, .secret_key = p->secret_key, .server_key = server->public_key};
    OK(f, net_connect(f->net, NET_DEALER, (struct net_place){endpoint, &keys}, &s, &f->err));
    return s;
}

static void test_tcp_roles(void **state) {
    struct fixture *f = *state;
    struct pair server_pair, viewer, submitter, admin, unknown, odd;
    struct pair *all[] = {&server_pair, &viewer, &submitter, &admin, &unknown, &odd};
    for (size_t i = 0; i < 6; i++)
        make_pair(f, all[i]);
    char text[128], endpoint[NET_ENDPOINT_MAX];
    (void)snprintf(text, sizeof text, "%s viewer Vera\n", viewer.public_key);
    allow(f, "vera", text);
    (void)snprintf(text, sizeof text, "%s submitter\n", submitter.public_key);
    allow(f, "sam", text);
    (void)snprintf(text, sizeof text, "%s\tadmin ann", admin.public_key);
    allow(f, "ann", text);
    (void)snprintf(text, sizeof text, "%s emperor x\n", odd.public_key);
    allow(f, "odd", text);
    allow(f, "short", "abc");
    allow(f, "empty", "");

    const struct net_keys keys = {.public_key = server_pair.public_key,
                                  .secret_key = server_pair.secret_key,
                                  .allowed_dir = f->dir};
    struct net_socket *server = NULL, *second = NULL, *clients[5];
    OK(f, net_bind(f->net, NET_ROUTER, (struct net_place){"tcp://127.0.0.1:*", &keys}, &server,
                   &f->err));
    OK(f, net_endpoint(server, endpoint, &f->err));
    assert_int_equal(
        net_bind(f->net, NET_ROUTER, (struct net_place){endpoint, &keys}, &second, &f->err),
        STATUS_BUSY);

    /* The two that may not come in knock first. */
    clients[3] = connect_tcp(f, endpoint, &unknown, &server_pair);
    clients[4] = connect_tcp(f, endpoint, &odd, &server_pair);
    say(f, clients[3], "unknown");
    say(f, clients[4], "odd");
    static const enum net_role roles[] = {NET_VIEWER, NET_SUBMITTER, NET_ADMIN};
    const struct pair *pairs[] = {&viewer, &submitter, &admin};
    for (size_t i = 0; i < 3; i++) {
        struct net_message m;
        clients[i] = connect_tcp(f, endpoint, pairs[i], &server_pair);
        say(f, clients[i], "hello");
        hear(f, server, &m, "hello");
        assert_int_equal(m.role, roles[i]);
        OK(f, net_send(server, &(struct net_outgoing){.peer = &m.peer, .header = {"welcome", 7}},
                       &f->err));
        net_message_release(&m);
        hear(f, clients[i], &m, "welcome");
        net_message_release(&m);
    }

    /* They are told, once; the socket is of no use any more. */
    for (size_t i = 3; i < 5; i++) {
        struct net_message none;
        bool readable = true, got = true;
        assert_int_equal(hear_any(f, clients[i], &none), STATUS_DENIED);
        assert_non_null(strstr(f->err.text, "public key"));
        OK(f, net_receive(clients[i], &none, &got, &f->err));
        assert_false(got);
        OK(f, net_wait(clients[i], 0, &readable, &f->err));
        assert_false(readable);
        assert_int_equal(net_send(clients[i], &(struct net_outgoing){.header = {"x", 1}}, &f->err),
                         STATUS_DENIED);
    }

    /* A key that is added counts from the next connection on. */
    (void)snprintf(text, sizeof text, "%s viewer late\n", unknown.public_key);
    allow(f, "late", text);
    net_close(&clients[3]);
    clients[3] = connect_tcp(f, endpoint, &unknown, &server_pair);
    say(f, clients[3], "late");
    struct net_message m;
    hear(f, server, &m, "late");
    assert_int_equal(m.role, NET_VIEWER);
    net_message_release(&m);
    for (size_t i = 0; i < 5; i++)
        net_close(&clients[i]);
    net_close(&server);
}

/* Two servers of one process: each has its own list of who may come in, and as what. */
static void test_two_servers(void **state) {
    struct fixture *f = *state;
    static const enum net_role roles[2][2] = {{NET_VIEWER, NET_SUBMITTER}, {NET_ADMIN, NET_VIEWER}};
    static const char *const words[2][2] = {{"viewer", "submitter"}, {"admin", "viewer"}};
    struct pair server_pairs[2], people[2], guest;
    struct net_socket *servers[2] = {NULL, NULL}, *client;
    char text[128], dirs[2][160], endpoints[2][NET_ENDPOINT_MAX];
    struct net_message m;
    for (size_t i = 0; i < 2; i++) {
        make_pair(f, &server_pairs[i]);
        make_pair(f, &people[i]);
    }
    make_pair(f, &guest);
    for (size_t s = 0; s < 2; s++) {
        (void)snprintf(dirs[s], sizeof dirs[s], "%s/server%zu", f->dir, s);
        assert_int_equal(mkdir(dirs[s], 0700), 0);
        for (size_t i = 0; i < 2; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "server%zu/%zu", s, i);
            (void)snprintf(text, sizeof text, "%.40s %s p%zu", people[i].public_key, words[s][i],
                           i);
            allow(f, name, text);
        }
        const struct net_keys keys = {.public_key = server_pairs[s].public_key,
                                      .secret_key = server_pairs[s].secret_key,
                                      .allowed_dir = dirs[s]};
        OK(f, net_bind(f->net, NET_ROUTER, (struct net_place){"tcp://127.0.0.1:*", &keys},
                       &servers[s], &f->err));
        OK(f, net_endpoint(servers[s], endpoints[s], &f->err));
    }
    (void)snprintf(text, sizeof text, "%.40s viewer guest", guest.public_key);
    allow(f, "server1/guest", text);

    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < 2; i++) {
            client = connect_tcp(f, endpoints[s], &people[i], &server_pairs[s]);
            say(f, client, "hello");
            hear(f, servers[s], &m, "hello");
            assert_int_equal(m.role, roles[s][i]);
            net_message_release(&m);
            net_close(&client);
        }
    client = connect_tcp(f, endpoints[1], &guest, &server_pairs[1]);
    say(f, client, "guest");
    hear(f, servers[1], &m, "guest");
    net_message_release(&m);
    net_close(&client);
    client = connect_tcp(f, endpoints[0], &guest, &server_pairs[0]);
    assert_int_equal(hear_any(f, client, &m), STATUS_DENIED);
    net_close(&client);
    net_close(&servers[0]);
    net_close(&servers[1]);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip),       T(test_nothing_there), T(test_peer_gone),
        T(test_dealer_once),      T(test_queue_full),    T(test_slow_reader),
        T(test_send_bounds),      T(test_oversized),     T(test_malformed),
        T(test_req_socket),       T(test_feed),          T(test_live_and_stale),
        T(test_refused_places),   T(test_tcp_roles),     T(test_two_servers),
        T(test_tcp_without_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
