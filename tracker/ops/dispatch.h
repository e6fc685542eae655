/* From an op's name to the function that answers it.
 *
 * Threading: any. */
#ifndef TRACKER_OPS_DISPATCH_H
#define TRACKER_OPS_DISPATCH_H

#include "tracker/ops/op.h"

struct dispatch_row {
    const char *name;
    op_fn *fn;
    bool writes;
};

/* NULL where the store does not answer it. */
const struct dispatch_row *dispatch_find(const char *name);

/* The rows in the order of ops.h; NULL after the last. */
const struct dispatch_row *dispatch_row(size_t i);

#endif
