/* Limits of a coordinator, its options, and how it is told the time. */
#ifndef COORDINATOR_STATE_OPTIONS_H
#define COORDINATOR_STATE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"

#define COORDINATOR_GROUPS_MAX 100000
#define COORDINATOR_SWEEPS_MAX 4096
#define COORDINATOR_STATUS_MAX 4000   /* trials in one sweep.status */
#define COORDINATOR_CANCEL_MS  30000  /* a group that does not leave a trial in this time is lost */
#define COORDINATOR_IDLE_MS    600000 /* groups without work for so long are dismissed */
#define COORDINATOR_LAST_MS    60000  /* no trial is given to a group whose time ends sooner */
#define COORDINATOR_DEMAND_MAX 64     /* different group sizes at a time */

/* When something happens. The caller reads both clocks. */
struct moment {
    int64_t wall_ns; /* goes into events and run ids */
    int64_t mono_ns; /* leases and grace times */
};

struct coordinator_options {
    int64_t lease_ms;
    int64_t beat_ms;
    int64_t
        max_slots; /* over all sweeps; 0: machine_slots, or a sweep's own max_slots if greater */
    int64_t machine_slots;
    /* machine_slots are shares of GPUs: a limit that max_slots cannot raise. A group with more
     * ranks than that runs alone. */
    bool gpu_slots;
};

#endif
