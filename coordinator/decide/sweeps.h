/* What people ask of a sweep. Private to decide/; the signatures are coordinator_op's. */
#ifndef COORDINATOR_DECIDE_SWEEPS_H
#define COORDINATOR_DECIDE_SWEEPS_H

#include "coordinator/decide/turn.h"

enum status sweeps_submit(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) MUST_USE;
enum status sweeps_cancel(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) MUST_USE;
enum status sweeps_resume(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) MUST_USE;
enum status sweeps_status(const struct turn *turn, const struct value *r, struct value **reply,
                          struct err *err) MUST_USE;

#endif
