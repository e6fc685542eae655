/* Who gets what: sweeps by priority (1 before 99) and submission, retries before new trials, groups
 * of exactly the ranks that a sweep asks for. Private to decide/. */
#ifndef COORDINATOR_DECIDE_ASSIGN_H
#define COORDINATOR_DECIDE_ASSIGN_H

#include "coordinator/decide/turn.h"

enum status assign_trials(const struct turn *turn, struct err *err) MUST_USE;

/* Sends away groups that nobody needs: after COORDINATOR_IDLE_MS, or where others want their
 * slots. */
enum status assign_dismiss(const struct turn *turn, struct err *err) MUST_USE;

#endif
