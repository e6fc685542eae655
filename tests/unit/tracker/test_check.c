/* What opening reads of a store, what it leaves to reading and to --check; how large the maps are. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/bytes.h"
#include "core/path.h"
#include "tests/unit/tracker/store_fixture.h"
#include "tracker/map/kv.h"

#define POINTS 9000 /* several full chunks, each on a page of its own */
#define PAGE   4096

static void fill(struct fixture *f) {
    uint8_t *columns = malloc((size_t)POINTS * 24);
    uint64_t x = 7;
    fixture_init(f);
    WRITE_OK(f, "run.create", "{'run':'" RUN_A "','experiment':'e'}");
    for (size_t i = 0; i < (size_t)POINTS * 3; i++) {
        x = x * UINT64_C(6364136223846793005) + 1;
        bytes_put_u64(columns + 8 * i, i < POINTS ? i : x >> 12);
    }
    const struct net_frame frames[3] = {{columns, (size_t)POINTS * 8},
                                        {columns + (size_t)POINTS * 8, (size_t)POINTS * 8},
                                        {columns + (size_t)POINTS * 16, (size_t)POINTS * 8}};
    assert_int_equal(fixture_write(f, "run.log",
                                   "{'run':'" RUN_A "','series':[{'key':'loss','count':9000}]}",
                                   frames, 3),
                     STATUS_OK);
    free(columns);
}

static void meta_path(const struct fixture *f, char out[PATH_TEXT_MAX]) {
    (void)snprintf(out, PATH_TEXT_MAX, "%.60s/meta/data.mdb", f->dir);
}

/* Changes one byte of the page of a large value, the last in the file. */
static void damage_value(const struct fixture *f, size_t at) {
    char path[PATH_TEXT_MAX];
    uint8_t page[PAGE];
    meta_path(f, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat sb;
    assert_true(fd >= 0 && fstat(fd, &sb) == 0);
    off_t place = sb.st_size / PAGE * PAGE;
    do {
        place -= PAGE;
        assert_true(place > 0);
        assert_int_equal(pread(fd, page, PAGE, place), PAGE);
    } while (bytes_get_u16(page + 10) != 4 || page[16] > 2 || bytes_get_u16(page + 18) < 100);
    page[at] ^= 2;
    assert_int_equal(pwrite(fd, page + at, 1, place + (off_t)at), 1);
    (void)close(fd);
}

static void a_walk_ends_when_its_time_is_up(void **state) {
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    char path[PATH_TEXT_MAX];
    struct kv_file file;
    struct kv_walk walk = {.limit_ns = 0};
    fill(f);
    store_close(&f->s);
    meta_path(f, path);
    assert_int_equal(kv_check_file(path, &file, &f->err), STATUS_OK);
    assert_int_equal(kv_check_trees(path, &file, &walk, &f->err), STATUS_OK);
    assert_true(walk.cut);
    assert_int_equal(walk.pages, 1);
    for (int heads = 0; heads < 2; heads++) {
        walk = (struct kv_walk){.limit_ns = INT64_MAX, .heads = heads == 1};
        assert_int_equal(kv_check_trees(path, &file, &walk, &f->err), STATUS_OK);
        assert_false(walk.cut);
        assert_int_equal(walk.pages, file.main.branches + file.main.leaves + file.free.branches +
                                         file.free.leaves);
    }
    fixture_release(f);
    free(f);
}

static void a_whole_store_is_called_whole(void **state) {
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    struct store_checked all;
    fill(f);
    assert_int_equal(store_check(f->s, &all, &f->err), STATUS_OK);
    assert_int_equal(all.points, POINTS);
    assert_true(all.records > 5);
    fixture_release(f);
    free(f);
}

/* A flipped bit among the points: opening does not see it, reading and the check do. */
static void damaged_points_are_found_by_the_check(void **state) {
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    struct store_checked all;
    fill(f);
    store_close(&f->s);
    damage_value(f, 2000);
    assert_int_equal(store_open(f->dir, &f->options, &f->s, &f->err), STATUS_OK);
    assert_int_equal(store_check(f->s, &all, &f->err), STATUS_CORRUPT);
    assert_int_equal(fixture_read(f, "run.metrics", "{'run':'" RUN_A "','key':'loss'}"),
                     STATUS_CORRUPT);
    fixture_release(f);
    free(f);
}

/* The number of pages that LMDB would free with a value: read with the value, and by --check. */
static void a_large_value_of_other_pages_is_found(void **state) {
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    fill(f);
    store_close(&f->s);
    damage_value(f, 12);
    assert_int_equal(store_open(f->dir, &f->options, &f->s, &f->err), STATUS_OK);
    assert_int_equal(fixture_read(f, "run.metrics", "{'run':'" RUN_A "','key':'loss'}"),
                     STATUS_CORRUPT);
    store_close(&f->s);
    f->options.whole = true;
    assert_int_equal(store_open(f->dir, &f->options, &f->s, &f->err), STATUS_CORRUPT);
    assert_non_null(strstr(f->err.text, "it should hold a large value"));
    fixture_release(f);
    free(f);
}

/* Numbers in a header page that no store has, each before anything trusts them. */
static void forged_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        off_t at; /* in the first page */
        size_t bytes;
        uint64_t value;
    } cases[] = {
        {40, 4, 0},           {40, 4, 256},         {40, 4, 4095},
        {40, 4, 131072},      {40, 4, UINT32_MAX},  {40, 4, 65535},
        {16, 4, 0},           {20, 4, 2},           {136, 8, UINT64_C(1) << 48},
        {136, 8, UINT64_MAX}, {144, 8, UINT64_MAX},
    };
    struct fixture *f = calloc(1, sizeof *f);
    char path[PATH_TEXT_MAX];
    struct kv_file file;
    fill(f);
    store_close(&f->s);
    meta_path(f, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t was[8], now[8];
        bytes_put_u64(now, cases[i].value);
        assert_int_equal(pread(fd, was, cases[i].bytes, cases[i].at), (ssize_t)cases[i].bytes);
        assert_int_equal(pwrite(fd, now, cases[i].bytes, cases[i].at), (ssize_t)cases[i].bytes);
        assert_int_equal(kv_check_file(path, &file, &f->err), STATUS_CORRUPT);
        assert_int_equal(pwrite(fd, was, cases[i].bytes, cases[i].at), (ssize_t)cases[i].bytes);
    }
    assert_int_equal(kv_check_file(path, &file, &f->err), STATUS_OK);
    (void)close(fd);
    fixture_release(f);
    free(f);
}

/* ---- address space ---- */

static int open_in(struct fixture *f, size_t room) {
    struct rlimit limit;
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return 100;
    limit.rlim_cur = limit.rlim_max = strtoul(text, NULL, 10) * PAGE + room;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 100;
    enum status st = store_open(f->dir, &f->options, &f->s, &f->err);
    bool helps = f->options.meta_bytes > 0; /* what has adapted is as small as it gets */
    if (st == STATUS_NOMEM && (strstr(f->err.text, "ulimit -v") == NULL ||
                               (strstr(f->err.text, "--map-size") != NULL) != helps))
        return 101;
    return (int)st;
}

static int open_in_child(struct fixture *f, size_t room) {
    int status = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(open_in(f, room));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The default adapts; a size that was asked for is had or refused. */
static void maps_adapt_to_little_address_space(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return; /* their shadow takes all of the address space */
#endif
    struct fixture *f = calloc(1, sizeof *f);
    fill(f);
    store_close(&f->s);
    f->options.meta_bytes = f->options.blobs_bytes = 0;
    assert_int_equal(open_in_child(f, (size_t)6 << 30), STATUS_OK);
    assert_int_equal(open_in_child(f, (size_t)1 << 30), STATUS_OK);
    assert_int_equal(open_in_child(f, (size_t)1 << 28), STATUS_NOMEM);
    f->options.meta_bytes = f->options.blobs_bytes = (size_t)8 << 30;
    assert_int_equal(open_in_child(f, (size_t)6 << 30), STATUS_NOMEM);
    fixture_release(f);
    free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_ends_when_its_time_is_up),
        cmocka_unit_test(a_whole_store_is_called_whole),
        cmocka_unit_test(damaged_points_are_found_by_the_check),
        cmocka_unit_test(a_large_value_of_other_pages_is_found),
        cmocka_unit_test(forged_headers_are_refused),
        cmocka_unit_test(maps_adapt_to_little_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
