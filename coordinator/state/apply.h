/* Events become state here, and only here: live ones and those of a log take the same way.
 *
 *     event {event: NAME, …} ──▶ row of the table: whom it is about, what must hold ──▶ apply_NAME
 *                                                                     then: is the sweep over?
 *
 * Pure: the result depends on the state and the event alone. */
#ifndef COORDINATOR_STATE_APPLY_H
#define COORDINATOR_STATE_APPLY_H

#include "coordinator/state/state.h"

/* CORRUPT: the event cannot follow those before it. INVALID: of sweep.submitted, as sweep_parse
 * says. After any failure but that of sweep.submitted the sweep must be forgotten. */
enum status apply_event(struct coordinator *c, const char *sweep, const struct value *event,
                        struct err *err) MUST_USE;

#endif
