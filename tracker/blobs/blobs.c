/* Bytes of artifacts: in the blobs environment, or in files in a directory. */
#include "tracker/blobs/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/path.h"
#include "tracker/map/format.h"

enum status blobs_init(struct blobs *b, struct kv *kv, const char *dir, struct err *err) {
    *b = (struct blobs){.kv = kv};
    if (dir == NULL)
        return STATUS_OK;
    enum status st = path_mkdirs(dir, 0700, err);
    if (st != STATUS_OK)
        return st;
    b->dir = strdup(dir);
    return b->dir != NULL
               ? STATUS_OK
               : err_set(err, STATUS_NOMEM, "out of memory for the artifact directory's name");
}

void blobs_release(struct blobs *b) {
    blobs_abort(b);
    free(b->dir);
    b->dir = NULL;
}

enum blob_place blobs_place(const struct blobs *b) {
    return b->dir != NULL ? BLOB_IN_FILE : BLOB_IN_LMDB;
}

bool blobs_reach(const struct blobs *b, enum blob_place place) {
    return place == BLOB_IN_LMDB || b->dir != NULL;
}

/* ---- in LMDB ---- */

static struct key chunk_key(struct blob_chunk chunk) {
    struct key k;
    k.len = 0;
    k.over = false;
    key_add(&k, chunk.digest->bytes, DIGEST_BYTES);
    key_add_be64(&k, chunk.number);
    return k;
}

static enum status lmdb_write(struct blobs *b, struct blob_chunk chunk, struct kv_bytes bytes,
                              struct err *err) {
    struct key k = chunk_key(chunk);
    enum status st = STATUS_OK;
    if (b->txn.txn == NULL)
        TRY(kv_begin(b->kv, NULL, true, &b->txn, err));
    TRY(kv_put(&b->txn, key_bytes(&k), bytes, err));
out:
    return st;
}

static enum status lmdb_read(struct blob_reader *r, uint64_t chunk, size_t len, struct buf *out,
                             struct err *err) {
    struct key k = chunk_key((struct blob_chunk){r->digest, chunk});
    struct kv_bytes v;
    enum status st = kv_get(r->txn, key_bytes(&k), &v, err);
    if (st != STATUS_OK)
        return st;
    if (v.data == NULL)
        return err_set(err, STATUS_NOT_FOUND, "chunk %llu is missing; store the artifact again",
                       (unsigned long long)chunk);
    if (v.len != len)
        return err_set(err, STATUS_CORRUPT, "chunk %llu has %zu bytes instead of %zu",
                       (unsigned long long)chunk, v.len, len);
    buf_add(out, v.data, v.len);
    return buf_status(out, "a chunk", err);
}

#define REMOVE_MAX 64 /* chunks a transaction: others want to write too */

static enum status lmdb_remove(struct blobs *b, const struct digest *d, struct err *err) {
    size_t deleted = 0;
    enum status st = STATUS_OK;
    do {
        struct kv_txn t = {0};
        st = kv_begin(b->kv, NULL, true, &t, err);
        if (st == STATUS_OK)
            st = kv_del_prefix(&t, (struct kv_bytes){d->bytes, DIGEST_BYTES}, REMOVE_MAX, &deleted,
                               err);
        if (st == STATUS_OK)
            st = kv_commit(&t, err);
        kv_abort(&t);
    } while (st == STATUS_OK && deleted == REMOVE_MAX);
    return st;
}

enum status blobs_next(struct blobs *b, struct digest *d, bool *found, struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    enum status st = STATUS_OK;
    *found = false;
    TRY(kv_begin(b->kv, NULL, false, &t, err));
    TRY(kv_cursor_open(&t, &c, err));
    TRY(kv_seek(&c, (struct kv_bytes){d->bytes, DIGEST_BYTES}, err));
    while (c.key.data != NULL && c.key.len != DIGEST_BYTES + 8)
        TRY(kv_next(&c, err)); /* the format record */
    if (c.key.data != NULL) {
        memcpy(d->bytes, c.key.data, DIGEST_BYTES);
        *found = true;
    }
out:
    kv_cursor_close(&c);
    kv_abort(&t);
    return st;
}

/* ---- in files ---- */

static enum status file_path(const struct blobs *b, const struct digest *d, const char *suffix,
                             char out[PATH_TEXT_MAX], struct err *err) {
    char hex[DIGEST_HEX];
    hash_hex(d, hex);
    int n = snprintf(out, PATH_TEXT_MAX, "%s/%.2s/%s%s", b->dir, hex, hex, suffix);
    if (n < 0 || n >= PATH_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "the name of the artifact directory is too long: %.80s…", b->dir);
    return STATUS_OK;
}

static enum status sync_dir_of(const char *path, struct err *err) {
    char dir[PATH_TEXT_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = (size_t)(slash - path);
    memcpy(dir, path, len);
    dir[len] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open %s", dir);
    enum status st = fsync(fd) == 0 ? STATUS_OK : err_errno(err, errno, "fsync %s", dir);
    (void)close(fd);
    return st;
}

static enum status make_shard_dir(const char *path, struct err *err) {
    char dir[PATH_TEXT_MAX];
    size_t len = (size_t)(strrchr(path, '/') - path);
    memcpy(dir, path, len);
    dir[len] = '\0';
    if (mkdir(dir, 0700) == 0)
        return sync_dir_of(dir, err);
    return errno == EEXIST ? STATUS_OK : err_errno(err, errno, "make %s", dir);
}

/* Each chunk is durable when its request is acknowledged, and so is the file's name. */
static enum status file_write(struct blobs *b, struct blob_chunk chunk, struct kv_bytes bytes,
                              struct err *err) {
    char path[PATH_TEXT_MAX];
    uint64_t at = chunk.number * STORE_CHUNK;
    enum status st = STATUS_OK;
    int fd = -1;
    TRY(file_path(b, chunk.digest, ".part", path, err));
    TRY(make_shard_dir(path, err));
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        TRY(err_errno(err, errno, "open %s", path));
    for (size_t done = 0; done < bytes.len;) {
        ssize_t n =
            pwrite(fd, (const char *)bytes.data + done, bytes.len - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            TRY(err_errno(err, errno, "write %s", path));
        done += (size_t)n;
    }
    if (fsync(fd) != 0)
        TRY(err_errno(err, errno, "fsync %s", path));
    if (chunk.number == 0)
        TRY(sync_dir_of(path, err));
out:
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static enum status file_open(struct blob_reader *r, struct err *err) {
    char path[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    if (!blobs_reach(r->blobs, BLOB_IN_FILE))
        return err_set(err, STATUS_UNAVAILABLE,
                       "the artifact's bytes are in a directory; start the tracker with "
                       "--artifact-store DIR");
    TRY(file_path(r->blobs, r->digest, r->upload ? ".part" : "", path, err));
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 && errno == ENOENT && r->upload) { /* renamed, and its commit lost */
        TRY(file_path(r->blobs, r->digest, "", path, err));
        r->fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    r->is_file = r->fd >= 0;
    if (!r->is_file)
        st = err_errno(err, errno, "open %s", path);
out:
    return st;
}

static enum status file_read(struct blob_reader *r, uint64_t chunk, size_t len, struct buf *out,
                             struct err *err) {
    char *at = buf_grow(out, len);
    if (at == NULL)
        return buf_status(out, "a chunk", err);
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(r->fd, at + done, len - done, (off_t)(chunk * STORE_CHUNK + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read an artifact's file");
        if (n == 0)
            return err_set(err, STATUS_CORRUPT,
                           "an artifact's file is truncated; store the artifact again");
        done += (size_t)n;
    }
    return STATUS_OK;
}

static enum status file_remove(struct blobs *b, const struct digest *d, struct err *err) {
    static const char *const suffix[] = {"", ".part"};
    char path[PATH_TEXT_MAX];
    if (b->dir == NULL)
        return STATUS_OK;
    for (size_t i = 0; i < 2; i++) {
        enum status st = file_path(b, d, suffix[i], path, err);
        if (st != STATUS_OK)
            return st;
        if (unlink(path) != 0 && errno != ENOENT)
            return err_errno(err, errno, "remove %s", path);
    }
    return STATUS_OK;
}

/* ---- both ---- */

enum status blobs_write(struct blobs *b, struct blob_chunk chunk, struct kv_bytes bytes,
                        struct err *err) {
    return b->dir != NULL ? file_write(b, chunk, bytes, err) : lmdb_write(b, chunk, bytes, err);
}

enum status blobs_sync(struct blobs *b, struct err *err) {
    if (b->txn.txn == NULL)
        return STATUS_OK;
    enum status st = kv_commit(&b->txn, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact chunks");
}

void blobs_abort(struct blobs *b) {
    kv_abort(&b->txn);
}

enum status blobs_finish(struct blobs *b, const struct digest *d, struct err *err) {
    char part[PATH_TEXT_MAX], whole[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    if (b->dir == NULL)
        return STATUS_OK;
    TRY(file_path(b, d, ".part", part, err));
    TRY(file_path(b, d, "", whole, err));
    if (rename(part, whole) != 0) {
        /* A commit that was lost after its rename: the file has its name already. */
        if (errno != ENOENT || access(whole, R_OK) != 0)
            TRY(err_errno(err, errno, "rename %s", part));
    }
    TRY(sync_dir_of(whole, err));
out:
    return st;
}

bool blobs_present(const struct blobs *b, const struct digest *d, const struct blob_record *r) {
    char path[PATH_TEXT_MAX];
    struct err unused;
    struct stat sb;
    if (r->place == BLOB_IN_LMDB || r->received == 0)
        return true;
    return b->dir != NULL &&
           file_path(b, d, r->complete ? "" : ".part", path, &unused) == STATUS_OK &&
           stat(path, &sb) == 0 && (uint64_t)sb.st_size >= r->received;
}

enum status blob_reader_open(struct blob_reader *r, struct err *err) {
    if (r->place == BLOB_IN_FILE)
        return file_open(r, err);
    if (r->upload && r->blobs->txn.txn != NULL) {
        r->txn = &r->blobs->txn;
        return STATUS_OK;
    }
    r->txn = &r->snapshot;
    return kv_begin(r->blobs->kv, NULL, false, &r->snapshot, err);
}

enum status blob_reader_read(struct blob_reader *r, uint64_t chunk, size_t len, struct buf *out,
                             struct err *err) {
    buf_clear(out);
    return r->is_file ? file_read(r, chunk, len, out, err) : lmdb_read(r, chunk, len, out, err);
}

void blob_reader_close(struct blob_reader *r) {
    kv_abort(&r->snapshot);
    if (r->is_file)
        (void)close(r->fd);
    r->is_file = false;
}

enum status blobs_remove(struct blobs *b, enum blob_place place, const struct digest *d,
                         struct err *err) {
    return place == BLOB_IN_FILE ? file_remove(b, d, err) : lmdb_remove(b, d, err);
}
