/* Reads all of a store and checks every sum: what "trireme-tracker --check" does. */
#include <stdlib.h>
#include <string.h>

#include "tracker/ops/store_private.h"
#include "tracker/series/codec.h"

struct check {
    struct store *s;
    struct hash *hash;
    struct points points;
    struct buf bytes;
    struct store_checked *out;
    struct err *err;
};

static enum status check_chunk(struct check *c, struct kv_bytes value) {
    struct chunk_info info;
    enum status st = codec_decode(value, &info, &c->points, c->err);
    if (st == STATUS_OK)
        c->out->points += info.count;
    return st;
}

/* The bytes of a whole artifact have the digest under which they are kept. */
static enum status check_blob(struct check *c, struct kv_bytes key, struct kv_bytes value) {
    struct blob_record record;
    struct digest d, sum;
    struct blob_reader r = {.blobs = &c->s->blobs, .digest = &d};
    enum status st = STATUS_OK;
    TRY(blob_record_decode(value, &record, c->err));
    if (key.len != 1 + DIGEST_BYTES)
        TRY(err_set(c->err, STATUS_CORRUPT, "the key of an artifact's bytes is damaged"));
    if (!record.complete)
        return STATUS_OK;
    memcpy(d.bytes, (const char *)key.data + 1, DIGEST_BYTES);
    r.place = record.place;
    hash_reset(c->hash);
    TRY(blob_reader_open(&r, c->err));
    for (uint64_t i = 0; i * STORE_CHUNK < record.size; i++) {
        TRY(blob_reader_read(&r, i, blob_record_chunk(&record, i), &c->bytes, c->err));
        hash_add(c->hash, c->bytes.data, c->bytes.len);
    }
    hash_end(c->hash, &sum);
    if (memcmp(&sum, &d, sizeof d) != 0)
        TRY(err_set(c->err, STATUS_CORRUPT, "its bytes do not match its digest"));
    c->out->blobs++;
    c->out->bytes += record.size;
out:
    blob_reader_close(&r);
    if (st != STATUS_OK && key.len == 1 + DIGEST_BYTES) {
        char hex[DIGEST_HEX];
        hash_hex(&d, hex);
        return err_wrap(c->err, st, "the artifact with the digest %s; restore a backup", hex);
    }
    return st;
}

static enum status check_all(struct check *c) {
    struct kv_txn t = {0};
    struct kv_cursor at = {0};
    enum status st = STATUS_OK;
    TRY(kv_begin(c->s->meta, NULL, false, &t, c->err));
    TRY(kv_cursor_open(&t, &at, c->err));
    TRY(kv_seek(&at, (struct kv_bytes){"", 1}, c->err));
    while (at.key.data != NULL) {
        char kind = *(const char *)at.key.data;
        if (kind == KEY_CHUNK)
            TRY(check_chunk(c, at.value));
        if (kind == KEY_BLOB)
            TRY(check_blob(c, at.key, at.value));
        c->out->records++;
        TRY(kv_next(&at, c->err));
    }
out:
    kv_cursor_close(&at);
    kv_abort(&t);
    return st;
}

enum status store_check(struct store *s, struct store_checked *out, struct err *err) {
    enum status st = STATUS_OK;
    *out = (struct store_checked){0};
    struct check *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while the store was checked");
    c->s = s;
    c->out = out;
    c->err = err;
    buf_init(&c->bytes, STORE_CHUNK);
    c->hash = hash_new();
    if (c->hash == NULL)
        TRY(err_set(err, STATUS_NOMEM, "out of memory while the store was checked"));
    TRY(check_all(c));
out:
    hash_destroy(&c->hash);
    buf_release(&c->bytes);
    free(c);
    return st;
}
