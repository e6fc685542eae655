/* The session against a small server in the same thread: it answers when the test says so. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/json.h"
#include "wire/session.h"

#define CLIENTS_MAX 8
#define LOG_MAX     4096

/* A clock that the test moves on by itself on top of the real one. */
static int64_t skipped_ns;
static int64_t skip_mono(void *self) {
    (void)self;
    return clock_mono_ns(&clock_system) + skipped_ns;
}
static int64_t skip_wall(void *self) {
    (void)self;
    return clock_wall_ns(&clock_system);
}
static const struct clock clock_skip = {skip_mono, skip_wall, NULL};

struct fake {
    struct net *net;
    struct net_socket *socket;
    char dir[64], endpoint[128], spool[128];
    bool mute;           /* receives, applies, but does not answer */
    enum status refuse;  /* answers this to all but pings */
    const char *bad_key; /* a run.log that has this series is INVALID */
    char taken[LOG_MAX]; /* first letter of each series that was taken, */
    int taken_count;
    uint8_t first_byte[LOG_MAX]; /* …and of its column */
    int pings, seen;             /* requests, resends included */
    int64_t log[LOG_MAX]; /* "n" of each request applied, in order; a resend is not applied */
    int applied;
    char keys[LOG_MAX][96];
    struct net_peer last_peer;
    int answers; /* that the session reported */
    enum status last_answer;
    int notices;
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static void fake_bind(struct fake *f) {
    struct err err;
    must(net_bind(f->net, NET_ROUTER, (struct net_place){f->endpoint, NULL}, &f->socket, &err),
         &err);
}

static int setup(void **state) {
    struct err err;
    struct fake *f = calloc(1, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-test-XXXXXX");
    if (f == NULL || mkdtemp(f->dir) == NULL)
        return -1;
    (void)snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/s", f->dir);
    (void)snprintf(f->spool, sizeof f->spool, "%s/spool", f->dir);
    must(net_new(&f->net, &err), &err);
    skipped_ns = 0;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fake *f = *state;
    net_close(&f->socket);
    net_destroy(&f->net);
    (void)unlink(f->spool);
    (void)unlink(f->endpoint + 6);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void fake_apply(struct fake *f, const struct value *request) {
    char key[96];
    (void)snprintf(key, sizeof key, "%s/%lld", value_get_string(request, "client", "-"),
                   (long long)value_get_int(request, "seq", 0));
    for (int i = 0; i < f->applied; i++)
        if (strcmp(f->keys[i], key) == 0)
            return;
    assert_true(f->applied < LOG_MAX);
    memcpy(f->keys[f->applied], key, sizeof key);
    f->log[f->applied++] = value_get_int(request, "first", 0);
}

/* True where it refused; otherwise notes what came. */
static bool fake_log(struct fake *f, const struct value *request, const struct net_message *m) {
    const struct value *series = value_get(request, "series");
    size_t at = 0;
    for (size_t i = 0; i < series->count; i++)
        if (strcmp(value_get_string(series->items[i], "key", ""), f->bad_key) == 0)
            return true;
    for (size_t i = 0; i < series->count; i++) {
        size_t len = (size_t)value_get_int(series->items[i], "count", 0) * 8;
        assert_int_equal(m->frame_count, 3);
        assert_true(at + len <= m->frames[0].len);
        f->first_byte[f->taken_count] = ((const uint8_t *)m->frames[0].data)[at];
        f->taken[f->taken_count++] = *value_get_string(series->items[i], "key", "");
        at += len;
    }
    assert_int_equal(at, m->frames[0].len);
    return false;
}

/* Takes and answers all that is there. */
static void fake_serve(struct fake *f) {
    struct err err;
    for (;;) {
        struct net_message m = {0};
        bool got = false;
        must(net_receive(f->socket, &m, &got, &err), &err);
        if (!got)
            return;
        struct arena a;
        arena_init(&a, (size_t)16 << 20);
        struct message in;
        must(message_parse(&a, m.header.data, m.header.len, &in, &err), &err);
        const struct message_type *type = in.type;
        struct value *request = in.header;
        const char *id = in.id;
        struct value *reply = message_reply(&a, id);
        if (strcmp(type->op, "hello") == 0) {
            f->pings++;
        } else if (f->refuse != STATUS_OK || (f->bad_key != NULL && fake_log(f, request, &m))) {
            struct err why;
            (void)err_set(&why, f->refuse != STATUS_OK ? f->refuse : STATUS_INVALID, "not now");
            reply = message_failure(&a, id, &why);
            f->seen++;
        } else {
            f->seen++;
            if (type->writes)
                fake_apply(f, request);
            value_set_int(&a, reply, "last", 7);
        }
        f->last_peer = m.peer;
        if (!f->mute) {
            struct buf text = BUF_INIT(JSON_TEXT_MAX);
            must(json_dump(reply, JSON_COMPACT, &text, &err), &err);
            (void)!net_send(f->socket,
                            &(struct net_outgoing){.peer = &m.peer,
                                                   .header = {text.data, text.len},
                                                   .frames = {m.frames, m.frame_count}},
                            &err);
            buf_release(&text);
        }
        arena_release(&a);
        net_message_release(&m);
    }
}

static void on_answer(void *arg, const struct value *request, enum status st,
                      const struct value *reply, const struct err *err) {
    struct fake *f = arg;
    assert_non_null(request);
    assert_true((st == STATUS_OK) == (reply != NULL));
    assert_true((st == STATUS_OK) == (err == NULL));
    f->answers++;
    f->last_answer = st;
}

static void on_notice(void *arg, const struct message_type *type, const struct value *notice) {
    struct fake *f = arg;
    assert_string_equal(type->op, "group.exit");
    assert_string_equal(value_get_string(notice, "reason", ""), "home");
    f->notices++;
}

static struct session *open_session(struct fake *f, bool spool) {
    struct err err;
    struct session *s = NULL;
    struct session_options o = {.endpoint = f->endpoint,
                                .spool = spool ? f->spool : NULL,
                                .clock = &clock_skip,
                                .on_answer = on_answer,
                                .on_notice = on_notice,
                                .arg = f};
    must(session_open(f->net, &o, &s, &err), &err);
    return s;
}

static struct value *request_of(struct arena *a, int64_t n) {
    struct value *r = message_request(a, "event.append", NULL);
    value_set_string(a, r, "sweep", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    value_set_int(a, r, "first", n);
    value_set(a, r, "events", value_list(a));
    return r;
}

static void post_bytes(struct session *s, int64_t n, size_t bytes) {
    struct err err;
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    char *data = calloc(1, bytes + 1);
    struct net_frame frame = {data, bytes};
    must(session_post(s, request_of(&a, n), (struct net_frames){&frame, bytes > 0}, &err), &err);
    free(data);
    arena_release(&a);
}

static void post(struct session *s, int64_t from, int64_t to) {
    for (int64_t n = from; n <= to; n++)
        post_bytes(s, n, 0);
}

/* Lets both sides work until every post is answered, or for `rounds`. */
static void work(struct fake *f, struct session *s, int rounds) {
    struct err err;
    for (int i = 0; i < rounds && session_pending(s) > 0; i++) {
        must(session_wait(s, 5, &err), &err);
        if (f->socket != NULL)
            fake_serve(f);
    }
}

static void check_log(const struct fake *f, int64_t count) {
    assert_int_equal(f->applied, count);
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(f->log[i], i + 1);
}

static void close_session(struct session **s, enum status want) {
    struct err err = {.status = STATUS_OK};
    enum status st = session_close(s, 0, &err);
    if (st != want)
        fail_msg("close: %s: %s", status_name(st), err.text);
    assert_null(*s);
}

static void posts_are_applied_once_and_in_order(void **state) {
    struct fake *f = *state;
    fake_bind(f);
    struct session *s = open_session(f, false);
    post(s, 1, 1000);
    assert_int_equal(session_pending(s), 1000);
    work(f, s, 2000);
    check_log(f, 1000);
    assert_int_equal(f->seen, 1000);
    assert_int_equal(f->answers, 1000);
    assert_int_equal(session_pending(s), 0);
    close_session(&s, STATUS_OK);
}

static void a_restarted_server_gets_what_it_did_not_answer(void **state) {
    struct fake *f = *state;
    fake_bind(f);
    struct session *s = open_session(f, false);
    post(s, 1, 10);
    work(f, s, 200);
    f->mute = true; /* applied, but the answers are lost with the server */
    post(s, 11, 200);
    work(f, s, 5);
    assert_true(f->applied > 10 && session_pending(s) > 0);
    net_close(&f->socket);
    uint64_t generation = session_generation(s);
    work(f, s, 30);
    f->mute = false;
    fake_bind(f);
    work(f, s, 2000);
    check_log(f, 200);
    assert_true(f->seen > 200);
    assert_int_equal(f->answers, 200);
    assert_true(session_generation(s) > generation);
    close_session(&s, STATUS_OK);
}

static void a_server_that_comes_late_is_found(void **state) {
    struct fake *f = *state;
    struct session *s = open_session(f, false);
    post(s, 1, 100);
    work(f, s, 20);
    assert_false(session_lost(s));
    skipped_ns += (SESSION_RESEND_MS + 1) * NS_PER_MS;
    assert_true(session_lost(s));
    work(f, s, 20);
    assert_true(session_lost(s));
    fake_bind(f);
    work(f, s, 2000);
    assert_false(session_lost(s));
    check_log(f, 100);
    close_session(&s, STATUS_OK);
}

static void a_slow_answer_is_waited_for_while_pings_are_answered(void **state) {
    struct fake *f = *state;
    struct err err;
    fake_bind(f);
    struct session *s = open_session(f, false);
    post(s, 1, 1);
    work(f, s, 200);
    uint64_t generation = session_generation(s);
    f->mute = true;
    post(s, 2, 2);
    work(f, s, 5);
    f->mute = false;
    for (int i = 0; i < 10; i++) { /* six seconds with nothing but pings */
        skipped_ns += 600 * NS_PER_MS;
        must(session_pump(s, &err), &err);
        for (int pings = f->pings; f->pings == pings;)
            fake_serve(f);
        must(session_wait(s, 1000, &err), &err);
    }
    assert_true(f->pings >= 10);
    assert_int_equal(session_generation(s), generation);
    assert_int_equal(f->seen, 2);
    skipped_ns += 60 * NS_PER_S; /* that long is too long: the answer must have been lost */
    work(f, s, 1000);
    assert_int_equal(session_pending(s), 0);
    check_log(f, 2);
    close_session(&s, STATUS_OK);
}

static void what_is_left_waits_in_the_spool_for_the_next_session(void **state) {
    struct fake *f = *state;
    struct session *s = open_session(f, true);
    post(s, 1, 50);
    close_session(&s, STATUS_OK);
    assert_int_equal(access(f->spool, F_OK), 0);
    s = open_session(f, true);
    assert_int_equal(session_pending(s), 50);
    post(s, 51, 60);
    fake_bind(f);
    work(f, s, 2000);
    check_log(f, 60);
    close_session(&s, STATUS_OK);
    assert_int_equal(access(f->spool, F_OK), -1);
}

static void a_killed_client_loses_nothing_that_was_posted_to_a_lost_server(void **state) {
    struct fake *f = *state;
    struct err err;
    struct session *s = open_session(f, true);
    post(s, 1, 20);
    must(session_pump(s, &err), &err);
    skipped_ns += 3 * NS_PER_S;
    must(session_pump(s, &err), &err);
    post(s, 21, 40);
    /* What a kill leaves behind: the file as it is now, torn in its last record. */
    char copy[160], command[512];
    (void)snprintf(copy, sizeof copy, "%s.copy", f->spool);
    (void)snprintf(command, sizeof command, "cp %s %s && printf 'abcdefgh' >> %s", f->spool, copy,
                   copy);
    assert_int_equal(system(command), 0);
    close_session(&s, STATUS_OK);
    assert_int_equal(rename(copy, f->spool), 0);
    s = open_session(f, true);
    assert_int_equal(session_pending(s), 40);
    post(s, 41, 45);
    fake_bind(f);
    work(f, s, 2000);
    check_log(f, 45);
    close_session(&s, STATUS_OK);
}

static void a_full_queue_spills_and_keeps_its_order(void **state) {
    struct fake *f = *state;
    struct session *s = open_session(f, true);
    for (int64_t n = 1; n <= 150; n++)
        post_bytes(s, n, (size_t)1 << 20); /* 150 MiB through a queue of 64 */
    assert_int_equal(session_pending(s), 150);
    fake_bind(f);
    work(f, s, 5000);
    check_log(f, 150);
    post(s, 151, 160);
    work(f, s, 200);
    check_log(f, 160);
    close_session(&s, STATUS_OK);
    assert_int_equal(access(f->spool, F_OK), -1);
}

static void a_full_queue_without_a_spool_says_so(void **state) {
    struct fake *f = *state;
    struct session *s = open_session(f, false);
    struct arena a;
    struct err err;
    arena_init(&a, (size_t)1 << 20);
    char *data = calloc(1, (size_t)8 << 20);
    struct net_frame frame = {data, (size_t)8 << 20};
    enum status st = STATUS_OK;
    int n = 0;
    for (; n < 20 && st == STATUS_OK; n++)
        st = session_post(s, request_of(&a, n + 1), (struct net_frames){&frame, 1}, &err);
    assert_int_equal(st, STATUS_FULL);
    assert_int_equal(n, 8);
    free(data);
    arena_release(&a);
    close_session(&s, STATUS_TIMEOUT);
}

static void a_passing_refusal_is_tried_again(void **state) {
    struct fake *f = *state;
    fake_bind(f);
    struct session *s = open_session(f, false);
    f->refuse = STATUS_FULL;
    post(s, 1, 100);
    work(f, s, 20);
    assert_int_equal(session_pending(s), 100);
    assert_int_equal(f->answers, 0);
    f->refuse = STATUS_OK;
    skipped_ns += 2 * NS_PER_S;
    work(f, s, 500);
    check_log(f, 100);
    f->refuse = STATUS_CONFLICT; /* this one does not pass: it is an answer */
    post(s, 101, 101);
    work(f, s, 200);
    assert_int_equal(session_pending(s), 0);
    assert_int_equal(f->last_answer, STATUS_CONFLICT);
    close_session(&s, STATUS_OK);
}

/* A server of its own for calls, which wait. */
static int stop_pipe[2];
static void *serve_thread(void *arg) {
    struct fake *f = arg;
    struct err err;
    for (char c; read(stop_pipe[0], &c, 1) != 1;) {
        bool readable;
        must(net_wait(f->socket, 10, &readable, &err), &err);
        fake_serve(f);
    }
    return NULL;
}

static void a_call_sees_the_posts_before_it(void **state) {
    struct fake *f = *state;
    struct err err;
    struct arena a;
    pthread_t thread;
    fake_bind(f);
    assert_int_equal(pipe(stop_pipe), 0);
    struct session *s = open_session(f, true);
    arena_init(&a, (size_t)1 << 20);

    /* nobody serves yet: the call gives up, the posts stay */
    post(s, 1, 50);
    assert_int_equal(
        session_call(s, &a, &(struct session_ask){.request = request_of(&a, 51), .timeout_ms = 20},
                     NULL, &err),
        STATUS_TIMEOUT);
    assert_int_equal(session_pending(s), 50);
    fake_serve(f);
    work(f, s, 100);

    assert_int_equal(fcntl(stop_pipe[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve_thread, f), 0);
    post(s, 52, 80);
    struct session_reply reply = {0};
    struct net_frame frame = {"bytes", 5};
    must(session_call(s, &a,
                      &(struct session_ask){
                          .request = request_of(&a, 81), .frames = {&frame, 1}, .timeout_ms = -1},
                      &reply, &err),
         &err);
    assert_int_equal(value_get_int(reply.header, "last", 0), 7);
    assert_int_equal(reply.message.frame_count, 1);
    assert_memory_equal(reply.message.frames[0].data, "bytes", 5);
    session_reply_release(&reply);
    assert_int_equal(session_pending(s), 0);
    assert_int_equal(write(stop_pipe[1], "x", 1), 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(f->log[f->applied - 1], 81);

    assert_int_equal(
        session_call(s, &a,
                     &(struct session_ask){.request = message_request(&a, "no.such", NULL),
                                           .timeout_ms = 20},
                     NULL, &err),
        STATUS_INVALID);
    (void)close(stop_pipe[0]);
    (void)close(stop_pipe[1]);
    arena_release(&a);
    close_session(&s, STATUS_OK);
}

static void notices_reach_their_callback(void **state) {
    struct fake *f = *state;
    struct err err;
    static const char text[] = "{\"v\":1,\"op\":\"group.exit\",\"reason\":\"home\"}";
    fake_bind(f);
    struct session *s = open_session(f, false);
    post(s, 1, 1);
    work(f, s, 200);
    must(net_send(f->socket,
                  &(struct net_outgoing){.peer = &f->last_peer, .header = {text, sizeof text - 1}},
                  &err),
         &err);
    must(session_wait(s, 2000, &err), &err);
    assert_int_equal(f->notices, 1);
    close_session(&s, STATUS_OK);
}

static void two_sessions_do_not_share_a_spool(void **state) {
    struct fake *f = *state;
    struct err err;
    struct session *s = open_session(f, true), *t = NULL;
    struct session_options o = {.endpoint = f->endpoint, .spool = f->spool, .clock = &clock_skip};
    assert_int_equal(session_open(f->net, &o, &t, &err), STATUS_BUSY);
    assert_non_null(strstr(err.text, f->spool));
    close_session(&s, STATUS_OK);
}

/* Three series in one post: the tracker refuses one of them, and so the post. */
static void a_bad_series_does_not_take_the_good_ones_with_it(void **state) {
    struct fake *f = *state;
    struct err err;
    struct arena a;
    fake_bind(f);
    f->bad_key = "b";
    struct session *s = open_session(f, true);
    for (int i = 0; i < 4; i++) {
        uint8_t column[4 * 8] = {10, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 21, [24] = 30};
        const char *const keys[] = {"a", "b", "c"};
        const int counts[] = {1, 2, 1};
        arena_init(&a, (size_t)1 << 20);
        struct value *r = message_request(&a, "run.log", NULL), *list = value_list(&a);
        for (int k = 0; k < 3; k++) {
            struct value *one = value_map(&a);
            value_set_string(&a, one, "key", keys[k]);
            value_set_int(&a, one, "count", counts[k]);
            value_push(&a, list, one);
        }
        value_set_string(&a, r, "run", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        value_set(&a, r, "series", list);
        struct net_frame columns[3] = {{column, 32}, {column, 32}, {column, 32}};
        must(session_post(s, r, (struct net_frames){columns, 3}, &err), &err);
        arena_release(&a);
        if (i == 1) { /* those that wait in a spool, too */
            skipped_ns += 10 * SESSION_RESEND_MS * NS_PER_MS;
            must(session_pump(s, &err), &err);
        }
    }
    work(f, s, 2000);
    assert_int_equal(session_pending(s), 0);
    assert_int_equal(f->taken_count, 8);
    assert_int_equal(f->answers, 4 * 3); /* each part's, not the whole's */
    for (int i = 0; i < f->taken_count; i++)
        assert_int_equal(f->first_byte[i], f->taken[i] == 'a' ? 10 : 30);
    close_session(&s, STATUS_OK);
    assert_int_not_equal(access(f->spool, F_OK), 0);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_bad_series_does_not_take_the_good_ones_with_it),
        T(posts_are_applied_once_and_in_order),
        T(a_restarted_server_gets_what_it_did_not_answer),
        T(a_server_that_comes_late_is_found),
        T(a_slow_answer_is_waited_for_while_pings_are_answered),
        T(what_is_left_waits_in_the_spool_for_the_next_session),
        T(a_killed_client_loses_nothing_that_was_posted_to_a_lost_server),
        T(a_full_queue_spills_and_keeps_its_order),
        T(a_full_queue_without_a_spool_says_so),
        T(a_passing_refusal_is_tried_again),
        T(a_call_sees_the_posts_before_it),
        T(notices_reach_their_callback),
        T(two_sessions_do_not_share_a_spool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
