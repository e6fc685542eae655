/* The record of a blob: what the meta environment knows of an artifact's bytes, by their digest.
 *
 *     'b' │ digest         ──▶ u8 place │ u8 complete │ u64 size │ u64 received │ u64 references │
 *                              i64 touched_ns
 *     'k' │ digest │ chunk, be64 ──▶ SHA-256 of the chunk
 *
 * A blob grows chunk by chunk, in order (received), is complete once its whole digest was checked,
 * and is kept while paths refer to it (references).
 *
 * Threading: as the transaction. */
#ifndef TRACKER_BLOBS_RECORD_H
#define TRACKER_BLOBS_RECORD_H

#include "tracker/map/keys.h"

enum blob_place { BLOB_IN_LMDB = 0, BLOB_IN_FILE = 1 };

struct blob_record {
    enum blob_place place;
    bool complete;
    uint64_t size, received, references;
    int64_t touched_ns; /* last begun, last chunk or last committed */
};

/* *found false where there is none. */
enum status blob_record_load(struct kv_txn *t, const struct digest *d, struct blob_record *out,
                             bool *found, struct err *err) MUST_USE;
enum status blob_record_decode(struct kv_bytes record, struct blob_record *out,
                               struct err *err) MUST_USE;
enum status blob_record_store(struct kv_txn *t, const struct digest *d, const struct blob_record *b,
                              struct err *err) MUST_USE;

/* Removes the record and the digests of its chunks; the bytes are the caller's to remove. */
enum status blob_record_forget(struct kv_txn *t, const struct digest *d, struct err *err) MUST_USE;

/* Bytes of chunk number `chunk`. */
size_t blob_record_chunk(const struct blob_record *b, uint64_t chunk);

#endif
