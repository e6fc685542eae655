/* Time, passed in: whatever decides by the time takes a `struct clock`, so that a test or a
 * simulation can supply its own. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*mono_ns)(void *self); /* never goes back; origin unspecified */
    int64_t (*wall_ns)(void *self); /* since 1970-01-01 UTC */
    void *self;
};

/* The machine's own clocks. */
extern const struct clock clock_system;

static inline int64_t clock_mono_ns(const struct clock *c) {
    return c->mono_ns(c->self);
}
static inline int64_t clock_wall_ns(const struct clock *c) {
    return c->wall_ns(c->self);
}

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

/* "2026-11-21T13:05:09.123Z"; `out` holds CLOCK_TEXT_MAX bytes. */
#define CLOCK_TEXT_MAX 32
void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_MAX]);

#endif
