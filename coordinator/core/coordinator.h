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
 *   - Sweeps and trials change only in events.c, by an event that stands in the outbox. The caller
 *     makes events durable before it sends notices and replies: what anybody was told survives.
 *   - Groups are not durable: they say hello again. A restored lease waits lease_ms for its group.
 *   - A trial has at most one lease; each lease has an epoch greater than the one before. Whatever
 *     names another epoch or run is refused with CONFLICT and changes nothing.
 *   - A trial that is final changes only by sweep.resume.
 *
 * NOMEM and CORRUPT from any function are fatal: the state may be half changed; end the process and
 * restore. Threading: one thread. Lifetime: what lies in an outbox lives as long as its arena. */
#ifndef COORDINATOR_CORE_COORDINATOR_H
#define COORDINATOR_CORE_COORDINATOR_H

#include "core/clock.h"
#include "core/hash.h"
#include "core/ulid.h"
#include "wire/message.h"

#define COORDINATOR_GROUPS_MAX 100000
#define COORDINATOR_SWEEPS_MAX 4096
#define COORDINATOR_STATUS_MAX 4000   /* trials in one sweep.status */
#define COORDINATOR_CANCEL_MS  30000  /* a group that does not leave a trial in this time is lost */
#define COORDINATOR_IDLE_MS    600000 /* groups without work for so long are dismissed */
#define COORDINATOR_LAST_MS    60000  /* no trial is given to a group whose time ends sooner */
#define COORDINATOR_DEMAND_MAX 64     /* different group sizes at a time */

struct coordinator;

/* When something happens. Both clocks are the caller's. */
struct moment {
    int64_t wall_ns; /* goes into events and run ids */
    int64_t mono_ns; /* leases and grace times */
};

struct coordinator_options {
    int64_t lease_ms;
    int64_t beat_ms;
    int64_t
        max_slots; /* over all sweeps; 0: the machine's, or a sweep's own max_slots if greater */
    int64_t machine_slots;
    bool gpu_slots; /* machine_slots are shares of GPUs: never more at a time, but for one group of
                       more ranks than that, which then is alone */
};

/* ---- what is to be done ---- */

enum outgoing_kind {
    OUT_CREATE, /* to the tracker, before the events: sweep.create */
    OUT_EVENT,  /* to the sweep's log under `sequence` */
    OUT_POST,   /* to the tracker, behind the events */
    OUT_NOTICE, /* to a group, when all of the above is durable */
};

struct outgoing {
    enum outgoing_kind kind;
    const char *to; /* EVENT: the sweep; NOTICE: the group */
    int64_t sequence;
    struct value *message;
};

struct outbox {
    struct arena *arena; /* where messages are built: a tick's */
    struct outgoing *items;
    size_t count, cap;
};

/* ---- life ---- */

enum status coordinator_new(const struct coordinator_options *options, struct coordinator **out,
                            struct err *err) MUST_USE;
void coordinator_destroy(struct coordinator **c);

/* ---- input ---- */

/* One request of the coordinator's part of the message table, already validated. On success *reply
 * (may stay NULL: nothing but ok) holds the reply's own fields. A refusal changes nothing. */
enum status coordinator_handle(struct coordinator *c, const struct value *request,
                               struct moment now, struct outbox *out, struct value **reply,
                               struct err *err) MUST_USE;

/* A group has ended or cannot be reached. `group` is its id; a stranger is no error. */
enum status coordinator_lost(struct coordinator *c, const char *group, const char *reason,
                             struct moment now, struct outbox *out, struct err *err) MUST_USE;

/* No group of this size can be started here: fails the sweeps that have no other. */
enum status coordinator_launch_failed(struct coordinator *c, int64_t ranks, const char *reason,
                                      struct moment now, struct outbox *out,
                                      struct err *err) MUST_USE;

/* Ends overdue leases, hands trials to idle groups, dismisses groups. Call it after a batch of
 * requests and a few times a second. */
enum status coordinator_step(struct coordinator *c, struct moment now, struct outbox *out,
                             struct err *err) MUST_USE;

/* The caller was held up for `ms` (the tracker was away): beats could not be heard, leases and
 * grace times are extended by it. */
void coordinator_stalled(struct coordinator *c, int64_t ms);

/* From now on nothing is assigned; what runs is asked to leave (preempted). */
enum status coordinator_shutdown(struct coordinator *c, const char *reason, struct moment now,
                                 struct outbox *out, struct err *err) MUST_USE;

/* Ends what is still leased as preempted and pauses active sweeps; then dismisses all groups. */
enum status coordinator_interrupt(struct coordinator *c, const char *reason, struct moment now,
                                  struct outbox *out, struct err *err) MUST_USE;

/* ---- recovery ---- */

/* Feeds one stored event; sequence numbers must rise by one from 1. CORRUPT otherwise. */
enum status coordinator_restore(struct coordinator *c, const char *sweep, int64_t sequence,
                                const struct value *event, struct err *err) MUST_USE;

/* After the last event of a sweep: its leases wait for their groups from `now`, and the tracker is
 * told again what it may have missed (posts are idempotent). */
enum status coordinator_restored(struct coordinator *c, const char *sweep, struct moment now,
                                 struct outbox *out, struct err *err) MUST_USE;

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

/* A digest of all that is durable: equal for a state and its restoration. */
enum status coordinator_digest(const struct coordinator *c, struct digest *out,
                               struct err *err) MUST_USE;

/* Panics (assert) when an invariant of the state does not hold: for tests and simulation. */
void coordinator_check(const struct coordinator *c);

#endif
