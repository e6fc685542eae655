/* What the exchange's files share.
 *
 *     exchange.c           the order of a step
 *       ├▶ exchange_queue.c      on a device's queues
 *       ├▶ exchange_staged.c     mirrors of a device's vectors in host memory, for
 *       ├▶ exchange_memory.c         shared memory, or
 *       ├▶ exchange_message.c        messages
 *       └▶ exchange_slices.c     below them all: who owns what, peers, folds, blocks */
#ifndef WORKER_WORLD_EXCHANGE_PRIVATE_H
#define WORKER_WORLD_EXCHANGE_PRIVATE_H

#include "kernels/run/device.h"
#include "worker/world/exchange.h"

/* STAGING: on the way from the device to its mirror (exchange_staged.c). */
enum flow_state { FLOW_IDLE, FLOW_STAGING, FLOW_REDUCING, FLOW_REDUCED, FLOW_PUBLISHING };

/* One bucket on its way through a step. */
struct flow {
    struct slice
        slices[EXCHANGE_LEVELS_MAX + 1]; /* [0] the bucket … [levels] what this rank owns */
    enum flow_state state;
    int level;                         /* being folded, or (publishing) being gathered */
    float *inbox[EXCHANGE_LEVELS_MAX]; /* messages: partials of the level's other ranks */
    struct world_request *requests;    /* messages: of the level under way */
    int request_count;
    bool returned; /* staged: the reduced slice is on the device again */
};

/* A way to move in which the host takes part. `poll` advances one flow as far as it goes without
 * waiting. */
struct transport {
    enum status (*open)(struct exchange *x, struct err *err);
    void (*close)(struct exchange *x);
    enum status (*start)(struct exchange *x, int bucket, struct err *err);
    enum status (*poll)(struct exchange *x, int bucket, struct err *err);
    enum status (*publish)(struct exchange *x, int bucket, struct err *err);
    enum status (*flags)(struct exchange *x, uint32_t *flags, struct err *err);
};

extern const struct transport exchange_messages, exchange_memory;

struct exchange {
    struct world *world;
    int rank, size;
    struct exchange_spec spec; /* levels: below */
    int levels[EXCHANGE_LEVELS_MAX], level_count;
    int digits[EXCHANGE_LEVELS_MAX], strides[EXCHANGE_LEVELS_MAX]; /* rank = sum digit · stride */
    float *weights, *gradient; /* what the transport moves: the spec's own, or their mirrors */
    const struct transport *transport; /* NULL: alone, or queued */
    struct staging *staging;           /* NULL: the spec's vectors are host memory */
    struct queued *queued;             /* NULL: the host takes part in a step */
    struct flow *flows;
    int started;           /* buckets started in this step */
    uint64_t step;         /* from 1 */
    const float **sources; /* (largest level) */
    int64_t owned_blocks, blocks, owned_blocks_max;
    char *gathered; /* of gather_blocks */
    size_t gathered_bytes;
    void *state; /* the transport's */
};

/* ---- exchange_slices.c ---- */

/* From the spec: levels, flows, whose blocks are whose. INVALID: see exchange_new. */
enum status exchange_slices_open(struct exchange *x, struct err *err) MUST_USE;

/* Part `index` of `n` of a slice, in whole norm blocks. */
struct slice exchange_slice_part(struct slice s, int index, int n);

int64_t exchange_slice_blocks(struct slice s); /* norm blocks, a last one that is not whole too */

/* The rank that differs from this one in one digit. */
int exchange_peer(const struct exchange *x, int level, int digit);

/* Folds the level's partials; sources[digit] are set by the caller. */
void exchange_fold_level(struct exchange *x, struct flow *f);

/* Whether this rank owns the end of the vector and hands out the reduced scalars. */
bool exchange_owns_tail(const struct exchange *x, int bucket);

/* exchange_staged.c: the vectors are a device's, the transports move mirrors in host memory.
 *
 *     start      device ─copy, queued─▶ mirror ─transport, owner's sum─▶ mirror
 *     reduced    mirror ─this rank's slice─▶ device ─update─▶ device
 *     publish    device ─this rank's slice─▶ mirror ─transport─▶ the others' mirrors
 *     finish     mirror ─the others' slices─▶ device */
enum status exchange_staged_open(struct exchange *x, struct err *err) MUST_USE;
void exchange_staged_close(struct exchange *x);
void exchange_staged_start(struct exchange *x, int bucket);
bool exchange_staged_arrived(struct exchange *x, int bucket); /* true: the transport may begin */
void exchange_staged_return(struct exchange *x, int bucket);  /* the reduced slice, to the device */
void exchange_staged_publish(struct exchange *x, int bucket); /* before the transport's publish */
void exchange_staged_fetch(struct exchange *x, int bucket);   /* when the whole bucket has come */
uint32_t exchange_staged_flags(struct exchange *x);           /* the device's word */
enum status exchange_staged_gather_norms(struct exchange *x, const double *mine, double *all,
                                         struct err *err) MUST_USE;

/* exchange_queue.c: the device's queues do it all. */
enum status exchange_queue_open(struct exchange *x, struct err *err) MUST_USE;
void exchange_queue_close(struct exchange *x);
enum status exchange_queue_start(struct exchange *x, int bucket, struct err *err) MUST_USE;
void exchange_queue_reduced(struct exchange *x);
enum status exchange_queue_publish(struct exchange *x, int bucket, struct err *err) MUST_USE;
enum status exchange_queue_gather_norms(struct exchange *x, const double *mine, double *all,
                                        struct err *err) MUST_USE;

#endif
