/* Artifacts, read: bytes that are checked chunk by chunk. */
#include <string.h>

#include "tracker/ops/artifacts.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/runs.h"

#define GET_DEFAULT ((size_t)4 << 20)

/* Which blob is meant: by digest, or by run and path. */
static enum status find_blob(struct op *op, struct digest *d) {
    const char *run = op_id(op, "run"), *path = op_text(op, "path");
    struct value *entry;
    enum status st = STATUS_OK;
    if (op_text(op, "digest") != NULL)
        return op_digest(op, "digest", d);
    if (run == NULL || path == NULL)
        TRY(err_set(op->err, STATUS_INVALID, "artifact.get needs a digest, or a run and a path"));
    TRY(runs_must_exist(op, run));
    TRY(artifacts_load(op, run, path, &entry));
    const char *hex = value_get_string(entry, "digest", "");
    TRY(hash_parse(hex, strlen(hex), d, op->err));
out:
    return st;
}

/* One chunk, checked against its own digest. */
static enum status read_chunk(struct op *op, struct blob_reader *r, uint64_t chunk, size_t len,
                              struct buf *bytes) {
    struct key k = key_digest(KEY_BLOB_CHUNK, r->digest);
    struct digest sum;
    struct kv_bytes want;
    enum status st = STATUS_OK;
    key_add_be64(&k, chunk);
    TRY(kv_get(op->txn, key_bytes(&k), &want, op->err));
    TRY(blob_reader_read(r, chunk, len, bytes, op->err));
    hash_bytes(bytes->data, bytes->len, &sum);
    if (want.len != DIGEST_BYTES || memcmp(want.data, sum.bytes, DIGEST_BYTES) != 0)
        st = err_set(op->err, STATUS_CORRUPT,
                     "chunk %llu does not match its digest; store the artifact again",
                     (unsigned long long)chunk);
out:
    return st;
}

static enum status read_range(struct op *op, const struct digest *d, const struct blob_record *b,
                              uint64_t offset, uint64_t end) {
    struct buf bytes = BUF_INIT(STORE_CHUNK), *out = op->out->bytes;
    struct blob_reader r = {.blobs = &op->s->blobs, .digest = d, .place = b->place};
    enum status st = STATUS_OK;
    TRY(blob_reader_open(&r, op->err));
    for (uint64_t at = offset; at < end;) {
        uint64_t chunk = at / STORE_CHUNK;
        size_t len = blob_record_chunk(b, chunk), skip = (size_t)(at % STORE_CHUNK);
        size_t take = len - skip < end - at ? len - skip : (size_t)(end - at);
        TRY(read_chunk(op, &r, chunk, len, &bytes));
        buf_add(out, bytes.data + skip, take);
        at += take;
    }
    TRY(buf_status(out, "the bytes of an artifact", op->err));
out:
    blob_reader_close(&r);
    buf_release(&bytes);
    return st;
}

enum status op_artifact_get(struct op *op) {
    uint64_t offset = (uint64_t)value_get_int(op->req, "offset", 0);
    uint64_t length = (uint64_t)value_get_int(op->req, "length", (int64_t)GET_DEFAULT);
    struct digest d;
    struct blob_record b;
    char hex[DIGEST_HEX];
    bool found;
    enum status st = STATUS_OK;
    TRY(find_blob(op, &d));
    hash_hex(&d, hex);
    TRY(blob_record_load(op->txn, &d, &b, &found, op->err));
    if (!found || !b.complete)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "there is no artifact %s in this store", hex));
    if (offset > b.size)
        TRY(err_set(op->err, STATUS_INVALID,
                    "offset %llu is past the end: the artifact has %llu bytes",
                    (unsigned long long)offset, (unsigned long long)b.size));
    uint64_t end = length < b.size - offset ? offset + length : b.size;
    size_t before = op->out->bytes->len;
    if (offset < end) {
        st = read_range(op, &d, &b, offset, end);
        if (st != STATUS_OK)
            return err_wrap(op->err, st, "artifact %s", hex);
    }
    op->out->frame_lens[0] = op->out->bytes->len - before;
    op->out->frame_count = 1;
    value_set_int(op->a, op->reply, "size", (int64_t)b.size);
    value_set_string(op->a, op->reply, "digest", hex);
    value_set_int(op->a, op->reply, "offset", (int64_t)offset);
out:
    return st;
}
