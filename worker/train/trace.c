/* The trace: kept, written and read. */
#include "worker/train/trace.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define MAGIC        "TRITRACE"
#define VERSION      1
#define HEADER_BYTES 64
#define MARK_BYTES   72
#define RESERVE_MAX  (INT64_C(1) << 22)

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

static void link_step(struct trace *t, int64_t step, uint32_t bits) {
    uint8_t link[12];
    bytes_put_u64(link, (uint64_t)step);
    bytes_put_u32(link + 8, bits);
    hash_reset(t->hash);
    hash_add(t->hash, t->chain.bytes, sizeof t->chain.bytes);
    hash_add(t->hash, link, sizeof link);
    hash_end(t->hash, &t->chain);
}

enum status trace_add(struct trace *t, uint32_t bits, struct err *err) {
    enum status st = reserve(t, t->count + 1, t->mark_count, err);
    if (st != STATUS_OK)
        return st;
    t->bits[t->count++] = bits;
    link_step(t, t->count, bits);
    return STATUS_OK;
}

enum status trace_mark(struct trace *t, const struct digest *weights, const struct digest *state,
                       struct err *err) {
    if (t->mark_count > 0 && t->marks[t->mark_count - 1].step == t->count)
        return STATUS_OK; /* taken already */
    enum status st = reserve(t, t->count, t->mark_count + 1, err);
    if (st != STATUS_OK)
        return st;
    t->marks[t->mark_count++] =
        (struct trace_mark){.step = t->count, .weights = *weights, .state = *state};
    return STATUS_OK;
}

void trace_write(const struct trace *t, struct buf *out) {
    buf_add(out, MAGIC, 8);
    buf_add_u32(out, VERSION);
    buf_add_u32(out, 0);
    buf_add_u64(out, (uint64_t)t->count);
    buf_add_u64(out, (uint64_t)t->mark_count);
    buf_add(out, t->chain.bytes, DIGEST_BYTES);
    for (int64_t i = 0; i < t->count; i++)
        buf_add_u32(out, t->bits[i]);
    for (int64_t i = 0; i < t->mark_count; i++) {
        buf_add_u64(out, (uint64_t)t->marks[i].step);
        buf_add(out, t->marks[i].weights.bytes, DIGEST_BYTES);
        buf_add(out, t->marks[i].state.bytes, DIGEST_BYTES);
    }
}

static enum status broken(struct err *err, const char *why) {
    return err_set(err, STATUS_CORRUPT, "trace.bin: %s", why);
}

enum status trace_read(struct trace *t, const void *bytes, size_t len, struct err *err) {
    const uint8_t *p = bytes;
    if (len < HEADER_BYTES || memcmp(p, MAGIC, 8) != 0)
        return broken(err, "not a trace");
    if (bytes_get_u32(p + 8) > VERSION)
        return err_set(err, STATUS_TOO_NEW, "trace.bin: version %u is newer than this program (%d)",
                       bytes_get_u32(p + 8), VERSION);
    uint64_t steps = bytes_get_u64(p + 16), marks = bytes_get_u64(p + 24);
    if (steps > (uint64_t)TRACE_STEPS_MAX || marks > (uint64_t)TRACE_MARKS_MAX ||
        len != HEADER_BYTES + steps * 4 + marks * MARK_BYTES)
        return broken(err, "its length is not what it says");
    t->count = t->mark_count = 0;
    memset(&t->chain, 0, sizeof t->chain);
    enum status st = reserve(t, (int64_t)steps, (int64_t)marks, err);
    const uint8_t *at = p + HEADER_BYTES;
    for (uint64_t i = 0; st == STATUS_OK && i < steps; i++, at += 4)
        st = trace_add(t, bytes_get_u32(at), err);
    if (st != STATUS_OK)
        return st;
    if (memcmp(t->chain.bytes, p + 32, DIGEST_BYTES) != 0)
        return broken(err, "its hash chain is broken");
    int64_t last = 0;
    for (uint64_t i = 0; i < marks; i++, at += MARK_BYTES) {
        struct trace_mark *m = &t->marks[i];
        uint64_t step = bytes_get_u64(at);
        if (step <= (uint64_t)last || step > steps)
            return broken(err, "its digests are out of order");
        last = m->step = (int64_t)step;
        memcpy(m->weights.bytes, at + 8, DIGEST_BYTES);
        memcpy(m->state.bytes, at + 8 + DIGEST_BYTES, DIGEST_BYTES);
    }
    t->mark_count = (int64_t)marks;
    return STATUS_OK;
}
