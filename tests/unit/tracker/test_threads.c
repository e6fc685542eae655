/* The threads on a real store, and the order that peers keep. */
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ulid.h"
#include "tests/unit/cmocka_all.h"
#include "tracker/server/peers.h"
#include "tracker/server/threads.h"

struct fixture {
    char dir[64];
    struct store *store;
    struct threads *threads;
    struct job_queue done;
};

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static struct fixture *make(size_t meta_bytes) {
    struct err err;
    struct fixture *f = calloc(1, sizeof *f);
    struct store_options o = {.clock = &clock_system, .meta_bytes = meta_bytes};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-threads-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    must(store_open(f->dir, &o, &f->store, &err), &err);
    must(threads_new(f->store, &f->threads, &err), &err);
    job_queue_init(&f->done);
    return f;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void drop(struct fixture *f) {
    threads_destroy(&f->threads);
    for (struct job *job; (job = job_pop(&f->done)) != NULL;)
        job_destroy(&job);
    store_close(&f->store);
    (void)nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
}

static struct job *job_of(const char *text) {
    struct err err;
    struct job *job = job_new();
    must(message_parse(&job->arena, text, strlen(text), &job->request, &err), &err);
    job->bytes = sizeof *job;
    return job;
}

static struct job *create_experiment(int n, size_t name_bytes) {
    char text[512], name[201];
    memset(name, 'x', sizeof name);
    (void)snprintf(name, sizeof name, "e%0*d", (int)name_bytes, n);
    (void)snprintf(text, sizeof text,
                   "{\"v\":1,\"id\":\"w%d\",\"op\":\"experiment.create\",\"name\":\"%s\"}", n,
                   name);
    return job_of(text);
}

static void await(struct fixture *f, size_t count) {
    while (f->done.count < count) {
        struct pollfd p = {.fd = threads_fd(f->threads), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 120000), 1);
        threads_take(f->threads, &f->done);
    }
}

static void requests_share_commits_and_keep_their_order(void **state) {
    (void)state;
    struct fixture *f = make(0);
    struct store_stats stats;
    for (int i = 0; i < 1000; i++)
        threads_submit(f->threads, create_experiment(i, 4));
    await(f, 1000);
    for (int i = 0; i < 1000; i++) {
        char id[16];
        struct job *job = job_pop(&f->done);
        (void)snprintf(id, sizeof id, "w%d", i);
        assert_string_equal(job->request.id, id);
        assert_int_equal(job->status, STATUS_OK);
        job_destroy(&job);
    }
    store_stats(f->store, &stats);
    assert_in_range(stats.commits, 1000 / THREADS_REQUESTS_MAX, 500);

    threads_submit(f->threads, job_of("{\"v\":1,\"id\":\"r\",\"op\":\"experiment.list\"}"));
    threads_submit(f->threads, job_of("{\"v\":1,\"id\":\"s\",\"op\":\"stats\"}"));
    await(f, 2);
    for (struct job *job; (job = job_pop(&f->done)) != NULL;) {
        assert_int_equal(job->status, STATUS_OK);
        const struct value *list = value_get(job->answer.header, "experiments");
        if (strcmp(job->request.id, "r") == 0)
            assert_int_equal(list->count, 1000);
        job_destroy(&job);
    }
    drop(f);
}

static void a_refusal_leaves_the_others_alone(void **state) {
    (void)state;
    struct fixture *f = make(0);
    char run[ULID_TEXT], text[256];
    struct err err;
    must(ulid_new(run, &err), &err);
    (void)snprintf(text, sizeof text,
                   "{\"v\":1,\"id\":\"bad\",\"op\":\"run.update\",\"run\":\"%s\"}", run);
    for (int i = 0; i < 20; i++)
        threads_submit(f->threads, i == 10 ? job_of(text) : create_experiment(i, 4));
    await(f, 20);
    for (int i = 0; i < 20; i++) {
        struct job *job = job_pop(&f->done);
        assert_int_equal(job->status, i == 10 ? STATUS_NOT_FOUND : STATUS_OK);
        job_destroy(&job);
    }
    drop(f);
}

/* With a map that is nearly full, requests fail one by one and never take others with them; what
 * was acknowledged is there. */
static void a_full_map_refuses_and_keeps(void **state) {
    (void)state;
    struct fixture *f = make((size_t)256 << 10);
    int kept = 0, refused = 0;
    for (int i = 0; i < 3000; i++)
        threads_submit(f->threads, create_experiment(i, 190));
    await(f, 3000);
    for (struct job *job; (job = job_pop(&f->done)) != NULL; job_destroy(&job)) {
        assert_true(job->status == STATUS_OK || job->status == STATUS_FULL);
        kept += job->status == STATUS_OK;
        refused += job->status == STATUS_FULL;
        assert_true(job->status == STATUS_OK || job->err.text[0] != '\0');
    }
    assert_true(kept > 100 && refused > 100);
    threads_submit(f->threads, job_of("{\"v\":1,\"id\":\"r\",\"op\":\"experiment.list\"}"));
    await(f, 1);
    const struct value *list = value_get(f->done.head->answer.header, "experiments");
    assert_int_equal(list->count, kept);
    drop(f);
}

static void what_was_submitted_is_finished_at_the_end(void **state) {
    (void)state;
    struct err err;
    struct fixture *f = make(0);
    for (int i = 0; i < 500; i++)
        threads_submit(f->threads, create_experiment(i, 4));
    threads_destroy(&f->threads);
    must(threads_new(f->store, &f->threads, &err), &err);
    threads_submit(f->threads, job_of("{\"v\":1,\"id\":\"r\",\"op\":\"experiment.list\"}"));
    await(f, 1);
    assert_int_equal(value_get(f->done.head->answer.header, "experiments")->count, 500);
    drop(f);
}

/* At the end only writes deserve the wait: reads that wait are refused, writes are stored. */
static void reads_are_refused_at_the_end(void **state) {
    (void)state;
    struct fixture *f = make(0);
    enum { READS = 2000 };
    int stored = 0, refused = 0;
    threads_refuse_reads(f->threads);
    for (int i = 0; i < READS; i++)
        threads_submit(f->threads, job_of("{\"v\":1,\"id\":\"r\",\"op\":\"experiment.list\"}"));
    threads_submit(f->threads, create_experiment(1, 4));
    await(f, READS + 1);
    for (struct job *job; (job = job_pop(&f->done)) != NULL; job_destroy(&job)) {
        stored += job->status == STATUS_OK && job->request.type->writes;
        refused += job->status == STATUS_UNAVAILABLE && !job->request.type->writes;
    }
    assert_int_equal(stored, 1);
    assert_int_equal(refused, READS);
    drop(f);
}

/* ---- peers ---- */

static struct job *from_peer(uint8_t peer, bool writes) {
    struct job *job = writes ? create_experiment(1, 4)
                             : job_of("{\"v\":1,\"id\":\"r\",\"op\":\"experiment.list\"}");
    job->message.peer.len = 1;
    job->message.peer.id[0] = peer;
    return job;
}

static bool enter(struct peers *p, struct job *job) {
    struct err err;
    bool now = false;
    must(peers_enter(p, job, &now, &err), &err);
    return now;
}

static void reads_wait_for_the_writes_before_them(void **state) {
    (void)state;
    static struct peers p;
    struct job_queue ready;
    job_queue_init(&ready);
    struct job *w1 = from_peer(1, true), *w2 = from_peer(1, true), *w3 = from_peer(1, true);
    struct job *r0 = from_peer(1, false), *r1 = from_peer(1, false), *r2 = from_peer(1, false);
    struct job *other = from_peer(2, false), *left = from_peer(3, true),
               *held = from_peer(3, false);
    assert_true(enter(&p, r0)); /* nothing before it */
    peers_leave(&p, r0, &ready);
    assert_true(enter(&p, w1));
    assert_false(enter(&p, r1));
    assert_true(enter(&p, w2));
    assert_true(enter(&p, w3));
    assert_false(enter(&p, r2));
    assert_true(enter(&p, other)); /* another peer's business */
    peers_leave(&p, w1, &ready);
    assert_ptr_equal(job_pop(&ready), r1); /* though w2 and w3 are still under way */
    assert_null(job_pop(&ready));
    peers_leave(&p, w2, &ready);
    assert_null(job_pop(&ready));
    peers_leave(&p, w3, &ready);
    assert_ptr_equal(job_pop(&ready), r2);
    assert_true(enter(&p, left));
    assert_false(enter(&p, held));
    peers_release(&p); /* destroys `held` */
    struct job *all[] = {w1, w2, w3, r0, r1, r2, other, left};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        job_destroy(&all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_share_commits_and_keep_their_order),
        cmocka_unit_test(a_refusal_leaves_the_others_alone),
        cmocka_unit_test(a_full_map_refuses_and_keeps),
        cmocka_unit_test(what_was_submitted_is_finished_at_the_end),
        cmocka_unit_test(reads_are_refused_at_the_end),
        cmocka_unit_test(reads_wait_for_the_writes_before_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
