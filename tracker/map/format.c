/* The format record, read, written and migrated. */
#include "tracker/map/format.h"

#include <string.h>

#include "core/bytes.h"
#include "tracker/map/docs.h"
#include "tracker/map/seal.h"

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_CREATED = 12,
    AT_CHUNK = 20,
    AT_STORE = 24,
    AT_ROLE = 50,
    RECORD_BYTES = 51,
};

static const char magic[8] = "TRIREME";

/* ---- migrations ---- */

/* Kinds whose values are documents in parts; the others are whole. */
static const char documents[] = "erCDYptagwWUvMNAuR";

/* The least key after `key`, or after the document that it is a part of. */
static void pass(struct key *key, bool is_document) {
    static const uint8_t end[3] = {0xff, 0xff, 0xff};
    if (is_document)
        key->len -= 2;
    key_add(key, is_document ? end : (const uint8_t *)"", is_document ? sizeof end : 1);
}

/* From the format without heads: what stands at `key` is read as it is, and written with one. */
static enum status seal_one(struct kv_txn *t, struct key *key, struct arena *a, bool is_document,
                            struct err *err) {
    struct key name = *key;
    struct kv_bytes v;
    enum status st = STATUS_OK;
    name.len -= is_document ? 2 : 0;
    if (is_document)
        TRY(doc_get(t, &name, a, &v, err));
    else
        TRY(kv_get(t, key_bytes(key), &v, err));
    struct err none;
    struct kv_bytes again = v;
    if (v.data != NULL && !is_document && seal_open(key_bytes(key), &again, &none) == STATUS_OK)
        TRY(err_set(err, STATUS_CORRUPT,
                    "the format record says 1, but records have heads already; restore a backup"));
    if (v.data == NULL)
        TRY(err_set(err, STATUS_CORRUPT,
                    "a stored record has lost its beginning; restore a backup"));
    const char *copy = arena_copy(a, v.data, v.len);
    if (copy == NULL)
        TRY(err_set(err, STATUS_NOMEM, "out of memory while the store was migrated"));
    kv_set_sealed(t->kv, true);
    st = is_document ? doc_put_new(t, &name, copy, v.len, err)
                     : kv_put(t, key_bytes(key), (struct kv_bytes){copy, v.len}, err);
    kv_set_sealed(t->kv, false);
out:
    return st;
}

/* 1 to 2: each record gets a head. Key by key, in their order, in the one transaction. */
static enum status migrate_1(struct kv_txn *meta, struct err *err) {
    struct key at = {.len = 0};
    struct arena a;
    enum status st = STATUS_OK;
    arena_init(&a, (size_t)64 << 20);
    key_add(&at, "", 1);
    for (;;) {
        struct kv_cursor c = {0};
        TRY(kv_cursor_open(meta, &c, err));
        st = kv_seek(&c, key_bytes(&at), err);
        bool end = st != STATUS_OK || c.key.data == NULL;
        if (!end) {
            at.len = 0;
            key_add(&at, c.key.data, c.key.len);
        }
        kv_cursor_close(&c);
        if (end)
            break;
        bool is_document = at.len > 2 && strchr(documents, at.bytes[0]) != NULL;
        arena_clear(&a);
        if (seal_covers(key_bytes(&at)))
            TRY(seal_one(meta, &at, &a, is_document, err));
        pass(&at, is_document);
    }
out:
    arena_release(&a);
    return st;
}

/* One step from `from` to `from` + 1, inside one transaction of the meta environment. */
struct migration {
    uint32_t from;
    enum status (*run)(struct kv_txn *meta, struct err *err);
};

/* A step is never removed. */
static const struct migration migrations[] = {{1, migrate_1}};

struct format {
    bool present;
    uint32_t version;
    char role; /* 'm' or 'b' */
    int64_t created_ns;
    char store[ULID_TEXT];
};

static enum status read_record(struct kv *kv, char role, const char *name, struct format *out,
                               struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    struct key k = key_of(KEY_FORMAT);
    struct kv_bytes v;
    enum status st = STATUS_OK;
    *out = (struct format){.role = role};
    TRY(kv_begin(kv, NULL, false, &t, err));
    TRY(kv_get(&t, key_bytes(&k), &v, err));
    if (v.data == NULL) {
        TRY(kv_cursor_open(&t, &c, err));
        TRY(kv_seek(&c, (struct kv_bytes){"", 1}, err));
        if (c.key.data != NULL)
            st = err_set(
                err, STATUS_CORRUPT,
                "%s is the LMDB map of another program (no format record); name another directory",
                name);
        goto out;
    }
    const uint8_t *b = v.data;
    if (v.len < AT_CREATED || memcmp(b + AT_MAGIC, magic, sizeof magic) != 0)
        TRY(err_set(err, STATUS_CORRUPT,
                    "%s: the format record is not Trireme's; name another directory", name));
    out->version = bytes_get_u32(b + AT_VERSION);
    if (out->version > STORE_FORMAT)
        TRY(err_set(err, STATUS_TOO_NEW,
                    "%s has format %u, but this program reads up to %d; use a newer program", name,
                    out->version, STORE_FORMAT));
    if (v.len != RECORD_BYTES || b[AT_ROLE] != (uint8_t)role || out->version == 0)
        TRY(err_set(err, STATUS_CORRUPT, "%s: the format record is damaged; restore a backup",
                    name));
    if (bytes_get_u32(b + AT_CHUNK) != (uint32_t)STORE_CHUNK)
        TRY(err_set(err, STATUS_CORRUPT, "%s: the format record is damaged; restore a backup",
                    name));
    memcpy(out->store, b + AT_STORE, ULID_LEN);
    out->present = true;
out:
    kv_cursor_close(&c);
    kv_abort(&t);
    return st;
}

static enum status put_record(struct kv_txn *t, const struct format *f, struct err *err) {
    uint8_t b[RECORD_BYTES];
    struct key k = key_of(KEY_FORMAT);
    memcpy(b + AT_MAGIC, magic, sizeof magic);
    bytes_put_u32(b + AT_VERSION, f->version);
    bytes_put_u64(b + AT_CREATED, (uint64_t)f->created_ns);
    bytes_put_u32(b + AT_CHUNK, (uint32_t)STORE_CHUNK);
    memcpy(b + AT_STORE, f->store, ULID_LEN);
    b[AT_ROLE] = (uint8_t)f->role;
    return kv_put(t, key_bytes(&k), (struct kv_bytes){b, sizeof b}, err);
}

static enum status create(const struct format_halves *h, char role, const char *store,
                          struct err *err) {
    struct format f = {
        .version = STORE_FORMAT, .role = role, .created_ns = clock_wall_ns(h->clock)};
    struct kv_txn t = {0};
    enum status st = STATUS_OK;
    memcpy(f.store, store, ULID_LEN);
    TRY(kv_begin(role == 'm' ? h->meta : h->blobs, NULL, true, &t, err));
    TRY(put_record(&t, &f, err));
    TRY(kv_commit(&t, err));
out:
    kv_abort(&t);
    return st;
}

static enum status migrate(const struct format_halves *h, struct format *f, struct err *err) {
    struct kv_txn t = {0};
    enum status st = STATUS_OK;
    if (f->version == STORE_FORMAT)
        return STATUS_OK;
    TRY(kv_begin(h->meta, NULL, true, &t, err));
    for (; f->version < STORE_FORMAT; f->version++) {
        const struct migration *m = NULL;
        for (size_t i = 0; i < sizeof migrations / sizeof migrations[0]; i++)
            if (migrations[i].run != NULL && migrations[i].from == f->version)
                m = &migrations[i];
        if (m == NULL || m->run == NULL)
            TRY(err_set(err, STATUS_INTERNAL, "no migration from format %u", f->version));
        TRY(m->run(&t, err));
    }
    f->created_ns = clock_wall_ns(h->clock);
    TRY(put_record(&t, f, err));
    TRY(kv_commit(&t, err));
out:
    kv_abort(&t);
    return st;
}

enum status format_check(const struct format_halves *h, const char *dir, struct err *err) {
    struct format meta, blobs;
    enum status st = STATUS_OK;
    TRY(read_record(h->meta, 'm', "meta/", &meta, err));
    TRY(read_record(h->blobs, 'b', "blobs/", &blobs, err));
    /* Creation writes blobs first: a crash between the two leaves a store without a meta record and
     * without anything in it. */
    if (!meta.present) {
        if (!blobs.present) {
            TRY(ulid_new(blobs.store, err));
            TRY(create(h, 'b', blobs.store, err));
        }
        TRY(create(h, 'm', blobs.store, err));
        kv_set_sealed(h->meta, true);
        return STATUS_OK;
    }
    if (!blobs.present)
        TRY(err_set(err, STATUS_CORRUPT, "blobs/ is empty, but meta/ is not; restore a backup"));
    if (strcmp(meta.store, blobs.store) != 0)
        TRY(err_set(err, STATUS_CORRUPT,
                    "meta/ and blobs/ belong to different stores (%s, %s); restore both from one "
                    "backup",
                    meta.store, blobs.store));
    TRY(migrate(h, &meta, err));
    kv_set_sealed(h->meta, true);
out:
    return st == STATUS_OK ? st : err_wrap(err, st, "store %s", dir);
}
