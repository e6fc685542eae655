/* The state seen from outside: for comparison, and for tests. */
#ifndef COORDINATOR_STATE_INSPECT_H
#define COORDINATOR_STATE_INSPECT_H

#include "core/hash.h"
#include "core/status.h"

struct coordinator;

/* A digest of all that is durable: equal for a state and its restoration. NOMEM. */
enum status coordinator_digest(const struct coordinator *c, struct digest *out,
                               struct err *err) MUST_USE;

/* Panics (assert) when an invariant of the state does not hold: for tests and simulation. */
void coordinator_check(const struct coordinator *c);

#endif
