/* Bytes that nothing refers to, removed. */
#include "tracker/ops/cleanup.h"

#include <string.h>

#include "tracker/map/docs.h"

#define BATCH 64

/* ---- entries of uploads ---- */

static enum status forget_uploads(struct store *s, int64_t before_ns, struct err *err) {
    struct kv_txn t = {0};
    struct doc_scan scan = {0};
    struct arena a;
    struct key prefix = key_of(KEY_UPLOAD), old[BATCH];
    size_t n = 0;
    enum status st = STATUS_OK;
    arena_init(&a, (size_t)64 << 20);
    TRY(kv_begin(s->meta, NULL, true, &t, err));
    TRY(doc_scan_open(&t, &prefix, false, &scan, err));
    while (n < BATCH) {
        arena_clear(&a);
        TRY(doc_scan_next(&scan, &a, err));
        if (scan.value == NULL)
            break;
        if (value_get_int(scan.value, "time_ns", 0) >= before_ns)
            continue;
        old[n] = prefix;
        key_add(&old[n++], scan.name, scan.name_len);
    }
    doc_scan_close(&scan);
    for (size_t i = 0; i < n; i++)
        TRY(doc_del(&t, &old[i], NULL, err));
    if (n > 0)
        TRY(kv_commit(&t, err));
out:
    doc_scan_close(&scan);
    kv_abort(&t);
    arena_release(&a);
    return st;
}

/* ---- blobs without a reference ---- */

struct dead {
    struct digest digest;
    enum blob_place place;
};

static enum status find_dead(struct store *s, int64_t now, struct dead *out, size_t *n,
                             struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    struct key prefix = key_of(KEY_BLOB);
    struct blob_record b;
    enum status st = STATUS_OK;
    *n = 0;
    TRY(kv_begin(s->meta, NULL, false, &t, err));
    TRY(kv_cursor_open(&t, &c, err));
    TRY(kv_seek(&c, key_bytes(&prefix), err));
    while (kv_begins(c.key, key_bytes(&prefix)) && *n < BATCH) {
        TRY(blob_record_decode(c.value, &b, err));
        int64_t kept = b.complete ? CLEANUP_BLOB_NS : CLEANUP_UPLOAD_NS;
        bool reachable = blobs_reach(&s->blobs, b.place);
        if (b.references == 0 && now - b.touched_ns > kept && reachable &&
            c.key.len == 1 + DIGEST_BYTES) {
            memcpy(out[*n].digest.bytes, (const char *)c.key.data + 1, DIGEST_BYTES);
            out[(*n)++].place = b.place;
        }
        TRY(kv_next(&c, err));
    }
out:
    kv_cursor_close(&c);
    kv_abort(&t);
    return st;
}

static enum status forget_record(struct store *s, const struct digest *d, struct err *err) {
    struct kv_txn t = {0};
    enum status st = STATUS_OK;
    TRY(kv_begin(s->meta, NULL, true, &t, err));
    TRY(blob_record_forget(&t, d, err));
    TRY(kv_commit(&t, err));
out:
    kv_abort(&t);
    return st;
}

static enum status remove_dead(struct store *s, const struct dead *d, struct err *err) {
    enum status st = STATUS_OK;
    if (d->place == BLOB_IN_FILE)
        TRY(blobs_remove(&s->blobs, d->place, &d->digest, err));
    TRY(forget_record(s, &d->digest, err));
    if (d->place == BLOB_IN_LMDB)
        TRY(blobs_remove(&s->blobs, d->place, &d->digest, err));
out:
    return st;
}

/* ---- chunks without a record ---- */

static bool digest_step(struct digest *d) {
    for (size_t i = DIGEST_BYTES; i-- > 0;)
        if (++d->bytes[i] != 0)
            return true;
    return false;
}

static enum status has_record(struct store *s, const struct digest *d, bool *found,
                              struct err *err) {
    struct kv_txn t = {0};
    struct blob_record b;
    enum status st = STATUS_OK;
    TRY(kv_begin(s->meta, NULL, false, &t, err));
    TRY(blob_record_load(&t, d, &b, found, err));
out:
    kv_abort(&t);
    return st;
}

static enum status remove_orphans(struct store *s, struct err *err) {
    struct digest d = {{0}};
    bool found, known;
    enum status st = STATUS_OK;
    do {
        TRY(blobs_next(&s->blobs, &d, &found, err));
        if (!found)
            break;
        TRY(has_record(s, &d, &known, err));
        if (!known)
            TRY(blobs_remove(&s->blobs, BLOB_IN_LMDB, &d, err));
    } while (digest_step(&d));
    s->orphans_checked = true;
out:
    return st;
}

enum status cleanup_run(struct store *s, struct err *err) {
    struct dead dead[BATCH];
    int64_t now = clock_wall_ns(s->clock);
    size_t n;
    enum status st = STATUS_OK;
    TRY(forget_uploads(s, now - CLEANUP_UPLOAD_NS, err));
    TRY(find_dead(s, now, dead, &n, err));
    for (size_t i = 0; i < n; i++)
        TRY(remove_dead(s, &dead[i], err));
    if (!s->orphans_checked)
        TRY(remove_orphans(s, err));
out:
    return st;
}
