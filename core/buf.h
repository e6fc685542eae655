/* A growable run of bytes with a maximum.
 *
 * `data` has a NUL after `len` bytes once anything was appended, so that text can be passed on;
 * the bytes may contain NULs. A failed append leaves the buffer as it was and sets
 * `failed`, so that a writer may append many times and ask once at the end (buf_status).
 *
 * Start as BUF_INIT(max) or with buf_init. Not thread-safe. */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct buf {
    char *data;         /* read-only; NULL until something is appended */
    size_t len;         /* read-only */
    size_t cap;         /* private */
    size_t bytes_max;   /* read-only: appends past it fail with TOO_LARGE */
    enum status failed; /* read-only: the first failure, STATUS_OK if none */
};

#define BUF_INIT(max) ((struct buf){.bytes_max = (max)})

void buf_init(struct buf *buf, size_t bytes_max);
void buf_release(struct buf *buf); /* frees; idempotent; keeps bytes_max */
void buf_clear(struct buf *buf);   /* len = 0 and failed = OK; keeps the memory */

void buf_add(struct buf *buf, const void *bytes, size_t len);
void buf_adds(struct buf *buf, const char *text);
void buf_addc(struct buf *buf, char c);
void buf_addf(struct buf *buf, const char *format, ...) PRINTF(2, 3);
void buf_add_u32(struct buf *buf, uint32_t v); /* little-endian */
void buf_add_u64(struct buf *buf, uint64_t v);
void buf_add_f64(struct buf *buf, double v); /* IEEE bits, little-endian */

/* Appends `len` bytes for the caller to fill; NULL on failure. Valid until the next append. */
void *buf_grow(struct buf *buf, size_t len);

/* The text, "" when empty. */
const char *buf_text(const struct buf *buf);

/* STATUS_OK, or the first failure with a message that names `what`. */
enum status buf_status(const struct buf *buf, const char *what, struct err *err) MUST_USE;

#endif
