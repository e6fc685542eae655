/* The machine's clocks, and times as text. */
#include "core/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t now_ns(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts); /* cannot fail for these two clocks */
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t system_mono(void *self) {
    (void)self;
    return now_ns(CLOCK_MONOTONIC);
}

static int64_t system_wall(void *self) {
    (void)self;
    return now_ns(CLOCK_REALTIME);
}

const struct clock clock_system = {.mono_ns = system_mono, .wall_ns = system_wall, .self = NULL};

static int64_t div_floor(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

/* By arithmetic, not gmtime_r: that takes a lock and may read the time zone files, and log lines
 * come from any thread. The day count to civil date conversion: Howard Hinnant, "chrono-compatible
 * low-level date algorithms", civil_from_days. Eras are 400 years of 146097 days from 0000-03-01.
 */
void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_MAX]) {
    int64_t ms = div_floor(wall_ns, NS_PER_MS);
    int64_t days = div_floor(ms, 86400000);
    unsigned rest = (unsigned)(ms - days * 86400000);
    int64_t z = days + 719468;
    int64_t era = div_floor(z, 146097);
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    unsigned day = doy - (153 * mp + 2) / 5 + 1;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    unsigned year = (unsigned)(era * 400 + yoe + (month <= 2)) % 10000; /* int64 ns: 1677 to 2262 */
    (void)snprintf(out, CLOCK_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month % 100,
                   day % 100, rest / 3600000 % 100, rest / 60000 % 60, rest / 1000 % 60,
                   rest % 1000);
}
