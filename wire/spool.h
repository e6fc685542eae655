/* A spool: requests that wait on disk until the server has answered them.
 *
 *     ┌ header, 32 bytes ─────────────┬ record ┬ record ┬ record ┬ record ┐
 *     │ magic, version, start, sum    │answered│ in mem │ unread │ unread │
 *     └───────────────────────────────┴────────┴────────┴────────┴────────┘
 *                                     start ───▶        read ──▶         end
 *
 *     record: u32 body bytes, u64 the first eight bytes of the body's SHA-256, body
 *
 * Integers are little-endian. A tail that breaks off in the middle of a record, or does not match
 * its sum, is cut off when the file is opened. When everything is answered the file shrinks to its
 * header. Appends reach the kernel at once, so that they survive the process; they are fsynced when
 * the spool is closed.
 *
 * Threading: one thread. Lifetime: one open spool per file (BUSY otherwise). */
#ifndef WIRE_SPOOL_H
#define WIRE_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define SPOOL_PREFIX_BYTES ((size_t)12) /* in front of each body */
#define SPOOL_BODY_MAX     ((size_t)512 << 20)

struct spool;

/* Opens or creates. `bytes_max` bounds the file. TOO_NEW, CORRUPT (not a spool), BUSY. */
enum status spool_open(const char *path, uint64_t bytes_max, struct spool **out,
                       struct err *err) MUST_USE;

/* Keeps the file if records are left in it, removes it otherwise. */
void spool_close(struct spool **s);

/* Where a record is; the next one begins at `end`. */
struct spool_place {
    uint64_t begin, end; /* bytes from the start of the file; 0, 0: not in it */
};

/* `record` is SPOOL_PREFIX_BYTES, filled in here, and the body. The record counts as unread. FULL
 * over bytes_max or on a full disk: the file is as it was. */
enum status spool_append(struct spool *s, uint8_t *record, size_t len, struct spool_place *place,
                         struct err *err) MUST_USE;

/* Everything that was appended counts as read: the caller has it in memory. */
void spool_skip(struct spool *s);

uint64_t spool_unread(const struct spool *s); /* records */

/* The whole length of the next unread record, prefix included; 0 when there is none. */
enum status spool_next(struct spool *s, size_t *len, struct err *err) MUST_USE;

/* Reads it into `record`, checks its sum and moves on. */
enum status spool_read(struct spool *s, uint8_t *record, size_t len, struct spool_place *place,
                       struct err *err) MUST_USE;

/* Everything before `begin` is answered; UINT64_MAX: everything that was read. */
enum status spool_forget(struct spool *s, uint64_t begin, struct err *err) MUST_USE;

#endif
