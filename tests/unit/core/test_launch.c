/* Programs that answer with JSON: what they say, and those that never do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/launch.h"

static struct arena arena;
static struct err err;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)16 << 20);
    memset(&err, 0, sizeof err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

static enum status ask(const char *script, int timeout_ms, int *code, struct value **out) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct launch_answer answer = {.exit_code = -1};
    enum status st = launch_ask(argv, timeout_ms, &arena, &answer, &err);
    *code = answer.exit_code;
    *out = answer.value;
    return st;
}

static void parses_the_answer(void **state) {
    (void)state;
    struct value *v = NULL;
    int code = -1;
    assert_int_equal(ask("echo '{\"a\":'; echo '[1, 2]}'", 10000, &code, &v), STATUS_OK);
    assert_int_equal(code, 0);
    assert_int_equal(value_get(v, "a")->count, 2);
    assert_int_equal(ask("echo '{}'", 0, &code, &v), STATUS_OK);
    assert_int_equal(ask("echo nothing of the kind", 10000, &code, &v), STATUS_INVALID);
}

static void tells_exit_codes(void **state) {
    (void)state;
    struct value *v = NULL;
    int code = 0;
    assert_int_equal(ask("echo '{\"a\": 1}'; exit 9", 10000, &code, &v), STATUS_OK);
    assert_int_equal(code, 9);
    assert_int_equal(value_get_int(v, "a", 0), 1);
    assert_int_equal(ask("echo words; exit 9", 10000, &code, &v), STATUS_OK);
    assert_int_equal(code, 9);
    assert_null(v);
    const char *const argv[] = {"/nowhere/program", NULL};
    struct launch_answer answer;
    assert_int_equal(launch_ask(argv, 10000, &arena, &answer, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere/program"));
}

/* Both wait with their output open, the second is deaf to SIGTERM as well. */
static void waits_no_longer_than_asked(void **state) {
    (void)state;
    static const char *const scripts[] = {"exec sleep 60", "trap '' TERM; exec sleep 60",
                                          "exec >&-; exec sleep 60"};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct value *v = NULL;
        int code = 0;
        int64_t begin = clock_mono_ns(&clock_system);
        assert_int_equal(ask(scripts[i], 100, &code, &v), STATUS_TIMEOUT);
        assert_true(clock_mono_ns(&clock_system) - begin < 20 * NS_PER_S);
        assert_non_null(strstr(err.text, "did not answer"));
    }
}

static void settings_of_the_user_stay(void **state) {
    (void)state;
    const char *env[LAUNCH_SETTINGS_MAX];
    assert_int_equal(unsetenv("OMP_NUM_THREADS"), 0);
    size_t all = launch_settings(env);
    assert_int_equal(setenv("OMP_NUM_THREADS", "3", 1), 0);
    assert_int_equal(launch_settings(env), all - 1);
    for (size_t i = 0; i < all - 1; i++)
        assert_null(strstr(env[i], "OMP_NUM_THREADS"));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(parses_the_answer),
        CASE(tells_exit_codes),
        CASE(waits_no_longer_than_asked),
        CASE(settings_of_the_user_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
