/* Artifacts, put, posted and got. */
#include "wire/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/artifact_path.h"

#define CALL_MS         60000              /* an answer may wait for a slow disk */
#define READ_BYTES      ((int64_t)4 << 20) /* per artifact.get */
#define ARENA_BYTES_MAX ((size_t)64 << 20)
#define LIST_PAGE       10000

/* Where the bytes come from: memory, or a file where bytes is NULL. */
struct source {
    const uint8_t *bytes;
    int fd;
    const char *file;
    uint64_t len;
};

/* Finds part->len bytes from `offset` on; in `buffer` where they come from a file. */
static enum status source_read(const struct source *s, uint64_t offset, uint8_t *buffer,
                               struct net_frame *part, struct err *err) {
    size_t len = part->len;
    if (s->fd < 0) {
        part->data = s->bytes + offset;
        return STATUS_OK;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(s->fd, buffer + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read %s", s->file);
        if (n == 0)
            return err_set(
                err, STATUS_CONFLICT,
                "%s became shorter while it was read; store it when nothing writes to it", s->file);
        done += (size_t)n;
    }
    part->data = buffer;
    return STATUS_OK;
}

/* ---- requests ---- */

static struct value *request_begin(struct arena *a, const struct artifact *what, uint64_t size,
                                   const char *hex) {
    struct value *r = message_request(a, "artifact.begin", NULL);
    value_set_string(a, r, "run", what->run);
    value_set_string(a, r, "path", what->path);
    value_set_int(a, r, "size", (int64_t)size);
    value_set_string(a, r, "digest", hex);
    if (what->meta != NULL)
        value_set(a, r, "meta", value_copy(a, what->meta));
    return r;
}

static struct value *request_chunk(struct arena *a, const char *hex, uint64_t offset) {
    struct value *r = message_request(a, "artifact.chunk", NULL);
    value_set_string(a, r, "digest", hex);
    value_set_int(a, r, "offset", (int64_t)offset);
    return r;
}

static struct value *request_commit(struct arena *a, const struct artifact *what, const char *hex) {
    struct value *r = message_request(a, "artifact.commit", NULL);
    value_set_string(a, r, "run", what->run);
    value_set_string(a, r, "path", what->path);
    value_set_string(a, r, "digest", hex);
    return r;
}

/* ---- putting ---- */

static enum status ask(struct session *s, struct arena *a, const struct value *request,
                       struct session_reply *reply, struct err *err) {
    return session_call(s, a, &(struct session_ask){.request = request, .timeout_ms = CALL_MS},
                        reply, err);
}

/* An upload that was begun: where to go on, and in what steps. */
struct upload {
    const char *hex;
    uint64_t offset;
    size_t chunk;
};

/* One chunk; u->offset moves to where the tracker wants to go on. */
static enum status send_chunk(struct session *s, struct arena *a, struct upload *u,
                              struct net_frame bytes, struct err *err) {
    struct session_reply reply;
    enum status st =
        session_call(s, a,
                     &(struct session_ask){.request = request_chunk(a, u->hex, u->offset),
                                           .frames = {&bytes, 1},
                                           .timeout_ms = CALL_MS},
                     &reply, err);
    if (st != STATUS_OK)
        return st;
    int64_t next = value_get_int(reply.header, "offset", -1);
    session_reply_release(&reply);
    if (next <= (int64_t)u->offset)
        return err_set(err, STATUS_INTERNAL,
                       "the tracker asked for byte %lld again after it got byte %llu",
                       (long long)next, (unsigned long long)(u->offset + bytes.len));
    u->offset = (uint64_t)next;
    return STATUS_OK;
}

/* Chunk by chunk, each answered before the next: the answer says where to go on. */
static enum status send_chunks(struct session *s, const struct source *source, struct upload *u,
                               struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    uint8_t *buffer = source->fd >= 0 ? malloc(u->chunk) : NULL;
    if (source->fd >= 0 && buffer == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory for a chunk of %zu bytes", u->chunk);
        goto out;
    }
    while (u->offset < source->len) {
        uint64_t left = source->len - u->offset;
        struct net_frame part = {.len = left < u->chunk ? (size_t)left : u->chunk};
        arena_clear(&a);
        TRY(source_read(source, u->offset, buffer, &part, err));
        TRY(send_chunk(s, &a, u, part, err));
    }
    if (u->offset > source->len)
        st = err_set(err, STATUS_INTERNAL, "the tracker asked for byte %llu of an artifact of %llu",
                     (unsigned long long)u->offset, (unsigned long long)source->len);
out:
    free(buffer);
    arena_release(&a);
    return st;
}

static enum status put(struct session *s, const struct artifact *what, const struct source *source,
                       const struct digest *digest, struct err *err) {
    char hex[DIGEST_HEX];
    hash_hex(digest, hex);
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    enum status st = STATUS_OK;
    struct session_reply reply;
    TRY(artifact_path_check_new(what->path, err));
    TRY(ask(s, &a, request_begin(&a, what, source->len, hex), &reply, err));
    bool complete = value_get_bool(reply.header, "complete", false);
    int64_t offset = value_get_int(reply.header, "offset", 0);
    int64_t chunk = value_get_int(reply.header, "chunk", 0);
    session_reply_release(&reply);
    if (chunk < 1 || chunk > (int64_t)NET_FRAME_MAX || offset < 0) {
        st = err_set(
            err, STATUS_INTERNAL,
            "the tracker's answer to artifact.begin makes no sense: offset %lld, chunk %lld",
            (long long)offset, (long long)chunk);
        goto out;
    }
    struct upload upload = {.hex = hex, .offset = (uint64_t)offset, .chunk = (size_t)chunk};
    if (!complete)
        TRY(send_chunks(s, source, &upload, err));
    TRY(ask(s, &a, request_commit(&a, what, hex), NULL, err));
out:
    arena_release(&a);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact %s", what->path);
}

enum status artifact_put(struct session *s, const struct artifact *what, struct net_frame bytes,
                         struct digest *digest, struct err *err) {
    struct source source = {.bytes = bytes.data, .fd = -1, .len = bytes.len};
    struct digest d;
    hash_bytes(bytes.data, bytes.len, &d);
    if (digest != NULL)
        *digest = d;
    return put(s, what, &source, &d, err);
}

static enum status digest_file(const struct source *source, struct digest *out, struct err *err) {
    enum status st = STATUS_OK;
    struct hash *hash = hash_new();
    uint8_t *buffer = malloc((size_t)READ_BYTES);
    if (hash == NULL || buffer == NULL) {
        st = err_set(err, STATUS_NOMEM, "out of memory while %s was read", source->file);
        goto out;
    }
    for (uint64_t at = 0; at < source->len;) {
        uint64_t left = source->len - at;
        struct net_frame part = {.len = left < (uint64_t)READ_BYTES ? (size_t)left
                                                                    : (size_t)READ_BYTES};
        TRY(source_read(source, at, buffer, &part, err));
        hash_add(hash, part.data, part.len);
        at += part.len;
    }
    hash_end(hash, out);
out:
    free(buffer);
    hash_destroy(&hash);
    return st;
}

enum status artifact_put_file(struct session *s, const struct artifact *what, const char *file,
                              struct digest *digest, struct err *err) {
    enum status st = STATUS_OK;
    struct digest d;
    struct stat info;
    struct source source = {.fd = -1, .file = file};
    st = artifact_path_check_new(what->path, err);
    if (st != STATUS_OK)
        return st;
    source.fd = open(file, O_RDONLY | O_CLOEXEC);
    if (source.fd < 0)
        return err_errno(err, errno, "open %s", file);
    if (fstat(source.fd, &info) != 0) {
        st = err_errno(err, errno, "%s", file);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        st = err_set(err, STATUS_INVALID, "%s is not a regular file; only files can be stored",
                     file);
        goto out;
    }
    source.len = (uint64_t)info.st_size;
    TRY(digest_file(&source, &d, err));
    if (digest != NULL)
        *digest = d;
    TRY(put(s, what, &source, &d, err));
out:
    (void)close(source.fd);
    return st;
}

enum status artifact_post(struct session *s, const struct artifact *what, struct net_frame bytes,
                          struct digest *digest, struct err *err) {
    enum status st = STATUS_OK;
    struct digest d;
    char hex[DIGEST_HEX];
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    TRY(artifact_path_check_new(what->path, err));
    hash_bytes(bytes.data, bytes.len, &d);
    hash_hex(&d, hex);
    if (digest != NULL)
        *digest = d;
    TRY(session_post(s, request_begin(&a, what, bytes.len, hex), NET_NO_FRAMES, err));
    for (size_t at = 0; at < bytes.len; at += ARTIFACT_CHUNK) {
        size_t part = bytes.len - at < ARTIFACT_CHUNK ? bytes.len - at : ARTIFACT_CHUNK;
        struct net_frame frame = {(const uint8_t *)bytes.data + at, part};
        arena_clear(&a);
        TRY(session_post(s, request_chunk(&a, hex, at), (struct net_frames){&frame, 1}, err));
    }
    TRY(session_post(s, request_commit(&a, what, hex), NET_NO_FRAMES, err));
out:
    arena_release(&a);
    return st == STATUS_OK ? st : err_wrap(err, st, "artifact %s", what->path);
}

/* ---- getting ---- */

/* How far a download has come. */
struct download {
    uint64_t offset, size;
    struct digest digest; /* as announced with the first part */
};

static enum status get_part(struct session *s, const struct artifact *what, struct buf *out,
                            struct download *d, struct err *err) {
    struct arena a;
    arena_init(&a, ARENA_BYTES_MAX);
    struct session_reply reply = {0};
    struct value *r = message_request(&a, "artifact.get", NULL);
    value_set_string(&a, r, "run", what->run);
    value_set_string(&a, r, "path", what->path);
    value_set_int(&a, r, "offset", (int64_t)d->offset);
    value_set_int(&a, r, "length", READ_BYTES);
    enum status st = STATUS_OK;
    TRY(ask(s, &a, r, &reply, err));
    const char *hex = value_get_string(reply.header, "digest", "");
    int64_t total = value_get_int(reply.header, "size", -1);
    struct digest now;
    TRY(hash_parse(hex, strlen(hex), &now, err));
    size_t got = reply.message.frame_count > 0 ? reply.message.frames[0].len : 0;
    if (total < 0 || d->offset + got > (uint64_t)total ||
        (got == 0 && d->offset < (uint64_t)total)) {
        st = err_set(err, STATUS_CORRUPT, "the tracker sent %zu bytes from byte %llu of %lld", got,
                     (unsigned long long)d->offset, (long long)total);
        goto out;
    }
    if (d->offset > 0 && memcmp(now.bytes, d->digest.bytes, DIGEST_BYTES) != 0) {
        st = err_set(err, STATUS_CONFLICT, "it was replaced while it was read; read it again");
        goto out;
    }
    d->digest = now;
    d->size = (uint64_t)total;
    d->offset += got;
    if (got > 0)
        buf_add(out, reply.message.frames[0].data, got);
    TRY(buf_status(out, what->path, err));
out:
    session_reply_release(&reply);
    arena_release(&a);
    return st;
}

enum status artifact_get(struct session *s, const struct artifact *what, struct buf *out,
                         struct digest *digest, struct err *err) {
    struct download d = {.offset = 0};
    size_t start = out->len;
    struct digest real;
    enum status st;
    do {
        st = get_part(s, what, out, &d, err);
    } while (st == STATUS_OK && d.offset < d.size);
    if (st == STATUS_OK) {
        hash_bytes(out->data != NULL ? out->data + start : "", out->len - start, &real);
        if (memcmp(real.bytes, d.digest.bytes, DIGEST_BYTES) != 0)
            st = err_set(err, STATUS_CORRUPT, "the bytes do not match their digest; read it again");
    }
    if (st != STATUS_OK)
        return err_wrap(err, st, "artifact %s of run %s", what->path, what->run);
    if (digest != NULL)
        *digest = d.digest;
    return STATUS_OK;
}

/* ---- list ---- */

enum status artifact_list_all(struct session *s, struct arena *a, struct value *run,
                              struct err *err) {
    const struct value *some = value_get(run, "artifacts");
    int64_t there = some != NULL ? (int64_t)some->count : 0;
    struct value *all = value_list(a);
    const char *after = NULL;
    enum status st = STATUS_OK;
    if (value_get_int(run, "artifacts_total", there) <= there)
        return STATUS_OK;
    for (bool more = true; more;) {
        struct session_reply reply = {.header = NULL};
        struct value *r = message_request(a, "artifact.list", NULL);
        value_set_string(a, r, "run", value_get_string(run, "run", ""));
        value_set_string(a, r, "after", after);
        value_set_int(a, r, "limit", LIST_PAGE);
        TRY(session_call(s, a, &(struct session_ask){.request = r, .timeout_ms = CALL_MS}, &reply,
                         err));
        const struct value *page = value_get(reply.header, "artifacts");
        more = page != NULL && page->count > 0 && value_get_bool(reply.header, "more", false);
        session_reply_release(&reply);
        for (size_t i = 0; page != NULL && i < page->count; i++) {
            value_push(a, all, page->items[i]);
            after = value_get_string(page->items[i], "path", NULL);
        }
    }
    value_set(a, run, "artifacts", all);
    if (run->broken)
        st = err_set(err, STATUS_NOMEM, "out of memory for the artifacts of a run");
out:
    return st;
}
