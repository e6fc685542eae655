/* Times as text, beside the C library's calendar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/clock.h"

/* Noon, and the last millisecond, of each day that 64 bits of nanoseconds can tell. */
static void every_day(void **state) {
    (void)state;
    const int64_t day_s = 86400, last = INT64_MAX / NS_PER_S / day_s - 1;
    for (int64_t day = -last; day <= last; day++) {
        for (int end = 0; end < 2; end++) {
            time_t s = (time_t)(day * day_s + (end != 0 ? day_s - 1 : day_s / 2));
            int ms = end != 0 ? 999 : 7;
            char text[CLOCK_TEXT_MAX], want[CLOCK_TEXT_MAX + 8];
            struct tm tm;
            assert_non_null(gmtime_r(&s, &tm));
            size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
            (void)snprintf(want + n, sizeof want - n, ".%03dZ", ms);
            clock_format((int64_t)s * NS_PER_S + ms * NS_PER_MS, text);
            assert_string_equal(text, want);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
