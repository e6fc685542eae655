/* Room on a disk: told where somebody can tell, and in words. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "core/disk.h"

static void test_room(void **state) {
    (void)state;
    assert_true(disk_room("/no/such/place") == UINT64_MAX);
    assert_true(disk_room("/proc") == UINT64_MAX); /* has no blocks */
    assert_true(disk_room(".") > 0);
}

static void test_text(void **state) {
    char text[DISK_TEXT_MAX], path[DISK_TEXT_MAX];
    (void)state;
    disk_text("/m", (64 << 10) + 1023, text);
    assert_string_equal(text, "no space left on /m (64 KiB free)");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    disk_text(path, 0, text);
    assert_int_equal(strlen(text), DISK_TEXT_MAX - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_room), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
