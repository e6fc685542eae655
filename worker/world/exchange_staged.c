/* The staged exchange: the vectors are in a device's memory, and host mirrors of them are what the
 * ranks exchange, by messages or in shared memory. For GPUs without NCCL, and for ranks that share
 * one.
 *
 * Partials leave the device while the backward pass goes on: a bucket's copy is queued behind its
 * gradient, a mark behind the copy tells when the transport may begin. Copies reach host_alloc's
 * memory at full speed and do not hold up the host; shared memory is not of that kind, so the
 * gradient passes through such memory on its way there. */
#include <stdlib.h>
#include <string.h>

#include "worker/world/exchange_private.h"

#define STAGING_MARKS (MARKS - OUTCOME_SLOTS - 2) /* the last two are the loader's */

struct staging {
    float *weights, *gradient; /* host_alloc's; weights: NULL in shared memory */
    double *norms_mine, *norms;
};

enum status exchange_staged_open(struct exchange *x, struct err *err) {
    struct device *d = x->spec.device;
    size_t bytes = (size_t)x->spec.vector_count * sizeof(float);
    struct staging *s = calloc(1, sizeof *s);
    x->staging = s;
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "exchange");
    s->gradient = d->backend->memory->host_alloc(d, bytes);
    if (x->spec.bases == NULL)
        s->weights = d->backend->memory->host_alloc(d, bytes);
    s->norms_mine = calloc((size_t)x->owned_blocks + 1, sizeof *s->norms_mine);
    s->norms = calloc((size_t)x->blocks, sizeof *s->norms);
    if (s->gradient == NULL || s->norms_mine == NULL || s->norms == NULL ||
        (x->spec.bases == NULL && s->weights == NULL))
        return err_set(
            err, STATUS_NOMEM,
            "exchange: no host memory for mirrors of %zu bytes each; a smaller model, or "
            "fewer ranks on this node",
            bytes);
    x->gradient = s->gradient;
    x->weights = s->weights;
    if (x->spec.bases != NULL) {
        void *base = x->spec.bases[x->rank];
        x->gradient = exchange_memory_gradient(base, x->spec.vector_count);
        x->weights = exchange_memory_weights(base, x->spec.vector_count);
    }
    return STATUS_OK;
}

void exchange_staged_close(struct exchange *x) {
    struct staging *s = x->staging;
    struct device *d = x->spec.device;
    if (s == NULL)
        return;
    d->backend->order->sync(d); /* copies may be under way after an error */
    if (s->gradient != NULL)
        d->backend->memory->host_release(d, s->gradient);
    if (s->weights != NULL)
        d->backend->memory->host_release(d, s->weights);
    free(s->norms_mine);
    free(s->norms);
    free(s);
    x->staging = NULL;
}

static int mark_of(int bucket) {
    return OUTCOME_SLOTS + bucket % STAGING_MARKS; /* a later bucket's mark comes later: safe */
}

void exchange_staged_start(struct exchange *x, int bucket) {
    struct device *d = x->spec.device;
    struct slice all = x->flows[bucket].slices[0];
    d->backend->order->after(d, QUEUE_EXCHANGE, QUEUE_COMPUTE);
    d->backend->memory->copy(d, QUEUE_EXCHANGE, x->staging->gradient + all.begin,
                             x->spec.gradient + all.begin, (size_t)all.count * sizeof(float));
    d->backend->order->mark(d, QUEUE_EXCHANGE, mark_of(bucket));
}

bool exchange_staged_arrived(struct exchange *x, int bucket) {
    struct device *d = x->spec.device;
    struct slice all = x->flows[bucket].slices[0];
    if (!d->backend->order->reached(d, mark_of(bucket)))
        return false;
    if (x->gradient != x->staging->gradient)
        memcpy(x->gradient + all.begin, x->staging->gradient + all.begin,
               (size_t)all.count * sizeof(float));
    return true;
}

static void upload(struct exchange *x, float *to, const float *from, int64_t begin, int64_t end) {
    struct device *d = x->spec.device;
    if (begin < end)
        d->backend->memory->upload(d, to + begin, from + begin,
                                   (size_t)(end - begin) * sizeof(float));
}

/* The host's sum may have overflowed: a fold of one lets the device look, and raise its flag. */
void exchange_staged_return(struct exchange *x, int bucket) {
    struct device *d = x->spec.device;
    struct slice mine = x->flows[bucket].slices[x->level_count];
    if (mine.count == 0)
        return;
    upload(x, x->spec.gradient, x->gradient, mine.begin, mine.begin + mine.count);
    const float *slice = x->spec.gradient + mine.begin;
    d->backend->operators->fold(d, QUEUE_COMPUTE, x->spec.gradient + mine.begin, &slice, 1,
                                mine.count);
}

void exchange_staged_publish(struct exchange *x, int bucket) {
    struct device *d = x->spec.device;
    struct slice mine = x->flows[bucket].slices[x->level_count];
    int64_t end = x->spec.vector_count, tail = end - SCALARS;
    if (mine.count > 0)
        d->backend->memory->download(d, x->weights + mine.begin, x->spec.weights + mine.begin,
                                     (size_t)mine.count * sizeof(float));
    if (exchange_owns_tail(x, bucket)) {
        memcpy(x->weights + tail, x->gradient + tail, SCALARS * sizeof(float));
        upload(x, x->spec.weights, x->weights, tail, end);
    }
}

void exchange_staged_fetch(struct exchange *x, int bucket) {
    const struct flow *f = &x->flows[bucket];
    struct slice all = f->slices[0], mine = f->slices[x->level_count];
    upload(x, x->spec.weights, x->weights, all.begin, mine.begin);
    upload(x, x->spec.weights, x->weights, mine.begin + mine.count, all.begin + all.count);
}

uint32_t exchange_staged_flags(struct exchange *x) {
    struct device *d = x->spec.device;
    uint32_t word = 0;
    d->backend->memory->download(d, &word, d->backend->update->flags(d), sizeof word);
    return word;
}

enum status exchange_staged_gather_norms(struct exchange *x, const double *mine, double *all,
                                         struct err *err) {
    struct device *d = x->spec.device;
    struct staging *s = x->staging;
    if (x->owned_blocks > 0)
        d->backend->memory->download(d, s->norms_mine, mine,
                                     (size_t)x->owned_blocks * sizeof *mine);
    enum status st = exchange_gather_blocks(x, s->norms_mine, sizeof *mine, s->norms, err);
    if (st == STATUS_OK)
        d->backend->memory->upload(d, all, s->norms, (size_t)x->blocks * sizeof *all);
    return st;
}
