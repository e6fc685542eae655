/* Whether float32 has the digits of what is to be predicted: seconds since 1970 are a multiple of 128
 * in float32, and no net can learn what lies between. Said, not refused.
 *
 * Looks at the first TARGETS_LOOKS numbers of a file. Threading: one thread. */
#ifndef WORKER_DATA_TARGETS_H
#define WORKER_DATA_TARGETS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "worker/data/notes.h"

#define TARGETS_LOOKS 65536

struct targets_seen {
    double *v; /* (TARGETS_LOOKS) */
    size_t n;
};

/* Release it, whatever this answers. */
enum status targets_open(struct targets_seen *t, const char *path, struct err *err) MUST_USE;
void targets_release(struct targets_seen *t);

/* The next number of (count, outputs), row by row. */
void targets_see(struct targets_seen *t, double v);

/* A note for each output whose different values become less than half as many in float32. `name` is
 * the column's, NULL: numbers instead. Reorders what was seen: once. */
void targets_doubt(struct targets_seen *t, const char *name, int64_t outputs, struct notes *notes);

#endif
