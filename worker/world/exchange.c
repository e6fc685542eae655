/* The order of a step. Who owns what: exchange_slices.c. How bytes move: exchange_message.c,
 * exchange_memory.c, exchange_staged.c, exchange_queue.c. */
#include <stdlib.h>
#include <string.h>

#include "worker/world/exchange_private.h"

bool exchange_in_memory(const struct exchange *x) {
    return x->transport == &exchange_memory;
}

const char *exchange_way(const struct exchange_ways *w) {
    if (w->ranks == 1)
        return "none";
    if (w->nccl)
        return "nccl";
    if (w->memory)
        return w->staged ? "staged memory" : "memory";
    return w->staged ? "staged messages" : "messages";
}

const char *exchange_name(const struct exchange *x) {
    return exchange_way(&(struct exchange_ways){.ranks = x->size,
                                                .nccl = x->queued != NULL,
                                                .memory = exchange_in_memory(x),
                                                .staged = x->staging != NULL});
}

bool exchange_queued(const struct exchange *x) {
    return x->queued != NULL;
}

/* ---- making ---- */

static bool on_queues(const struct exchange *x) {
    return x->spec.device != NULL && x->spec.device->backend->queues;
}

/* Everything that can fail on one rank alone, between two agreements. */
static enum status open_transport(struct exchange *x, struct err *err) {
    if (x->spec.nccl != NULL && !on_queues(x))
        return err_set(err, STATUS_INTERNAL, "exchange: NCCL without a device that queues");
    if (on_queues(x) && (x->size == 1 || x->spec.nccl != NULL))
        return exchange_queue_open(x, err);
    return on_queues(x) ? exchange_staged_open(x, err) : STATUS_OK;
}

enum status exchange_new(struct world *w, const struct exchange_spec *spec, struct exchange **out,
                         struct err *err) {
    *out = NULL;
    struct exchange *x = calloc(1, sizeof *x);
    if (x == NULL)
        world_abort(w, status_exit_code(STATUS_NOMEM));
    x->world = w;
    x->rank = world_rank(w);
    x->size = world_size(w);
    x->spec = *spec;
    x->weights = spec->weights;
    x->gradient = spec->gradient;
    enum status st = world_agree(w, exchange_slices_open(x, err), err);
    if (st == STATUS_OK)
        st = world_agree(w, open_transport(x, err), err);
    if (st == STATUS_OK && x->size > 1 && x->queued != NULL && spec->library_sums)
        st = nccl_open_sums(spec->nccl, err);
    if (st == STATUS_OK && x->size > 1 && x->queued == NULL) {
        x->transport = spec->bases != NULL ? &exchange_memory : &exchange_messages;
        st = world_agree(w, x->transport->open(x, err), err);
    }
    if (st != STATUS_OK) {
        exchange_destroy(&x);
        return st;
    }
    *out = x;
    return STATUS_OK;
}

void exchange_destroy(struct exchange **x) {
    if (*x == NULL)
        return;
    if ((*x)->transport != NULL)
        (*x)->transport->close(*x);
    exchange_staged_close(*x);
    exchange_queue_close(*x);
    free((*x)->flows);
    free((*x)->sources);
    free((*x)->gathered);
    free(*x);
    *x = NULL;
}

/* ---- a step ---- */

static enum status poll_all(struct exchange *x, struct err *err) {
    for (int b = 0; b < x->started; b++) {
        struct flow *f = &x->flows[b];
        if (f->state == FLOW_IDLE || f->state == FLOW_REDUCED)
            continue;
        enum status st = STATUS_OK;
        if (f->state == FLOW_STAGING) {
            if (!exchange_staged_arrived(x, b))
                continue;
            f->state = FLOW_REDUCING;
            st = x->transport->start(x, b, err);
        }
        if (st == STATUS_OK)
            st = x->transport->poll(x, b, err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum status exchange_start(struct exchange *x, int bucket, struct err *err) {
    if (bucket != x->started || bucket >= x->spec.bucket_count)
        return err_set(err, STATUS_INTERNAL, "exchange: bucket %d started after %d", bucket,
                       x->started);
    struct flow *f = &x->flows[bucket];
    x->started++;
    if (bucket == 0)
        x->step++;
    f->level = 0;
    f->state = FLOW_REDUCED;
    f->returned = false;
    if (x->queued != NULL)
        return exchange_queue_start(x, bucket, err);
    if (x->size == 1)
        return STATUS_OK;
    if (x->staging != NULL) {
        f->state = FLOW_STAGING;
        exchange_staged_start(x, bucket);
        return poll_all(x, err);
    }
    f->state = FLOW_REDUCING;
    enum status st = x->transport->start(x, bucket, err);
    return st == STATUS_OK ? poll_all(x, err) : st;
}

enum status exchange_reduced(struct exchange *x, int bucket, struct err *err) {
    struct flow *f = &x->flows[bucket];
    unsigned rounds = 0;
    while (f->state == FLOW_STAGING || f->state == FLOW_REDUCING) {
        enum status st = poll_all(x, err);
        if (st != STATUS_OK)
            return st;
        if (f->state != FLOW_REDUCED)
            world_relax(x->world, &rounds);
    }
    if (f->state != FLOW_REDUCED)
        return err_set(err, STATUS_INTERNAL, "exchange: bucket %d was not started", bucket);
    if (x->queued != NULL)
        exchange_queue_reduced(x);
    if (x->staging != NULL && !f->returned)
        exchange_staged_return(x, bucket);
    f->returned = true;
    return STATUS_OK;
}

enum status exchange_publish(struct exchange *x, int bucket, struct err *err) {
    struct flow *f = &x->flows[bucket];
    int64_t tail = x->spec.vector_count - SCALARS;
    if (f->state != FLOW_REDUCED)
        return err_set(err, STATUS_INTERNAL, "exchange: bucket %d is not reduced", bucket);
    f->state = FLOW_IDLE;
    if (x->queued != NULL)
        return exchange_queue_publish(x, bucket, err);
    if (x->staging != NULL)
        exchange_staged_publish(x, bucket);
    else if (exchange_owns_tail(x, bucket))
        memcpy(x->weights + tail, x->gradient + tail, SCALARS * sizeof(float));
    if (x->size == 1)
        return STATUS_OK;
    f->state = FLOW_PUBLISHING;
    return x->transport->publish(x, bucket, err);
}

enum status exchange_finish(struct exchange *x, float *scalars, uint32_t *flags, struct err *err) {
    if (x->queued != NULL)
        return err_set(err, STATUS_INTERNAL, "exchange: a queued step was waited for");
    if (x->size > 1) {
        if (x->staging != NULL)
            *flags |= exchange_staged_flags(x);
        enum status st = x->transport->flags(x, flags, err);
        unsigned rounds = 0;
        for (int b = 0; st == STATUS_OK && b < x->started;) {
            if (x->flows[b].state == FLOW_IDLE) {
                if (x->staging != NULL)
                    exchange_staged_fetch(x, b);
                b++;
                rounds = 0;
                continue;
            }
            st = poll_all(x, err);
            if (st == STATUS_OK && x->flows[b].state != FLOW_IDLE)
                world_relax(x->world, &rounds);
        }
        if (st != STATUS_OK)
            return st;
    }
    x->started = 0;
    memcpy(scalars, x->weights + x->spec.vector_count - SCALARS, SCALARS * sizeof(float));
    return STATUS_OK;
}

enum status exchange_gather_norms(struct exchange *x, const double *mine, double *all,
                                  struct err *err) {
    if (x->queued != NULL)
        return exchange_queue_gather_norms(x, mine, all, err);
    if (x->staging != NULL)
        return exchange_staged_gather_norms(x, mine, all, err);
    return exchange_gather_blocks(x, mine, sizeof *mine, all, err);
}
