/* How a decision becomes an event: stamped, applied to the state, put into the outbox, and followed
 * by the posts that tell the tracker what changed. Private to decide/. */
#ifndef COORDINATOR_DECIDE_EVENT_H
#define COORDINATOR_DECIDE_EVENT_H

#include "coordinator/decide/turn.h"
#include "coordinator/state/state.h"

/* {"event": name}, and {"event", "trial", "run", "epoch"}; the caller adds the rest. */
struct value *event_new(struct arena *a, const char *name);
struct value *event_of_trial(struct arena *a, const char *name, const struct trial *t);

/* Whatever is wrong with the event is found before the outbox changes. */
enum status event_emit(const struct turn *turn, const char *sweep, struct value *event,
                       struct err *err) MUST_USE;

#endif
