/* The exit code of a command that followed a sweep to its end. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "client/cli/report.h"
#include "core/json.h"

static int code_of(const char *text) {
    struct arena a;
    struct value *status = NULL;
    struct err err;
    arena_init(&a, (size_t)1 << 20);
    if (json_parse(&a, text, strlen(text), "status", &status, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    int code = report_exit_code(status);
    arena_release(&a);
    return code;
}

static void by_state_and_failures(void **state) {
    (void)state;
    assert_int_equal(code_of("{\"state\":\"completed\",\"failed\":0}"), 0);
    assert_int_equal(code_of("{\"state\":\"completed\",\"failed\":1}"), 1);
    assert_int_equal(code_of("{\"state\":\"completed\",\"trials\":[{\"state\":\"failed\"}]}"), 1);
    assert_int_equal(code_of("{\"state\":\"cancelled\"}"), 11);
}

/* The code decides, whatever the reason says; coordinators of before sent the reason alone. */
static void a_failed_sweep_by_its_code(void **state) {
    (void)state;
    assert_int_equal(code_of("{\"state\":\"failed\",\"code\":\"full\",\"reason\":\"x\"}"), 7);
    assert_int_equal(
        code_of("{\"state\":\"failed\",\"code\":\"not_found\",\"reason\":\"no worker group of 1 "
                "rank(s) could be started: no space left on the shelf\"}"),
        1);
    assert_int_equal(
        code_of("{\"state\":\"failed\",\"reason\":\"no worker group of 1 rank(s) could be "
                "started: no space left on /m (64 KiB free): mpirun ended\"}"),
        7);
    assert_int_equal(code_of("{\"state\":\"failed\",\"reason\":\"no mpirun\"}"), 1);
    assert_int_equal(code_of("{\"state\":\"failed\"}"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_state_and_failures),
        cmocka_unit_test(a_failed_sweep_by_its_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
