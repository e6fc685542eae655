/* Artifacts: announced, received, committed, deleted. */
#include "tracker/ops/artifacts.h"

#include <string.h>

#include "tracker/ops/ops.h"
#include "tracker/ops/rights.h"
#include "tracker/ops/runs.h"
#include "wire/artifact_path.h"

/* The digest of what was received: from the running hash, or by reading all of it again. */
static enum status received_digest(struct op *op, const struct digest *d,
                                   const struct blob_record *b, struct digest *out) {
    struct buf bytes = BUF_INIT(STORE_CHUNK);
    struct blob_reader r = {.blobs = &op->s->blobs, .digest = d, .place = b->place, .upload = true};
    enum status st = STATUS_OK;
    if (uploads_take(&op->s->uploads, d, b->size, out))
        return STATUS_OK;
    struct hash *h = hash_new();
    if (h == NULL)
        return op_nomem(op);
    if (b->size > 0)
        TRY(blob_reader_open(&r, op->err));
    for (uint64_t i = 0; i * STORE_CHUNK < b->size; i++) {
        TRY(blob_reader_read(&r, i, blob_record_chunk(b, i), &bytes, op->err));
        hash_add(h, bytes.data, bytes.len);
    }
    hash_end(h, out);
out:
    hash_destroy(&h);
    blob_reader_close(&r);
    buf_release(&bytes);
    return st;
}

/* ---- writing ---- */

static enum status check_rights(struct op *op, const char *run, const char *path,
                                const char *digest) {
    struct value *record;
    enum status st = runs_load(op, run, &record);
    return st == STATUS_OK ? rights_check_artifact(op, record, path, digest) : st;
}

static enum status begin_blob(struct op *op, const struct digest *d, uint64_t size,
                              struct blob_record *b) {
    bool found;
    enum status st = STATUS_OK;
    TRY(blob_record_load(op->txn, d, b, &found, op->err));
    if (found && b->size != size)
        TRY(err_set(op->err, STATUS_INVALID,
                    "an artifact with this digest has %llu bytes, not %llu; check size and digest",
                    (unsigned long long)b->size, (unsigned long long)size));
    enum blob_place place = blobs_place(&op->s->blobs);
    if (!found)
        *b = (struct blob_record){.size = size, .place = place};
    /* A file may have been removed, or the upload was begun while the store was opened the other
     * way: let the bytes come again. */
    if (!blobs_present(&op->s->blobs, d, b) || (!b->complete && b->place != place)) {
        b->complete = false;
        b->received = 0;
        b->place = place;
    }
    b->touched_ns = op_now(op);
    TRY(blob_record_store(op->txn, d, b, op->err));
out:
    return st;
}

enum status op_artifact_begin(struct op *op) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    const struct value *meta = value_get(op->req, "meta");
    struct digest d;
    struct blob_record b;
    enum status st = STATUS_OK;
    char hex[DIGEST_HEX];
    TRY(artifact_path_check_new(path, op->err));
    TRY(op_digest(op, "digest", &d));
    hash_hex(&d, hex);
    TRY(check_rights(op, run, path, hex));
    TRY(begin_blob(op, &d, (uint64_t)value_get_int(op->req, "size", 0), &b));

    struct value *upload = value_map(op->a);
    value_set_string(op->a, upload, "digest", hex);
    value_set(op->a, upload, "meta", meta != NULL ? value_copy(op->a, meta) : value_null(op->a));
    value_set_int(op->a, upload, "time_ns", op_now(op));
    struct key k = artifacts_key(KEY_UPLOAD, run, path);
    TRY(doc_put_value(op->txn, &k, upload, op->err));

    value_set_bool(op->a, op->reply, "complete", b.complete);
    value_set_int(op->a, op->reply, "offset", (int64_t)(b.complete ? b.size : b.received));
    value_set_int(op->a, op->reply, "chunk", (int64_t)STORE_CHUNK);
    value_set_int(op->a, op->reply, "credit", STORE_CREDIT);
out:
    return st;
}

static enum status check_chunk(struct op *op, const struct blob_record *b, uint64_t offset) {
    if (op->frames.count != 1)
        return err_set(op->err, STATUS_INVALID, "artifact.chunk needs one frame, not %zu",
                       op->frames.count);
    if (offset % STORE_CHUNK != 0 || offset >= b->size)
        return err_set(op->err, STATUS_INVALID,
                       "offset %llu must be a multiple of %zu below the size, %llu",
                       (unsigned long long)offset, STORE_CHUNK, (unsigned long long)b->size);
    size_t want = blob_record_chunk(b, offset / STORE_CHUNK);
    if (op->frames.items[0].len != want)
        return err_set(op->err, STATUS_INVALID,
                       "the chunk at byte %llu must have %zu bytes, not %zu",
                       (unsigned long long)offset, want, op->frames.items[0].len);
    return STATUS_OK;
}

enum status op_artifact_chunk(struct op *op) {
    uint64_t offset = (uint64_t)value_get_int(op->req, "offset", 0);
    struct digest d, sum;
    struct blob_record b;
    bool found;
    enum status st = STATUS_OK;
    TRY(op_digest(op, "digest", &d));
    TRY(blob_record_load(op->txn, &d, &b, &found, op->err));
    if (!found)
        TRY(err_set(op->err, STATUS_NOT_FOUND,
                    "artifact %s was not begun; send artifact.begin first", op_text(op, "digest")));
    TRY(check_chunk(op, &b, offset));
    if (b.complete || offset < b.received) { /* it is there: somebody sent it before */
        value_set_int(op->a, op->reply, "offset", (int64_t)(b.complete ? b.size : b.received));
        return STATUS_OK;
    }
    if (offset > b.received)
        TRY(err_set(op->err, STATUS_CONFLICT, "the next chunk must begin at byte %llu, not %llu",
                    (unsigned long long)b.received, (unsigned long long)offset));
    const void *bytes = op->frames.items[0].data;
    size_t len = op->frames.items[0].len;
    hash_bytes(bytes, len, &sum);
    struct key k = key_digest(KEY_BLOB_CHUNK, &d);
    key_add_be64(&k, offset / STORE_CHUNK);
    TRY(kv_put(op->txn, key_bytes(&k), (struct kv_bytes){sum.bytes, DIGEST_BYTES}, op->err));
    b.received += len;
    b.touched_ns = op_now(op);
    TRY(blob_record_store(op->txn, &d, &b, op->err));
    TRY(blobs_write(&op->s->blobs, (struct blob_chunk){&d, offset / STORE_CHUNK},
                    (struct kv_bytes){bytes, len}, op->err));
    uploads_add(&op->s->uploads, &d, offset, bytes, len);
    value_set_int(op->a, op->reply, "offset", (int64_t)b.received);
out:
    return st;
}

/* The first commit of a blob: checked as a whole. */
static enum status complete_blob(struct op *op, const struct digest *d, struct blob_record *b) {
    struct digest sum;
    enum status st = STATUS_OK;
    if (b->received != b->size)
        TRY(err_set(op->err, STATUS_CONFLICT, "%llu of %llu bytes have come; send the rest first",
                    (unsigned long long)b->received, (unsigned long long)b->size));
    TRY(received_digest(op, d, b, &sum));
    if (memcmp(&sum, d, sizeof sum) != 0) {
        op->drop_blob = true;
        op->blob = *d;
        TRY(err_set(op->err, STATUS_CORRUPT,
                    "the bytes that came do not have the digest %s; send artifact.begin again",
                    op_text(op, "digest")));
    }
    if (b->size > 0) /* nothing was ever written otherwise */
        TRY(blobs_finish(&op->s->blobs, d, op->err));
    b->complete = true;
out:
    return st;
}

/* One reference less, where a path referred to another blob. */
static enum status release(struct op *op, const struct value *entry) {
    const char *hex = value_get_string(entry, "digest", "");
    struct digest d;
    struct blob_record b;
    bool found;
    enum status st = STATUS_OK;
    TRY(hash_parse(hex, strlen(hex), &d, op->err));
    TRY(blob_record_load(op->txn, &d, &b, &found, op->err));
    if (!found || b.references == 0)
        TRY(err_set(op->err, STATUS_CORRUPT,
                    "the references to artifact %s are miscounted; restore a backup", hex));
    b.references--;
    TRY(blob_record_store(op->txn, &d, &b, op->err));
out:
    return st;
}

enum status op_artifact_commit(struct op *op) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    struct value *upload, *old, *entry = value_map(op->a);
    struct digest d;
    struct blob_record b;
    char hex[DIGEST_HEX];
    bool found;
    enum status st = STATUS_OK;
    TRY(artifact_path_check_new(path, op->err));
    TRY(op_digest(op, "digest", &d));
    hash_hex(&d, hex);
    TRY(check_rights(op, run, path, hex));
    TRY(blob_record_load(op->txn, &d, &b, &found, op->err));
    if (!found)
        TRY(err_set(op->err, STATUS_NOT_FOUND,
                    "artifact %s was not begun; send artifact.begin first", hex));
    if (!b.complete)
        TRY(complete_blob(op, &d, &b));
    b.references++;
    b.touched_ns = op_now(op);
    TRY(blob_record_store(op->txn, &d, &b, op->err));

    struct key k = artifacts_key(KEY_UPLOAD, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, &upload, op->err));
    TRY(doc_del(op->txn, &k, NULL, op->err));
    struct value *meta = NULL;
    if (upload != NULL && strcmp(value_get_string(upload, "digest", ""), hex) == 0)
        meta = value_get(upload, "meta");
    value_set_string(op->a, entry, "digest", hex);
    value_set_int(op->a, entry, "size", (int64_t)b.size);
    value_set(op->a, entry, "meta", meta != NULL ? meta : value_null(op->a));
    k = artifacts_key(KEY_ARTIFACT, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    if (old != NULL)
        TRY(release(op, old));
    TRY(doc_put_value(op->txn, &k, entry, op->err));
out:
    return st;
}

enum status op_artifact_delete(struct op *op) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    struct value *entry;
    enum status st = STATUS_OK;
    TRY(check_rights(op, run, path, NULL));
    TRY(artifacts_load(op, run, path, &entry));
    TRY(release(op, entry));
    struct key k = artifacts_key(KEY_ARTIFACT, run, path);
    TRY(doc_del(op->txn, &k, NULL, op->err));
out:
    return st;
}
