/* Readers beside the writer: each answer is one snapshot, and totals never go back. */
#include "tests/unit/tracker/store_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#define READERS 3
#define COMMITS 60
#define POINTS  97

struct shared {
    struct store *s;
    atomic_bool done;
    _Atomic int failures;
    _Atomic int64_t reads;
};

static void ask(struct shared *sh, struct arena *a, struct buf *bytes, const char *op,
                struct value *request, struct value **reply) {
    struct store_request r = {.type = message_find(op), .header = request, .role = NET_ADMIN};
    struct store_answer answer = {.a = a, .header = message_reply(a, "r"), .bytes = bytes};
    struct err err;
    *reply = answer.header;
    buf_clear(bytes);
    if (store_read(sh->s, &r, &answer, &err) != STATUS_OK) {
        printf("%s: %s\n", op, err.text);
        sh->failures++;
    }
}

static void *reader(void *arg) {
    struct shared *sh = arg;
    struct arena a;
    struct buf bytes = BUF_INIT((size_t)64 << 20);
    int64_t before = 0;
    arena_init(&a, (size_t)256 << 20);
    while (!sh->done || before < (int64_t)COMMITS * POINTS) {
        struct value *reply, *request = message_request(&a, "run.metrics", "r");
        value_set_string(&a, request, "run", RUN_A);
        value_set_string(&a, request, "key", "k");
        ask(sh, &a, &bytes, "run.metrics", request, &reply);
        int64_t total = value_get_int(reply, "total", -1);
        /* one transaction: POINTS points and one number of the feed, after the run's creation */
        if (total < before || total % POINTS != 0 ||
            value_get_int(reply, "sequence", 0) != total / POINTS + 1 ||
            value_get_int(reply, "count", 0) != total)
            sh->failures++;
        before = total;
        for (int64_t i = 0; i < total; i++)
            if ((int64_t)bytes_get_u64(bytes.data + 8 * i) != i) {
                sh->failures++;
                break;
            }
        ask(sh, &a, &bytes, "run.get", request, &reply);
        ask(sh, &a, &bytes, "run.list", message_request(&a, "run.list", "r"), &reply);
        struct store_stats stats;
        store_stats(sh->s, &stats);
        arena_clear(&a);
        sh->reads++;
        if (sh->failures > 0)
            break;
    }
    arena_release(&a);
    buf_release(&bytes);
    return NULL;
}

static void readers_beside_the_writer(void **state) {
    struct fixture f;
    struct shared sh = {0};
    pthread_t threads[READERS];
    int64_t steps[POINTS], times[POINTS], values[POINTS];
    struct net_frame frames[3] = {
        {steps, sizeof steps}, {times, sizeof times}, {values, sizeof values}};
    (void)state;
    fixture_init(&f);
    fixture_run(&f, RUN_A);
    sh.s = f.s;
    for (int64_t g = 0; g < COMMITS; g++) {
        for (int64_t i = 0; i < POINTS; i++) {
            steps[i] = g * POINTS + i;
            times[i] = f.now_ns + steps[i] * 1000;
            values[i] = steps[i] << 20;
        }
        assert_int_equal(fixture_write(&f, "run.log",
                                       "{'run':'" RUN_A "','series':[{'key':'k','count':97}]}",
                                       frames, 3),
                         STATUS_OK);
        if (g == 0)
            for (size_t i = 0; i < READERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, reader, &sh), 0);
        if (g % 20 == 10)
            assert_int_equal(store_maintain(f.s, &f.err), STATUS_OK);
        arena_clear(&f.a);
    }
    sh.done = true;
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(sh.failures, 0);
    assert_true(sh.reads >= READERS);
    fixture_release(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_beside_the_writer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
