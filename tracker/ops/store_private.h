/* The store itself, as the files of ops/ see it: both environments, and what belongs to the open
 * transaction of the writer's thread. */
#ifndef TRACKER_OPS_STORE_PRIVATE_H
#define TRACKER_OPS_STORE_PRIVATE_H

#include <stdatomic.h>

#include "tracker/blobs/blobs.h"
#include "tracker/blobs/uploads.h"
#include "tracker/ops/store.h"

/* What requests add; counted when they are on disk. */
struct store_counts {
    uint64_t points, runs, requests;
};

struct store {
    struct kv *meta, *blobs_kv;
    struct blobs blobs; /* on blobs_kv, or in a directory */
    const struct clock *clock;
    int lock_fd;

    /* Of the writer's thread. */
    struct kv_txn txn;         /* of meta, from store_begin on */
    enum status failed;        /* FULL, IO, …: the transaction can only be aborted */
    struct store_counts added; /* in this transaction */
    struct uploads uploads;
    bool orphans_checked; /* no bytes in blobs_kv without a record */

    _Atomic uint64_t points, commits, requests, runs;
};

#endif
