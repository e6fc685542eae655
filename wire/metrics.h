/* Metric points on their way to the tracker: collected in columns, posted as one run.log when
 * METRICS_POINTS_MAX are there or METRICS_AGE_MS have passed. Times are the session's clock's. Bits
 * are kept as they are, those of a NaN too.
 *
 *     points:   (loss, 0, t, 2.3) (acc, 0, t, .1) (loss, 1, t, 2.2)          as they come
 *     run.log:  series loss 2, acc 1 │ steps 0 1 0 │ times … │ values 2.3 2.2 .1
 */
#ifndef WIRE_METRICS_H
#define WIRE_METRICS_H

#include "wire/session.h"

#define METRICS_KEYS_MAX   256
#define METRICS_POINTS_MAX 4096
#define METRICS_AGE_MS     200

struct metrics;

enum status metrics_new(struct session *s, const char *run, int rank, struct metrics **out,
                        struct err *err) MUST_USE;
void metrics_destroy(struct metrics **m); /* posts nothing: flush first */

/* `key` is copied on its first use; afterwards nothing is allocated. */
enum status metrics_add(struct metrics *m, const char *key, int64_t step, double value,
                        struct err *err) MUST_USE;

/* Posts when it is time to (call every step); with `now` at once. */
enum status metrics_flush(struct metrics *m, bool now, struct err *err) MUST_USE;

#endif
