/* The trace: kept, written and read. */
#include "worker/train/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define MAGIC           "TRITRACE"
#define VERSION         2
#define HEADER_BYTES_V1 64
#define HEADER_BYTES    104
#define MARK_BYTES      72
#define RESERVE_MAX     (INT64_C(1) << 22)

static enum status grow(void **p, int64_t *cap, int64_t need, size_t size, struct err *err) {
    if (need <= *cap)
        return STATUS_OK;
    int64_t n = need > *cap * 2 ? need : *cap * 2;
    void *q = realloc(*p, (size_t)n * size);
    if (q == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for a trace of %lld steps", (long long)n);
    *p = q;
    *cap = n;
    return STATUS_OK;
}

static enum status reserve(struct trace *t, int64_t steps, int64_t marks, struct err *err) {
    void *p = t->bits, *q = t->marks;
    enum status st = STATUS_OK;
    if (steps > TRACE_STEPS_MAX || marks > TRACE_MARKS_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a trace of %lld steps and %lld digests",
                       (long long)steps, (long long)marks);
    st = grow(&p, &t->cap, steps, sizeof *t->bits, err);
    t->bits = p;
    if (st == STATUS_OK)
        st = grow(&q, &t->mark_cap, marks, sizeof *t->marks, err);
    t->marks = q;
    return st;
}

enum status trace_init(struct trace *t, int64_t steps, int64_t marks, struct err *err) {
    *t = (struct trace){0};
    t->hash = hash_new();
    enum status st = t->hash != NULL ? STATUS_OK : err_set(err, STATUS_NOMEM, "open trace");
    if (st == STATUS_OK)
        st = reserve(t, steps < RESERVE_MAX ? steps : RESERVE_MAX,
                     marks < RESERVE_MAX ? marks : RESERVE_MAX, err);
    if (st != STATUS_OK)
        trace_release(t);
    return st;
}

void trace_release(struct trace *t) {
    free(t->bits);
    free(t->marks);
    hash_destroy(&t->hash);
    *t = (struct trace){0};
}

static void link_step(struct trace *t, struct digest *chain, int64_t step, uint32_t bits) {
    uint8_t link[12];
    bytes_put_u64(link, (uint64_t)step);
    bytes_put_u32(link + 8, bits);
    hash_reset(t->hash);
    hash_add(t->hash, chain->bytes, sizeof chain->bytes);
    hash_add(t->hash, link, sizeof link);
    hash_end(t->hash, chain);
}

static int64_t held(const struct trace *t) {
    return t->count - t->first;
}

enum status trace_add(struct trace *t, uint32_t bits, struct err *err) {
    enum status st = reserve(t, held(t) + 1, t->mark_count, err);
    if (st != STATUS_OK)
        return st;
    if (t->count >= TRACE_STEPS_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a trace ends at %lld steps",
                       (long long)TRACE_STEPS_MAX);
    t->bits[t->count++ - t->first] = bits;
    link_step(t, &t->chain, t->count, bits);
    return STATUS_OK;
}

enum status trace_mark(struct trace *t, const struct digest *weights, const struct digest *state,
                       struct err *err) {
    if (t->mark_count > 0 && t->marks[t->mark_count - 1].step == t->count)
        return STATUS_OK; /* taken already */
    enum status st = reserve(t, held(t), t->mark_count + 1, err);
    if (st != STATUS_OK)
        return st;
    t->marks[t->mark_count++] =
        (struct trace_mark){.step = t->count, .weights = *weights, .state = *state};
    return STATUS_OK;
}

/* ---- chunks ---- */

void trace_path(const struct trace *t, char out[TRACE_PATH_MAX]) {
    (void)snprintf(out, TRACE_PATH_MAX, "trace/%06lld.bin", (long long)(t->first / TRACE_CHUNK));
}

/* Of the first chunk: how many steps, how many digests, and the chain behind it. */
struct chunk {
    int64_t steps, marks;
    struct digest chain;
};

static struct chunk first_chunk(struct trace *t) {
    int64_t n = held(t);
    struct chunk c = {.steps = n < TRACE_CHUNK ? n : TRACE_CHUNK, .chain = t->before};
    if (c.steps == n)
        c.chain = t->chain;
    else
        for (int64_t i = 0; i < c.steps; i++)
            link_step(t, &c.chain, t->first + i + 1, t->bits[i]);
    while (c.marks < t->mark_count && t->marks[c.marks].step <= t->first + c.steps)
        c.marks++;
    return c;
}

void trace_write(struct trace *t, struct buf *out) {
    struct chunk c = first_chunk(t);
    buf_add(out, MAGIC, 8);
    buf_add_u32(out, VERSION);
    buf_add_u32(out, 0);
    buf_add_u64(out, (uint64_t)t->first);
    buf_add_u64(out, (uint64_t)c.steps);
    buf_add_u64(out, (uint64_t)c.marks);
    buf_add(out, t->before.bytes, DIGEST_BYTES);
    buf_add(out, c.chain.bytes, DIGEST_BYTES);
    for (int64_t i = 0; i < c.steps; i++)
        buf_add_u32(out, t->bits[i]);
    for (int64_t i = 0; i < c.marks; i++) {
        buf_add_u64(out, (uint64_t)t->marks[i].step);
        buf_add(out, t->marks[i].weights.bytes, DIGEST_BYTES);
        buf_add(out, t->marks[i].state.bytes, DIGEST_BYTES);
    }
}

bool trace_cut(struct trace *t) {
    struct chunk c = first_chunk(t);
    if (c.steps < TRACE_CHUNK)
        return false;
    memmove(t->bits, t->bits + c.steps, (size_t)(held(t) - c.steps) * sizeof *t->bits);
    t->mark_count -= c.marks;
    if (t->mark_count > 0)
        memmove(t->marks, t->marks + c.marks, (size_t)t->mark_count * sizeof *t->marks);
    t->first += c.steps;
    t->before = c.chain;
    return true;
}

void trace_shorten(struct trace *t, int64_t step) {
    t->count = step;
    t->chain = t->before;
    for (int64_t i = 0; i < held(t); i++)
        link_step(t, &t->chain, t->first + i + 1, t->bits[i]);
    while (t->mark_count > 0 && t->marks[t->mark_count - 1].step > step)
        t->mark_count--;
}

void trace_begin_at(struct trace *t, int64_t step, const struct digest *chain) {
    t->first = t->count = step;
    t->before = t->chain = *chain;
    t->mark_count = 0;
}

/* ---- reading ---- */

static enum status broken(struct err *err, const char *why) {
    return err_set(err, STATUS_CORRUPT, "the trace is damaged: %s", why);
}

/* A file's header, of either version. */
struct header {
    uint64_t first, steps, marks;
    const uint8_t *before, *after; /* chains; before: NULL where it is that of step 0 */
    size_t bytes;
};

static enum status read_header(const uint8_t *p, size_t len, struct header *h, struct err *err) {
    if (len < HEADER_BYTES_V1 || memcmp(p, MAGIC, 8) != 0)
        return broken(err, "these bytes are not a trace");
    uint32_t version = bytes_get_u32(p + 8);
    if (version > VERSION)
        return err_set(err, STATUS_TOO_NEW,
                       "the trace's version %u is newer than this program (%d)", version, VERSION);
    if (version < VERSION) {
        *h = (struct header){.steps = bytes_get_u64(p + 16),
                             .marks = bytes_get_u64(p + 24),
                             .after = p + 32,
                             .bytes = HEADER_BYTES_V1};
    } else if (len < HEADER_BYTES) {
        return broken(err, "it is shorter than its header");
    } else {
        *h = (struct header){.first = bytes_get_u64(p + 16),
                             .steps = bytes_get_u64(p + 24),
                             .marks = bytes_get_u64(p + 32),
                             .before = p + 40,
                             .after = p + 72,
                             .bytes = HEADER_BYTES};
    }
    uint64_t most = (uint64_t)TRACE_STEPS_MAX;
    if (h->first > most || h->steps > most - h->first || h->marks > (uint64_t)TRACE_MARKS_MAX ||
        len != h->bytes + h->steps * 4 + h->marks * MARK_BYTES)
        return broken(err, "its length is not what it says");
    return STATUS_OK;
}

static enum status read_marks(struct trace *t, const uint8_t *at, const struct header *h,
                              struct err *err) {
    uint64_t last = h->first;
    for (uint64_t i = 0; i < h->marks; i++, at += MARK_BYTES) {
        struct trace_mark *m = &t->marks[t->mark_count];
        uint64_t step = bytes_get_u64(at);
        if (step <= last || step > h->first + h->steps)
            return broken(err, "its digests are out of order");
        last = step;
        m->step = (int64_t)step;
        memcpy(m->weights.bytes, at + 8, DIGEST_BYTES);
        memcpy(m->state.bytes, at + 8 + DIGEST_BYTES, DIGEST_BYTES);
        t->mark_count++;
    }
    return STATUS_OK;
}

enum status trace_append(struct trace *t, const void *bytes, size_t len, struct err *err) {
    struct header h = {0};
    enum status st = read_header(bytes, len, &h, err);
    if (st != STATUS_OK)
        return st;
    if (h.first != (uint64_t)t->count ||
        (h.before != NULL && memcmp(h.before, t->chain.bytes, DIGEST_BYTES) != 0))
        return broken(err, "a chunk does not continue the one before it");
    st = reserve(t, held(t) + (int64_t)h.steps, t->mark_count + (int64_t)h.marks, err);
    const uint8_t *at = (const uint8_t *)bytes + h.bytes;
    for (uint64_t i = 0; st == STATUS_OK && i < h.steps; i++, at += 4)
        st = trace_add(t, bytes_get_u32(at), err);
    if (st != STATUS_OK)
        return st;
    if (memcmp(t->chain.bytes, h.after, DIGEST_BYTES) != 0)
        return broken(err, "its hash chain is broken");
    return read_marks(t, at, &h, err);
}
