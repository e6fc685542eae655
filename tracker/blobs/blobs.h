/* Where the bytes of artifacts are: chunks in the blobs environment, or one file per digest in a
 * directory (store_options.artifact_dir).
 *
 *     blobs:  digest 32 │ chunk, be64 ──▶ STORE_CHUNK bytes (the last of a blob may be shorter)
 *     files:  DIR/ab/abcdef…                    whole and verified, its name its digest
 *             DIR/ab/abcdef….part               while it comes in
 *
 * A directory belongs to one store. Chunks are written between the meta environment's begin and
 * commit, and become durable with blobs_sync, before the meta environment refers to them; bytes are
 * removed only after the meta environment, durably, does not refer to them any more.
 *
 * Threading: what writes on the writer's thread; readers on any, each with its own snapshot. */
#ifndef TRACKER_BLOBS_BLOBS_H
#define TRACKER_BLOBS_BLOBS_H

#include "core/buf.h"
#include "tracker/blobs/record.h"

struct blobs {
    struct kv *kv;
    char *dir;         /* NULL: bytes go to `kv` */
    struct kv_txn txn; /* of `kv`: begun by the first chunk, ended by blobs_sync or blobs_abort */
};

/* `kv` stays the caller's. `dir` NULL: no directory; otherwise it is created when missing. */
enum status blobs_init(struct blobs *b, struct kv *kv, const char *dir, struct err *err) MUST_USE;
void blobs_release(struct blobs *b);

/* Where new bytes go. */
enum blob_place blobs_place(const struct blobs *b);

/* Whether bytes in this place can be reached: a store may be opened without its directory. */
bool blobs_reach(const struct blobs *b, enum blob_place place);

/* Which chunk of which blob. */
struct blob_chunk {
    const struct digest *digest;
    uint64_t number;
};

/* Writes the chunk, replacing what was there. */
enum status blobs_write(struct blobs *b, struct blob_chunk chunk, struct kv_bytes bytes,
                        struct err *err) MUST_USE;

/* Makes what was written durable: before the commit of the meta environment. */
enum status blobs_sync(struct blobs *b, struct err *err) MUST_USE;
void blobs_abort(struct blobs *b);

/* The whole was verified: its file gets its name. Nothing to do in LMDB. */
enum status blobs_finish(struct blobs *b, const struct digest *d, struct err *err) MUST_USE;

/* Whether the bytes that the record counts are still there: somebody may have removed a file. */
bool blobs_present(const struct blobs *b, const struct digest *d, const struct blob_record *r);

/* Reads one blob's chunks. The first four fields are the caller's to set, the others zero. An
 * `upload` (the writer's thread, a blob in the making) sees what was written since the last
 * blobs_sync. NOT_FOUND where the bytes are not there; UNAVAILABLE where they are in a directory
 * that this store was not opened with. */
struct blob_reader {
    struct blobs *blobs;
    const struct digest *digest;
    enum blob_place place;
    bool upload;
    bool is_file;           /* private: fd is open */
    int fd;                 /* private */
    struct kv_txn snapshot; /* private */
    struct kv_txn *txn;     /* private */
};
enum status blob_reader_open(struct blob_reader *r, struct err *err) MUST_USE;

/* One chunk of `len` bytes, into `out` (replaced). */
enum status blob_reader_read(struct blob_reader *r, uint64_t chunk, size_t len, struct buf *out,
                             struct err *err) MUST_USE;
void blob_reader_close(struct blob_reader *r); /* idempotent; also where it was never opened */

/* Removes a blob's bytes, whole or in the making. Not between a write and its sync. */
enum status blobs_remove(struct blobs *b, enum blob_place place, const struct digest *d,
                         struct err *err) MUST_USE;

/* The first digest at or after *d that has chunks in LMDB; *found false at the end. Not between a
 * write and its sync. */
enum status blobs_next(struct blobs *b, struct digest *d, bool *found, struct err *err) MUST_USE;

#endif
