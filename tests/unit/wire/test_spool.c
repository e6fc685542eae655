/* Records in and out, torn tails, full files, files of others. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "wire/spool.h"

#define BODY_MAX 1000

static char path[64];

static int setup(void **state) {
    (void)state;
    (void)snprintf(path, sizeof path, "/tmp/trireme-spool-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

static struct spool *open_spool(uint64_t bytes_max) {
    struct err err;
    struct spool *s = NULL;
    enum status st = spool_open(path, bytes_max, &s, &err);
    if (st != STATUS_OK)
        fail_msg("%s", err.text);
    return s;
}

static size_t make_record(uint8_t *record, int n) {
    size_t body = (size_t)(n * 37 % BODY_MAX) + 1;
    memset(record + SPOOL_PREFIX_BYTES, 'a' + n % 26, body);
    return SPOOL_PREFIX_BYTES + body;
}

static enum status append(struct spool *s, int n, struct spool_place *place) {
    struct err err;
    uint8_t record[SPOOL_PREFIX_BYTES + BODY_MAX];
    size_t len = make_record(record, n);
    return spool_append(s, record, len, place, &err);
}

static void expect(struct spool *s, int n, struct spool_place *place) {
    struct err err;
    uint8_t want[SPOOL_PREFIX_BYTES + BODY_MAX], got[SPOOL_PREFIX_BYTES + BODY_MAX];
    size_t len = 0, want_len = make_record(want, n);
    assert_int_equal(spool_next(s, &len, &err), STATUS_OK);
    assert_int_equal(len, want_len);
    assert_int_equal(spool_read(s, got, len, place, &err), STATUS_OK);
    assert_memory_equal(got + SPOOL_PREFIX_BYTES, want + SPOOL_PREFIX_BYTES,
                        len - SPOOL_PREFIX_BYTES);
}

static off_t size_of(void) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

static void records_come_back_in_order(void **state) {
    (void)state;
    struct err err;
    struct spool_place place, middle = {0};
    struct spool *s = open_spool(1 << 20);
    for (int n = 0; n < 100; n++)
        assert_int_equal(append(s, n, &place), STATUS_OK);
    assert_int_equal(spool_unread(s), 100);
    for (int n = 0; n < 60; n++)
        expect(s, n, n == 50 ? &middle : &place);
    assert_int_equal(spool_forget(s, middle.begin, &err), STATUS_OK);
    spool_close(&s);

    s = open_spool(1 << 20); /* what was not forgotten is there again */
    assert_int_equal(spool_unread(s), 50);
    for (int n = 50; n < 100; n++)
        expect(s, n, &place);
    assert_int_equal(spool_forget(s, UINT64_MAX, &err), STATUS_OK);
    assert_int_equal(size_of(), 32);
    assert_int_equal(append(s, 7, &place), STATUS_OK);
    expect(s, 7, &place);
    assert_int_equal(spool_forget(s, UINT64_MAX, &err), STATUS_OK);
    spool_close(&s);
    assert_int_equal(access(path, F_OK), -1);
}

/* However a write was cut short, the records before it are there. */
static void every_torn_tail_is_cut_off(void **state) {
    (void)state;
    struct spool_place place = {0}, last = {0};
    struct spool *s = open_spool(1 << 20);
    for (int n = 0; n < 3; n++)
        assert_int_equal(append(s, n, n == 2 ? &last : &place), STATUS_OK);
    spool_close(&s);
    for (off_t size = (off_t)last.end - 1; size >= (off_t)last.begin; size--) {
        assert_int_equal(truncate(path, size), 0);
        s = open_spool(1 << 20);
        assert_int_equal(spool_unread(s), 2);
        assert_int_equal(append(s, 2, &place), STATUS_OK);
        assert_int_equal(place.begin, last.begin);
        spool_close(&s);
    }
}

static void a_flipped_bit_ends_the_records(void **state) {
    (void)state;
    struct spool_place place, second = {0};
    struct spool *s = open_spool(1 << 20);
    for (int n = 0; n < 3; n++)
        assert_int_equal(append(s, n, n == 1 ? &second : &place), STATUS_OK);
    spool_close(&s);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "!", 1, (off_t)second.begin + 15), 1);
    (void)close(fd);
    s = open_spool(1 << 20);
    assert_int_equal(spool_unread(s), 1);
    spool_close(&s);
}

static void a_broken_header_sends_everything_again(void **state) {
    (void)state;
    struct err err;
    struct spool_place place;
    struct spool *s = open_spool(1 << 20);
    for (int n = 0; n < 3; n++)
        assert_int_equal(append(s, n, &place), STATUS_OK);
    expect(s, 0, &place);
    assert_int_equal(spool_forget(s, place.end, &err), STATUS_OK);
    spool_close(&s);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "\xff", 1, 30), 1);
    (void)close(fd);
    s = open_spool(1 << 20);
    assert_int_equal(spool_unread(s), 3);
    spool_close(&s);
}

static void a_full_spool_stays_as_it_was(void **state) {
    (void)state;
    struct spool_place place;
    struct spool *s = open_spool(2000);
    int n = 0;
    while (append(s, n, &place) == STATUS_OK)
        n++;
    off_t size = size_of();
    assert_true(size <= 2000);
    assert_int_equal(append(s, n, &place), STATUS_FULL);
    assert_int_equal(size_of(), size);
    for (int i = 0; i < n; i++)
        expect(s, i, &place);
    spool_close(&s);
}

static void files_of_others_are_left_alone(void **state) {
    (void)state;
    struct err err;
    struct spool *s = NULL;
    int fd = open(path, O_RDWR);
    assert_int_equal(write(fd, "a letter to somebody, longer than a header", 42), 42);
    assert_int_equal(spool_open(path, 2000, &s, &err), STATUS_CORRUPT);
    assert_int_equal(size_of(), 42);
    assert_int_equal(pwrite(fd, "TRSPOOL\n\x09\x00\x00\x00", 12, 0), 12);
    (void)close(fd);
    assert_int_equal(spool_open(path, 2000, &s, &err), STATUS_TOO_NEW);
    assert_int_equal(spool_open("/no/such/dir/spool", 2000, &s, &err), STATUS_NOT_FOUND);
}

/* A program that has closed its standard input: what it prints there must not end up in the records. */
static void a_spool_takes_no_standard_stream(void **state) {
    (void)state;
    struct spool_place place;
    int kept = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(kept >= 0);
    assert_int_equal(close(STDIN_FILENO), 0);
    struct spool *s = open_spool(1 << 20);
    int flags = fcntl(STDIN_FILENO, F_GETFD);
    assert_int_equal(append(s, 1, &place), STATUS_OK);
    expect(s, 1, &place);
    spool_close(&s);
    assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
    (void)close(kept);
    assert_int_equal(flags, -1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_spool_takes_no_standard_stream),
        T(records_come_back_in_order),
        T(every_torn_tail_is_cut_off),
        T(a_flipped_bit_ends_the_records),
        T(a_broken_header_sends_everything_again),
        T(a_full_spool_stays_as_it_was),
        T(files_of_others_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
