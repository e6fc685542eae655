/* Bytes of artifacts: in the blobs environment, or in files below a directory. */
#include "tracker/blobs/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/path.h"

/* ---- in LMDB ---- */

static struct key chunk_key(const struct digest *d, uint64_t chunk) {
    struct key k;
    k.len = 0;
    k.over = false;
    key_add(&k, d->bytes, DIGEST_BYTES);
    key_add_be64(&k, chunk);
    return k;
}

static enum status lmdb_write(struct store *s, const struct digest *d, uint64_t chunk,
                              const void *bytes, size_t len, struct err *err) {
    struct key k = chunk_key(d, chunk);
    enum status st = STATUS_OK;
    if (s->group_blobs.txn == NULL)
        TRY(kv_begin(s->blobs, NULL, true, &s->group_blobs, err));
    TRY(kv_put(&s->group_blobs, key_slice(&k), (struct slice){bytes, len}, err));
out:
    return st;
}

static enum status lmdb_read(struct blob_reader *r, const struct digest *d, uint64_t chunk,
                             size_t len, struct buf *out, struct err *err) {
    struct key k = chunk_key(d, chunk);
    struct slice v;
    enum status st = kv_get(r->txn, key_slice(&k), &v, err);
    if (st != STATUS_OK)
        return st;
    if (v.data == NULL)
        return err_set(err, STATUS_NOT_FOUND, "chunk %llu is not there", (unsigned long long)chunk);
    if (v.len != len)
        return err_set(err, STATUS_CORRUPT, "chunk %llu has %zu bytes instead of %zu",
                       (unsigned long long)chunk, v.len, len);
    buf_add(out, v.data, v.len);
    return buf_status(out, "a chunk", err);
}

static enum status lmdb_remove(struct store *s, const struct digest *d, struct err *err) {
    size_t deleted = 0;
    enum status st = STATUS_OK;
    do { /* 64 chunks a transaction: others want to write too */
        struct kv_txn t = {0};
        st = kv_begin(s->blobs, NULL, true, &t, err);
        if (st == STATUS_OK)
            st = kv_del_prefix(&t, (struct slice){d->bytes, DIGEST_BYTES}, 64, &deleted, err);
        if (st == STATUS_OK)
            st = kv_commit(&t, err);
        kv_abort(&t);
    } while (st == STATUS_OK && deleted == 64);
    return st;
}

enum status blob_next(struct store *s, struct digest *d, bool *found, struct err *err) {
    struct kv_txn t = {0};
    struct kv_cursor c = {0};
    enum status st = STATUS_OK;
    *found = false;
    TRY(kv_begin(s->blobs, NULL, false, &t, err));
    TRY(kv_cursor_open(&t, &c, err));
    TRY(kv_seek(&c, (struct slice){d->bytes, DIGEST_BYTES}, err));
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

static enum status file_path(struct store *s, const struct digest *d, const char *suffix,
                             char out[PATH_TEXT_MAX], struct err *err) {
    char hex[DIGEST_HEX];
    hash_hex(d, hex);
    int n = snprintf(out, PATH_TEXT_MAX, "%s/%.2s/%s%s", s->artifact_dir, hex, hex, suffix);
    if (n < 0 || n >= PATH_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "the artifact directory's name is too long");
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
static enum status file_write(struct store *s, const struct digest *d, uint64_t chunk,
                              const void *bytes, size_t len, struct err *err) {
    char path[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    int fd = -1;
    TRY(file_path(s, d, ".part", path, err));
    TRY(make_shard_dir(path, err));
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        TRY(err_errno(err, errno, "open %s", path));
    for (size_t done = 0; done < len;) {
        ssize_t n =
            pwrite(fd, (const char *)bytes + done, len - done, (off_t)(chunk * STORE_CHUNK + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            TRY(err_errno(err, errno, "write %s", path));
        done += (size_t)n;
    }
    if (fsync(fd) != 0)
        TRY(err_errno(err, errno, "fsync %s", path));
    if (chunk == 0)
        TRY(sync_dir_of(path, err));
out:
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static enum status file_open(struct store *s, bool is_upload, const struct digest *d, int *fd,
                             struct err *err) {
    char path[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    if (s->artifact_dir == NULL)
        return err_set(err, STATUS_UNAVAILABLE,
                       "the artifact's bytes lie in a directory; open the store with it "
                       "(--artifact-dir)");
    TRY(file_path(s, d, is_upload ? ".part" : "", path, err));
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT && is_upload) { /* renamed, and its commit lost */
        TRY(file_path(s, d, "", path, err));
        *fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (*fd < 0)
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
            return err_set(err, STATUS_CORRUPT, "an artifact's file is cut short");
        done += (size_t)n;
    }
    return STATUS_OK;
}

static enum status file_remove(struct store *s, const struct digest *d, struct err *err) {
    static const char *const suffix[] = {"", ".part"};
    char path[PATH_TEXT_MAX];
    if (s->artifact_dir == NULL)
        return STATUS_OK;
    for (size_t i = 0; i < 2; i++) {
        enum status st = file_path(s, d, suffix[i], path, err);
        if (st != STATUS_OK)
            return st;
        if (unlink(path) != 0 && errno != ENOENT)
            return err_errno(err, errno, "remove %s", path);
    }
    return STATUS_OK;
}

/* ---- both ---- */

enum status blob_write(struct store *s, const struct digest *d, uint64_t chunk, const void *bytes,
                       size_t len, struct err *err) {
    return s->artifact_dir != NULL ? file_write(s, d, chunk, bytes, len, err)
                                   : lmdb_write(s, d, chunk, bytes, len, err);
}

enum status blob_sync(struct store *s, struct err *err) {
    if (s->group_blobs.txn == NULL)
        return STATUS_OK;
    enum status st = kv_commit(&s->group_blobs, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact chunks");
}

void blob_abort(struct store *s) {
    kv_abort(&s->group_blobs);
}

enum status blob_finish(struct store *s, const struct digest *d, struct err *err) {
    char part[PATH_TEXT_MAX], whole[PATH_TEXT_MAX];
    enum status st = STATUS_OK;
    if (s->artifact_dir == NULL)
        return STATUS_OK;
    TRY(file_path(s, d, ".part", part, err));
    TRY(file_path(s, d, "", whole, err));
    if (rename(part, whole) != 0) {
        /* A commit that was lost after its rename: the file has its name already. */
        if (errno != ENOENT || access(whole, R_OK) != 0)
            TRY(err_errno(err, errno, "rename %s", part));
    }
    TRY(sync_dir_of(whole, err));
out:
    return st;
}

bool blob_present(struct store *s, enum blob_place place, const struct digest *d, bool complete,
                  uint64_t bytes) {
    char path[PATH_TEXT_MAX];
    struct err unused;
    struct stat sb;
    if (place == BLOB_IN_LMDB || bytes == 0)
        return true;
    return s->artifact_dir != NULL &&
           file_path(s, d, complete ? "" : ".part", path, &unused) == STATUS_OK &&
           stat(path, &sb) == 0 && (uint64_t)sb.st_size >= bytes;
}

enum status blob_reader_open(struct store *s, bool in_group, enum blob_place place,
                             const struct digest *d, struct blob_reader *r, struct err *err) {
    *r = (struct blob_reader){.s = s, .fd = -1};
    if (place == BLOB_IN_FILE)
        return file_open(s, in_group, d, &r->fd, err);
    if (in_group && s->group_blobs.txn != NULL) {
        r->txn = &s->group_blobs;
        return STATUS_OK;
    }
    r->txn = &r->snapshot;
    return kv_begin(s->blobs, NULL, false, &r->snapshot, err);
}

enum status blob_read(struct blob_reader *r, const struct digest *d, uint64_t chunk, size_t len,
                      struct buf *out, struct err *err) {
    buf_clear(out);
    return r->fd >= 0 ? file_read(r, chunk, len, out, err) : lmdb_read(r, d, chunk, len, out, err);
}

void blob_reader_close(struct blob_reader *r) {
    kv_abort(&r->snapshot);
    if (r->fd >= 0)
        (void)close(r->fd);
    r->fd = -1;
}

enum status blob_remove(struct store *s, enum blob_place place, const struct digest *d,
                        struct err *err) {
    return place == BLOB_IN_FILE ? file_remove(s, d, err) : lmdb_remove(s, d, err);
}
