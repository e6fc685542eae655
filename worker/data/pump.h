/* Long work calls back: reading, fitting and evaluating call the pump every few milliseconds, so
 * that a group's heartbeats go on meanwhile. */
#ifndef WORKER_DATA_PUMP_H
#define WORKER_DATA_PUMP_H

#include <stddef.h>

struct pump {
    void (*fn)(void *arg); /* may be NULL */
    void *arg;
};

static inline void pump_now(const struct pump *p) {
    if (p != NULL && p->fn != NULL)
        p->fn(p->arg);
}

#endif
