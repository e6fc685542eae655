/* What groups say about trials. Private to decide/; the signatures are coordinator_op's. */
#ifndef COORDINATOR_DECIDE_TRIALS_H
#define COORDINATOR_DECIDE_TRIALS_H

#include "coordinator/decide/turn.h"

enum status trials_started(const struct turn *turn, const struct value *r, struct value **reply,
                           struct err *err) MUST_USE;
enum status trials_report(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) MUST_USE;
enum status trials_done(const struct turn *turn, const struct value *r, struct value **reply,
                        struct err *err) MUST_USE;

#endif
