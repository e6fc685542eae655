/* Names: what can name a file everywhere, and nothing else. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/name.h"

static void good_names(void **state) {
    (void)state;
    char longest[NAME_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest);
    static const char *const good[] = {"a", "digits", "fashion-mlp_2.1", "7", "-", "A.b.C", "x.."};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(name_valid(good[i], strlen(good[i])));
    assert_true(name_valid(longest, NAME_BYTES_MAX));
    assert_false(name_valid(longest, NAME_BYTES_MAX + 1));
}

static void bad_names_and_why(void **state) {
    (void)state;
    static const struct {
        const char *name, *says;
    } bad[] = {
        {"", "is empty"},           {".", "begin with '.'"},        {"..", "begin with '.'"},
        {"../x", "begin with '.'"}, {".hidden", "begin with '.'"},  {"a/b", "has a '/'"},
        {"m@a", "has a '@'"},       {"a b", "byte 0x20 at 1"},      {"a\n", "byte 0x0a at 1"},
        {"a\033[1m", "0x1b at 1"},  {"\xc3\xa9", "byte 0xc3 at 0"}, {"a\x7f", "0x7f at 1"},
        {"run:best", "has a ':'"},  {"a\\b", "has a '\\'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err;
        enum status st = name_check("model's name", bad[i].name, strlen(bad[i].name), &err);
        assert_int_equal(st, STATUS_INVALID);
        assert_non_null(strstr(err.text, "the model's name"));
        if (strstr(err.text, bad[i].says) == NULL)
            fail_msg("'%s' was refused with: %s", bad[i].name, err.text);
    }
    assert_false(name_valid("a\0b", 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_names),
        cmocka_unit_test(bad_names_and_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
