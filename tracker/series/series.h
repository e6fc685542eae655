/* A series: the points of one metric that one rank of one run wrote, in the order of writing.
 *
 *     'm' │ run │ rank, be16 │ name   ──▶ the series' record
 *     'n' │ run                       ──▶ u32 number of the run's next series
 *     'c' │ run │ series, be32 │ chunk, be32 ──▶ a chunk (codec.h); the last one is open: it is
 *                                                rewritten until it is full, then sealed
 *
 *     record:  u32 series │ u32 chunks │ u64 count │ f64 last │ i64 last step │ i64 last time │
 *              f64 least │ f64 greatest      (NaN left out of both; NaN where there is nothing
 * else) */
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

/* `columns` point into the request: little-endian, not aligned. */
struct columns {
    const uint8_t *steps, *times, *values;
};

/* *found false: there is no such series, and *out is a new one without an id. */
enum status series_find(struct kv_txn *t, const char *run, unsigned rank, const char *name,
                        struct series *out, bool *found, struct err *err) MUST_USE;
enum status series_decode(struct slice record, const char *run, struct series *out,
                          struct err *err) MUST_USE;

/* Appends n points; makes the series where it is new. `work` is the caller's to reuse. */
enum status series_append(struct kv_txn *t, const char *run, unsigned rank, const char *name,
                          struct columns c, size_t n, struct points *work,
                          struct err *err) MUST_USE;

/* A chunk's header, or all of it. */
enum status series_chunk(struct kv_txn *t, const struct series *s, uint32_t chunk,
                         struct chunk_info *info, struct points *out, struct err *err) MUST_USE;

/* thin.c: at most `points` of the points with a step over `after_step` (INT64_MIN: all), as three
 * columns behind one another in `out`; *count says how many. The first, the last, and of each
 * stretch between them the least and the greatest in their order; of a stretch of NaN its first. */
enum status series_read(struct kv_txn *t, const struct series *s, int64_t after_step, size_t points,
                        struct buf *out, size_t *count, struct err *err) MUST_USE;

#endif
