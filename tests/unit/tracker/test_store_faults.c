/* What the world does to a store: kill -9, full maps and disks, cut and scribbled files, a second
 * opener, a newer format, a network filesystem. */
#include "tests/unit/tracker/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "tracker/map/keys.h"

#define KILLS 12

static int setup(void **state) {
    struct fixture *f = malloc(sizeof *f);
    fixture_init(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    fixture_release(f);
    free(f);
    return 0;
}

static enum status log_n(struct fixture *f, const char *run, int64_t first, size_t n,
                         bool in_transaction) {
    static int64_t steps[20000], times[20000];
    static uint64_t values[20000];
    char text[160];
    for (size_t i = 0; i < n; i++) {
        steps[i] = first + (int64_t)i;
        times[i] = f->now_ns + steps[i];
        values[i] = (uint64_t)steps[i] * UINT64_C(0x9e3779b97f4a7c15); /* does not pack */
    }
    struct net_frame frames[3] = {{steps, n * 8}, {times, n * 8}, {values, n * 8}};
    (void)snprintf(text, sizeof text, "{'run':'%s','series':[{'key':'k','count':%zu}]}", run, n);
    return in_transaction ? fixture_apply(f, "run.log", text, frames, 3)
                          : fixture_write(f, "run.log", text, frames, 3);
}

static int64_t logged(struct fixture *f, const char *run) {
    char text[128];
    (void)snprintf(text, sizeof text, "{'run':'%s','key':'k'}", run);
    enum status st = fixture_read(f, "run.metrics", text);
    if (st == STATUS_NOT_FOUND)
        return 0;
    assert_int_equal(st, STATUS_OK);
    int64_t n = value_get_int(f->reply, "total", -1);
    for (int64_t i = 0; i < n; i++) {
        assert_true((int64_t)bytes_get_u64(f->bytes.data + 8 * i) == i);
        assert_true(bytes_get_u64(f->bytes.data + 8 * (2 * n + i)) ==
                    (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15));
    }
    return n;
}

/* ---- kill -9 ---- */

/* Writes transactions until it is killed; each acknowledged step, and each acknowledged chunk of an
 * artifact, goes through the pipe after its commit. */
static void writer(struct fixture *f, int out, int64_t step) {
    static uint8_t data[3 * STORE_CHUNK];
    struct digest d;
    char hex[DIGEST_HEX], text[300];
    struct err err;
    memset(data, (int)(step & 0xff), sizeof data);
    bytes_put_u64(data, (uint64_t)step);
    hash_bytes(data, sizeof data, &d);
    hash_hex(&d, hex);
    for (size_t chunk = 0;; chunk++) {
        if (store_begin(f->s, &err) != STATUS_OK)
            _exit(2);
        if (log_n(f, RUN_A, step, 50, true) != STATUS_OK)
            _exit(3);
        enum status st = STATUS_OK;
        if (chunk == 0) {
            (void)snprintf(text, sizeof text,
                           "{'run':'" RUN_A "','path':'p','size':%zu,'digest':'%s'}", sizeof data,
                           hex);
            st = fixture_apply(f, "artifact.begin", text, NULL, 0);
        } else if (chunk <= 3) {
            struct net_frame frame = {data + (chunk - 1) * STORE_CHUNK, STORE_CHUNK};
            (void)snprintf(text, sizeof text, "{'digest':'%s','offset':%zu}", hex,
                           (chunk - 1) * STORE_CHUNK);
            st = fixture_apply(f, "artifact.chunk", text, &frame, 1);
        } else if (chunk == 4) {
            (void)snprintf(text, sizeof text, "{'run':'" RUN_A "','path':'p','digest':'%s'}", hex);
            st = fixture_apply(f, "artifact.commit", text, NULL, 0);
        }
        if (st != STATUS_OK || store_commit(f->s, &err) != STATUS_OK)
            _exit(4);
        step += 50;
        int64_t ack[2] = {step, (int64_t)chunk};
        if (write(out, ack, sizeof ack) != (ssize_t)sizeof ack)
            _exit(5);
        arena_clear(&f->a);
    }
}

static void killed_writers_lose_nothing(void **state) {
    struct fixture *f = *state;
    unsigned seed = (unsigned)time(NULL);
    int64_t acknowledged = 0;
    printf("seed %u\n", seed);
    fixture_run(f, RUN_A);
    store_close(&f->s);
    for (int i = 0; i < KILLS; i++) {
        int fds[2];
        int64_t ack[2], chunk = -1;
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)close(fds[0]);
            if (store_open(f->dir, &f->options, &f->s, &f->err) != STATUS_OK)
                _exit(1);
            writer(f, fds[1], acknowledged);
        }
        (void)close(fds[1]);
        /* The moment is random, counted in acknowledgements plus a part of a commit. */
        int acks = 1 + (int)(rand_r(&seed) % 8);
        for (int k = 0; k < acks && read(fds[0], ack, sizeof ack) == (ssize_t)sizeof ack; k++) {
            acknowledged = ack[0];
            chunk = ack[1];
        }
        struct timespec pause = {0, (long)(rand_r(&seed) % 3000000)};
        (void)nanosleep(&pause, NULL);
        (void)kill(pid, SIGKILL);
        while (read(fds[0], ack, sizeof ack) == (ssize_t)sizeof ack) {
            acknowledged = ack[0];
            chunk = ack[1];
        }
        (void)close(fds[0]);
        int how;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        assert_true(WIFSIGNALED(how)); /* it did not end by an error */

        fixture_open(f);
        int64_t there = logged(f, RUN_A);
        assert_true(there >= acknowledged && there <= acknowledged + 50);
        acknowledged = there;
        if (chunk >= 4) { /* its commit was acknowledged */
            READ_OK(f, "artifact.get", "{'run':'" RUN_A "','path':'p','length':8388608}");
            assert_int_equal(f->frame_lens[0], 3 * STORE_CHUNK);
        }
        f->now_ns += 48 * 3600 * NS_PER_S;
        assert_int_equal(store_maintain(f->s, &f->err), STATUS_OK);
        store_close(&f->s);
        arena_clear(&f->a);
    }
}

/* ---- full ---- */

/* Fills the store until it says FULL; what was acknowledged stays, what was not is not there. */
static void fill(struct fixture *f) {
    int64_t step = 0;
    enum status st = STATUS_OK;
    for (int i = 0; i < 100000 && st == STATUS_OK; i++) {
        struct err err;
        st = store_begin(f->s, &f->err);
        if (st != STATUS_OK)
            break;
        if (i % 10 == 0)
            (void)fixture_apply(f, "run.update", "{'run':'" RUN_A "','tags':{'t':'x'}}", NULL, 0);
        st = log_n(f, RUN_A, step, 1500, true);
        enum status committed = store_commit(f->s, st == STATUS_OK ? &f->err : &err);
        if (st == STATUS_OK)
            st = committed;
        else
            assert_int_equal(committed, STATUS_FULL); /* gone as a whole */
        if (st == STATUS_OK)
            step += 1500;
        buf_clear(&f->bytes);
        arena_clear(&f->a);
    }
    assert_int_equal(st, STATUS_FULL);
    assert_true(step > 0);
    assert_int_equal(logged(f, RUN_A), step); /* reads go on */
    assert_int_equal(log_n(f, RUN_A, step, 1500, false), STATUS_FULL);
    assert_int_equal(logged(f, RUN_A), step);
    fixture_reopen(f);
    assert_int_equal(logged(f, RUN_A), step);
}

static void full_map(void **state) {
    struct fixture *f = *state;
    store_close(&f->s);
    f->options.meta_bytes = (size_t)2 << 20;
    fixture_open(f);
    fixture_run(f, RUN_A);
    fill(f);
    /* with more room it goes on where it was */
    int64_t step = logged(f, RUN_A);
    store_close(&f->s);
    f->options.meta_bytes = (size_t)8 << 20;
    fixture_open(f);
    assert_int_equal(log_n(f, RUN_A, step, 1500, false), STATUS_OK);
    assert_int_equal(logged(f, RUN_A), step + 1500);
}

static void full_blobs(void **state) {
    struct fixture *f = *state;
    static uint8_t data[STORE_CHUNK];
    char text[300], hex[DIGEST_HEX];
    struct digest d = {{1}};
    store_close(&f->s);
    f->options.blobs_bytes = (size_t)4 << 20;
    fixture_open(f);
    fixture_run(f, RUN_A);
    hash_hex(&d, hex);
    (void)snprintf(text, sizeof text,
                   "{'run':'" RUN_A "','path':'p','size':104857600,'digest':'%s'}", hex);
    WRITE_OK(f, "artifact.begin", text);
    enum status st = STATUS_OK;
    size_t stored = 0;
    struct net_frame frame = {data, sizeof data};
    while (st == STATUS_OK) {
        (void)snprintf(text, sizeof text, "{'digest':'%s','offset':%zu}", hex,
                       stored * STORE_CHUNK);
        st = fixture_write(f, "artifact.chunk", text, &frame, 1);
        stored += st == STATUS_OK;
    }
    assert_int_equal(st, STATUS_FULL);
    assert_in_range(stored, 1, 4);
    WRITE_OK(f, "run.update", "{'run':'" RUN_A "','tags':{'t':'x'}}"); /* meta has room */
    (void)snprintf(text, sizeof text,
                   "{'run':'" RUN_A "','path':'p','size':104857600,'digest':'%s'}", hex);
    WRITE_OK(f, "artifact.begin", text);
    assert_int_equal(value_get_int(f->reply, "offset", 0), stored * STORE_CHUNK);
}

static void full_disk(void **state) {
    struct fixture *f = *state;
    char mnt[56];
    (void)snprintf(mnt, sizeof mnt, "%.40s/disk", f->dir);
    assert_int_equal(mkdir(mnt, 0700), 0);
    if (mount("tmpfs", mnt, "tmpfs", 0, "size=3m") != 0) {
        printf("skipped: no small filesystem can be mounted here (%s)\n", strerror(errno));
        skip();
    }
    struct fixture g;
    memset(&g, 0, sizeof g);
    (void)snprintf(g.dir, sizeof g.dir, "%s/s", mnt);
    g.now_ns = f->now_ns;
    g.role = NET_ADMIN;
    g.clock = (struct clock){fixture_now, fixture_now, &g};
    g.options = (struct store_options){
        .clock = &g.clock, .meta_bytes = (size_t)1 << 30, .blobs_bytes = (size_t)1 << 30};
    arena_init(&g.a, (size_t)1 << 30);
    buf_init(&g.bytes, (size_t)64 << 20);
    fixture_open(&g);
    fixture_run(&g, RUN_A);
    fill(&g);
    store_close(&g.s);
    arena_release(&g.a);
    buf_release(&g.bytes);
    assert_int_equal(umount(mnt), 0);
}

/* ---- damage ---- */

static void data_path(const struct fixture *f, const char *half, char out[128]) {
    (void)snprintf(out, 128, "%s/%s/data.mdb", f->dir, half);
}

static enum status reopen_status(struct fixture *f) {
    enum status st = store_open(f->dir, &f->options, &f->s, &f->err);
    store_close(&f->s);
    return st;
}

static void cut_and_scribbled(void **state) {
    struct fixture *f = *state;
    char path[128];
    struct stat sb;
    fixture_run(f, RUN_A);
    assert_int_equal(log_n(f, RUN_A, 0, 20000, false), STATUS_OK);
    store_close(&f->s);
    data_path(f, "meta", path);
    struct buf whole = BUF_INIT((size_t)64 << 20);
    assert_int_equal(path_read(path, &whole, &f->err), STATUS_OK);
    size_t cuts[] = {1,
                     100,
                     4096,
                     8192,
                     whole.len / 2 / 4096 * 4096,
                     whole.len / 2,
                     whole.len - 1,
                     whole.len - 4096};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(truncate(path, (off_t)cuts[i]), 0);
        assert_int_equal(reopen_status(f), STATUS_CORRUPT);
        assert_non_null(strstr(f->err.text, "restore a backup"));
        assert_int_equal(stat(path, &sb), 0);
        assert_int_equal(sb.st_size, cuts[i]); /* left as it was found */
        assert_int_equal(path_write(path, whole.data, whole.len, 0600, &f->err), STATUS_OK);
    }
    assert_int_equal(reopen_status(f), STATUS_OK);

    char *bad = malloc(whole.len);
    for (size_t at = 0; at <= 8192; at += 4096) { /* the first page, the second, all after them */
        size_t len = at < 8192 ? 4096 : whole.len - at;
        memcpy(bad, whole.data, whole.len);
        memset(bad + at, 0x5a, len);
        if (at == 8192)
            memset(bad, 0x5a, 8192);
        assert_int_equal(path_write(path, bad, whole.len, 0600, &f->err), STATUS_OK);
        assert_int_equal(reopen_status(f), STATUS_CORRUPT);
    }
    free(bad);
    assert_int_equal(path_write(path, "hello, this is not it", 21, 0600, &f->err), STATUS_OK);
    assert_int_equal(reopen_status(f), STATUS_CORRUPT);
    assert_int_equal(path_write(path, whole.data, whole.len, 0600, &f->err), STATUS_OK);
    fixture_open(f);
    assert_int_equal(logged(f, RUN_A), 20000);
    buf_release(&whole);
}

/* A file may be shorter than its last page number says, when what is missing is free. */
static void short_but_whole(void **state) {
    struct fixture *f = *state;
    char path[128];
    struct kv_file file;
    fixture_run(f, RUN_A);
    assert_int_equal(log_n(f, RUN_A, 0, 20000, false), STATUS_OK);
    store_close(&f->s);

    /* Free the last pages, twice, so that the free list says so; then take them away. */
    struct kv *kv;
    struct kv_txn t;
    size_t deleted;
    struct key k = key_of(KEY_CHUNK);
    (void)snprintf(path, sizeof path, "%s/meta", f->dir);
    assert_int_equal(kv_open(path, &(struct kv_how){.map_bytes = (size_t)1 << 30}, &kv, &f->err),
                     STATUS_OK);
    assert_int_equal(kv_begin(kv, NULL, true, &t, &f->err), STATUS_OK);
    static const char big[40 * 4096] = {1};
    assert_int_equal(
        kv_put(&t, (struct kv_bytes){"zz", 2}, (struct kv_bytes){big, sizeof big}, &f->err),
        STATUS_OK);
    assert_int_equal(kv_commit(&t, &f->err), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kv_begin(kv, NULL, true, &t, &f->err), STATUS_OK);
        if (i == 0)
            assert_int_equal(kv_del(&t, (struct kv_bytes){"zz", 2}, NULL, &f->err), STATUS_OK);
        else
            assert_int_equal(kv_del_prefix(&t, key_bytes(&k), 1, &deleted, &f->err), STATUS_OK);
        assert_int_equal(kv_commit(&t, &f->err), STATUS_OK);
    }
    kv_close(&kv);
    data_path(f, "meta", path);
    assert_int_equal(kv_check_file(path, &file, &f->err), STATUS_OK);
    assert_int_equal(truncate(path, (off_t)((file.pages_used - 8) * file.page_bytes)), 0);
    (void)snprintf(path, sizeof path, "%s/meta", f->dir);
    enum status st = kv_open(path, &(struct kv_how){.map_bytes = (size_t)1 << 30}, &kv, &f->err);
    if (st != STATUS_OK)
        fail_msg("%s", f->err.text);
    kv_close(&kv);
}

/* ---- refusals ---- */

static void opened_twice(void **state) {
    struct fixture *f = *state;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* another process: the lock is not inherited as ours */
        struct store *other;
        struct err err;
        char want[32];
        (void)snprintf(want, sizeof want, "%ld", (long)getppid());
        enum status st = store_open(f->dir, &f->options, &other, &err);
        _exit(st == STATUS_BUSY && strstr(err.text, want) != NULL ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fixture_run(f, RUN_A); /* the first is not disturbed */
}

static void change_format(struct fixture *f, const char *half, size_t at, uint8_t to) {
    char path[128];
    struct kv *kv;
    struct kv_txn t;
    struct key k = key_of(KEY_FORMAT);
    struct kv_bytes v;
    uint8_t record[64];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, half);
    assert_int_equal(kv_open(path, &(struct kv_how){.map_bytes = (size_t)1 << 30}, &kv, &f->err),
                     STATUS_OK);
    assert_int_equal(kv_begin(kv, NULL, true, &t, &f->err), STATUS_OK);
    assert_int_equal(kv_get(&t, key_bytes(&k), &v, &f->err), STATUS_OK);
    memcpy(record, v.data, v.len);
    record[at] = record[at] != to ? to : (uint8_t)(to + 1); /* a change in any case */
    assert_int_equal(kv_put(&t, key_bytes(&k), (struct kv_bytes){record, v.len}, &f->err),
                     STATUS_OK);
    assert_int_equal(kv_commit(&t, &f->err), STATUS_OK);
    kv_close(&kv);
}

static void newer_format(void **state) {
    struct fixture *f = *state;
    fixture_run(f, RUN_A);
    store_close(&f->s);
    change_format(f, "meta", 8, STORE_FORMAT + 1);
    assert_int_equal(reopen_status(f), STATUS_TOO_NEW);
    assert_non_null(strstr(f->err.text, "format 3"));
    change_format(f, "meta", 8, 1); /* its records say otherwise */
    assert_int_equal(reopen_status(f), STATUS_CORRUPT);
    assert_non_null(strstr(f->err.text, "heads already"));
    change_format(f, "meta", 8, STORE_FORMAT);
    assert_int_equal(reopen_status(f), STATUS_OK);
    change_format(f, "blobs", 8, STORE_FORMAT + 1);
    assert_int_equal(reopen_status(f), STATUS_TOO_NEW);
    change_format(f, "blobs", 8, STORE_FORMAT);
    change_format(f, "blobs", 30, '0'); /* another store's id */
    assert_int_equal(reopen_status(f), STATUS_CORRUPT);
    assert_non_null(strstr(f->err.text, "different stores"));
    change_format(f, "meta", 0, 'X');
    assert_int_equal(reopen_status(f), STATUS_CORRUPT);
}

static void network_filesystem(void **state) {
    struct fixture *f = *state;
    bool network = false;
    const char *name = "";
    static const char *const candidates[] = {"/sys/fs/fuse/connections", "/dev/fuse-test", "/mnt"};
    for (size_t i = 0; i < 3 && !network; i++)
        if (path_is_network(candidates[i], &network, &name, &f->err) == STATUS_OK && network) {
            struct store *s;
            assert_int_equal(store_open(candidates[i], &f->options, &s, &f->err), STATUS_DENIED);
            assert_non_null(strstr(f->err.text, name));
        }
    if (!network) {
        printf("skipped: no network filesystem is mounted here\n");
        skip();
    }
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(killed_writers_lose_nothing),
        TEST(full_map),
        TEST(full_blobs),
        TEST(full_disk),
        TEST(cut_and_scribbled),
        TEST(short_but_whole),
        TEST(opened_twice),
        TEST(newer_format),
        TEST(network_filesystem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
