/* Points of one series, packed: a chunk of at most CHUNK_BYTES_MAX bytes, so that two lie on a
 * page.
 *
 *      0 u8  codec        0 raw, 1 delta, 2 delta packed by zstd
 *      1 u8  0
 *      2 u16 count
 *      4 u16 place of the least value in the chunk, 0xffff: every value is NaN
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
 *         n zeros is 0 followed by n − 1. values: exclusive or with the one before, as Gorilla
 * packs it (Pelkonen et al., VLDB 2015, 4.1.2), most significant bit first.
 *
 * Values come back with the bits they had: NaN payloads, −0 and denormals too. Pure; any thread. */
#ifndef TRACKER_SERIES_CODEC_H
#define TRACKER_SERIES_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "tracker/map/kv.h"

#define CHUNK_BYTES_MAX  4080 /* a page without LMDB's header */
#define CHUNK_SHARED_MAX 1990 /* with its key of 35 bytes just under KV_NODE_MAX */
#define CHUNK_POINTS_MAX 4096
#define CHUNK_HEADER     52
#define CHUNK_NONE       0xffffu

/* Columns, as on the wire. */
struct points {
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

/* Packs as many of the n points as one chunk takes, from the first on: *taken (≥ 1). What was taken
 * of n points is taken of the same points with more behind them, too. `first` goes into the header.
 */
void chunk_encode(const struct points *p, size_t n, uint64_t first, size_t *taken,
                  uint8_t out[CHUNK_BYTES_MAX], size_t *len);

/* A full chunk once more by zstd, where it gets so small that it can share a leaf. */
void chunk_seal(uint8_t chunk[CHUNK_BYTES_MAX], size_t *len);

/* The header alone; CORRUPT where it cannot be one. */
enum status chunk_info(struct slice chunk, struct chunk_info *out, struct err *err) MUST_USE;

/* All of it, the sum checked. */
enum status chunk_decode(struct slice chunk, struct chunk_info *info, struct points *out,
                         struct err *err) MUST_USE;

#endif
