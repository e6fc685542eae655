/* Who is here: hello, beat, bye, and those who fall silent. Private to decide/; the signatures of
 * the first three are coordinator_op's. */
#ifndef COORDINATOR_DECIDE_GROUPS_H
#define COORDINATOR_DECIDE_GROUPS_H

#include "coordinator/decide/turn.h"

enum status groups_hello(const struct turn *turn, const struct value *r, struct value **reply,
                         struct err *err) MUST_USE;
enum status groups_beat(const struct turn *turn, const struct value *r, struct value **reply,
                        struct err *err) MUST_USE;
enum status groups_bye(const struct turn *turn, const struct value *r, struct value **reply,
                       struct err *err) MUST_USE;

/* Ends the leases of groups that are silent, and those whose grace is over. */
enum status groups_expire(const struct turn *turn, struct err *err) MUST_USE;

#endif
