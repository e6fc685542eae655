/* From an op's name to the function that answers it, and who may ask.
 *
 * Threading: any. */
#ifndef TRACKER_OPS_DISPATCH_H
#define TRACKER_OPS_DISPATCH_H

#include "tracker/ops/op.h"

struct dispatch_row {
    const char *name;
    op_fn *fn;
    bool writes;
    enum net_role role; /* the least that may ask */
};

/* NULL where the store does not answer it. */
const struct dispatch_row *dispatch_find(const char *name);

/* The rows in the order of ops.h; NULL after the last. */
const struct dispatch_row *dispatch_row(size_t i);

#endif
