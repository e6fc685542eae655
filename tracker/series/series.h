/* A series: the points of one metric that one rank of one run wrote, in the order of writing.
 *
 *     'm' │ run │ rank, be16 │ name   ──▶ the series' record
 *     'n' │ run                       ──▶ u32 number of the run's next series
 *     'c' │ run │ series, be32 │ chunk, be32 ──▶ a chunk (codec.h); the last one is open: it is
 *                                                rewritten until it is full, then sealed
 *
 *     record:  u32 series │ u32 chunks │ u64 count │ f64 last │ i64 last step │ i64 last time │
 *              f64 least │ f64 greatest       (of all but NaN; NaN where there is nothing else)
 *
 * Threading: as the transaction. */
#ifndef TRACKER_SERIES_SERIES_H
#define TRACKER_SERIES_SERIES_H

#include "core/buf.h"
#include "tracker/map/keys.h"
#include "tracker/series/codec.h"

struct series {
    char run[ULID_TEXT];
    uint32_t id, chunks;
    uint64_t count;
    double last;
    int64_t last_step, last_time_ns;
    double min, max;
};

/* Which series. */
struct series_name {
    const char *run;
    unsigned rank;
    const char *metric;
};

/* `count` points as they are in a request: little-endian, not aligned. */
struct columns {
    size_t count;
    const uint8_t *steps, *times, *values;
};

/* *found false: there is no such series, and *out is a new one without an id. */
enum status series_find(struct kv_txn *t, const struct series_name *name, struct series *out,
                        bool *found, struct err *err) MUST_USE;
enum status series_decode(struct kv_bytes record, const char *run, struct series *out,
                          struct err *err) MUST_USE;

/* Appends one point or more; creates the series where it is new. `work` is the caller's. */
enum status series_append(struct kv_txn *t, const struct series_name *name, const struct columns *c,
                          struct points *work, struct err *err) MUST_USE;

/* A chunk's header; all of it, its sum checked. */
enum status series_chunk_info(struct kv_txn *t, const struct series *s, uint32_t chunk,
                              struct chunk_info *info, struct err *err) MUST_USE;
enum status series_chunk(struct kv_txn *t, const struct series *s, uint32_t chunk,
                         struct points *out, struct err *err) MUST_USE;

/* What a plot asks for. */
struct series_query {
    int64_t after_step; /* only later ones; INT64_MIN: all */
    size_t points;      /* at most so many */
};

/* thin.c: appends to `out` the points that match, as three columns one after the other; where they
 * are more than asked for, the first, the last, and of each stretch between them the least and the
 * greatest in their order; of a stretch of NaN its first. */
enum status series_read(struct kv_txn *t, const struct series *s, struct series_query query,
                        struct buf *out, struct err *err) MUST_USE;

#endif
