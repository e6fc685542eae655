/* What may be the path of an artifact, and why another may not. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "wire/artifact_path.h"

static void good_paths(void **state) {
    (void)state;
    char longest[ARTIFACT_PATH_MAX + 2];
    static const char *const good[] = {"a",
                                       "model.safetensors",
                                       "checkpoints/000000000120.safetensors",
                                       "a b",
                                       "...",
                                       "..x/.y/z..",
                                       "a:b\\",
                                       "\xc3\xa9t\xc3\xa9/\xe6\xbc\xa2"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(artifact_path_check_new(good[i], NULL), STATUS_OK);
    memset(longest, 'x', sizeof longest);
    longest[ARTIFACT_PATH_MAX + 1] = '\0';
    assert_int_equal(artifact_path_check(longest, NULL), STATUS_TOO_LARGE);
    assert_int_equal(artifact_path_check_new(longest, NULL), STATUS_TOO_LARGE);
    longest[ARTIFACT_PATH_MAX] = '\0';
    assert_int_equal(artifact_path_check_new(longest, NULL), STATUS_OK);
}

static void bad_paths_and_why(void **state) {
    (void)state;
    static const char *const bad[] = {"",    "/",   "/a",   "a/",   "a//b",   ".",     "..",
                                      "./a", "a/.", "../a", "a/..", "a/../b", "a/./b", "//"};
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(artifact_path_check(bad[i], &err), STATUS_INVALID);
        assert_non_null(strstr(err.text, "the artifact's path"));
        assert_int_equal(artifact_path_check_new(bad[i], &err), STATUS_INVALID);
    }
    assert_int_equal(artifact_path_check(NULL, &err), STATUS_INVALID);
}

static void old_ones_can_be_read(void **state) {
    (void)state;
    static const char *const old[] = {"a\033[2J",       "a\nb",     "\x7f",    "\xff",
                                      "a/\xe2\x80\xae", "\xc2\x9b", "\xc0\xaf"};
    struct err err;
    for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
        assert_int_equal(artifact_path_check(old[i], &err), STATUS_OK);
        assert_int_equal(artifact_path_check_new(old[i], &err), STATUS_INVALID);
        assert_non_null(strstr(err.text, "the artifact's path"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_paths),
        cmocka_unit_test(bad_paths_and_why),
        cmocka_unit_test(old_ones_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
