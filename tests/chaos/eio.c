/* LD_PRELOAD: a disk that fails. Writes and syncs of files below EIO_UNDER, counted in the program EIO_PROGRAM, fail
 * with EIO from the EIO_FIRST-th on, EIO_COUNT of them; once, in the first process that creates the file EIO_ONCE.
 * With EIO_BELOW only those count that say where they write, and write below that offset. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static atomic_int ours = -1; /* -1: nobody has failed yet */

static long number(const char *name) {
    const char *text = getenv(name);
    return text == NULL ? 0 : strtol(text, NULL, 10);
}

static int below(int fd) {
    char link[64], path[4096];
    const char *under = getenv("EIO_UNDER");
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || under == NULL)
        return 0;
    path[n] = 0;
    return strncmp(path, under, strlen(under)) == 0 && strstr(path, "/log/") == NULL;
}

static int fails(int fd, off_t at) {
    const char *program = getenv("EIO_PROGRAM"), *once = getenv("EIO_ONCE");
    int before = errno;
    if (program == NULL || once == NULL || strcmp(program, program_invocation_short_name) != 0 ||
        !below(fd) || (getenv("EIO_BELOW") != NULL && (at < 0 || at >= number("EIO_BELOW")))) {
        errno = before;
        return 0;
    }
    long n = ++calls, first = number("EIO_FIRST");
    if (n >= first && n < first + number("EIO_COUNT")) {
        if (ours < 0) {
            int made = open(once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
            ours = made >= 0;
            if (made >= 0)
                close(made);
        }
        if (ours == 1) {
            errno = EIO;
            return 1;
        }
    }
    errno = before;
    return 0;
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *b, size_t n) {
    return fails(fd, -1) ? -1 : NEXT(ssize_t, write, int, const void *, size_t)(fd, b, n);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
    return fails(fd, at) ? -1
                         : NEXT(ssize_t, pwrite, int, const void *, size_t, off_t)(fd, b, n, at);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
    return fails(fd, at) ? -1
                         : NEXT(ssize_t, pwrite64, int, const void *, size_t, off_t)(fd, b, n, at);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    return fails(fd, -1) ? -1 : NEXT(ssize_t, writev, int, const struct iovec *, int)(fd, v, n);
}
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
    return fails(fd, at)
               ? -1
               : NEXT(ssize_t, pwritev, int, const struct iovec *, int, off_t)(fd, v, n, at);
}
int fdatasync(int fd) {
    return fails(fd, -1) ? -1 : NEXT(int, fdatasync, int)(fd);
}
int fsync(int fd) {
    return fails(fd, -1) ? -1 : NEXT(int, fsync, int)(fd);
}
