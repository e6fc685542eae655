/* The coordinator's core: which trial runs where, what happens when something breaks, what the
 * search learns. Pure: time comes in as an argument, randomness is Philox keyed by ids, effects go
 * out as a list. It opens no socket, reads no clock and waits for nobody.
 *
 *                    requests, losses, ticks            stored events (after a crash)
 *                            │                                   │
 *                            ▼                                   ▼
 *     coordinator_handle / _lost / _step               coordinator_restore
 *                            │  durable event ──▶ apply ◀────────┘
 *                            ▼                      │
 *     outbox: 1 sweep.create  2 events  3 posts     └──▶ the state of sweeps and trials
 *             4 notices (and the reply)
 *
 * Invariants
 *   - Sweeps and trials change only in state/apply.c, by an event that is in the outbox. The caller
 *     makes events durable before it sends notices and replies: what anybody was told survives.
 *   - Groups are not durable: they say hello again. A restored lease waits lease_ms for its group.
 *   - A trial has at most one lease; each lease has an epoch greater than the one before. Whatever
 *     names another epoch or run is refused with CONFLICT and changes nothing.
 *   - A trial that is final changes only by sweep.resume.
 *
 * NOMEM and CORRUPT from any function are fatal: the state may be half changed; end the process and
 * restore. Threading: one thread. Lifetime: what is in an outbox lives as long as its arena. */
#ifndef COORDINATOR_DECIDE_COORDINATOR_H
#define COORDINATOR_DECIDE_COORDINATOR_H

#include "coordinator/decide/turn.h"
#include "coordinator/state/inspect.h"
#include "core/clock.h"
#include "core/ulid.h"
#include "wire/net.h"

/* ---- life ---- */

enum status coordinator_new(const struct coordinator_options *options, struct coordinator **out,
                            struct err *err) MUST_USE;
void coordinator_destroy(struct coordinator **c);

/* ---- input ---- */

/* A request of the coordinator's part of the message table: what it needs, and who handles it. */
struct coordinator_op {
    const char *name;
    bool fetch; /* its sweep may be one that is not in memory: restore it first */
    enum status (*handle)(const struct turn *turn, const struct value *request,
                          struct value **reply, struct err *err);
};
const struct coordinator_op *coordinator_find_op(const char *name); /* NULL: none of ours */

/* One request, already validated. On success *reply (may stay NULL: nothing but ok) holds the
 * reply's own fields. A refusal changes nothing. */
enum status coordinator_handle(const struct turn *turn, const struct value *request,
                               struct value **reply, struct err *err) MUST_USE;

/* A group has ended or cannot be reached. `group` is its id; an unknown one is no error. */
enum status coordinator_lost(const struct turn *turn, const char *group, const char *reason,
                             struct err *err) MUST_USE;

/* No group of this size can be started here, because of `why`: fails the sweeps that have no other. */
enum status coordinator_launch_failed(const struct turn *turn, int64_t ranks, enum status why,
                                      const char *reason, struct err *err) MUST_USE;

/* Ends overdue leases, hands trials to idle groups, dismisses groups. Call it after a batch of
 * requests and a few times a second. */
enum status coordinator_step(const struct turn *turn, struct err *err) MUST_USE;

/* The caller was held up for `ms` (the tracker was away): beats could not be heard, so leases and
 * grace times are extended by it. */
void coordinator_stalled(struct coordinator *c, int64_t ms);

/* From now on nothing is assigned; what runs is asked to leave (preempted). */
enum status coordinator_shutdown(const struct turn *turn, struct err *err) MUST_USE;

/* Ends what is still leased as preempted and pauses active sweeps; then dismisses all groups. */
enum status coordinator_interrupt(const struct turn *turn, const char *reason,
                                  struct err *err) MUST_USE;

/* ---- recovery ---- */

/* Feeds one stored event; sequence numbers must rise by one from 1. CORRUPT otherwise. What the log
 * says counts, by the rules of the language that it names. */
enum status coordinator_restore(struct coordinator *c, const char *sweep, int64_t sequence,
                                const struct value *event, struct err *err) MUST_USE;

/* After the last event of a sweep: its leases wait for their groups from now on, and the tracker is
 * told again what it may have missed (posts are idempotent). */
enum status coordinator_restored(const struct turn *turn, const char *sweep,
                                 struct err *err) MUST_USE;

bool coordinator_knows(const struct coordinator *c, const char *sweep);

/* Drops a sweep whose log could not be read to its end; its leases go with it. */
void coordinator_forget(struct coordinator *c, const char *sweep);

/* ---- output ---- */

/* How many groups of which size the active sweeps can use; for a launcher. `have` counts those that
 * are here. */
struct demand {
    int64_t ranks, wanted, have;
};
size_t coordinator_demand(const struct coordinator *c, struct demand out[COORDINATOR_DEMAND_MAX]);

size_t coordinator_leases(const struct coordinator *c); /* trials that are with a group */
size_t coordinator_groups(const struct coordinator *c);

bool coordinator_has_group(const struct coordinator *c, const char *group);

/* The id of the group that was started with this launch token, or NULL. */
const char *coordinator_launched(const struct coordinator *c, const char *token);

#endif
