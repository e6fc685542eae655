/* Buffers: growth, maximum, failures that stay. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/buf.h"
#include "core/bytes.h"
#include "tests/unit/alloc_fail.h"

static void appends_in_order(void **state) {
    (void)state;
    struct buf b = BUF_INIT(1000);
    assert_string_equal(buf_text(&b), "");
    buf_add(&b, "a\0b", 3);
    buf_addc(&b, 'c');
    buf_adds(&b, "de");
    buf_addf(&b, "%03d", 7);
    assert_int_equal(b.len, 9);
    assert_memory_equal(b.data, "a\0bcde007", 10);
    assert_int_equal(buf_status(&b, "test", NULL), STATUS_OK);
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_text(&b), "");
    buf_release(&b);
    buf_release(&b);
    assert_int_equal(b.bytes_max, 1000);
}

static void numbers_are_little_endian(void **state) {
    (void)state;
    struct buf b = BUF_INIT(100);
    buf_add_u32(&b, 0x04030201);
    buf_add_u64(&b, 0x0C0B0A0908070605);
    buf_add_f64(&b, 1.0);
    assert_memory_equal(b.data, "\1\2\3\4\5\6\7\10\11\12\13\14\0\0\0\0\0\0\xf0\x3f", 20);
    assert_true(bytes_get_f64(b.data + 12) >= 1.0 && bytes_get_f64(b.data + 12) <= 1.0);
    buf_release(&b);
}

static void the_bound_is_exact(void **state) {
    (void)state;
    struct buf b = BUF_INIT(100);
    for (int i = 0; i < 100; i++)
        buf_addc(&b, 'x');
    assert_int_equal(b.failed, STATUS_OK);
    buf_addc(&b, 'y');
    assert_int_equal(b.failed, STATUS_TOO_LARGE);
    assert_int_equal(b.len, 100);
    struct err err = {0};
    assert_int_equal(buf_status(&b, "the reply", &err), STATUS_TOO_LARGE);
    assert_string_equal(err.text, "the reply is larger than 100 bytes");
    buf_release(&b);
}

static void a_failure_sticks(void **state) {
    (void)state;
    struct buf b = BUF_INIT(10);
    buf_adds(&b, "12345");
    buf_adds(&b, "1234567");
    buf_adds(&b, "6"); /* would fit, but not where it belongs */
    buf_addf(&b, "%d", 6);
    assert_null(buf_grow(&b, 1));
    assert_string_equal(buf_text(&b), "12345");
    buf_clear(&b);
    buf_adds(&b, "ok");
    assert_int_equal(buf_status(&b, "b", NULL), STATUS_OK);
    buf_release(&b);
    struct buf huge = BUF_INIT(SIZE_MAX);
    assert_null(buf_grow(&huge, SIZE_MAX));
    assert_int_equal(huge.failed, STATUS_TOO_LARGE);
    buf_release(&huge);
}

static void grow_gives_room(void **state) {
    (void)state;
    struct buf b = BUF_INIT(1 << 20);
    for (int i = 0; i < 1000; i++) {
        char *p = buf_grow(&b, 100);
        assert_non_null(p);
        memset(p, i & 0x7f, 100);
    }
    assert_int_equal(b.len, 100000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b.data[i * 100 + 50], i & 0x7f);
    buf_release(&b);
}

static enum status append_much(void *arg) {
    (void)arg;
    struct buf b = BUF_INIT(1 << 20);
    for (int i = 0; i < 200; i++) {
        buf_adds(&b, "some text ");
        buf_addf(&b, "%d", i);
        buf_add_u64(&b, 1);
    }
    struct err err;
    enum status st = buf_status(&b, "b", &err);
    buf_release(&b);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(append_much, NULL), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_in_order),   cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(the_bound_is_exact), cmocka_unit_test(a_failure_sticks),
        cmocka_unit_test(grow_gives_room),    cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
