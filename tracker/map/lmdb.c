/* The ordered map on LMDB 0.9: the only file that includes lmdb.h. */
#include <lmdb.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/path.h"
#include "tracker/map/kv.h"

#define COMMIT_ROOM_BYTES ((uint64_t)16 << 20)

struct kv {
    MDB_env *env;
    MDB_dbi dbi;
    size_t page_bytes;
};

static enum status fail(struct err *err, int rc, const char *what) {
    switch (rc) {
    case MDB_MAP_FULL:
        return err_set(err, STATUS_FULL,
                       "%s: the store's map is full; delete artifacts or start a new store", what);
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

/* A page number list: marks which of the pages from `first` on are free. */
static void mark_free(const MDB_val *list, uint64_t first, uint64_t count, uint8_t *is_free) {
    size_t n = list->mv_size / sizeof(size_t);
    for (size_t i = 1; i < n; i++) { /* entry 0 is the length */
        size_t page;
        memcpy(&page, (const char *)list->mv_data + i * sizeof page, sizeof page);
        if (page >= first && page - first < count)
            is_free[page - first] = 1;
    }
}

/* A file may end before its last page when the pages past its end are free: LMDB does not write
 * pages that were taken and freed in one transaction. Any other missing page was lost. */
static enum status check_tail(struct kv *kv, uint64_t first, uint64_t count, struct err *err) {
    MDB_txn *txn = NULL;
    MDB_cursor *cur = NULL;
    enum status st = STATUS_OK;
    uint8_t *is_free = calloc(count, 1);
    if (is_free == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while the store was checked");
    int rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
    if (rc == 0)
        rc = mdb_cursor_open(txn, 0, &cur); /* handle 0: the free list */
    MDB_val k, v;
    while (rc == 0 && (rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0)
        mark_free(&v, first, count, is_free);
    if (rc != MDB_NOTFOUND)
        st = err_set(err, STATUS_CORRUPT,
                     "data.mdb is truncated, and its free list with it; restore a backup");
    for (uint64_t i = 0; st == STATUS_OK && i < count; i++)
        if (!is_free[i])
            st = err_set(err, STATUS_CORRUPT,
                         "data.mdb is truncated: page %llu of %llu is missing; restore a backup",
                         (unsigned long long)(first + i), (unsigned long long)(first + count));
    if (cur != NULL)
        mdb_cursor_close(cur);
    if (txn != NULL)
        mdb_txn_abort(txn);
    free(is_free);
    return st;
}

static enum status open_env(struct kv *kv, const char *dir, size_t map_bytes, struct err *err) {
    int rc = mdb_env_create(&kv->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(kv->env, map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(kv->env, KV_READERS_MAX);
    if (rc == 0)
        rc = mdb_env_open(kv->env, dir, MDB_NOTLS, 0600);
    if (rc == ENOMEM)
        return err_set(err, STATUS_NOMEM,
                       "cannot reserve %zu GiB of address space for %s; raise the limit "
                       "(ulimit -v)",
                       map_bytes >> 30, dir);
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

enum status kv_open(const char *dir, size_t map_bytes, struct kv **out, struct err *err) {
    char path[PATH_TEXT_MAX];
    struct kv_file file;
    struct stat before = {0};
    bool stretched = false;
    enum status st = STATUS_OK;
    *out = NULL;
    struct kv *kv = calloc(1, sizeof *kv);
    if (kv == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while %s was opened", dir);
    TRY(path_join(path, dir, "data.mdb", err));
    TRY(kv_check_file(path, &file, err));
    if (file.pages_there < file.pages_used) {
        /* Reading past the end of a mapped file is a SIGBUS: give it its length for the check. */
        if (stat(path, &before) != 0 ||
            truncate(path, (off_t)(file.pages_used * file.page_bytes)) != 0)
            TRY(err_errno(err, errno, "lengthen %s", path));
        stretched = true;
    }
    TRY(open_env(kv, dir, map_bytes, err));
    if (stretched)
        TRY(check_tail(kv, file.pages_there, file.pages_used - file.pages_there, err));
    stretched = false;
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
    if (stretched && truncate(path, before.st_size) != 0)
        return err_wrap(err, st, "(and %s could not be given its old length back)", path);
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
    return rc == 0 ? STATUS_OK : fail(err, rc, "begin a transaction");
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

enum status kv_get(struct kv_txn *t, struct kv_bytes key, struct kv_bytes *out, struct err *err) {
    MDB_val k = val_of(key), v = {0};
    *out = (struct kv_bytes){NULL, 0};
    int rc = mdb_get(txn_of(t), t->kv->dbi, &k, &v);
    if (rc == MDB_NOTFOUND)
        return STATUS_OK;
    if (rc != 0)
        return fail(err, rc, "read");
    *out = (struct kv_bytes){v.mv_data, v.mv_size};
    return STATUS_OK;
}

enum status kv_put(struct kv_txn *t, struct kv_bytes key, struct kv_bytes value, struct err *err) {
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(txn_of(t), t->kv->dbi, &k, &v, 0);
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
    *c = (struct kv_cursor){.cursor = rc == 0 ? cur : NULL};
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
    return STATUS_OK;
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
