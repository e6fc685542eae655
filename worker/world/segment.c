/* Shared memory whose pages are taken before they are used. */
#include "worker/world/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_DIRECTORY "/dev/shm"

const char *segment_directory(void) {
    const char *named = getenv("OMPI_MCA_osc_sm_backing_directory");
    return named != NULL && access(named, W_OK) == 0 ? named : DEFAULT_DIRECTORY;
}

static enum status failed(struct err *err, int code, const struct segment *s, const char *what) {
    enum status st =
        err_errno(err, code, "%s %zu bytes of shared memory in %s", what, s->bytes, s->path);
    return code == ENOSPC || code == ENOMEM ? STATUS_FULL : st;
}

enum status segment_create(struct segment *s, size_t bytes, struct err *err) {
    *s = (struct segment){.fd = -1, .bytes = bytes};
    int n = snprintf(s->path, sizeof s->path, "%s/trireme-world-XXXXXX", segment_directory());
    if (n < 0 || (size_t)n >= sizeof s->path)
        return err_set(err, STATUS_TOO_LARGE, "the path of %.200s is too long", s->path);
    s->fd = mkostemp(s->path, O_CLOEXEC);
    if (s->fd < 0)
        return failed(err, errno, s, "create");
    if (ftruncate(s->fd, (off_t)bytes) != 0)
        return failed(err, errno, s, "create");
    return STATUS_OK;
}

enum status segment_open(struct segment *s, const char *path, size_t bytes, struct err *err) {
    *s = (struct segment){.fd = -1, .bytes = bytes};
    (void)snprintf(s->path, sizeof s->path, "%s", path);
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    return s->fd >= 0 ? STATUS_OK : failed(err, errno, s, "open");
}

enum status segment_take(struct segment *s, size_t at, size_t len, struct err *err) {
    int code;
    do
        code = posix_fallocate(s->fd, (off_t)at, (off_t)len);
    while (code == EINTR);
    return code == 0 ? STATUS_OK : failed(err, code, s, "take");
}

enum status segment_map(struct segment *s, struct err *err) {
    void *p = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (p == MAP_FAILED)
        return failed(err, errno, s, "map");
    s->base = p;
    return STATUS_OK;
}

void segment_unlink(struct segment *s) {
    if (s->path[0] != '\0')
        (void)unlink(s->path);
}

void segment_release(struct segment *s) {
    if (s->base != NULL)
        (void)munmap(s->base, s->bytes);
    if (s->fd >= 0 && s->bytes > 0)
        (void)close(s->fd);
    *s = (struct segment){.fd = -1};
}
