/* Points of one series, packed: a chunk of at most CHUNK_BYTES_MAX bytes, so that it fits one page.
 *
 *      0 u8  codec        0 raw, 1 delta, 2 delta packed by zstd
 *      1 u8  0
 *      2 u16 count
 *      4 u16 place of the least value in the chunk; 0xffff: every value is NaN
 *      6 u16 place of the greatest
 *      8 u64 first        number of the chunk's first point within the series
 *     16 i64 least step
 *     24 i64 greatest step
 *     32 f64 least value  NaN left out
 *     40 f64 greatest value
 *     48 u32 sum          over everything else (chunk_sum)
 *     52     payload
 *
 * raw:    count × i64 step │ count × i64 time_ns │ count × f64 value
 * delta:  u16 bytes of steps │ u16 bytes of times │ steps │ times │ values
 *         steps, times: second differences (mod 2^64), zigzag, base 128, low group first; a run of
 *         n zeros is 0 followed by n − 1.
 *         values: exclusive or with the one before, as Gorilla packs it (Pelkonen et al., VLDB
 *         2015, 4.1.2), most significant bit first.
 *
 * Values come back with the bits they had: NaN payloads, −0 and denormals too. Pure; any thread. */
#ifndef TRACKER_SERIES_CODEC_H
#define TRACKER_SERIES_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "tracker/map/kv.h"

#define CHUNK_BYTES_MAX  4080 /* a page less LMDB's header */
#define CHUNK_SHARED_MAX 1990 /* with its key of 35 bytes just under KV_NODE_MAX */
#define CHUNK_POINTS_MAX 4096
#define CHUNK_HEADER     52
#define CHUNK_NONE       0xffffu

/* Columns. */
struct points {
    size_t count;
    int64_t step[CHUNK_POINTS_MAX];
    int64_t time_ns[CHUNK_POINTS_MAX];
    uint64_t bits[CHUNK_POINTS_MAX]; /* of the value */
};

struct chunk_info {
    size_t count;
    uint32_t min_at, max_at; /* CHUNK_NONE: no number among the values */
    uint64_t first;
    int64_t step_min, step_max;
    double min, max;
};

struct chunk {
    size_t len;
    uint8_t bytes[CHUNK_BYTES_MAX];
};

/* Packs as many of the points as one chunk takes, from the first on, and returns how many (≥ 1).
 * Points that do not fit do not change how many do. `first` goes into the header. */
size_t codec_encode(const struct points *p, uint64_t first, struct chunk *out);

/* Packs a full chunk once more by zstd, where that makes it small enough to share a leaf. */
void codec_seal(struct chunk *chunk);

/* Reads the header alone; CORRUPT where it is not one. */
enum status codec_info(struct kv_bytes chunk, struct chunk_info *out, struct err *err) MUST_USE;

/* Unpacks all of it and checks the sum. */
enum status codec_decode(struct kv_bytes chunk, struct chunk_info *info, struct points *out,
                         struct err *err) MUST_USE;

#endif
