/* The queued exchange: the device's exchange queue moves the bytes (NCCL) and folds them, and the
 * two queues wait for each other; the host waits for nothing. Alone on a device there is nothing to
 * move.
 *
 *     compute    backward ▶ b0 ▶ b1 ▶ b2 ┐          ┌▶ update ┐                 ┌▶ outcome
 *     exchange             └▶ b0 ▶ b1 ▶ b2, folded ─┘         └▶ weights, flags ┘
 *
 * Groups of sends and receives are what NCCL starts kernels for: a bucket's partials go in one as
 * soon as they are there, the weights of all buckets in one when the last is published. Work in one
 * queue is done in order: one inbox serves all buckets. */
#include <stdlib.h>

#include "worker/world/exchange_private.h"

struct queued {
    struct nccl *nccl; /* NULL: alone */
    float *inbox;      /* partials of the other ranks of one level of one bucket */
    uint32_t *words;   /* (ranks): flag words; alone: the device's own */
    int joined;        /* buckets whose folds computing waits for */
    int published;
};

enum status exchange_queue_open(struct exchange *x, struct err *err) {
    struct device *d = x->spec.device;
    struct queued *q = calloc(1, sizeof *q);
    x->queued = q;
    if (q == NULL)
        return err_set(err, STATUS_NOMEM, "exchange");
    if (x->size == 1) {
        q->words = d->backend->update->flags(d);
        return STATUS_OK;
    }
    q->nccl = x->spec.nccl;
    int64_t inbox = 1;
    for (int b = 0; b < x->spec.bucket_count; b++)
        for (int l = 0; l < x->level_count; l++) {
            int64_t count = (x->levels[l] - 1) * x->flows[b].slices[l + 1].count;
            inbox = count > inbox ? count : inbox;
        }
    size_t bytes = (size_t)inbox * sizeof(float);
    q->inbox = d->backend->memory->alloc(d, bytes);
    q->words = d->backend->memory->alloc(d, (size_t)x->size * sizeof *q->words);
    if (q->inbox == NULL || q->words == NULL)
        return err_set(err, STATUS_NOMEM, "exchange: no device memory for an inbox of %zu bytes",
                       bytes);
    return STATUS_OK;
}

void exchange_queue_close(struct exchange *x) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    if (q == NULL)
        return;
    if (q->nccl != NULL) {
        if (q->inbox != NULL)
            d->backend->memory->release(d, q->inbox);
        if (q->words != NULL)
            d->backend->memory->release(d, q->words);
    }
    free(q);
    x->queued = NULL;
}

static void send(struct exchange *x, const float *from, struct slice s, int to) {
    if (s.count > 0)
        nccl_send(x->queued->nccl, from + s.begin, (size_t)s.count * sizeof(float), to);
}

static void receive(struct exchange *x, float *at, int64_t count, int from) {
    if (count > 0)
        nccl_receive(x->queued->nccl, at, (size_t)count * sizeof(float), from);
}

/* ---- partials in ---- */

static void fold(struct exchange *x, int n, struct slice mine) {
    struct device *d = x->spec.device;
    if (mine.count > 0)
        d->backend->operators->fold(d, QUEUE_EXCHANGE, x->spec.gradient + mine.begin, x->sources, n,
                                    mine.count);
}

static enum status reduce_level(struct exchange *x, const struct flow *f, int l, struct err *err) {
    struct queued *q = x->queued;
    struct slice mine = f->slices[l + 1];
    float *inbox = q->inbox;
    if (x->levels[l] == 1)
        return STATUS_OK;
    nccl_group_start(q->nccl);
    for (int digit = 0; digit < x->levels[l]; digit++) {
        x->sources[digit] = x->spec.gradient + mine.begin;
        if (digit == x->digits[l])
            continue;
        int peer = exchange_peer(x, l, digit);
        x->sources[digit] = inbox;
        receive(x, inbox, mine.count, peer);
        send(x, x->spec.gradient, exchange_slice_part(f->slices[l], digit, x->levels[l]), peer);
        inbox += mine.count;
    }
    enum status st = nccl_group_end(q->nccl, err);
    if (st == STATUS_OK)
        fold(x, x->levels[l], mine);
    return st;
}

/* NCCL adds the gradients straight into the owners'. A fold of one looks whether the
 * sums are finite. */
static enum status reduce_by_library(struct exchange *x, int bucket, struct err *err) {
    struct queued *q = x->queued;
    nccl_group_start(q->nccl);
    for (int r = 0; r < x->size; r++) {
        struct slice s = exchange_slice(x, r, bucket);
        if (s.count > 0)
            nccl_reduce(q->nccl, x->spec.gradient + s.begin, s.count, r);
    }
    enum status st = nccl_group_end(q->nccl, err);
    struct slice mine = exchange_slice(x, x->rank, bucket);
    x->sources[0] = x->spec.gradient + mine.begin;
    if (st == STATUS_OK)
        fold(x, 1, mine);
    return st;
}

enum status exchange_queue_start(struct exchange *x, int bucket, struct err *err) {
    struct device *d = x->spec.device;
    enum status st = STATUS_OK;
    if (x->queued->nccl == NULL)
        return STATUS_OK;
    d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    if (x->spec.library_sums)
        return reduce_by_library(x, bucket, err);
    for (int l = 0; l < x->level_count && st == STATUS_OK; l++)
        st = reduce_level(x, &x->flows[bucket], l, err);
    return st;
}

void exchange_queue_reduced(struct exchange *x) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    if (q->nccl != NULL && q->joined < x->started)
        d->backend->order->after(d, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    q->joined = x->started;
}

/* ---- weights out ---- */

static void send_words(struct exchange *x) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    uint32_t *mine = d->backend->update->flags(d);
    d->backend->memory->copy(d, QUEUE_EXCHANGE, q->words + x->rank, mine, sizeof *mine);
    for (int r = 0; r < x->size; r++) {
        if (r == x->rank)
            continue;
        nccl_receive(q->nccl, q->words + r, sizeof *mine, r);
        nccl_send(q->nccl, mine, sizeof *mine, r);
    }
}

/* From the slices back to whole buckets, level by level. The flag words go with the first. */
static enum status gather_weights(struct exchange *x, struct err *err) {
    struct queued *q = x->queued;
    enum status st = STATUS_OK;
    for (int l = x->level_count - 1; l >= 0 && st == STATUS_OK; l--) {
        nccl_group_start(q->nccl);
        if (l == x->level_count - 1)
            send_words(x);
        for (int b = 0; b < x->spec.bucket_count; b++) {
            const struct flow *f = &x->flows[b];
            for (int digit = 0; digit < x->levels[l]; digit++) {
                if (digit == x->digits[l])
                    continue;
                int peer = exchange_peer(x, l, digit);
                struct slice theirs = exchange_slice_part(f->slices[l], digit, x->levels[l]);
                receive(x, x->spec.weights + theirs.begin, theirs.count, peer);
                send(x, x->spec.weights, f->slices[l + 1], peer);
            }
        }
        st = nccl_group_end(q->nccl, err);
    }
    return st;
}

enum status exchange_queue_publish(struct exchange *x, int bucket, struct err *err) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    int64_t tail = x->spec.vector_count - SCALARS;
    if (exchange_owns_tail(x, bucket))
        d->backend->memory->copy(d, QUEUE_COMPUTE, x->spec.weights + tail, x->spec.gradient + tail,
                                 SCALARS * sizeof(float));
    if (++q->published < x->spec.bucket_count || q->nccl == NULL)
        return STATUS_OK;
    d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    return gather_weights(x, err);
}

enum status exchange_outcome(struct exchange *x, struct step_outcome *ring, struct err *err) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    if (q == NULL || q->published != x->spec.bucket_count)
        return err_set(err, STATUS_INTERNAL, "exchange: a step's outcome before its weights");
    if (q->nccl != NULL)
        d->backend->order->after(d, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    d->backend->update->outcome(d, x->spec.weights + x->spec.vector_count - SCALARS, q->words,
                                x->size, ring);
    q->joined = q->published = x->started = 0;
    return STATUS_OK;
}

enum status exchange_check(struct exchange *x, struct err *err) {
    if (x->queued == NULL || x->queued->nccl == NULL)
        return STATUS_OK;
    return nccl_check(x->queued->nccl, err);
}

/* ---- norms ---- */

/* Straight into place: what a rank sends of a bucket is one stretch on both sides. */
enum status exchange_queue_gather_norms(struct exchange *x, const double *mine, double *all,
                                        struct err *err) {
    struct queued *q = x->queued;
    struct device *d = x->spec.device;
    enum queue queue = q->nccl != NULL ? QUEUE_EXCHANGE : QUEUE_COMPUTE;
    if (q->nccl != NULL) {
        d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
        nccl_group_start(q->nccl);
    }
    for (int b = 0; b < x->spec.bucket_count; b++) {
        struct slice own = exchange_slice(x, x->rank, b);
        size_t bytes = (size_t)exchange_slice_blocks(own) * sizeof *mine;
        for (int r = 0; r < x->size; r++) {
            struct slice s = exchange_slice(x, r, b);
            double *at = all + s.begin / NORM_BLOCK;
            if (r == x->rank) {
                if (bytes > 0)
                    d->backend->memory->copy(d, queue, at, mine, bytes);
                continue;
            }
            size_t theirs = (size_t)exchange_slice_blocks(s) * sizeof *mine;
            if (theirs > 0)
                nccl_receive(q->nccl, at, theirs, r);
            if (bytes > 0)
                nccl_send(q->nccl, mine, bytes, r);
        }
        mine += exchange_slice_blocks(own);
    }
    if (q->nccl == NULL)
        return STATUS_OK;
    enum status st = nccl_group_end(q->nccl, err);
    d->backend->order->after(d, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    return st;
}
