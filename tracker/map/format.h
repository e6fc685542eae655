/* The format record: the first thing that is written to a store and the first that is read.
 *
 *     'F' ──▶ "TRIREME\0" │ u32 version │ i64 created_ns │ u32 chunk bytes │ 26 store id │ role
 *
 * Both environments hold one with the same store id ('m' and 'b' for role), so that halves of two
 * backups are not taken for one store. An older format is migrated, step by step, in one
 * transaction; a newer one is refused. Format 2 gave each record a head (seal.h). */
#ifndef TRACKER_MAP_FORMAT_H
#define TRACKER_MAP_FORMAT_H

#include "core/clock.h"
#include "tracker/map/kv.h"

#define STORE_FORMAT 2
#define STORE_CHUNK  ((size_t)(1 << 20) - 16) /* bytes: whole pages with LMDB's page header */

struct format_halves {
    struct kv *meta, *blobs;
    const struct clock *clock;
};

/* Reads the records of both halves, or writes them to a new store; migrates. `dir` is for messages.
 * TOO_NEW; CORRUPT for another program's map, a damaged record, halves of two stores. */
enum status format_check(const struct format_halves *halves, const char *dir,
                         struct err *err) MUST_USE;

#endif
