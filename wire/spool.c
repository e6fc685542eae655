/* The spool: records appended, read back, forgotten. */
#include "wire/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/path.h"

#define HEADER_BYTES  ((size_t)32)
#define SPOOL_VERSION 1u

static const char magic[8] = {'T', 'R', 'S', 'P', 'O', 'O', 'L', '\n'};

struct spool {
    int fd;
    char path[PATH_TEXT_MAX];
    uint64_t start, read, end, bytes_max;
    uint64_t unread;
};

static uint64_t sum_of(const uint8_t *bytes, size_t len) {
    struct digest d;
    hash_bytes(bytes, len, &d);
    return bytes_get_u64(d.bytes);
}

static enum status write_at(struct spool *s, const uint8_t *bytes, size_t len, uint64_t at,
                            struct err *err) {
    while (len > 0) {
        ssize_t n = pwrite(s->fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(err, n < 0 ? errno : ENOSPC, "write spool %s", s->path);
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return STATUS_OK;
}

/* *len is cut to what the file holds. */
static enum status read_at(struct spool *s, uint8_t *bytes, size_t *len, uint64_t at,
                           struct err *err) {
    size_t done = 0;
    while (done < *len) {
        ssize_t n = pread(s->fd, bytes + done, *len - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read spool %s", s->path);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *len = done;
    return STATUS_OK;
}

static enum status write_header(struct spool *s, struct err *err) {
    uint8_t h[HEADER_BYTES] = {0};
    memcpy(h, magic, sizeof magic);
    bytes_put_u32(h + 8, SPOOL_VERSION);
    bytes_put_u64(h + 16, s->start);
    bytes_put_u64(h + 24, sum_of(h, 24));
    return write_at(s, h, sizeof h, 0, err);
}

/* A header whose checksum is wrong still has its records: they are all sent again, which does no
 * harm. */
static enum status read_header(struct spool *s, bool *fresh, struct err *err) {
    uint8_t h[HEADER_BYTES];
    size_t len = sizeof h;
    enum status st = read_at(s, h, &len, 0, err);
    if (st != STATUS_OK)
        return st;
    *fresh = len == 0;
    s->start = HEADER_BYTES;
    if (*fresh)
        return STATUS_OK;
    if (len < sizeof h || memcmp(h, magic, sizeof magic) != 0)
        return err_set(err, STATUS_CORRUPT, "%s is not a spool; name another file", s->path);
    if (bytes_get_u32(h + 8) > SPOOL_VERSION)
        return err_set(
            err, STATUS_TOO_NEW,
            "spool %s has version %u, but this program reads up to %u; use a newer program",
            s->path, bytes_get_u32(h + 8), SPOOL_VERSION);
    if (bytes_get_u64(h + 24) == sum_of(h, 24) && bytes_get_u64(h + 16) >= HEADER_BYTES)
        s->start = bytes_get_u64(h + 16);
    return STATUS_OK;
}

enum status spool_next(struct spool *s, size_t *len, struct err *err) {
    uint8_t prefix[SPOOL_PREFIX_BYTES];
    size_t got = sizeof prefix;
    *len = 0;
    if (s->read >= s->end)
        return STATUS_OK;
    enum status st = read_at(s, prefix, &got, s->read, err);
    if (st != STATUS_OK)
        return st;
    size_t body = got == sizeof prefix ? bytes_get_u32(prefix) : 0;
    if (body == 0 || body > SPOOL_BODY_MAX || s->read + SPOOL_PREFIX_BYTES + body > s->end)
        return err_set(err, STATUS_CORRUPT, "spool %s: the record at byte %llu is truncated",
                       s->path, (unsigned long long)s->read);
    *len = SPOOL_PREFIX_BYTES + body;
    return STATUS_OK;
}

enum status spool_read(struct spool *s, uint8_t *record, size_t len, struct spool_place *place,
                       struct err *err) {
    size_t got = len;
    enum status st = read_at(s, record, &got, s->read, err);
    if (st != STATUS_OK)
        return st;
    if (got < len ||
        bytes_get_u64(record + 4) != sum_of(record + SPOOL_PREFIX_BYTES, len - SPOOL_PREFIX_BYTES))
        return err_set(err, STATUS_CORRUPT,
                       "spool %s: the record at byte %llu does not match its checksum", s->path,
                       (unsigned long long)s->read);
    *place = (struct spool_place){s->read, s->read + len};
    s->read += len;
    if (s->unread > 0)
        s->unread--;
    return STATUS_OK;
}

/* Counts the whole records and cuts off what follows them. */
static enum status scan(struct spool *s, struct err *err) {
    struct stat file;
    if (fstat(s->fd, &file) != 0)
        return err_errno(err, errno, "spool %s", s->path);
    s->end = (uint64_t)file.st_size;
    if (s->start > s->end)
        s->start = HEADER_BYTES;
    s->read = s->start;
    enum status st = STATUS_OK;
    uint64_t count = 0;
    uint8_t *record = NULL;
    for (;;) {
        size_t len = 0;
        struct spool_place place;
        st = spool_next(s, &len, NULL);
        if (st == STATUS_OK && len == 0)
            break;
        if (st == STATUS_OK) {
            uint8_t *more = realloc(record, len);
            if (more == NULL) {
                st = err_set(err, STATUS_NOMEM, "out of memory while spool %s was read", s->path);
                goto out;
            }
            record = more;
            st = spool_read(s, record, len, &place, err);
        }
        if (st == STATUS_CORRUPT) {
            log_line(LOG_WARN, "spool_torn", "file=%s records=%llu cut_bytes=%llu", s->path,
                     (unsigned long long)count, (unsigned long long)(s->end - s->read));
            s->end = s->read;
            st = ftruncate(s->fd, (off_t)s->end) == 0
                     ? STATUS_OK
                     : err_errno(err, errno, "truncate spool %s", s->path);
            break;
        }
        if (st != STATUS_OK)
            break;
        count++;
    }
    s->unread = count;
    s->read = s->start;
out:
    free(record);
    return st;
}

/* Never as 0, 1 or 2, where a program of somebody else has closed those: its messages would be written into
 * the records. */
static int open_above_stdio(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int why = errno;
    (void)close(fd);
    errno = why;
    return above;
}

enum status spool_open(const char *path, uint64_t bytes_max, struct spool **out, struct err *err) {
    enum status st = STATUS_OK;
    bool fresh = false;
    struct spool *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a spool");
    s->fd = -1;
    s->bytes_max = bytes_max;
    if (strlen(path) >= sizeof s->path) {
        st =
            err_set(err, STATUS_TOO_LARGE, "the path of the spool is longer than %zu bytes: %.60s…",
                    sizeof s->path - 1, path);
        goto out;
    }
    memcpy(s->path, path, strlen(path) + 1);
    s->fd = open_above_stdio(path);
    if (s->fd < 0) {
        st = err_errno(err, errno, "open spool %s", path);
        goto out;
    }
    if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) {
        st = errno == EWOULDBLOCK
                 ? err_set(err, STATUS_BUSY,
                           "spool %s is in use by another process; name another file", path)
                 : err_errno(err, errno, "lock spool %s", path);
        goto out;
    }
    TRY(read_header(s, &fresh, err));
    if (fresh)
        TRY(write_header(s, err));
    TRY(scan(s, err));
    *out = s;
    return STATUS_OK;
out:
    if (s->fd >= 0)
        (void)close(s->fd);
    free(s);
    return st;
}

void spool_close(struct spool **spool) {
    struct spool *s = *spool;
    if (s == NULL)
        return;
    if (s->start >= s->end)
        (void)unlink(s->path);
    else if (fsync(s->fd) != 0)
        log_line(LOG_WARN, "spool_fsync", "file=%s text=\"%s\"", s->path, strerror(errno));
    (void)close(s->fd);
    free(s);
    *spool = NULL;
}

enum status spool_append(struct spool *s, uint8_t *record, size_t len, struct spool_place *place,
                         struct err *err) {
    if (len <= SPOOL_PREFIX_BYTES || len - SPOOL_PREFIX_BYTES > SPOOL_BODY_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a request of %zu bytes does not fit into a spool",
                       len);
    if (len > s->bytes_max - (s->end < s->bytes_max ? s->end : s->bytes_max))
        return err_set(err, STATUS_FULL, "spool %s is full (%llu bytes); is the server running?",
                       s->path, (unsigned long long)s->bytes_max);
    bytes_put_u32(record, (uint32_t)(len - SPOOL_PREFIX_BYTES));
    bytes_put_u64(record + 4, sum_of(record + SPOOL_PREFIX_BYTES, len - SPOOL_PREFIX_BYTES));
    enum status st = write_at(s, record, len, s->end, err);
    if (st != STATUS_OK) {
        /* A record that was half written would be cut off by the next scan anyway. */
        (void)!ftruncate(s->fd, (off_t)s->end);
        return st;
    }
    *place = (struct spool_place){s->end, s->end + len};
    s->end += len;
    s->unread++;
    return STATUS_OK;
}

void spool_skip(struct spool *s) {
    s->read = s->end;
    s->unread = 0;
}

uint64_t spool_unread(const struct spool *s) {
    return s->unread;
}

enum status spool_forget(struct spool *s, uint64_t begin, struct err *err) {
    if (begin > s->read)
        begin = s->read;
    if (begin <= s->start)
        return STATUS_OK;
    s->start = begin;
    if (s->start == s->end) {
        if (ftruncate(s->fd, (off_t)HEADER_BYTES) != 0)
            return err_errno(err, errno, "shrink spool %s", s->path);
        s->start = s->read = s->end = HEADER_BYTES;
    }
    return write_header(s, err);
}
