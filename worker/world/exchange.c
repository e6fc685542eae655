/* Who owns what, the order of a step, and the fold. How bytes move: exchange_message.c,
 * exchange_memory.c, exchange_staged.c, exchange_queue.c. */
#include <stdlib.h>
#include <string.h>

#include "worker/world/exchange_impl.h"

int64_t exchange_slice_blocks(struct slice s) {
    return (s.count + NORM_BLOCK - 1) / NORM_BLOCK;
}

struct slice slice_part(struct slice s, int index, int n) {
    int64_t blocks = exchange_slice_blocks(s);
    int64_t first = blocks * index / n * NORM_BLOCK, end = blocks * (index + 1) / n * NORM_BLOCK;
    if (end > s.count)
        end = s.count;
    if (first > end)
        first = end;
    return (struct slice){.begin = s.begin + first, .count = end - first};
}

int exchange_peer(const struct exchange *x, int level, int digit) {
    return x->rank + (digit - x->digits[level]) * x->strides[level];
}

struct slice exchange_slice(const struct exchange *x, int rank, int bucket) {
    struct slice s = x->flows[bucket].stretch[0];
    for (int l = 0; l < x->level_count; l++)
        s = slice_part(s, rank / x->strides[l] % x->levels[l], x->levels[l]);
    return s;
}

int64_t exchange_owned_blocks(const struct exchange *x) {
    return x->owned_blocks;
}

int64_t exchange_blocks(const struct exchange *x) {
    return x->blocks;
}

bool exchange_in_memory(const struct exchange *x) {
    return x->transport == &transport_memory;
}

const char *exchange_name(const struct exchange *x) {
    if (x->size == 1)
        return "none";
    if (x->queued != NULL)
        return "nccl";
    if (exchange_in_memory(x))
        return x->staging != NULL ? "staged memory" : "memory";
    return x->staging != NULL ? "staged messages" : "messages";
}

bool exchange_queued(const struct exchange *x) {
    return x->queued != NULL;
}

bool exchange_owns_tail(const struct exchange *x, int bucket) {
    struct slice mine = x->flows[bucket].stretch[x->level_count];
    return mine.count > 0 && mine.begin + mine.count == x->spec.vector_count;
}

void exchange_fold_level(struct exchange *x, struct flow *f) {
    struct slice mine = f->stretch[f->level + 1];
    if (mine.count > 0)
        x->spec.fold(x->spec.fold_arg, x->gradient + mine.begin, x->sources, x->levels[f->level],
                     mine.count);
    f->level++;
}

/* ---- making ---- */

static enum status set_levels(struct exchange *x, const struct exchange_spec *spec,
                              struct err *err) {
    int one[] = {x->size}, product = 1;
    const int *levels = spec->levels != NULL ? spec->levels : one;
    x->level_count = spec->levels != NULL ? spec->level_count : 1;
    if (x->level_count < 1 || x->level_count > EXCHANGE_LEVELS_MAX)
        return err_set(err, STATUS_INVALID, "exchange: %d levels, at most %d", x->level_count,
                       EXCHANGE_LEVELS_MAX);
    for (int l = 0; l < x->level_count; l++) {
        if (levels[l] < 1 || levels[l] > x->size)
            return err_set(err, STATUS_INVALID, "exchange: a level of %d among %d ranks", levels[l],
                           x->size);
        x->levels[l] = levels[l];
        x->strides[l] = product;
        x->digits[l] = x->rank / product % levels[l];
        product *= levels[l];
    }
    if (product != x->size)
        return err_set(err, STATUS_INVALID, "exchange: levels make %d ranks, there are %d", product,
                       x->size);
    return STATUS_OK;
}

static enum status set_flows(struct exchange *x, struct err *err) {
    const struct exchange_spec *s = &x->spec;
    if (s->bucket_count < 1 || s->bucket_count > EXCHANGE_BUCKETS_MAX)
        return err_set(err, STATUS_INVALID, "exchange: %d buckets, at most %d", s->bucket_count,
                       EXCHANGE_BUCKETS_MAX);
    x->flows = calloc((size_t)s->bucket_count, sizeof *x->flows);
    x->sources = calloc((size_t)x->size, sizeof *x->sources);
    if (x->flows == NULL || x->sources == NULL)
        return err_set(err, STATUS_NOMEM, "exchange of %d buckets", s->bucket_count);
    for (int b = 0; b < s->bucket_count; b++) {
        int64_t begin = s->buckets[b].begin, end = s->buckets[b].end;
        if (begin % NORM_BLOCK != 0 || begin < 0 || end <= begin || end > s->vector_count)
            return err_set(err, STATUS_INVALID, "exchange: bucket %d is [%lld, %lld) of %lld", b,
                           (long long)begin, (long long)end, (long long)s->vector_count);
        struct flow *f = &x->flows[b];
        f->stretch[0] = (struct slice){.begin = begin, .count = end - begin};
        for (int l = 0; l < x->level_count; l++)
            f->stretch[l + 1] = slice_part(f->stretch[l], x->digits[l], x->levels[l]);
    }
    return STATUS_OK;
}

static enum status reserve_gather(struct exchange *x, size_t block_bytes, struct err *err) {
    size_t need = (size_t)x->owned_blocks_max * block_bytes;
    size_t all = (need > 0 ? need : 1) * (size_t)(x->size + 1);
    if (all <= x->gathered_bytes)
        return STATUS_OK;
    char *bytes = realloc(x->gathered, all);
    if (bytes == NULL)
        return err_set(err, STATUS_NOMEM, "gather %zu bytes", all);
    x->gathered = bytes;
    x->gathered_bytes = all;
    return STATUS_OK;
}

static enum status prepare(struct exchange *x, const struct exchange_spec *spec, struct err *err) {
    enum status st = set_levels(x, spec, err);
    if (st == STATUS_OK)
        st = set_flows(x, err);
    if (st != STATUS_OK)
        return st;
    x->blocks = (spec->vector_count + NORM_BLOCK - 1) / NORM_BLOCK;
    for (int r = 0; r < x->size; r++) {
        int64_t owned = 0;
        for (int b = 0; b < spec->bucket_count; b++)
            owned += exchange_slice_blocks(exchange_slice(x, r, b));
        if (r == x->rank)
            x->owned_blocks = owned;
        if (owned > x->owned_blocks_max)
            x->owned_blocks_max = owned;
    }
    return reserve_gather(x, sizeof(double), err);
}

static bool on_queues(const struct exchange *x) {
    return x->spec.device != NULL && x->spec.device->backend->queues;
}

/* Everything that can fail on one rank alone, between two agreements. */
static enum status open_transport(struct exchange *x, struct err *err) {
    if (x->spec.nccl != NULL && !on_queues(x))
        return err_set(err, STATUS_INTERNAL, "exchange: NCCL without a device that queues");
    if (on_queues(x) && (x->size == 1 || x->spec.nccl != NULL))
        return queue_open(x, err);
    return on_queues(x) ? staging_open(x, err) : STATUS_OK;
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
    enum status st = world_agree(w, prepare(x, spec, err), err);
    if (st == STATUS_OK)
        st = world_agree(w, open_transport(x, err), err);
    if (st == STATUS_OK && x->size > 1 && x->queued == NULL) {
        x->transport = spec->bases != NULL ? &transport_memory : &transport_messages;
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
    staging_close(*x);
    queue_close(*x);
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
            if (!staging_arrived(x, b))
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
        return queue_start(x, bucket, err);
    if (x->size == 1)
        return STATUS_OK;
    if (x->staging != NULL) {
        f->state = FLOW_STAGING;
        staging_start(x, bucket);
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
        queue_reduced(x);
    if (x->staging != NULL && !f->returned)
        staging_return(x, bucket);
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
        return queue_publish(x, bucket, err);
    if (x->staging != NULL)
        staging_publish(x, bucket);
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
            *flags |= staging_flags(x);
        enum status st = x->transport->flags(x, flags, err);
        unsigned rounds = 0;
        for (int b = 0; st == STATUS_OK && b < x->started;) {
            if (x->flows[b].state == FLOW_IDLE) {
                if (x->staging != NULL)
                    staging_fetch(x, b);
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

/* ---- blocks ---- */

enum status exchange_gather_blocks(struct exchange *x, const void *mine, size_t block_bytes,
                                   void *all, struct err *err) {
    enum status st = reserve_gather(x, block_bytes, err);
    if (st != STATUS_OK)
        return st;
    size_t part = (size_t)x->owned_blocks_max * block_bytes;
    char *packed = x->gathered + (size_t)x->size * part;
    memcpy(packed, mine, (size_t)x->owned_blocks * block_bytes);
    st = world_gather(x->world, packed, part, x->gathered, err);
    for (int r = 0; st == STATUS_OK && r < x->size; r++) {
        const char *from = x->gathered + (size_t)r * part;
        for (int b = 0; b < x->spec.bucket_count; b++) {
            struct slice s = exchange_slice(x, r, b);
            size_t bytes = (size_t)exchange_slice_blocks(s) * block_bytes;
            memcpy((char *)all + (size_t)(s.begin / NORM_BLOCK) * block_bytes, from, bytes);
            from += bytes;
        }
    }
    return st;
}

enum status exchange_gather_norms(struct exchange *x, const double *mine, double *all,
                                  struct err *err) {
    if (x->queued != NULL)
        return queue_gather_norms(x, mine, all, err);
    if (x->staging != NULL)
        return staging_gather_norms(x, mine, all, err);
    return exchange_gather_blocks(x, mine, sizeof *mine, all, err);
}
