/* Points in, run.log out: what a server receives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tests/unit/cmocka_all.h"
#include "wire/metrics.h"

#define RUN "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static int64_t mono, wall;
static int64_t get_mono(void *self) {
    (void)self;
    return mono;
}
static int64_t get_wall(void *self) {
    (void)self;
    return wall;
}
static const struct clock fake_clock = {get_mono, get_wall, NULL};

struct fixture {
    char dir[32], endpoint[64];
    struct net *net;
    struct net_socket *server;
    struct session *session;
    struct metrics *metrics;
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static int setup(void **state) {
    struct err err;
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-m-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    (void)snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/s", f->dir);
    must(net_new(&f->net, &err), &err);
    must(net_bind(f->net, NET_ROUTER, (struct net_place){f->endpoint, NULL}, &f->server, &err),
         &err);
    struct session_options o = {.endpoint = f->endpoint, .clock = &fake_clock};
    must(session_open(f->net, &o, &f->session, &err), &err);
    mono = 0;
    wall = 1000;
    must(metrics_new(f->session, RUN, 3, &f->metrics, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    metrics_destroy(&f->metrics);
    (void)session_close(&f->session, 0, NULL);
    net_close(&f->server);
    net_destroy(&f->net);
    (void)unlink(f->endpoint + 6);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void receive(struct fixture *f, struct arena *a, struct value **request,
                    struct net_message *m) {
    struct err err;
    bool got = false;
    struct message in;
    must(session_pump(f->session, &err), &err);
    while (!got) {
        bool readable;
        must(net_wait(f->server, 5000, &readable, &err), &err);
        must(net_receive(f->server, m, &got, &err), &err);
    }
    must(message_parse(a, m->header.data, m->header.len, &in, &err), &err);
    *request = in.header;
    assert_string_equal(in.type->op, "run.log");
    assert_non_null(value_get_string(*request, "client", NULL));
}

static void points_are_grouped_by_key(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct arena a;
    struct value *request = NULL;
    struct net_message m = {0};
    arena_init(&a, (size_t)1 << 20);
    for (int64_t step = 0; step < 3; step++) {
        wall = 1000 + step;
        must(metrics_add(f->metrics, "loss", step, step == 1 ? (double)NAN : 0.5, &err), &err);
        must(metrics_add(f->metrics, "error", step, -1.0 / 3, &err), &err);
    }
    must(metrics_flush(f->metrics, false, &err), &err); /* young and few: they stay */
    assert_int_equal(session_pending(f->session), 0);
    mono = METRICS_AGE_MS * NS_PER_MS;
    must(metrics_flush(f->metrics, false, &err), &err);
    assert_int_equal(session_pending(f->session), 1);

    receive(f, &a, &request, &m);
    assert_string_equal(value_get_string(request, "run", ""), RUN);
    assert_int_equal(value_get_int(request, "rank", 0), 3);
    assert_string_equal(value_get_string(value_at(request, "series[0]"), "key", ""), "loss");
    assert_int_equal(value_get_int(value_at(request, "series[1]"), "count", 0), 3);
    assert_int_equal(m.frame_count, 3);
    const uint8_t *steps = m.frames[0].data, *times = m.frames[1].data, *values = m.frames[2].data;
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(bytes_get_u64(steps + 8 * i), i % 3);
        assert_int_equal(bytes_get_u64(times + 8 * i), 1000 + i % 3);
    }
    assert_true(isnan(bytes_get_f64(values + 8)));
    assert_true(bytes_get_f64(values + 24) == -1.0 / 3);
    net_message_release(&m);
    must(metrics_flush(f->metrics, true, &err), &err); /* nothing left */
    assert_int_equal(session_pending(f->session), 1);
    arena_release(&a);
}

static void a_full_buffer_posts_itself(void **state) {
    struct fixture *f = *state;
    struct err err;
    for (int64_t step = 0; step <= METRICS_POINTS_MAX; step++)
        must(metrics_add(f->metrics, "loss", step, 1.0, &err), &err);
    assert_int_equal(session_pending(f->session), 1);
    must(metrics_flush(f->metrics, true, &err), &err);
    assert_int_equal(session_pending(f->session), 2);
}

static void names_are_bounded(void **state) {
    struct fixture *f = *state;
    struct err err;
    char name[300];
    for (int i = 0; i < METRICS_KEYS_MAX; i++) {
        (void)snprintf(name, sizeof name, "m%d", i);
        must(metrics_add(f->metrics, name, 0, 1.0, &err), &err);
    }
    assert_int_equal(metrics_add(f->metrics, "one-more", 0, 1.0, &err), STATUS_FULL);
    must(metrics_add(f->metrics, "m7", 0, 1.0, &err), &err);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(metrics_add(f->metrics, name, 0, 1.0, &err), STATUS_INVALID);
    assert_int_equal(metrics_add(f->metrics, "", 0, 1.0, &err), STATUS_INVALID);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(points_are_grouped_by_key),
        T(a_full_buffer_posts_itself),
        T(names_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
