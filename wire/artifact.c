#include "wire/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL_MS         60000              /* an answer may wait for a slow disk */
#define READ_BYTES      ((int64_t)4 << 20) /* per artifact.get */
#define ARENA_BYTES_MAX ((size_t)64 << 20)

/* Where the bytes come from: memory, or a file where bytes is NULL. */
struct source {
    const uint8_t *bytes;
    int fd;
    const char *file;
    uint64_t len;
};

static enum status source_read(const struct source *s, uint64_t offset, size_t len, uint8_t *buffer,
                               const uint8_t **out, struct err *err) {
    if (s->fd < 0) {
        *out = s->bytes + offset;
        return STATUS_OK;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(s->fd, buffer + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read %s", s->file);
        if (n == 0)
            return err_set(err, STATUS_CONFLICT, "%s became shorter while it was read", s->file);
        done += (size_t)n;
    }
    *out = buffer;
    return STATUS_OK;
}

/* ---- requests ---- */

static struct value *request_begin(struct arena *a, const char *run, const char *path,
                                   uint64_t size, const char *hex, const struct value *meta) {
    struct value *r = message_request(a, "artifact.begin", NULL);
    value_set_string(a, r, "run", run);
    value_set_string(a, r, "path", path);
    value_set_int(a, r, "size", (int64_t)size);
    value_set_string(a, r, "digest", hex);
    if (meta != NULL)
        value_set(a, r, "meta", value_copy(a, meta));
    return r;
}

static struct value *request_chunk(struct arena *a, const char *hex, uint64_t offset) {
    struct value *r = message_request(a, "artifact.chunk", NULL);
    value_set_string(a, r, "digest", hex);
    value_set_int(a, r, "offset", (int64_t)offset);
    return r;
}

static struct value *request_commit(struct arena *a, const char *run, const char *path,
                                    const char *hex) {
    struct value *r = message_request(a, "artifact.commit", NULL);
    value_set_string(a, r, "run", run);
    value_set_string(a, r, "path", path);
    value_set_string(a, r, "digest", hex);
    return r;
}

/* ---- putting ---- */

/* Chunk by chunk, each answered before the next: the answer says where to go on. */
static enum status send_chunks(struct session *s, const struct source *source, const char *hex,
                               uint64_t offset, size_t chunk, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    uint8_t *buffer = source->fd >= 0 ? malloc(chunk) : NULL;
    if (source->fd >= 0 && buffer == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory for a chunk of %zu bytes", chunk);
        goto out;
    }
    while (offset < source->len) {
        uint64_t left = source->len - offset;
        size_t len = left < chunk ? (size_t)left : chunk;
        const uint8_t *bytes = NULL;
        struct session_reply reply;
        arena_clear(&a);
        TRY(source_read(source, offset, len, buffer, &bytes, err));
        struct net_frame frame = {bytes, len};
        TRY(session_call(s, &a, request_chunk(&a, hex, offset), &frame, 1, CALL_MS, &reply, err));
        int64_t next = value_get_int(reply.header, "offset", -1);
        session_reply_release(&reply);
        if (next <= (int64_t)offset || next > (int64_t)source->len) {
            st = err_set(err, STATUS_INTERNAL, "the tracker asks for byte %lld after byte %llu",
                         (long long)next, (unsigned long long)(offset + len));
            goto out;
        }
        offset = (uint64_t)next;
    }
out:
    free(buffer);
    arena_release(&a);
    return st;
}

static enum status put(struct session *s, const char *run, const char *path,
                       const struct source *source, const struct value *meta,
                       const struct digest *digest, struct err *err) {
    char hex[DIGEST_HEX];
    hash_hex(digest, hex);
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    enum status st = STATUS_OK;
    struct session_reply reply;
    TRY(session_call(s, &a, request_begin(&a, run, path, source->len, hex, meta), NULL, 0, CALL_MS,
                     &reply, err));
    bool complete = value_get_bool(reply.header, "complete", false);
    int64_t offset = value_get_int(reply.header, "offset", 0);
    int64_t chunk = value_get_int(reply.header, "chunk", 0);
    session_reply_release(&reply);
    if (chunk < 1 || chunk > (int64_t)NET_FRAME_MAX || offset < 0) {
        st = err_set(err, STATUS_INTERNAL, "the tracker's answer to artifact.begin makes no sense");
        goto out;
    }
    if (!complete)
        TRY(send_chunks(s, source, hex, (uint64_t)offset, (size_t)chunk, err));
    TRY(session_call(s, &a, request_commit(&a, run, path, hex), NULL, 0, CALL_MS, NULL, err));
out:
    arena_release(&a);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact %s", path);
}

enum status artifact_put(struct session *s, const char *run, const char *path, const void *bytes,
                         size_t len, const struct value *meta, struct digest *digest,
                         struct err *err) {
    struct source source = {.bytes = bytes, .fd = -1, .len = len};
    struct digest d;
    hash_bytes(bytes, len, &d);
    if (digest != NULL)
        *digest = d;
    return put(s, run, path, &source, meta, &d, err);
}

static enum status digest_file(const struct source *source, struct digest *out, struct err *err) {
    enum status st = STATUS_OK;
    struct hash *hash = hash_new();
    uint8_t *buffer = malloc((size_t)READ_BYTES);
    if (hash == NULL || buffer == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory while %s is read", source->file);
        goto out;
    }
    for (uint64_t at = 0; at < source->len;) {
        uint64_t left = source->len - at;
        size_t len = left < (uint64_t)READ_BYTES ? (size_t)left : (size_t)READ_BYTES;
        const uint8_t *bytes = NULL;
        TRY(source_read(source, at, len, buffer, &bytes, err));
        hash_add(hash, bytes, len);
        at += len;
    }
    hash_end(hash, out);
out:
    free(buffer);
    hash_destroy(&hash);
    return st;
}

enum status artifact_put_file(struct session *s, const char *run, const char *path,
                              const char *file, struct digest *digest, struct err *err) {
    enum status st = STATUS_OK;
    struct digest d;
    struct stat info;
    struct source source = {.fd = open(file, O_RDONLY | O_CLOEXEC), .file = file};
    if (source.fd < 0)
        return err_errno(err, errno, "open %s", file);
    if (fstat(source.fd, &info) != 0) {
        st = err_errno(err, errno, "%s", file);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        st = err_set(err, STATUS_INVALID, "%s is not a regular file", file);
        goto out;
    }
    source.len = (uint64_t)info.st_size;
    TRY(digest_file(&source, &d, err));
    if (digest != NULL)
        *digest = d;
    TRY(put(s, run, path, &source, NULL, &d, err));
out:
    (void)close(source.fd);
    return st;
}

enum status artifact_post(struct session *s, const char *run, const char *path, const void *bytes,
                          size_t len, const struct value *meta, struct digest *digest,
                          struct err *err) {
    enum status st = STATUS_OK;
    struct digest d;
    char hex[DIGEST_HEX];
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    hash_bytes(bytes, len, &d);
    hash_hex(&d, hex);
    if (digest != NULL)
        *digest = d;
    TRY(session_post(s, request_begin(&a, run, path, len, hex, meta), NULL, 0, err));
    for (size_t at = 0; at < len; at += ARTIFACT_CHUNK) {
        size_t part = len - at < ARTIFACT_CHUNK ? len - at : ARTIFACT_CHUNK;
        struct net_frame frame = {(const uint8_t *)bytes + at, part};
        arena_clear(&a);
        TRY(session_post(s, request_chunk(&a, hex, at), &frame, 1, err));
    }
    TRY(session_post(s, request_commit(&a, run, path, hex), NULL, 0, err));
out:
    arena_release(&a);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact %s", path);
}

/* ---- getting ---- */

static enum status get_part(struct session *s, const char *run, const char *path, struct buf *out,
                            uint64_t *offset, uint64_t *size, struct digest *digest,
                            struct err *err) {
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    struct session_reply reply = {0};
    struct value *r = message_request(&a, "artifact.get", NULL);
    value_set_string(&a, r, "run", run);
    value_set_string(&a, r, "path", path);
    value_set_int(&a, r, "offset", (int64_t)*offset);
    value_set_int(&a, r, "length", READ_BYTES);
    enum status st = STATUS_OK;
    TRY(session_call(s, &a, r, NULL, 0, CALL_MS, &reply, err));
    const char *hex = value_get_string(reply.header, "digest", "");
    int64_t total = value_get_int(reply.header, "size", -1);
    struct digest now;
    TRY(hash_parse(hex, strlen(hex), &now, err));
    size_t got = reply.message.frame_count > 0 ? reply.message.frames[0].len : 0;
    if (total < 0 || *offset + got > (uint64_t)total || (got == 0 && *offset < (uint64_t)total)) {
        st = err_set(err, STATUS_CORRUPT, "the tracker sent %zu bytes at %llu of %lld", got,
                     (unsigned long long)*offset, (long long)total);
        goto out;
    }
    if (*offset > 0 && memcmp(now.bytes, digest->bytes, DIGEST_BYTES) != 0) {
        st = err_set(err, STATUS_CONFLICT, "it was replaced while it was read; read it again");
        goto out;
    }
    *digest = now;
    *size = (uint64_t)total;
    *offset += got;
    if (got > 0)
        buf_add(out, reply.message.frames[0].data, got);
    TRY(buf_status(out, path, err));
out:
    session_reply_release(&reply);
    arena_release(&a);
    return st;
}

enum status artifact_get(struct session *s, const char *run, const char *path, struct buf *out,
                         struct digest *digest, struct err *err) {
    uint64_t offset = 0, size = 0;
    size_t start = out->len;
    struct digest said, real;
    enum status st;
    do {
        st = get_part(s, run, path, out, &offset, &size, &said, err);
    } while (st == STATUS_OK && offset < size);
    if (st == STATUS_OK) {
        hash_bytes(out->data != NULL ? out->data + start : "", out->len - start, &real);
        if (memcmp(real.bytes, said.bytes, DIGEST_BYTES) != 0)
            st = err_set(err, STATUS_CORRUPT, "the bytes do not match their digest");
    }
    if (st != STATUS_OK)
        return err_wrap(err, st, "artifact %s of run %s", path, run);
    if (digest != NULL)
        *digest = said;
    return STATUS_OK;
}
