/* Bytes of a file in order, plain or gzip (known by its first two bytes, not by its name). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "core/bytes.h"
#include "core/path.h"
#include "worker/data/source.h"

#define PUMP_BYTES       ((size_t)1 << 20) /* decoded, between two calls of the pump */
#define READ_BYTES       ((size_t)256 << 10)
#define DEFLATE_MAX      ((size_t)1032) /* decoded bytes per byte, at most (zlib notes) */
#define WINDOW_WITH_GZIP (15 + 16)

struct source {
    int fd;
    char path[PATH_TEXT_MAX];
    const struct pump *pump;
    int64_t size;     /* of the file */
    uint64_t offset;  /* decoded bytes handed out */
    bool gzip, ended; /* ended: the last member's CRC was right */
    bool have_stream;
    z_stream z;
    uint8_t *in;       /* READ_BYTES */
    size_t at, filled; /* of in */
};

const char *source_path(const struct source *s) {
    return s->path;
}

int64_t source_size(const struct source *s) {
    return s->size;
}

/* Reads on when `in` is used up; filled == 0 at the end of the file. */
static enum status refill(struct source *s, struct err *err) {
    if (s->at < s->filled)
        return STATUS_OK;
    s->at = s->filled = 0;
    ssize_t got;
    do
        got = read(s->fd, s->in, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_errno(err, errno, "%s: read", s->path);
    s->filled = (size_t)got;
    return STATUS_OK;
}

static enum status look(struct source *s, struct err *err) {
    struct stat about;
    if (fstat(s->fd, &about) != 0)
        return err_errno(err, errno, "%s", s->path);
    if (!S_ISREG(about.st_mode))
        return err_set(err, STATUS_INVALID, "%s: not a regular file", s->path);
    if (about.st_size == 0)
        return err_set(err, STATUS_INVALID, "%s: the file is empty", s->path);
    s->size = about.st_size;
    enum status st = refill(s, err);
    if (st != STATUS_OK)
        return st;
    s->gzip = s->filled >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b;
    if (s->gzip && inflateInit2(&s->z, WINDOW_WITH_GZIP) != Z_OK)
        return err_set(err, STATUS_NOMEM, "%s: out of memory", s->path);
    s->have_stream = s->gzip;
    return STATUS_OK;
}

enum status source_open(const char *path, const struct pump *pump, struct source **out,
                        struct err *err) {
    if (strlen(path) >= PATH_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "data file's path has more than %d bytes",
                       PATH_TEXT_MAX - 1);
    struct source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "%s: out of memory", path);
    enum status st = STATUS_OK;
    memcpy(s->path, path, strlen(path) + 1);
    s->pump = pump;
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        st = err_errno(err, errno, "data file %s", path);
        goto out;
    }
    s->in = malloc(READ_BYTES);
    if (s->in == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", path);
        goto out;
    }
    TRY(look(s, err));
    *out = s;
    s = NULL;
out:
    source_close(&s);
    return st;
}

void source_close(struct source **ps) {
    struct source *s = *ps;
    if (s == NULL)
        return;
    if (s->have_stream)
        inflateEnd(&s->z);
    if (s->fd >= 0)
        close(s->fd);
    free(s->in);
    free(s);
    *ps = NULL;
}

size_t source_bound(const struct source *s) {
    size_t bound = SOURCE_BYTES_MAX;
    if (!s->gzip)
        bound = (size_t)s->size - (size_t)s->offset;
    else if (!bytes_mul((size_t)s->size, DEFLATE_MAX, &bound))
        bound = SOURCE_BYTES_MAX;
    return bound < SOURCE_BYTES_MAX ? bound : SOURCE_BYTES_MAX;
}

static enum status some_plain(struct source *s, uint8_t *out, size_t len, size_t *got,
                              struct err *err) {
    enum status st = refill(s, err);
    size_t n = s->filled - s->at;
    *got = n < len ? n : len;
    memcpy(out, s->in + s->at, *got);
    s->at += *got;
    return st;
}

/* One call of inflate. *got == 0 only at the end of the last member. */
static enum status some_gzip(struct source *s, uint8_t *out, size_t len, size_t *got,
                             struct err *err) {
    *got = 0;
    while (*got == 0) {
        enum status st = refill(s, err);
        if (st != STATUS_OK)
            return st;
        if (s->ended && s->filled == 0)
            return STATUS_OK;
        if (s->ended) { /* members may follow one another */
            if (s->in[s->at] != 0x1f)
                return err_set(err, STATUS_CORRUPT, "%s: bytes after the end of the gzip data",
                               s->path);
            inflateReset(&s->z);
            s->ended = false;
        }
        if (s->filled == 0)
            return err_set(err, STATUS_CORRUPT,
                           "%s: truncated: the gzip data breaks off after %llu decoded bytes",
                           s->path, (unsigned long long)s->offset);
        s->z.next_in = s->in + s->at;
        s->z.avail_in = (uInt)(s->filled - s->at);
        s->z.next_out = out;
        s->z.avail_out = (uInt)len;
        int rc = inflate(&s->z, Z_NO_FLUSH);
        s->at = s->filled - s->z.avail_in;
        *got = len - s->z.avail_out;
        if (rc == Z_STREAM_END)
            s->ended = true;
        else if (rc == Z_MEM_ERROR)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", s->path);
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return err_set(err, STATUS_CORRUPT,
                           "%s: gzip data is damaged (%s) near decoded byte %llu", s->path,
                           s->z.msg != NULL ? s->z.msg : "wrong format",
                           (unsigned long long)s->offset + *got);
    }
    return STATUS_OK;
}

static enum status some(struct source *s, uint8_t *out, size_t len, size_t *got, struct err *err) {
    if (len > PUMP_BYTES)
        len = PUMP_BYTES;
    enum status st = s->gzip ? some_gzip(s, out, len, got, err) : some_plain(s, out, len, got, err);
    if (st != STATUS_OK)
        return st;
    if ((s->offset + *got) / PUMP_BYTES != s->offset / PUMP_BYTES)
        pump_now(s->pump);
    s->offset += *got;
    return STATUS_OK;
}

enum status source_read(struct source *s, void *bytes, size_t len, struct err *err) {
    uint8_t *out = bytes;
    while (len > 0) {
        size_t got = 0;
        enum status st = some(s, out, len, &got, err);
        if (st != STATUS_OK)
            return st;
        if (got == 0)
            return err_set(err, STATUS_CORRUPT,
                           "%s: truncated at byte %llu, where %zu more bytes were announced",
                           s->path, (unsigned long long)s->offset, len);
        out += got;
        len -= got;
    }
    return STATUS_OK;
}

enum status source_end(struct source *s, struct err *err) {
    uint8_t byte;
    size_t got = 0;
    enum status st = some(s, &byte, 1, &got, err);
    if (st == STATUS_OK && got > 0)
        st = err_set(err, STATUS_CORRUPT, "%s: bytes after the announced end (offset %llu)",
                     s->path, (unsigned long long)s->offset - 1);
    return st;
}

enum status source_rest(struct source *s, char **text, size_t *len, struct err *err) {
    size_t cap = s->gzip ? (size_t)s->size * 4 : (size_t)s->size, n = 0;
    char *out = malloc(cap + 1);
    enum status st = STATUS_OK;
    for (;;) {
        if (out == NULL) {
            st = err_set(err, STATUS_NOMEM, "%s: out of memory", s->path);
            goto out;
        }
        size_t got = 0;
        TRY(some(s, (uint8_t *)out + n, cap + 1 - n, &got, err));
        if (got == 0)
            break;
        n += got;
        if (n <= cap)
            continue;
        if (cap >= SOURCE_BYTES_MAX / 2) {
            st = err_set(err, STATUS_TOO_LARGE, "%s: more than %zu bytes", s->path,
                         SOURCE_BYTES_MAX);
            goto out;
        }
        cap = cap * 2 + 1;
        char *more = realloc(out, cap + 1);
        if (more == NULL)
            free(out);
        out = more;
    }
    out[n] = '\0';
    *text = out;
    *len = n;
    out = NULL;
out:
    free(out);
    return st;
}
