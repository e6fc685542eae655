/* Artifacts: a path in a run that refers to a blob, which is known by its digest.
 *
 *     'a' │ run │ path │ 0 ──▶ document {digest, size, meta}          the listing
 *     'g' │ run │ path │ 0 ──▶ document {digest, meta, time_ns}       begun, not committed
 *     'b' │ digest         ──▶ u8 place │ u8 complete │ u64 size │ u64 received │ u64 references │
 *                              i64 touched_ns
 *     'k' │ digest │ chunk, be64 ──▶ SHA-256 of the chunk
 *
 *     begin ──▶ chunk… in order ──▶ commit: the whole digest is checked; complete, reference + 1
 *                                      └── wrong: the upload is forgotten, CORRUPT
 *
 * A blob without references is removed by artifact_maintain: complete ones UNREFERENCED_NS after
 * they were last begun, uploads UPLOAD_KEPT_NS after their last chunk.
 *
 * Threading: as the op that calls. */
#ifndef TRACKER_OPS_ARTIFACTS_H
#define TRACKER_OPS_ARTIFACTS_H

#include "tracker/blobs/blobs.h"
#include "tracker/ops/store_impl.h"

#define ARTIFACT_PATH_MAX 480 /* with run and kind it must fit a key */

struct blob {
    enum blob_place place;
    bool complete;
    uint64_t size, received, references;
    int64_t touched_ns; /* last begun, last chunk or last committed */
};

/* The record of a blob; *found false where there is none. */
enum status blob_load(struct kv_txn *t, const struct digest *d, struct blob *out, bool *found,
                      struct err *err) MUST_USE;
enum status blob_decode(struct slice record, struct blob *out, struct err *err) MUST_USE;
enum status blob_store(struct kv_txn *t, const struct digest *d, const struct blob *b,
                       struct err *err) MUST_USE;

/* Removes the record and the digests of its chunks; the bytes are the caller's to remove. */
enum status blob_forget(struct kv_txn *t, const struct digest *d, struct err *err) MUST_USE;

/* Bytes of chunk number `chunk` of a blob of `size` bytes. */
size_t blob_chunk_len(uint64_t size, uint64_t chunk);

/* `kind` is KEY_ARTIFACT or KEY_UPLOAD. */
struct key artifact_key(enum key_kind kind, const char *run, const char *path);

/* Relative, '/' between parts, no empty part, no '.' and no '..': INVALID, TOO_LARGE. */
enum status artifact_path_check(const char *path, struct err *err) MUST_USE;

/* The request's field "digest". */
enum status artifact_digest(const struct op *op, struct digest *out) MUST_USE;

#endif
