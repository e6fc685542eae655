/* What the message tables share: row macros of messages, bounds, common fields. One table for each
 * server; message.c looks through them. Nobody outside wire/message*.c includes this.
 *
 *     message.c, message_reference.c ─▶ message_tracker.c, message_coordinator.c,
 *                                       message_group.c, message_feed.c ─▶ message_common.c
 *
 * Bounds are beside names; docs/WIRE.md is made from these rows. Ids of runs and sweeps are ULIDs;
 * times are nanoseconds since 1970 (UTC); steps count from 0; a "key" is the name of a metric. */
#ifndef WIRE_MESSAGE_PRIVATE_H
#define WIRE_MESSAGE_PRIVATE_H

#include "wire/message.h"

/* Rows: M_READS("run.get", SERVER_TRACKER, .request = …, .reply = …, .doc = "…"). Whoever is let in
 * may read; M_ASKS (nothing durable) and M_WRITES say who may send them. */
#define M_READS(name, to, ...)                                                                     \
    { .op = name, .server = to, .roles = BY_ANYBODY, __VA_ARGS__ }
#define M_ASKS(name, to, who, ...)                                                                 \
    { .op = name, .server = to, .roles = who, __VA_ARGS__ }
#define M_WRITES(name, to, who, ...)                                                               \
    { .op = name, .server = to, .writes = true, .roles = who, __VA_ARGS__ }

/* Who may: the administrator always. */
#define BY_ADMIN       MESSAGE_ROLE(NET_ADMIN)
#define BY_SUBMITTER   (MESSAGE_ROLE(NET_SUBMITTER) | BY_ADMIN)
#define BY_WORKER      (MESSAGE_ROLE(NET_WORKER) | BY_ADMIN)
#define BY_COORDINATOR (MESSAGE_ROLE(NET_COORDINATOR) | BY_ADMIN)
#define BY_ANYBODY     (MESSAGE_ROLE(NET_VIEWER) | BY_SUBMITTER | BY_WORKER | BY_COORDINATOR)

#define TIME_MAX     9.2e18
#define COUNT_MAX    9007199254740992.0 /* 2^53: exact in any language's JSON */
#define RUN_STATES   "queued|running|completed|stopped|failed|cancelled|preempted"
#define RUN_ENDS     "completed|stopped|failed|cancelled|preempted"
#define SWEEP_STATES "active|paused|completed|failed|cancelled"

#define MESSAGE_POINT_COLUMNS                                                                      \
    "three, one column each, of all points, series after series: steps (int64), times in ns "      \
    "(int64), values (float64), little-endian"

extern const struct field message_none[];   /* no fields */
extern const struct field message_sweep[];  /* {sweep} */
extern const struct field message_lease[];  /* {sweep, trial, run, epoch} */
extern const struct field message_series[]; /* an item of a list of series: {key, count} */

extern const struct message_type message_tracker[], message_coordinator[], message_group[],
    message_feed[];

#endif
