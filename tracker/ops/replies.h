/* What was answered to whom: a request that is sent again gets the first answer, and changes
 * nothing.
 *
 *     'R' │ client │ 0 │ seq, be64 ──▶ document: i64 time_ns │ op │ 0 │ JSON of the reply's fields
 *
 * Written in the transaction of the change itself. Failures change nothing and are not kept: a
 * request that failed is judged anew. */
#ifndef TRACKER_OPS_REPLIES_H
#define TRACKER_OPS_REPLIES_H

#include "tracker/ops/op.h"

#define REPLIES_KEPT_NS (24 * 3600 * NS_PER_S)

/* *found, and the reply's fields set, where this request was applied before. CONFLICT where its
 * number was used for another op. */
enum status replies_find(struct op *op, const char *name, bool *found) MUST_USE;
enum status replies_keep(struct op *op, const char *name) MUST_USE;

/* Not between begin and commit. */
enum status replies_forget(struct store *s, int64_t before_ns, struct err *err) MUST_USE;

#endif
