/* Artifacts, read: the listing of a run, and bytes that are checked chunk by chunk. */
#include <string.h>

#include "tracker/ops/artifacts.h"

#define GET_DEFAULT ((size_t)4 << 20)

enum status artifact_list(struct op *op, const char *run, struct value **out) {
    struct doc_scan scan = {0};
    struct key prefix = key_id(KEY_ARTIFACT, run);
    struct value *entry;
    const char *path;
    size_t len;
    enum status st = STATUS_OK;
    *out = value_list(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, &path, &len, &entry, op->err));
        if (path == NULL)
            break;
        value_set_string(op->a, entry, "path", path);
        value_push(op->a, *out, entry);
    }
out:
    doc_scan_close(&scan);
    return st;
}

/* Which blob is meant: by digest, or by run and path. */
static enum status find_blob(struct op *op, struct digest *d) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    struct value *entry;
    enum status st = STATUS_OK;
    if (op_text(op, "digest") != NULL)
        return artifact_digest(op, d);
    if (run == NULL || path == NULL)
        TRY(err_set(op->err, STATUS_INVALID, "artifact.get needs a digest, or run and path"));
    TRY(run_must_exist(op, run));
    TRY(artifact_path_check(path, op->err));
    struct key k = artifact_key(KEY_ARTIFACT, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, &entry, op->err));
    if (entry == NULL)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "run %s has no artifact '%s'", run, path));
    const char *hex = value_get_string(entry, "digest", "");
    TRY(hash_parse(hex, strlen(hex), d, op->err));
out:
    return st;
}

/* One chunk, checked against its own digest. */
static enum status read_chunk(struct op *op, struct blob_reader *r, const struct digest *d,
                              uint64_t chunk, size_t len, struct buf *bytes) {
    struct key k = key_digest(KEY_BLOB_CHUNK, d);
    struct digest sum;
    struct slice want;
    enum status st = STATUS_OK;
    key_add_be64(&k, chunk);
    TRY(kv_get(op->txn, key_slice(&k), &want, op->err));
    TRY(blob_read(r, d, chunk, len, bytes, op->err));
    hash_bytes(bytes->data, bytes->len, &sum);
    if (want.len != DIGEST_BYTES || memcmp(want.data, sum.bytes, DIGEST_BYTES) != 0)
        st = err_set(op->err, STATUS_CORRUPT, "chunk %llu does not have its digest",
                     (unsigned long long)chunk);
out:
    return st;
}

static enum status read_range(struct op *op, const struct digest *d, const struct blob *b,
                              uint64_t offset, uint64_t end) {
    struct buf bytes = BUF_INIT(STORE_CHUNK);
    struct blob_reader r = {.fd = -1};
    enum status st = STATUS_OK;
    TRY(blob_reader_open(op->s, false, b->place, d, &r, op->err));
    for (uint64_t at = offset; at < end;) {
        uint64_t chunk = at / STORE_CHUNK;
        size_t len = blob_chunk_len(b->size, chunk), skip = (size_t)(at % STORE_CHUNK);
        size_t take = len - skip < end - at ? len - skip : (size_t)(end - at);
        TRY(read_chunk(op, &r, d, chunk, len, &bytes));
        buf_add(op->bytes, bytes.data + skip, take);
        at += take;
    }
    TRY(buf_status(op->bytes, "the bytes of an artifact", op->err));
out:
    blob_reader_close(&r);
    buf_release(&bytes);
    return st;
}

enum status op_artifact_get(struct op *op) {
    uint64_t offset = (uint64_t)value_get_int(op->req, "offset", 0);
    uint64_t length = (uint64_t)value_get_int(op->req, "length", (int64_t)GET_DEFAULT);
    struct digest d;
    struct blob b;
    char hex[DIGEST_HEX];
    bool found;
    enum status st = STATUS_OK;
    TRY(find_blob(op, &d));
    hash_hex(&d, hex);
    TRY(blob_load(op->txn, &d, &b, &found, op->err));
    if (!found || !b.complete)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "there is no artifact %s", hex));
    if (offset > b.size)
        TRY(err_set(op->err, STATUS_INVALID, "offset %llu is behind the end at %llu",
                    (unsigned long long)offset, (unsigned long long)b.size));
    uint64_t end = length < b.size - offset ? offset + length : b.size;
    size_t before = op->bytes->len;
    if (offset < end) {
        st = read_range(op, &d, &b, offset, end);
        if (st != STATUS_OK)
            return err_wrap(op->err, st, "artifact %s", hex);
    }
    op->frame_lens[0] = op->bytes->len - before;
    *op->frames_out = 1;
    value_set_int(op->a, op->reply, "size", (int64_t)b.size);
    value_set_string(op->a, op->reply, "digest", hex);
    value_set_int(op->a, op->reply, "offset", (int64_t)offset);
out:
    return st;
}
