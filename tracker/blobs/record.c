/* Records of blobs. */
#include "tracker/blobs/record.h"

#include "core/bytes.h"
#include "tracker/map/format.h"

enum {
    AT_PLACE = 0,
    AT_COMPLETE = 1,
    AT_SIZE = 2,
    AT_RECEIVED = 10,
    AT_REFERENCES = 18,
    AT_TOUCHED = 26,
    RECORD_BYTES = 34,
};

enum status blob_record_decode(struct kv_bytes v, struct blob_record *out, struct err *err) {
    const uint8_t *b = v.data;
    if (v.len != RECORD_BYTES || b[AT_PLACE] > BLOB_IN_FILE)
        return err_set(err, STATUS_CORRUPT,
                       "the record of an artifact's bytes is damaged; restore a backup");
    out->place = b[AT_PLACE] == BLOB_IN_FILE ? BLOB_IN_FILE : BLOB_IN_LMDB;
    out->complete = b[AT_COMPLETE] != 0;
    out->size = bytes_get_u64(b + AT_SIZE);
    out->received = bytes_get_u64(b + AT_RECEIVED);
    out->references = bytes_get_u64(b + AT_REFERENCES);
    out->touched_ns = (int64_t)bytes_get_u64(b + AT_TOUCHED);
    return STATUS_OK;
}

enum status blob_record_load(struct kv_txn *t, const struct digest *d, struct blob_record *out,
                             bool *found, struct err *err) {
    struct key k = key_digest(KEY_BLOB, d);
    struct kv_bytes v;
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    *found = st == STATUS_OK && v.data != NULL;
    return *found ? blob_record_decode(v, out, err) : st;
}

enum status blob_record_store(struct kv_txn *t, const struct digest *d, const struct blob_record *b,
                              struct err *err) {
    uint8_t r[RECORD_BYTES];
    struct key k = key_digest(KEY_BLOB, d);
    r[AT_PLACE] = (uint8_t)b->place;
    r[AT_COMPLETE] = b->complete;
    bytes_put_u64(r + AT_SIZE, b->size);
    bytes_put_u64(r + AT_RECEIVED, b->received);
    bytes_put_u64(r + AT_REFERENCES, b->references);
    bytes_put_u64(r + AT_TOUCHED, (uint64_t)b->touched_ns);
    return kv_put(t, key_bytes(&k), (struct kv_bytes){r, sizeof r}, err);
}

enum status blob_record_forget(struct kv_txn *t, const struct digest *d, struct err *err) {
    struct key k = key_digest(KEY_BLOB, d);
    size_t deleted;
    enum status st = STATUS_OK;
    TRY(kv_del(t, key_bytes(&k), NULL, err));
    k = key_digest(KEY_BLOB_CHUNK, d);
    TRY(kv_del_prefix(t, key_bytes(&k), SIZE_MAX, &deleted, err));
out:
    return st;
}

size_t blob_record_chunk(const struct blob_record *b, uint64_t chunk) {
    uint64_t rest = b->size - chunk * STORE_CHUNK;
    return rest < STORE_CHUNK ? (size_t)rest : STORE_CHUNK;
}
