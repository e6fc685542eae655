/* Artifacts: announced, received, committed, deleted (the picture is in artifacts.h). */
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/artifacts.h"
#include "tracker/ops/store_impl.h"

/* ---- the digest of an upload in the making ---- */

static struct upload_hash *upload_find(struct store *s, const struct digest *d) {
    for (size_t i = 0; i < UPLOAD_HASHES; i++)
        if (s->uploads[i].hash != NULL && s->uploads[i].bytes > 0 &&
            memcmp(&s->uploads[i].digest, d, sizeof *d) == 0)
            return &s->uploads[i];
    return NULL;
}

/* An upload from its first byte on gets a place; the one that was not used longest gives up its
 * own. What has no place is read again when it is committed. */
static void upload_add(struct store *s, const struct digest *d, uint64_t offset, const void *bytes,
                       size_t len) {
    struct upload_hash *u = upload_find(s, d);
    if (u != NULL && u->bytes != offset && offset != 0) {
        u->bytes = 0; /* a group was aborted, or somebody else sent a part */
        return;
    }
    if (u == NULL && offset != 0)
        return;
    if (offset == 0) {
        for (size_t i = 0; u == NULL && i < UPLOAD_HASHES; i++)
            if (s->uploads[i].bytes == 0)
                u = &s->uploads[i];
        for (size_t i = 0; i < UPLOAD_HASHES; i++)
            if (u == NULL || (u->bytes != 0 && s->uploads[i].used < u->used))
                u = &s->uploads[i];
        if (u->hash == NULL)
            u->hash = hash_new();
        if (u->hash == NULL)
            return;
        hash_reset(u->hash);
        u->digest = *d;
        u->bytes = 0;
    }
    hash_add(u->hash, bytes, len);
    u->bytes += len;
    u->used = ++s->upload_uses;
}

/* The digest of what was received: from the running hash, or by reading all of it again. */
static enum status received_digest(struct op *op, const struct digest *d, const struct blob *b,
                                   struct digest *out) {
    struct upload_hash *u = upload_find(op->s, d);
    struct buf bytes = BUF_INIT(STORE_CHUNK);
    struct blob_reader r = {.fd = -1};
    enum status st = STATUS_OK;
    if (u != NULL && u->bytes == b->size) {
        hash_end(u->hash, out);
        u->bytes = 0;
        return STATUS_OK;
    }
    struct hash *h = hash_new();
    if (h == NULL)
        return op_nomem(op);
    if (b->size > 0)
        TRY(blob_reader_open(op->s, true, b->place, d, &r, op->err));
    for (uint64_t i = 0; i * STORE_CHUNK < b->size; i++) {
        TRY(blob_read(&r, d, i, blob_chunk_len(b->size, i), &bytes, op->err));
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

static enum status begin_blob(struct op *op, const struct digest *d, uint64_t size,
                              struct blob *b) {
    bool found;
    enum status st = STATUS_OK;
    TRY(blob_load(op->txn, d, b, &found, op->err));
    if (found && b->size != size)
        TRY(err_set(op->err, STATUS_INVALID,
                    "an artifact with this digest has %llu bytes, not %llu",
                    (unsigned long long)b->size, (unsigned long long)size));
    enum blob_place place = op->s->artifact_dir != NULL ? BLOB_IN_FILE : BLOB_IN_LMDB;
    if (!found)
        *b = (struct blob){.size = size, .place = place};
    /* A file may have been removed, or the upload was begun while the store was opened the other
     * way: let the bytes come again. */
    if (!blob_present(op->s, b->place, d, b->complete, b->received) ||
        (!b->complete && b->place != place)) {
        b->complete = false;
        b->received = 0;
        b->place = place;
    }
    b->touched_ns = op_now(op);
    TRY(blob_store(op->txn, d, b, op->err));
out:
    return st;
}

enum status op_artifact_begin(struct op *op) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    const struct value *meta = value_get(op->req, "meta");
    struct digest d;
    struct blob b;
    enum status st = STATUS_OK;
    TRY(run_must_exist(op, run));
    TRY(artifact_path_check(path, op->err));
    TRY(artifact_digest(op, &d));
    TRY(begin_blob(op, &d, (uint64_t)value_get_int(op->req, "size", 0), &b));

    char hex[DIGEST_HEX];
    hash_hex(&d, hex);
    struct value *upload = value_map(op->a);
    value_set_string(op->a, upload, "digest", hex);
    value_set(op->a, upload, "meta", meta != NULL ? value_copy(op->a, meta) : value_null(op->a));
    value_set_int(op->a, upload, "time_ns", op_now(op));
    struct key k = artifact_key(KEY_UPLOAD, run, path);
    TRY(doc_put_value(op->txn, &k, upload, op->err));

    value_set_bool(op->a, op->reply, "complete", b.complete);
    value_set_int(op->a, op->reply, "offset", (int64_t)(b.complete ? b.size : b.received));
    value_set_int(op->a, op->reply, "chunk", (int64_t)STORE_CHUNK);
    value_set_int(op->a, op->reply, "credit", STORE_CREDIT);
out:
    return st;
}

static enum status check_chunk(struct op *op, const struct blob *b, uint64_t offset) {
    if (op->frame_count != 1)
        return err_set(op->err, STATUS_INVALID, "artifact.chunk needs one frame, not %zu",
                       op->frame_count);
    if (offset % STORE_CHUNK != 0 || offset >= b->size)
        return err_set(op->err, STATUS_INVALID,
                       "offset %llu is no multiple of %zu below the size of %llu",
                       (unsigned long long)offset, STORE_CHUNK, (unsigned long long)b->size);
    size_t want = blob_chunk_len(b->size, offset / STORE_CHUNK);
    if (op->frames[0].len != want)
        return err_set(op->err, STATUS_INVALID, "the chunk at %llu must have %zu bytes, not %zu",
                       (unsigned long long)offset, want, op->frames[0].len);
    return STATUS_OK;
}

enum status op_artifact_chunk(struct op *op) {
    uint64_t offset = (uint64_t)value_get_int(op->req, "offset", 0);
    struct digest d, sum;
    struct blob b;
    bool found;
    enum status st = STATUS_OK;
    TRY(artifact_digest(op, &d));
    TRY(blob_load(op->txn, &d, &b, &found, op->err));
    if (!found)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "no such artifact was begun: %s",
                    op_text(op, "digest")));
    TRY(check_chunk(op, &b, offset));
    if (b.complete || offset < b.received) { /* it is there: somebody sent it before */
        value_set_int(op->a, op->reply, "offset", (int64_t)(b.complete ? b.size : b.received));
        return STATUS_OK;
    }
    if (offset > b.received)
        TRY(err_set(op->err, STATUS_CONFLICT, "the next chunk must be that at %llu, not at %llu",
                    (unsigned long long)b.received, (unsigned long long)offset));
    size_t len = op->frames[0].len;
    hash_bytes(op->frames[0].data, len, &sum);
    struct key k = key_digest(KEY_BLOB_CHUNK, &d);
    key_add_be64(&k, offset / STORE_CHUNK);
    TRY(kv_put(op->txn, key_slice(&k), (struct slice){sum.bytes, DIGEST_BYTES}, op->err));
    b.received += len;
    b.touched_ns = op_now(op);
    TRY(blob_store(op->txn, &d, &b, op->err));
    TRY(blob_write(op->s, &d, offset / STORE_CHUNK, op->frames[0].data, len, op->err));
    upload_add(op->s, &d, offset, op->frames[0].data, len);
    value_set_int(op->a, op->reply, "offset", (int64_t)b.received);
out:
    return st;
}

/* The first commit of a blob: checked as a whole. */
static enum status complete_blob(struct op *op, const struct digest *d, struct blob *b) {
    struct digest sum;
    enum status st = STATUS_OK;
    if (b->received != b->size)
        TRY(err_set(op->err, STATUS_CONFLICT, "%llu of %llu bytes are there; send the rest",
                    (unsigned long long)b->received, (unsigned long long)b->size));
    TRY(received_digest(op, d, b, &sum));
    if (memcmp(&sum, d, sizeof sum) != 0) {
        op->drop_blob = true;
        op->blob = *d;
        TRY(err_set(op->err, STATUS_CORRUPT,
                    "the bytes that came do not have the digest %s; begin again",
                    op_text(op, "digest")));
    }
    if (b->size > 0) /* nothing was ever written otherwise */
        TRY(blob_finish(op->s, d, op->err));
    b->complete = true;
out:
    return st;
}

/* One reference less, where a path referred to another blob. */
static enum status release(struct op *op, const struct value *entry) {
    const char *hex = value_get_string(entry, "digest", "");
    struct digest d;
    struct blob b;
    bool found;
    enum status st = STATUS_OK;
    TRY(hash_parse(hex, strlen(hex), &d, op->err));
    TRY(blob_load(op->txn, &d, &b, &found, op->err));
    if (!found || b.references == 0)
        TRY(err_set(op->err, STATUS_CORRUPT, "the references to artifact %s are miscounted", hex));
    b.references--;
    TRY(blob_store(op->txn, &d, &b, op->err));
out:
    return st;
}

enum status op_artifact_commit(struct op *op) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    struct value *upload, *old, *entry = value_map(op->a);
    struct digest d;
    struct blob b;
    char hex[DIGEST_HEX];
    bool found;
    enum status st = STATUS_OK;
    TRY(run_must_exist(op, run));
    TRY(artifact_path_check(path, op->err));
    TRY(artifact_digest(op, &d));
    hash_hex(&d, hex);
    TRY(blob_load(op->txn, &d, &b, &found, op->err));
    if (!found)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "no such artifact was begun: %s", hex));
    if (!b.complete)
        TRY(complete_blob(op, &d, &b));
    b.references++;
    b.touched_ns = op_now(op);
    TRY(blob_store(op->txn, &d, &b, op->err));

    struct key k = artifact_key(KEY_UPLOAD, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, &upload, op->err));
    TRY(doc_del(op->txn, &k, NULL, op->err));
    struct value *meta = NULL;
    if (upload != NULL && strcmp(value_get_string(upload, "digest", ""), hex) == 0)
        meta = value_get(upload, "meta");
    value_set_string(op->a, entry, "digest", hex);
    value_set_int(op->a, entry, "size", (int64_t)b.size);
    value_set(op->a, entry, "meta", meta != NULL ? meta : value_null(op->a));
    k = artifact_key(KEY_ARTIFACT, run, path);
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
    TRY(run_must_exist(op, run));
    TRY(artifact_path_check(path, op->err));
    struct key k = artifact_key(KEY_ARTIFACT, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, &entry, op->err));
    if (entry == NULL)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "run %s has no artifact '%s'", run, path));
    TRY(release(op, entry));
    TRY(doc_del(op->txn, &k, NULL, op->err));
out:
    return st;
}

/* ---- after a failure ---- */

enum status artifact_drop_upload(struct store *s, const struct digest *d, struct err *err) {
    struct upload_hash *u = upload_find(s, d);
    if (u != NULL)
        u->bytes = 0;
    s->orphans_checked = false; /* its chunks stay until the next maintenance */
    return blob_forget(&s->group, d, err);
}
