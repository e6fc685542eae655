/* Statuses, messages, contexts, cuts within UTF-8. */
#include "tests/unit/cmocka_all.h"

#include <errno.h>
#include <string.h>

#include "core/status.h"
#include "core/utf8.h"

static void names_go_both_ways(void **state) {
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++)
        assert_int_equal(status_from_name(status_name((enum status)i)), i);
    assert_string_equal(status_name(STATUS_NOT_FOUND), "not_found");
    assert_string_equal(status_name((enum status)999), "internal");
    assert_int_equal(status_from_name("no such"), STATUS_INTERNAL);
    assert_int_equal(status_from_name(NULL), STATUS_INTERNAL);
}

static void exit_codes(void **state) {
    (void)state;
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_INVALID), 2);
    assert_int_equal(status_exit_code((enum status)999), status_exit_code(STATUS_INTERNAL));
    for (int i = 1; i < STATUS_COUNT; i++)
        assert_in_range(status_exit_code((enum status)i), 1, 125);
}

static void set_fills_and_returns(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, STATUS_BUSY, "port %d", 7), STATUS_BUSY);
    assert_int_equal(err.status, STATUS_BUSY);
    assert_string_equal(err.text, "port 7");
    assert_int_equal(err_set(NULL, STATUS_BUSY, "port %d", 7), STATUS_BUSY);
}

static void set_may_quote_itself(void **state) {
    (void)state;
    struct err err = {0};
    (void)err_set(&err, STATUS_BUSY, "inner");
    (void)err_set(&err, STATUS_IO, "outer: %s", err.text);
    assert_string_equal(err.text, "outer: inner");
}

static void wrap_puts_context_in_front(void **state) {
    (void)state;
    struct err err = {0};
    (void)err_set(&err, STATUS_CORRUPT, "digest does not match");
    assert_int_equal(err_wrap(&err, STATUS_CORRUPT, "read chunk %d", 7), STATUS_CORRUPT);
    assert_string_equal(err.text, "read chunk 7: digest does not match");
    assert_int_equal(err_wrap(NULL, STATUS_CORRUPT, "x"), STATUS_CORRUPT);
    struct err empty = {0};
    assert_int_equal(err_wrap(&empty, STATUS_IO, "x"), STATUS_IO);
}

static void errno_maps(void **state) {
    (void)state;
    static const struct {
        int errnum;
        enum status status;
    } rows[] = {{ENOSPC, STATUS_FULL},   {EDQUOT, STATUS_FULL},  {ENOENT, STATUS_NOT_FOUND},
                {EACCES, STATUS_DENIED}, {EPERM, STATUS_DENIED}, {ENOMEM, STATUS_NOMEM},
                {EPIPE, STATUS_IO}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(err_errno(NULL, rows[i].errnum, "x"), rows[i].status);
    struct err err = {0};
    (void)err_errno(&err, ENOENT, "open %s", "f");
    assert_string_equal(err.text, "open f: No such file or directory");
    (void)err_errno(&err, 99999, "open");
    assert_string_equal(err.text, "open: unknown error");
}

static void long_texts_are_cut(void **state) {
    (void)state;
    char big[2 * ERR_TEXT_MAX];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    struct err err = {0};
    (void)err_set(&err, STATUS_IO, "%s", big);
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
    (void)err_wrap(&err, STATUS_IO, "in front");
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
    assert_int_equal(strncmp(err.text, "in front: xxx", 13), 0);
    (void)err_errno(&err, EIO, "%s", big);
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void texts_are_utf8(void **state) {
    (void)state;
    struct err err = {0};
    (void)err_set(&err, STATUS_IO, "caf%s \xff %s", "\xc3\xa9", "…");
    assert_string_equal(err.text, "café ? …");
    char big[ERR_TEXT_MAX];
    memset(big, 'x', sizeof big);
    memcpy(big + ERR_TEXT_MAX - 3, "\xe2\x80", 3); /* the third byte of … is cut off */
    (void)err_set(&err, STATUS_IO, "%s\xa6", big);
    assert_string_equal(err.text + ERR_TEXT_MAX - 3, "??");
}

static void utf8_lengths(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len, answer;
    } rows[] = {
        {"a", 1, 1},
        {"", 0, 0},
        {"\xc3\xa9", 2, 2},
        {"\xc3\xa9", 1, 0},
        {"\xc0\x80", 2, 0},     /* overlong */
        {"\xe0\x9f\xbf", 3, 0}, /* overlong */
        {"\xed\xa0\x80", 3, 0}, /* surrogate */
        {"\xef\xbf\xbf", 3, 3},
        {"\xf0\x8f\xbf\xbf", 4, 0}, /* overlong */
        {"\xf0\x9f\x9a\xa3", 4, 4},
        {"\xf4\x90\x80\x80", 4, 0}, /* over 10FFFF */
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xe2\x28\xa1", 3, 0},
        {"\xf0\x9f\x28\xa3", 4, 0},
        {"\x80", 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(utf8_length(rows[i].bytes, rows[i].len), rows[i].answer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(set_fills_and_returns),
        cmocka_unit_test(set_may_quote_itself),
        cmocka_unit_test(wrap_puts_context_in_front),
        cmocka_unit_test(errno_maps),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(texts_are_utf8),
        cmocka_unit_test(utf8_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
