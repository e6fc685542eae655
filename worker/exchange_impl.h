/* What exchange.c shares with its two ways of moving bytes. Not for others. */
#ifndef WORKER_EXCHANGE_IMPL_H
#define WORKER_EXCHANGE_IMPL_H

#include "worker/exchange.h"

enum flow_state { FLOW_IDLE, FLOW_REDUCING, FLOW_REDUCED, FLOW_PUBLISHING };

/* One bucket on its way through a step. */
struct flow {
    struct slice stretch[EXCHANGE_LEVELS_MAX + 1]; /* [0] the bucket … [levels] the rank's slice */
    enum flow_state state;
    int level;                         /* being folded, or (publishing) being gathered */
    float *inbox[EXCHANGE_LEVELS_MAX]; /* messages: partials of the level's other ranks */
    struct world_request *requests;    /* messages: of the level under way */
    int request_count;
};

/* A way to move. `poll` advances one flow as far as it goes without waiting. */
struct transport {
    enum status (*open)(struct exchange *x, struct err *err);
    void (*close)(struct exchange *x);
    enum status (*start)(struct exchange *x, int bucket, struct err *err);
    enum status (*poll)(struct exchange *x, int bucket, struct err *err);
    enum status (*publish)(struct exchange *x, int bucket, struct err *err);
    enum status (*flags)(struct exchange *x, uint32_t *flags, struct err *err);
};

extern const struct transport transport_messages, transport_memory;

struct exchange {
    struct world *world;
    int rank, size;
    struct exchange_spec spec; /* levels: below */
    int levels[EXCHANGE_LEVELS_MAX], level_count;
    int digits[EXCHANGE_LEVELS_MAX], strides[EXCHANGE_LEVELS_MAX]; /* rank = sum digit · stride */
    const struct transport *transport;
    struct flow *flows;
    int started;           /* buckets started in this step */
    uint64_t step;         /* from 1 */
    const float **sources; /* (largest level) */
    int64_t owned_blocks, blocks, owned_blocks_max;
    char *gathered; /* of gather_blocks */
    size_t gathered_bytes;
    void *state; /* the transport's */
};

/* Part `index` of `n` of a stretch, in whole norm blocks. */
struct slice slice_part(struct slice s, int index, int n);

/* The rank that differs from this one in one digit. */
int exchange_peer(const struct exchange *x, int level, int digit);

/* Folds the level's partials; sources[digit] are set by the caller. */
void exchange_fold_level(struct exchange *x, struct flow *f);

#endif
