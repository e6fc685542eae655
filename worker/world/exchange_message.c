/* The exchange by messages: works between any two ranks, over any network that MPI knows.
 *
 * At each level a rank sends every neighbour its part of the stretch, straight from the gradient,
 * and receives the neighbours' partials of its own part; weights go the other way, level by level
 * back. */
#include <stdlib.h>
#include <string.h>

#include "worker/world/exchange_private.h"

struct message_state {
    struct world_request *requests; /* of all flows, then of the flags */
    struct world_request *flag_requests;
    float *inboxes;
    uint32_t flag_out, *flag_in;
};

enum { PHASE_REDUCE, PHASE_PUBLISH };

static int tag_of(int bucket, int level, int phase) {
    return ((bucket * EXCHANGE_LEVELS_MAX + level) << 1) + phase;
}

#define TAG_FLAGS (EXCHANGE_BUCKETS_MAX * EXCHANGE_LEVELS_MAX * 2)

static enum status messages_open(struct exchange *x, struct err *err) {
    struct message_state *m = calloc(1, sizeof *m);
    x->state = m;
    if (m == NULL)
        return err_set(err, STATUS_NOMEM, "exchange");
    size_t width = 0, count = (size_t)x->spec.bucket_count, floats = 0;
    for (int l = 0; l < x->level_count; l++)
        if ((size_t)x->levels[l] > width)
            width = (size_t)x->levels[l];
    for (size_t b = 0; b < count; b++)
        for (int l = 0; l < x->level_count; l++)
            floats += (size_t)(x->levels[l] - 1) * (size_t)x->flows[b].slices[l + 1].count;
    m->requests = calloc(count * 2 * width, sizeof *m->requests);
    m->flag_requests = calloc((size_t)x->size * 2, sizeof *m->flag_requests);
    m->flag_in = calloc((size_t)x->size, sizeof *m->flag_in);
    m->inboxes = malloc((floats > 0 ? floats : 1) * sizeof(float));
    if (m->requests == NULL || m->flag_requests == NULL || m->flag_in == NULL || m->inboxes == NULL)
        return err_set(err, STATUS_NOMEM, "exchange: %zu bytes of inboxes", floats * sizeof(float));
    float *inbox = m->inboxes;
    for (size_t b = 0; b < count; b++) {
        x->flows[b].requests = m->requests + b * 2 * width;
        for (int l = 0; l < x->level_count; l++) {
            x->flows[b].inbox[l] = inbox;
            inbox += (x->levels[l] - 1) * x->flows[b].slices[l + 1].count;
        }
    }
    return STATUS_OK;
}

static void messages_close(struct exchange *x) {
    struct message_state *m = x->state;
    if (m == NULL)
        return;
    free(m->requests);
    free(m->flag_requests);
    free(m->flag_in);
    free(m->inboxes);
    free(m);
    x->state = NULL;
}

static struct world_message floats_at(float *at, int64_t count) {
    return (struct world_message){.bytes = at, .len = (size_t)count * sizeof(float)};
}

/* To and from one peer, at the flow's present level. */
static enum status swap(struct exchange *x, struct flow *f, struct world_message in,
                        struct world_message out, struct err *err) {
    enum status st = STATUS_OK;
    if (in.len > 0)
        st = world_receive(x->world, &in, &f->requests[f->request_count++], err);
    if (st == STATUS_OK && out.len > 0)
        st = world_send(x->world, &out, &f->requests[f->request_count++], err);
    return st;
}

/* Posts everything of the flow's present level. */
static enum status begin_level(struct exchange *x, int bucket, int phase, struct err *err) {
    struct flow *f = &x->flows[bucket];
    int l = f->level, inbox = 0;
    enum status st = STATUS_OK;
    struct slice mine = f->slices[l + 1];
    f->request_count = 0;
    for (int d = 0; d < x->levels[l] && st == STATUS_OK; d++) {
        if (d == x->digits[l])
            continue;
        struct slice theirs = exchange_slice_part(f->slices[l], d, x->levels[l]);
        struct world_message in, out;
        if (phase == PHASE_REDUCE) {
            in = floats_at(f->inbox[l] + inbox++ * mine.count, mine.count);
            out = floats_at(x->gradient + theirs.begin, theirs.count);
        } else {
            in = floats_at(x->weights + theirs.begin, theirs.count);
            out = floats_at(x->weights + mine.begin, mine.count);
        }
        in.peer = out.peer = exchange_peer(x, l, d);
        in.tag = out.tag = tag_of(bucket, l, phase);
        st = swap(x, f, in, out, err);
    }
    return st;
}

static enum status messages_start(struct exchange *x, int bucket, struct err *err) {
    return begin_level(x, bucket, PHASE_REDUCE, err);
}

static enum status messages_publish(struct exchange *x, int bucket, struct err *err) {
    x->flows[bucket].level = x->level_count - 1;
    return begin_level(x, bucket, PHASE_PUBLISH, err);
}

static enum status all_arrived(struct exchange *x, struct flow *f, bool *done, struct err *err) {
    *done = true;
    for (int i = 0; i < f->request_count; i++) {
        bool one = false;
        enum status st = world_test(x->world, &f->requests[i], &one, err);
        if (st != STATUS_OK)
            return st;
        *done &= one;
    }
    return STATUS_OK;
}

static enum status messages_poll(struct exchange *x, int bucket, struct err *err) {
    struct flow *f = &x->flows[bucket];
    for (;;) {
        bool done = false;
        enum status st = all_arrived(x, f, &done, err);
        if (st != STATUS_OK || !done)
            return st;
        if (f->state == FLOW_REDUCING) {
            int l = f->level, inbox = 0;
            struct slice mine = f->slices[l + 1];
            for (int d = 0; d < x->levels[l]; d++)
                x->sources[d] = d == x->digits[l] ? x->gradient + mine.begin
                                                  : f->inbox[l] + inbox++ * mine.count;
            exchange_fold_level(x, f);
            if (f->level == x->level_count) {
                f->state = FLOW_REDUCED;
                return STATUS_OK;
            }
            st = begin_level(x, bucket, PHASE_REDUCE, err);
        } else {
            if (f->level-- == 0) {
                f->state = FLOW_IDLE;
                return STATUS_OK;
            }
            st = begin_level(x, bucket, PHASE_PUBLISH, err);
        }
        if (st != STATUS_OK)
            return st;
    }
}

static enum status messages_flags(struct exchange *x, uint32_t *flags, struct err *err) {
    struct message_state *m = x->state;
    enum status st = STATUS_OK;
    m->flag_out = *flags;
    for (int r = 0; r < x->size && st == STATUS_OK; r++) {
        if (r == x->rank)
            continue;
        struct world_message in = {r, TAG_FLAGS, &m->flag_in[r], sizeof m->flag_in[r]};
        struct world_message out = {r, TAG_FLAGS, &m->flag_out, sizeof m->flag_out};
        st = world_receive(x->world, &in, &m->flag_requests[2 * r], err);
        if (st == STATUS_OK)
            st = world_send(x->world, &out, &m->flag_requests[2 * r + 1], err);
    }
    unsigned rounds = 0;
    for (int i = 0; st == STATUS_OK && i < 2 * x->size;) {
        bool done = false;
        st = world_test(x->world, &m->flag_requests[i], &done, err);
        for (int b = 0; st == STATUS_OK && !done && b < x->started; b++)
            if (x->flows[b].state == FLOW_PUBLISHING)
                st = messages_poll(x, b, err);
        if (done)
            i++;
        else
            world_relax(x->world, &rounds);
    }
    for (int r = 0; r < x->size; r++)
        *flags |= m->flag_in[r];
    return st;
}

const struct transport exchange_messages = {
    .open = messages_open,
    .close = messages_close,
    .start = messages_start,
    .poll = messages_poll,
    .publish = messages_publish,
    .flags = messages_flags,
};
