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

static struct key record_key(const char *run, unsigned rank, const char *name) {
    struct key k = key_id(KEY_SERIES, run);
    key_add_be16(&k, (uint16_t)rank);
    key_add(&k, name, strlen(name));
    return k;
}

static struct key chunk_key(const struct series *s, uint32_t chunk) {
    struct key k = key_id(KEY_CHUNK, s->run);
    key_add_be32(&k, s->id);
    key_add_be32(&k, chunk);
    return k;
}

enum status series_decode(struct slice record, const char *run, struct series *out,
                          struct err *err) {
    const uint8_t *b = record.data;
    if (record.len != RECORD_BYTES)
        return err_set(err, STATUS_CORRUPT, "the record of a metric of run %s is damaged", run);
    id_fold(run, out->run);
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
    return kv_put(t, key_slice(k), (struct slice){b, sizeof b}, err);
}

enum status series_find(struct kv_txn *t, const char *run, unsigned rank, const char *name,
                        struct series *out, bool *found, struct err *err) {
    struct key k = record_key(run, rank, name);
    struct slice v;
    *out = (struct series){.min = (double)NAN, .max = (double)NAN};
    id_fold(run, out->run);
    enum status st = kv_get(t, key_slice(&k), &v, err);
    *found = v.data != NULL;
    return st == STATUS_OK && *found ? series_decode(v, run, out, err) : st;
}

static enum status new_id(struct kv_txn *t, struct series *s, struct err *err) {
    struct key k = key_id(KEY_SERIES_NEXT, s->run);
    struct slice v;
    uint8_t next[4];
    enum status st = kv_get(t, key_slice(&k), &v, err);
    if (st != STATUS_OK)
        return st;
    s->id = v.data != NULL && v.len == 4 ? bytes_get_u32(v.data) : 0;
    if (s->id == UINT32_MAX)
        return err_set(err, STATUS_TOO_LARGE, "run %s has too many metrics", s->run);
    bytes_put_u32(next, s->id + 1);
    return kv_put(t, key_slice(&k), (struct slice){next, sizeof next}, err);
}

enum status series_chunk(struct kv_txn *t, const struct series *s, uint32_t chunk,
                         struct chunk_info *info, struct points *out, struct err *err) {
    struct key k = chunk_key(s, chunk);
    struct slice v;
    enum status st = kv_get(t, key_slice(&k), &v, err);
    if (st == STATUS_OK)
        st = out != NULL ? chunk_decode(v, info, out, err) : chunk_info(v, info, err);
    return st == STATUS_OK ? st
                           : err_wrap(err, st, "run %s, series %u, chunk %u", s->run, s->id, chunk);
}

/* Fills `work` from `have` points on; returns how many of n went in. */
static size_t fill(struct points *work, size_t have, struct columns c, size_t from, size_t n) {
    size_t room = CHUNK_POINTS_MAX - have, take = n - from < room ? n - from : room;
    for (size_t i = 0; i < take; i++) {
        work->step[have + i] = (int64_t)bytes_get_u64(c.steps + 8 * (from + i));
        work->time_ns[have + i] = (int64_t)bytes_get_u64(c.times + 8 * (from + i));
        work->bits[have + i] = bytes_get_u64(c.values + 8 * (from + i));
    }
    return take;
}

static void drop_first(struct points *work, size_t n, size_t have) {
    size_t rest = have - n;
    memmove(work->step, work->step + n, rest * sizeof work->step[0]);
    memmove(work->time_ns, work->time_ns + n, rest * sizeof work->time_ns[0]);
    memmove(work->bits, work->bits + n, rest * sizeof work->bits[0]);
}

static void summarise(struct series *s, struct columns c, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = bytes_get_f64(c.values + 8 * i);
        if (isnan(v))
            continue;
        if (isnan(s->min) || v < s->min)
            s->min = v;
        if (isnan(s->max) || v > s->max)
            s->max = v;
    }
    s->last = bytes_get_f64(c.values + 8 * (n - 1));
    s->last_step = (int64_t)bytes_get_u64(c.steps + 8 * (n - 1));
    s->last_time_ns = (int64_t)bytes_get_u64(c.times + 8 * (n - 1));
    s->count += n;
}

/* Writes full chunks, sealed, and the rest as the open one. */
static enum status write_chunks(struct kv_txn *t, struct series *s, struct columns c, size_t n,
                                struct points *work, size_t have, struct err *err) {
    uint8_t out[CHUNK_BYTES_MAX];
    size_t from = 0, taken, len;
    uint64_t first = s->count - have;
    uint32_t chunk = s->chunks == 0 ? 0 : s->chunks - 1;
    enum status st = STATUS_OK;
    do {
        size_t got = fill(work, have, c, from, n);
        from += got;
        have += got;
        chunk_encode(work, have, first, &taken, out, &len);
        bool full = taken < have || from < n;
        if (full)
            chunk_seal(out, &len);
        struct key k = chunk_key(s, chunk);
        TRY(kv_put(t, key_slice(&k), (struct slice){out, len}, err));
        s->chunks = chunk + 1;
        if (taken < have)
            drop_first(work, taken, have);
        have -= taken;
        first += taken;
        if (chunk == UINT32_MAX - 1)
            TRY(err_set(err, STATUS_TOO_LARGE, "a metric of run %s is too long", s->run));
        chunk++;
    } while (have > 0 || from < n);
out:
    return st;
}

enum status series_append(struct kv_txn *t, const char *run, unsigned rank, const char *name,
                          struct columns c, size_t n, struct points *work, struct err *err) {
    struct series s;
    struct chunk_info info = {0};
    bool found;
    enum status st = STATUS_OK;
    assert(n > 0);
    TRY(series_find(t, run, rank, name, &s, &found, err));
    if (!found)
        TRY(new_id(t, &s, err));
    else
        TRY(series_chunk(t, &s, s.chunks - 1, &info, work, err));
    TRY(write_chunks(t, &s, c, n, work, info.count, err));
    summarise(&s, c, n);
    struct key k = record_key(run, rank, name);
    TRY(put_record(t, &k, &s, err));
out:
    return st;
}
