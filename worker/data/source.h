/* The bytes of a data file in order, plain or gzip. source.c is the only file that includes zlib.h.
 *
 *     file ──▶ (inflate) ──▶ source_read: a header, its elements ──▶ source_end: nothing follows
 *
 * Threading: one thread. Lifetime: the path is copied, the pump must outlive the source. */
#ifndef WORKER_DATA_SOURCE_H
#define WORKER_DATA_SOURCE_H

#include <stdint.h>

#include "core/status.h"
#include "worker/data/pump.h"

#define SOURCE_BYTES_MAX ((size_t)256 << 30) /* decoded bytes of one file */

struct source;
enum status source_open(const char *path, const struct pump *pump, struct source **out,
                        struct err *err) MUST_USE;
void source_close(struct source **s);

/* Fills all of `bytes`, or fails: CORRUPT names the offset where the file ended. */
enum status source_read(struct source *s, void *bytes, size_t len, struct err *err) MUST_USE;

/* Checks that nothing follows (and with gzip that length and CRC are right). */
enum status source_end(struct source *s, struct err *err) MUST_USE;

/* All that is left, NUL-terminated; free it. */
enum status source_rest(struct source *s, char **text, size_t *len, struct err *err) MUST_USE;

/* No more decoded bytes than this can follow: a lying header must not make us allocate. */
size_t source_bound(const struct source *s);
const char *source_path(const struct source *s);
int64_t source_size(const struct source *s); /* of the file on disk */

#endif
