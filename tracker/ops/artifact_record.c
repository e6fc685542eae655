/* Records of artifacts and of their bytes. */
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/artifacts.h"

enum {
    AT_PLACE = 0,
    AT_COMPLETE = 1,
    AT_SIZE = 2,
    AT_RECEIVED = 10,
    AT_REFERENCES = 18,
    AT_TOUCHED = 26,
    RECORD_BYTES = 34,
};

enum status blob_decode(struct slice v, struct blob *out, struct err *err) {
    const uint8_t *b = v.data;
    if (v.len != RECORD_BYTES || b[AT_PLACE] > BLOB_IN_FILE)
        return err_set(err, STATUS_CORRUPT, "the record of an artifact's bytes is damaged");
    out->place = b[AT_PLACE] == BLOB_IN_FILE ? BLOB_IN_FILE : BLOB_IN_LMDB;
    out->complete = b[AT_COMPLETE] != 0;
    out->size = bytes_get_u64(b + AT_SIZE);
    out->received = bytes_get_u64(b + AT_RECEIVED);
    out->references = bytes_get_u64(b + AT_REFERENCES);
    out->touched_ns = (int64_t)bytes_get_u64(b + AT_TOUCHED);
    return STATUS_OK;
}

enum status blob_load(struct kv_txn *t, const struct digest *d, struct blob *out, bool *found,
                      struct err *err) {
    struct key k = key_digest(KEY_BLOB, d);
    struct slice v;
    enum status st = kv_get(t, key_slice(&k), &v, err);
    *found = st == STATUS_OK && v.data != NULL;
    return *found ? blob_decode(v, out, err) : st;
}

enum status blob_store(struct kv_txn *t, const struct digest *d, const struct blob *b,
                       struct err *err) {
    uint8_t r[RECORD_BYTES];
    struct key k = key_digest(KEY_BLOB, d);
    r[AT_PLACE] = (uint8_t)b->place;
    r[AT_COMPLETE] = b->complete;
    bytes_put_u64(r + AT_SIZE, b->size);
    bytes_put_u64(r + AT_RECEIVED, b->received);
    bytes_put_u64(r + AT_REFERENCES, b->references);
    bytes_put_u64(r + AT_TOUCHED, (uint64_t)b->touched_ns);
    return kv_put(t, key_slice(&k), (struct slice){r, sizeof r}, err);
}

struct key artifact_key(enum key_kind kind, const char *run, const char *path) {
    struct key k = key_id(kind, run);
    key_add_name(&k, path);
    return k;
}

enum status artifact_path_check(const char *path, struct err *err) {
    enum status st = name_check(path, ARTIFACT_PATH_MAX, "the artifact's path", err);
    if (st != STATUS_OK)
        return st;
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return err_set(err, STATUS_INVALID,
                           "the artifact's path '%.200s' must be relative, without empty parts, "
                           "'.' and '..'",
                           path);
        if (p[n] == '\0')
            return STATUS_OK;
        p += n + 1;
    }
}

enum status artifact_digest(const struct op *op, struct digest *out) {
    const char *hex = op_text(op, "digest");
    return hash_parse(hex, strlen(hex), out, op->err);
}

size_t blob_chunk_len(uint64_t size, uint64_t chunk) {
    uint64_t rest = size - chunk * STORE_CHUNK;
    return rest < STORE_CHUNK ? (size_t)rest : STORE_CHUNK;
}

enum status blob_forget(struct kv_txn *t, const struct digest *d, struct err *err) {
    struct key k = key_digest(KEY_BLOB, d);
    size_t deleted;
    enum status st = STATUS_OK;
    TRY(kv_del(t, key_slice(&k), NULL, err));
    k = key_digest(KEY_BLOB_CHUNK, d);
    TRY(kv_del_prefix(t, key_slice(&k), SIZE_MAX, &deleted, err));
out:
    return st;
}
