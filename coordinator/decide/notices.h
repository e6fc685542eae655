/* What groups are told unasked. A notice may be lost: the group's next beat shows that, and the
 * notice is sent again. Private to decide/. */
#ifndef COORDINATOR_DECIDE_NOTICES_H
#define COORDINATOR_DECIDE_NOTICES_H

#include "coordinator/decide/turn.h"
#include "coordinator/state/state.h"

/* Train this trial. INVALID where its configuration cannot be made. */
enum status notices_assign(const struct turn *turn, const struct trial *t,
                           struct err *err) MUST_USE;

/* Leave the trial: as cancelled where somebody asked for that, else as preempted. */
enum status notices_cancel(const struct turn *turn, const struct trial *t,
                           struct err *err) MUST_USE;

/* End: the group is leaving from now on. */
enum status notices_exit(const struct turn *turn, struct group *g, const char *reason,
                         struct err *err) MUST_USE;

#endif
