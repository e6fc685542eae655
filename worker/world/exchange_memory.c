/* The exchange in memory that all ranks share: nothing is sent, everybody reads in place.
 *
 *     a rank's part: ┌ flags ┬ weights (vector_count) ┬ gradient (vector_count) ┐
 *
 * Flags hold step numbers and only grow: ready[level][bucket] says that the partial of that level
 * may be read, published[bucket] that the owner's slice of new weights may be fetched, finished
 * that the outcome word of the step is there. A rank writes its own flags only, after a full fence
 * (kernels may have written past the cache); readers acquire.
 *
 * Why nobody overwrites what another still reads: a rank leaves a step when every rank has
 * published every bucket, and publishes a bucket after it has folded it; it changes its weights
 * again only when every rank is ready with that bucket in the next step, which each is after it
 * fetched the last. */
#include <stdatomic.h>
#include <string.h>

#include "worker/world/exchange_private.h"

struct flags {
    _Atomic uint64_t ready[EXCHANGE_LEVELS_MAX][EXCHANGE_BUCKETS_MAX];
    _Atomic uint64_t published[EXCHANGE_BUCKETS_MAX];
    _Atomic uint64_t finished;
    _Atomic uint32_t outcome;
};

#define LINE ((size_t)64)

static size_t round_up(size_t n) {
    return (n + LINE - 1) / LINE * LINE;
}

static size_t vector_bytes(int64_t vector_count) {
    return round_up((size_t)vector_count * sizeof(float));
}

size_t exchange_memory_bytes(int64_t vector_count) {
    return round_up(sizeof(struct flags)) + 2 * vector_bytes(vector_count);
}

float *exchange_memory_weights(void *base, int64_t vector_count) {
    (void)vector_count;
    return (void *)((char *)base + round_up(sizeof(struct flags)));
}

float *exchange_memory_gradient(void *base, int64_t vector_count) {
    return (void *)((char *)base + round_up(sizeof(struct flags)) + vector_bytes(vector_count));
}

static struct flags *flags_of(const struct exchange *x, int rank) {
    return x->spec.bases[rank];
}

static void raise_flag(_Atomic uint64_t *flag, uint64_t step) {
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(flag, step, memory_order_release);
}

static bool raised(_Atomic uint64_t *flag, uint64_t step) {
    return atomic_load_explicit(flag, memory_order_acquire) >= step;
}

/* Between two barriers: nobody may still look at an earlier exchange's flags, nor see them later.
 */
static enum status memory_open(struct exchange *x, struct err *err) {
    enum status st = world_barrier(x->world, err);
    if (st != STATUS_OK)
        return st;
    memset(x->spec.bases[x->rank], 0, sizeof(struct flags));
    atomic_thread_fence(memory_order_seq_cst);
    return world_barrier(x->world, err);
}

static void memory_close(struct exchange *x) {
    (void)x;
}

static enum status memory_start(struct exchange *x, int bucket, struct err *err) {
    (void)err;
    raise_flag(&flags_of(x, x->rank)->ready[0][bucket], x->step);
    return STATUS_OK;
}

static void reduce(struct exchange *x, int bucket) {
    struct flow *f = &x->flows[bucket];
    while (f->level < x->level_count) {
        int l = f->level;
        struct slice mine = f->slices[l + 1];
        for (int d = 0; d < x->levels[l]; d++) {
            int peer = exchange_peer(x, l, d);
            if (!raised(&flags_of(x, peer)->ready[l][bucket], x->step))
                return;
            x->sources[d] =
                exchange_memory_gradient(x->spec.bases[peer], x->spec.vector_count) + mine.begin;
        }
        exchange_fold_level(x, f);
        if (f->level < x->level_count)
            raise_flag(&flags_of(x, x->rank)->ready[f->level][bucket], x->step);
    }
    f->state = FLOW_REDUCED;
}

/* f->level counts the ranks whose slices have been fetched, beginning with the next neighbour:
 * owners are asked at different times. */
static void fetch(struct exchange *x, int bucket) {
    struct flow *f = &x->flows[bucket];
    for (; f->level < x->size - 1; f->level++) {
        int owner = (x->rank + 1 + f->level) % x->size;
        if (!raised(&flags_of(x, owner)->published[bucket], x->step))
            return;
        struct slice s = exchange_slice(x, owner, bucket);
        if (s.count > 0)
            memcpy(x->weights + s.begin,
                   exchange_memory_weights(x->spec.bases[owner], x->spec.vector_count) + s.begin,
                   (size_t)s.count * sizeof(float));
    }
    f->state = FLOW_IDLE;
}

static enum status memory_poll(struct exchange *x, int bucket, struct err *err) {
    (void)err;
    if (x->flows[bucket].state == FLOW_REDUCING)
        reduce(x, bucket);
    else
        fetch(x, bucket);
    return STATUS_OK;
}

static enum status memory_publish(struct exchange *x, int bucket, struct err *err) {
    (void)err;
    x->flows[bucket].level = 0;
    raise_flag(&flags_of(x, x->rank)->published[bucket], x->step);
    return STATUS_OK;
}

static enum status memory_flags(struct exchange *x, uint32_t *flags, struct err *err) {
    struct flags *own = flags_of(x, x->rank);
    enum status st = STATUS_OK;
    atomic_store_explicit(&own->outcome, *flags, memory_order_relaxed);
    raise_flag(&own->finished, x->step);
    for (int r = 0; r < x->size; r++) {
        unsigned rounds = 0;
        while (!raised(&flags_of(x, r)->finished, x->step)) {
            for (int b = 0; st == STATUS_OK && b < x->started; b++)
                if (x->flows[b].state == FLOW_PUBLISHING)
                    st = memory_poll(x, b, err);
            world_relax(x->world, &rounds);
        }
        *flags |= atomic_load_explicit(&flags_of(x, r)->outcome, memory_order_relaxed);
    }
    return st;
}

const struct transport exchange_memory = {
    .open = memory_open,
    .close = memory_close,
    .start = memory_start,
    .poll = memory_poll,
    .publish = memory_publish,
    .flags = memory_flags,
};
