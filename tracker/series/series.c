/* Series: found, appended to. */
#include "tracker/series/series.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"

enum {
    AT_ID = 0,
    AT_CHUNKS = 4,
    AT_COUNT = 8,
    AT_LAST = 16,
    AT_LAST_STEP = 24,
    AT_LAST_TIME = 32,
    AT_MIN = 40,
    AT_MAX = 48,
    RECORD_BYTES = 56,
};

static struct key record_key(const struct series_name *name) {
    struct key k = key_id(KEY_SERIES, name->run);
    key_add_be16(&k, (uint16_t)name->rank);
    key_add(&k, name->metric, strlen(name->metric));
    return k;
}

static struct key chunk_key(const struct series *s, uint32_t chunk) {
    struct key k = key_id(KEY_CHUNK, s->run);
    key_add_be32(&k, s->id);
    key_add_be32(&k, chunk);
    return k;
}

enum status series_decode(struct kv_bytes record, const char *run, struct series *out,
                          struct err *err) {
    const uint8_t *b = record.data;
    if (record.len != RECORD_BYTES)
        return err_set(err, STATUS_CORRUPT,
                       "the record of a metric of run %s is damaged; restore a backup", run);
    key_fold_id(run, out->run);
    out->id = bytes_get_u32(b + AT_ID);
    out->chunks = bytes_get_u32(b + AT_CHUNKS);
    out->count = bytes_get_u64(b + AT_COUNT);
    out->last = bytes_get_f64(b + AT_LAST);
    out->last_step = (int64_t)bytes_get_u64(b + AT_LAST_STEP);
    out->last_time_ns = (int64_t)bytes_get_u64(b + AT_LAST_TIME);
    out->min = bytes_get_f64(b + AT_MIN);
    out->max = bytes_get_f64(b + AT_MAX);
    return STATUS_OK;
}

static enum status put_record(struct kv_txn *t, const struct key *k, const struct series *s,
                              struct err *err) {
    uint8_t b[RECORD_BYTES];
    bytes_put_u32(b + AT_ID, s->id);
    bytes_put_u32(b + AT_CHUNKS, s->chunks);
    bytes_put_u64(b + AT_COUNT, s->count);
    bytes_put_f64(b + AT_LAST, s->last);
    bytes_put_u64(b + AT_LAST_STEP, (uint64_t)s->last_step);
    bytes_put_u64(b + AT_LAST_TIME, (uint64_t)s->last_time_ns);
    bytes_put_f64(b + AT_MIN, s->min);
    bytes_put_f64(b + AT_MAX, s->max);
    return kv_put(t, key_bytes(k), (struct kv_bytes){b, sizeof b}, err);
}

enum status series_find(struct kv_txn *t, const struct series_name *name, struct series *out,
                        bool *found, struct err *err) {
    struct key k = record_key(name);
    struct kv_bytes v;
    *out = (struct series){.min = (double)NAN, .max = (double)NAN};
    key_fold_id(name->run, out->run);
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    *found = v.data != NULL;
    return st == STATUS_OK && *found ? series_decode(v, name->run, out, err) : st;
}

static enum status new_id(struct kv_txn *t, struct series *s, struct err *err) {
    struct key k = key_id(KEY_SERIES_NEXT, s->run);
    struct kv_bytes v;
    uint8_t next[4];
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    if (st != STATUS_OK)
        return st;
    s->id = v.data != NULL && v.len == 4 ? bytes_get_u32(v.data) : 0;
    if (s->id == UINT32_MAX)
        return err_set(err, STATUS_TOO_LARGE, "run %s has too many metrics; use another run",
                       s->run);
    bytes_put_u32(next, s->id + 1);
    return kv_put(t, key_bytes(&k), (struct kv_bytes){next, sizeof next}, err);
}

static enum status in_chunk(const struct series *s, uint32_t chunk, enum status st,
                            struct err *err) {
    return st == STATUS_OK ? st
                           : err_wrap(err, st, "run %s, series %u, chunk %u", s->run, s->id, chunk);
}

enum status series_chunk_info(struct kv_txn *t, const struct series *s, uint32_t chunk,
                              struct chunk_info *info, struct err *err) {
    struct key k = chunk_key(s, chunk);
    struct kv_bytes v;
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    if (st == STATUS_OK)
        st = codec_info(v, info, err);
    return in_chunk(s, chunk, st, err);
}

enum status series_chunk(struct kv_txn *t, const struct series *s, uint32_t chunk,
                         struct points *out, struct err *err) {
    struct key k = chunk_key(s, chunk);
    struct chunk_info info;
    struct kv_bytes v;
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    if (st == STATUS_OK)
        st = codec_decode(v, &info, out, err);
    return in_chunk(s, chunk, st, err);
}

/* Fills `work` up with columns from number `from` on; returns how many went in. */
static size_t fill(struct points *work, const struct columns *c, size_t from) {
    size_t room = CHUNK_POINTS_MAX - work->count, left = c->count - from;
    size_t take = left < room ? left : room;
    for (size_t i = 0; i < take; i++, work->count++) {
        work->step[work->count] = (int64_t)bytes_get_u64(c->steps + 8 * (from + i));
        work->time_ns[work->count] = (int64_t)bytes_get_u64(c->times + 8 * (from + i));
        work->bits[work->count] = bytes_get_u64(c->values + 8 * (from + i));
    }
    return take;
}

static void drop_first(struct points *work, size_t n) {
    work->count -= n;
    memmove(work->step, work->step + n, work->count * sizeof work->step[0]);
    memmove(work->time_ns, work->time_ns + n, work->count * sizeof work->time_ns[0]);
    memmove(work->bits, work->bits + n, work->count * sizeof work->bits[0]);
}

static void summarise(struct series *s, const struct columns *c) {
    size_t n = c->count;
    for (size_t i = 0; i < n; i++) {
        double v = bytes_get_f64(c->values + 8 * i);
        if (isnan(v))
            continue;
        if (isnan(s->min) || v < s->min)
            s->min = v;
        if (isnan(s->max) || v > s->max)
            s->max = v;
    }
    s->last = bytes_get_f64(c->values + 8 * (n - 1));
    s->last_step = (int64_t)bytes_get_u64(c->steps + 8 * (n - 1));
    s->last_time_ns = (int64_t)bytes_get_u64(c->times + 8 * (n - 1));
    s->count += n;
}

/* Writes full chunks, sealed, and the rest as the open one, whose points are in `work`. */
static enum status write_chunks(struct kv_txn *t, struct series *s, const struct columns *c,
                                struct points *work, struct err *err) {
    struct chunk out;
    size_t from = 0;
    uint64_t first = s->count - work->count;
    uint32_t chunk = s->chunks == 0 ? 0 : s->chunks - 1;
    enum status st = STATUS_OK;
    do {
        from += fill(work, c, from);
        size_t taken = codec_encode(work, first, &out);
        bool full = taken < work->count || from < c->count;
        if (full)
            codec_seal(&out);
        struct key k = chunk_key(s, chunk);
        TRY(kv_put(t, key_bytes(&k), (struct kv_bytes){out.bytes, out.len}, err));
        s->chunks = chunk + 1;
        drop_first(work, taken);
        first += taken;
        if (chunk == UINT32_MAX - 1)
            TRY(err_set(err, STATUS_TOO_LARGE,
                        "a metric of run %s has too many points; log it under another name",
                        s->run));
        chunk++;
    } while (work->count > 0 || from < c->count);
out:
    return st;
}

enum status series_append(struct kv_txn *t, const struct series_name *name, const struct columns *c,
                          struct points *work, struct err *err) {
    struct series s;
    bool found;
    enum status st = STATUS_OK;
    assert(c->count > 0);
    work->count = 0;
    TRY(series_find(t, name, &s, &found, err));
    if (!found)
        TRY(new_id(t, &s, err));
    else
        TRY(series_chunk(t, &s, s.chunks - 1, work, err));
    TRY(write_chunks(t, &s, c, work, err));
    summarise(&s, c);
    struct key k = record_key(name);
    TRY(put_record(t, &k, &s, err));
out:
    return st;
}
