/* Deltas: what subscribers of the live feed are told after a commit, numbered durably per topic.
 *
 *     'q' │ 'r' or 's' │ run or sweep ──▶ u64 last number of the topic "run.<id>", "sweep.<id>"
 *
 * The number is written in the transaction of the change itself, so that it has no gaps. */
#ifndef TRACKER_OPS_DELTA_H
#define TRACKER_OPS_DELTA_H

#include "tracker/ops/op.h"

struct delta {
    char kind; /* 'r' or 's': a run's or a sweep's topic */
    const char *id;
    const char *op;             /* its name in wire/message_feed.c */
    const struct value *fields; /* a map; v, topic, sequence and op are put in front */
    bool columns;               /* the request's frames go with it */
};

/* The topic's last number; 0: nothing was published. */
enum status delta_sequence(struct kv_txn *t, char kind, const char *id, uint64_t *out,
                           struct err *err) MUST_USE;

/* Numbers a delta and puts it into the answer. */
enum status delta_add(struct op *op, const struct delta *delta) MUST_USE;

#endif
