/* The points of one metric, of one run or of all attempts at a trial.
 *
 *     attempt 1   ●───●───●───●───●          lost after step 5
 *     attempt 2           ○───○───○───○      resumed from the checkpoint of step 2
 *     joined      ●───●───○───○───○───○      where both have a step the later one counts (same bits)
 */
#ifndef CLIENT_CLI_CURVE_H
#define CLIENT_CLI_CURVE_H

#include "client/cli/runs.h"

struct curve {
    size_t count;
    int64_t *steps, *times; /* times in ns */
    double *values;
};

struct curve_ask {
    const struct runs_attempts *of;
    const char *key;
    int64_t rank;
    int64_t points; /* at most; 0: all */
};

/* NOT_FOUND where none of the runs has the key. */
enum status curve_fetch(struct cli *cli, const struct curve_ask *ask, struct curve *out,
                        struct err *err) MUST_USE;
void curve_release(struct curve *c); /* idempotent */

#endif
