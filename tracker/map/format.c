/* The format record: the first thing that is written to a store and the first that is read.
 *
 *     'F' ──▶ "TRIREME\0" │ u32 version │ i64 created_ns │ u32 chunk bytes │ 26 store id │ role
 *
 * Both environments hold one with the same store id ('m' and 'b' for role), so that halves of two
 * backups are not taken for one store. */
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/store_impl.h"

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

/* One step from `from` to `from` + 1, inside one transaction of the meta environment. */
struct migration {
    uint32_t from;
    enum status (*run)(struct kv_txn *meta, struct err *err);
};

/* None yet: format 1 is the first. A step stands here for ever. */
static const struct migration migrations[] = {{0, NULL}};

struct format {
    bool present;
    uint32_t version;
    char store[ULID_TEXT];
};

static enum status read_record(struct kv *kv, char role, const char *name, struct format *out,
                               struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    struct key k = key_of(KEY_FORMAT);
    struct slice v;
    enum status st = STATUS_OK;
    *out = (struct format){0};
    TRY(kv_begin(kv, NULL, false, &t, err));
    TRY(kv_get(&t, key_slice(&k), &v, err));
    if (v.data == NULL) {
        TRY(kv_cursor_open(&t, &c, err));
        TRY(kv_seek(&c, (struct slice){"", 1}, err));
        if (c.key.data != NULL)
            st = err_set(err, STATUS_CORRUPT,
                         "%s holds an LMDB map of another program (no format record)", name);
        goto out;
    }
    const uint8_t *b = v.data;
    if (v.len < AT_CREATED || memcmp(b + AT_MAGIC, magic, sizeof magic) != 0)
        TRY(err_set(err, STATUS_CORRUPT, "%s: the format record is not Trireme's", name));
    out->version = bytes_get_u32(b + AT_VERSION);
    if (out->version > STORE_FORMAT)
        TRY(err_set(err, STATUS_TOO_NEW,
                    "%s is of format %u, but this program knows %d; use a newer one", name,
                    out->version, STORE_FORMAT));
    if (v.len != RECORD_BYTES || b[AT_ROLE] != (uint8_t)role || out->version == 0)
        TRY(err_set(err, STATUS_CORRUPT, "%s: the format record is damaged", name));
    memcpy(out->store, b + AT_STORE, ULID_LEN);
    out->present = true;
out:
    kv_cursor_close(&c);
    kv_abort(&t);
    return st;
}

static enum status put_record(struct kv_txn *t, uint32_t version, int64_t created_ns, char role,
                              const char *store, struct err *err) {
    uint8_t b[RECORD_BYTES];
    struct key k = key_of(KEY_FORMAT);
    memcpy(b + AT_MAGIC, magic, sizeof magic);
    bytes_put_u32(b + AT_VERSION, version);
    bytes_put_u64(b + AT_CREATED, (uint64_t)created_ns);
    bytes_put_u32(b + AT_CHUNK, (uint32_t)STORE_CHUNK);
    memcpy(b + AT_STORE, store, ULID_LEN);
    b[AT_ROLE] = (uint8_t)role;
    return kv_put(t, key_slice(&k), (struct slice){b, sizeof b}, err);
}

static enum status create(struct store *s, struct kv *kv, char role, const char *store,
                          struct err *err) {
    struct kv_txn t = {0};
    enum status st = STATUS_OK;
    TRY(kv_begin(kv, NULL, true, &t, err));
    TRY(put_record(&t, STORE_FORMAT, clock_wall_ns(s->clock), role, store, err));
    TRY(kv_commit(&t, err));
out:
    kv_abort(&t);
    return st;
}

static enum status migrate(struct store *s, const struct format *f, struct err *err) {
    struct kv_txn t = {0};
    enum status st = STATUS_OK;
    if (f->version == STORE_FORMAT)
        return STATUS_OK;
    TRY(kv_begin(s->meta, NULL, true, &t, err));
    for (uint32_t v = f->version; v < STORE_FORMAT; v++) {
        const struct migration *m = NULL;
        for (size_t i = 0; i < sizeof migrations / sizeof migrations[0]; i++)
            if (migrations[i].run != NULL && migrations[i].from == v)
                m = &migrations[i];
        if (m == NULL)
            TRY(err_set(err, STATUS_INTERNAL, "no migration from format %u", v));
        TRY(m->run(&t, err));
    }
    TRY(put_record(&t, STORE_FORMAT, clock_wall_ns(s->clock), 'm', f->store, err));
    TRY(kv_commit(&t, err));
out:
    kv_abort(&t);
    return st;
}

enum status format_check(struct store *s, const char *dir, struct err *err) {
    struct format meta, blobs;
    enum status st = STATUS_OK;
    TRY(read_record(s->meta, 'm', "meta/", &meta, err));
    TRY(read_record(s->blobs, 'b', "blobs/", &blobs, err));
    /* Creation writes blobs first: a crash between the two leaves a store without a meta record and
     * without anything in it. */
    if (!meta.present) {
        if (!blobs.present) {
            TRY(ulid_new(blobs.store, err));
            TRY(create(s, s->blobs, 'b', blobs.store, err));
        }
        return create(s, s->meta, 'm', blobs.store, err);
    }
    if (!blobs.present)
        TRY(err_set(err, STATUS_CORRUPT, "blobs/ is empty, but meta/ is not; restore a backup"));
    if (strcmp(meta.store, blobs.store) != 0)
        TRY(err_set(err, STATUS_CORRUPT, "meta/ and blobs/ belong to different stores (%s, %s)",
                    meta.store, blobs.store));
    TRY(migrate(s, &meta, err));
out:
    return st == STATUS_OK ? st : err_wrap(err, st, "store %s", dir);
}
