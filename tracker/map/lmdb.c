/* The ordered map on LMDB 0.9: the only file that includes lmdb.h. */
#include <lmdb.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/log.h"
#include "core/path.h"
#include "tracker/map/kv.h"
#include "tracker/map/seal.h"

#define COMMIT_ROOM_BYTES ((uint64_t)16 << 20)
#define PAGE_HEADER       16 /* of LMDB 0.9 */
#define IS_OVERFLOW       4

struct kv {
    MDB_env *env;
    MDB_dbi dbi;
    size_t page_bytes;
    bool sealed;      /* records have heads */
    atomic_bool lost; /* kv_is_lost */
};

static enum status fail(struct err *err, int rc, const char *what) {
    switch (rc) {
    case MDB_MAP_FULL:
        return err_set(
            err, STATUS_FULL,
            "%s: the store's map is full; start the tracker with a larger --map-size, delete "
            "artifacts or start a new store",
            what);
    case MDB_TXN_FULL:
        return err_set(err, STATUS_FULL,
                       "%s: too many changes in one transaction; send fewer in one request", what);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return err_set(err, STATUS_CORRUPT, "%s: %s", what, mdb_strerror(rc));
    case MDB_PANIC:
        return err_set(err, STATUS_IO,
                       "%s: an earlier write of a header page failed; restart the tracker", what);
    case MDB_READERS_FULL:
        return err_set(err, STATUS_BUSY, "%s: all %d reader slots are taken; try again", what,
                       KV_READERS_MAX);
    default:
        break;
    }
    if (rc > 0)
        return err_errno(err, rc, "%s", what);
    return err_set(err, STATUS_INTERNAL, "%s: %s", what, mdb_strerror(rc));
}

static MDB_txn *txn_of(struct kv_txn *t) {
    return t->txn;
}

static MDB_val val_of(struct kv_bytes s) {
    /* LMDB reads through mv_data and never writes; its type just lacks the const. */
    union {
        const void *in;
        void *out;
    } u = {.in = s.data};
    return (MDB_val){.mv_size = s.len, .mv_data = u.out};
}

/* ---- open ---- */

/* LMDB asserts on what kv_check_trees found right when the store was opened: the file was changed
 * under it. There is no way on, and nothing that was acknowledged is in memory. */
static void on_assert(MDB_env *env, const char *text) {
    const char *dir = "the store";
    (void)mdb_env_get_path(env, &dir);
    (void)fprintf(stderr, "%s/data.mdb is damaged (%s); restore a backup of both its halves\n", dir,
                  text);
    _exit(status_exit_code(STATUS_CORRUPT));
}

/* Whether so much address space is free. */
static bool fits(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p != MAP_FAILED && munmap(p, bytes) == 0;
}

/* Where address space is short (ulimit -v), a map takes at most half of what there is: the other
 * map, the threads and the requests need the rest. */
static size_t map_that_fits(const char *dir, const struct kv_how *how) {
    size_t bytes = how->map_bytes;
    if (!how->adapt || fits(bytes))
        return bytes;
    while (bytes / 2 >= KV_MAP_LEAST && !fits(bytes)) /* `bytes` fits: half of it is taken */
        bytes /= 2;
    bytes = bytes / 2 >= KV_MAP_LEAST ? bytes / 2 : KV_MAP_LEAST;
    log_line(LOG_WARN, "map-size",
             "dir=%s bytes=%zu wanted=%zu: little address space (ulimit -v); the store can grow to "
             "this size",
             dir, bytes, how->map_bytes);
    return bytes;
}

static enum status open_env(struct kv *kv, const char *dir, size_t map_bytes, struct err *err) {
    int rc = mdb_env_create(&kv->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(kv->env, map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(kv->env, KV_READERS_MAX);
    if (rc == 0)
        rc = mdb_env_set_assert(kv->env, on_assert);
    if (rc == 0)
        rc = mdb_env_open(kv->env, dir, MDB_NOTLS, 0600);
    if (rc == ENOMEM)
        return err_set(err, STATUS_NOMEM,
                       "cannot reserve %zu MiB of address space for %s; raise the limit "
                       "(ulimit -v)%s",
                       map_bytes >> 20, dir,
                       map_bytes > KV_MAP_LEAST ? ", or lower --map-size" : "");
    if (rc == EMFILE)
        return err_set(err, STATUS_BUSY,
                       "too few descriptors to open %s; raise the limit (ulimit -n)", dir);
    return rc == 0 ? STATUS_OK : fail(err, rc, dir);
}

static enum status open_map(struct kv *kv, struct err *err) {
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(kv->env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &kv->dbi);
    if (rc == 0) {
        rc = mdb_txn_commit(txn);
        txn = NULL;
    }
    if (txn != NULL)
        mdb_txn_abort(txn);
    return rc == 0 ? STATUS_OK : fail(err, rc, "open the map");
}

/* Trees of stores of tens of GB are not walked to their end by each start. */
static enum status check_trees(const char *path, const struct kv_file *file, bool whole,
                               struct err *err) {
    struct kv_walk walk = {.limit_ns = whole ? INT64_MAX : KV_WALK_NS, .heads = whole};
    enum status st = kv_check_trees(path, file, &walk, err);
    if (st == STATUS_OK && walk.cut)
        log_line(LOG_WARN, "store-unchecked",
                 "file=%s pages=%llu of=%llu: the others are checked as they are read; "
                 "trireme-tracker --check reads all",
                 path, (unsigned long long)walk.pages,
                 (unsigned long long)(file->main.branches + file->main.leaves +
                                      file->free.branches + file->free.leaves));
    return st;
}

enum status kv_open(const char *dir, const struct kv_how *how, struct kv **out, struct err *err) {
    char path[PATH_TEXT_MAX];
    struct kv_file file;
    enum status st = STATUS_OK;
    *out = NULL;
    struct kv *kv = calloc(1, sizeof *kv);
    if (kv == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while %s was opened", dir);
    TRY(path_join(path, dir, "data.mdb", err));
    TRY(kv_check_file(path, &file, err));
    TRY(check_trees(path, &file, how->whole, err));
    TRY(open_env(kv, dir, map_that_fits(dir, how), err));
    TRY(open_map(kv, err));
    MDB_stat stat;
    (void)mdb_env_stat(kv->env, &stat);
    kv->page_bytes = stat.ms_psize;
    *out = kv;
    return STATUS_OK;
out:
    if (kv->env != NULL)
        mdb_env_close(kv->env);
    free(kv);
    return err_wrap(err, st, "open %s", dir);
}

void kv_close(struct kv **kv) {
    if (*kv == NULL)
        return;
    mdb_env_close((*kv)->env);
    free(*kv);
    *kv = NULL;
}

enum status kv_clear_readers(struct kv *kv, int *cleared, struct err *err) {
    int rc = mdb_reader_check(kv->env, cleared);
    return rc == 0 ? STATUS_OK : fail(err, rc, "clear dead readers");
}

uint64_t kv_size(struct kv *kv) {
    MDB_envinfo info;
    if (mdb_env_info(kv->env, &info) != 0)
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * kv->page_bytes;
}

/* ---- transactions ---- */

enum status kv_begin(struct kv *kv, struct kv_txn *parent, bool write, struct kv_txn *out,
                     struct err *err) {
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(kv->env, parent != NULL ? txn_of(parent) : NULL, write ? 0 : MDB_RDONLY,
                           &txn);
    out->txn = rc == 0 ? txn : NULL;
    out->kv = kv;
    if (rc == MDB_PANIC)
        kv->lost = true;
    return rc == 0 ? STATUS_OK : fail(err, rc, "begin a transaction");
}

bool kv_is_lost(struct kv *kv) {
    return kv->lost;
}

/* LMDB 0.9 reports EIO for a write that came up short, which is how some filesystems say that they
 * are full. A commit writes at most one transaction: less room than that counts as full. */
static int disk_error(MDB_env *env, int rc) {
    struct statvfs disk;
    mdb_filehandle_t fd;
    if (rc != EIO || mdb_env_get_fd(env, &fd) != 0 || fstatvfs(fd, &disk) != 0)
        return rc;
    return (uint64_t)disk.f_bavail * disk.f_frsize < COMMIT_ROOM_BYTES ? ENOSPC : rc;
}

enum status kv_commit(struct kv_txn *t, struct err *err) {
    MDB_env *env = mdb_txn_env(txn_of(t));
    int rc = mdb_txn_commit(txn_of(t));
    t->txn = NULL;
    return rc == 0 ? STATUS_OK : fail(err, disk_error(env, rc), "commit");
}

void kv_abort(struct kv_txn *t) {
    if (t->txn != NULL)
        mdb_txn_abort(txn_of(t));
    t->txn = NULL;
}

void kv_set_sealed(struct kv *kv, bool sealed) {
    kv->sealed = sealed;
}

/* The head of a large value's pages, which opening does not read: LMDB would free as many pages as
 * it says. */
static enum status check_pages(size_t page_bytes, struct kv_bytes key, struct kv_bytes v,
                               struct err *err) {
    if (key.len + v.len <= page_bytes / 2)
        return STATUS_OK; /* within a leaf, mostly */
    const uint8_t *head = (const uint8_t *)v.data - PAGE_HEADER;
    size_t pages = (PAGE_HEADER + v.len + page_bytes - 1) / page_bytes;
    if ((bytes_get_u16(head + 10) & IS_OVERFLOW) != 0 && bytes_get_u32(head + 12) == pages)
        return STATUS_OK;
    return err_set(err, STATUS_CORRUPT, "a page of a large value is damaged; restore a backup");
}

enum status kv_get(struct kv_txn *t, struct kv_bytes key, struct kv_bytes *out, struct err *err) {
    MDB_val k = val_of(key), v = {0};
    *out = (struct kv_bytes){NULL, 0};
    int rc = mdb_get(txn_of(t), t->kv->dbi, &k, &v);
    if (rc == MDB_NOTFOUND)
        return STATUS_OK;
    if (rc != 0)
        return fail(err, rc, "read");
    *out = (struct kv_bytes){v.mv_data, v.mv_size};
    enum status st = check_pages(t->kv->page_bytes, key, *out, err);
    if (st == STATUS_OK && t->kv->sealed && seal_covers(key))
        st = seal_open(key, out, err);
    if (st != STATUS_OK)
        *out = (struct kv_bytes){NULL, 0};
    return st;
}

/* The head goes before the value without a copy of both: LMDB says where it wants them. */
static int put_sealed(struct kv_txn *t, struct kv_bytes key, struct kv_bytes value) {
    uint8_t head[SEAL_BYTES];
    MDB_val k = val_of(key), v = {.mv_size = SEAL_BYTES + value.len};
    seal_make(key, value, head);
    int rc = mdb_put(txn_of(t), t->kv->dbi, &k, &v, MDB_RESERVE);
    if (rc != 0)
        return rc;
    memcpy(v.mv_data, head, SEAL_BYTES);
    if (value.len > 0)
        memmove((char *)v.mv_data + SEAL_BYTES, value.data, value.len);
    return 0;
}

enum status kv_put(struct kv_txn *t, struct kv_bytes key, struct kv_bytes value, struct err *err) {
    MDB_val k = val_of(key), v = val_of(value);
    int rc = t->kv->sealed && seal_covers(key) ? put_sealed(t, key, value)
                                               : mdb_put(txn_of(t), t->kv->dbi, &k, &v, 0);
    return rc == 0 ? STATUS_OK : fail(err, rc, "write");
}

enum status kv_del(struct kv_txn *t, struct kv_bytes key, bool *found, struct err *err) {
    MDB_val k = val_of(key);
    int rc = mdb_del(txn_of(t), t->kv->dbi, &k, NULL);
    if (found != NULL)
        *found = rc == 0;
    return rc == 0 || rc == MDB_NOTFOUND ? STATUS_OK : fail(err, rc, "delete");
}

enum status kv_del_prefix(struct kv_txn *t, struct kv_bytes prefix, size_t limit, size_t *deleted,
                          struct err *err) {
    struct kv_cursor c = {0};
    enum status st = STATUS_OK;
    *deleted = 0;
    TRY(kv_cursor_open(t, &c, err));
    c.sealed = false; /* what goes need not be whole */
    while (*deleted < limit) {
        TRY(kv_seek(&c, prefix, err));
        if (!kv_begins(c.key, prefix))
            break;
        int rc = mdb_cursor_del(c.cursor, 0);
        if (rc != 0)
            TRY(fail(err, rc, "delete"));
        ++*deleted;
    }
out:
    kv_cursor_close(&c);
    return st;
}

/* ---- cursors ---- */

enum status kv_cursor_open(struct kv_txn *t, struct kv_cursor *c, struct err *err) {
    MDB_cursor *cur = NULL;
    int rc = mdb_cursor_open(txn_of(t), t->kv->dbi, &cur);
    *c = (struct kv_cursor){
        .cursor = rc == 0 ? cur : NULL, .sealed = t->kv->sealed, .page_bytes = t->kv->page_bytes};
    return rc == 0 ? STATUS_OK : fail(err, rc, "open a cursor");
}

void kv_cursor_close(struct kv_cursor *c) {
    if (c->cursor != NULL)
        mdb_cursor_close(c->cursor);
    *c = (struct kv_cursor){0};
}

static enum status step(struct kv_cursor *c, MDB_val k, MDB_cursor_op op, struct err *err) {
    MDB_val v = {0};
    int rc = mdb_cursor_get(c->cursor, &k, &v, op);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return fail(err, rc, "read on");
    c->key = rc == 0 ? (struct kv_bytes){k.mv_data, k.mv_size} : (struct kv_bytes){NULL, 0};
    c->value = rc == 0 ? (struct kv_bytes){v.mv_data, v.mv_size} : (struct kv_bytes){NULL, 0};
    enum status st = rc == 0 ? check_pages(c->page_bytes, c->key, c->value, err) : STATUS_OK;
    return st == STATUS_OK && rc == 0 && c->sealed && seal_covers(c->key)
               ? seal_open(c->key, &c->value, err)
               : st;
}

enum status kv_seek(struct kv_cursor *c, struct kv_bytes key, struct err *err) {
    return step(c, val_of(key), MDB_SET_RANGE, err);
}

enum status kv_seek_before(struct kv_cursor *c, struct kv_bytes key, struct err *err) {
    enum status st = kv_seek(c, key, err);
    if (st != STATUS_OK)
        return st;
    return step(c, (MDB_val){0}, c->key.data != NULL ? MDB_PREV : MDB_LAST, err);
}

enum status kv_next(struct kv_cursor *c, struct err *err) {
    return step(c, (MDB_val){0}, MDB_NEXT, err);
}

enum status kv_prev(struct kv_cursor *c, struct err *err) {
    return step(c, (MDB_val){0}, MDB_PREV, err);
}
