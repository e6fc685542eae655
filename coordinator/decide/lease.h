/* Leases: a trial with a group, under an epoch. They fence out whoever comes late. Private to
 * decide/. */
#ifndef COORDINATOR_DECIDE_LEASE_H
#define COORDINATOR_DECIDE_LEASE_H

#include "coordinator/decide/turn.h"
#include "coordinator/state/state.h"

/* {sweep, trial, run, epoch} of the trial's last lease. */
struct value *lease_value(struct arena *a, const struct trial *t);

/* The trial that a lease names, whatever became of it; NULL when unknown. */
struct trial *lease_named(const struct coordinator *c, const struct value *lease);

/* Whether `lease`, held by `group`, is the trial's last one. */
bool lease_same(const struct trial *t, const char *group, const struct value *lease);

/* The trial that a lease names, if the lease is in force and `group` holds it; CONFLICT
 * otherwise. */
enum status lease_check(const struct coordinator *c, const char *group, const struct value *lease,
                        struct trial **out, struct err *err) MUST_USE;

/* How a lease ends when the group does not say it is done. */
struct lease_end {
    const char *state; /* failed (counts as a restart), preempted (does not), cancelled */
    const char *code;  /* of a failure; NULL: none */
    const char *reason;
};
enum status lease_end(const struct turn *turn, struct trial *t, struct lease_end end,
                      struct err *err) MUST_USE;

/* The state in which a lease ends when its group is gone or was told to go: cancelled where
 * somebody asked for that, else `otherwise`. */
static inline const char *lease_end_state(const struct trial *t, const char *otherwise) {
    return t->cancel ? "cancelled" : otherwise;
}

#endif
