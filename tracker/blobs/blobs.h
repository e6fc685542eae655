/* Where the bytes of artifacts lie: chunks in the blobs environment, or one file a digest in a
 * directory (store_options.artifact_dir).
 *
 *     blobs:  digest 32 │ chunk, be64 ──▶ STORE_CHUNK bytes (the last of a blob may be shorter)
 *     files:  DIR/ab/abcdef…                    whole and verified, its name its digest
 *             DIR/ab/abcdef….part               while it comes in
 *
 * A directory belongs to one store. Chunks are written inside a group and become durable with
 * blob_sync, before the meta environment refers to them; bytes are removed only after the meta
 * environment, durably, does not refer to them any more.
 *
 * Threading: writing functions on the writer's thread; blob_read from any, with its own snapshot.
 */
#ifndef TRACKER_BLOBS_BLOBS_H
#define TRACKER_BLOBS_BLOBS_H

#include "core/hash.h"
#include "tracker/ops/store_impl.h"

enum blob_place { BLOB_IN_LMDB = 0, BLOB_IN_FILE = 1 };

/* Writes chunk number `chunk`, over what stood there. */
enum status blob_write(struct store *s, const struct digest *d, uint64_t chunk, const void *bytes,
                       size_t len, struct err *err) MUST_USE;

/* Makes what was written in this group durable: before the commit of the meta environment. */
enum status blob_sync(struct store *s, struct err *err) MUST_USE;
void blob_abort(struct store *s);

/* The whole was verified: its file gets its name. Nothing to do in LMDB. */
enum status blob_finish(struct store *s, const struct digest *d, struct err *err) MUST_USE;

/* Whether the first `bytes` bytes are still there: a file may have been removed by somebody. */
bool blob_present(struct store *s, enum blob_place place, const struct digest *d, bool complete,
                  uint64_t bytes);

/* One chunk's bytes in `out` (replaced). With `in_group` (the writer's thread, an upload) what
 * the group wrote itself is seen. NOT_FOUND where they are not there; UNAVAILABLE where they lie in
 * a directory that this store was not opened with. */
struct blob_reader {
    struct store *s;
    struct kv_txn snapshot; /* private */
    struct kv_txn *txn;     /* private */
    int fd;                 /* private */
};
enum status blob_reader_open(struct store *s, bool in_group, enum blob_place place,
                             const struct digest *d, struct blob_reader *r,
                             struct err *err) MUST_USE;
enum status blob_read(struct blob_reader *r, const struct digest *d, uint64_t chunk, size_t len,
                      struct buf *out, struct err *err) MUST_USE;
void blob_reader_close(struct blob_reader *r);

/* Removes a blob's bytes, whole or in the making. Not within a group. */
enum status blob_remove(struct store *s, enum blob_place place, const struct digest *d,
                        struct err *err) MUST_USE;

/* The first digest at or behind *d that has chunks in LMDB; *found false at the end. Not within a
 * group. */
enum status blob_next(struct store *s, struct digest *d, bool *found, struct err *err) MUST_USE;

#endif
