/* Standard output is checked once, at the end: stdio remembers that a write failed. */
#include "core/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* The other end of a pipe or a socket is closed. */
static bool reader_left(void) {
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP)) != 0;
}

/* Closed, or as process_guard_stdio left it: open, and not for writing. */
enum status output_ready(struct err *err) {
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY
               ? STATUS_OK
               : err_errno(err, EBADF, "write to standard output");
}

enum status output_finish(struct err *err) {
    bool failed = ferror(stdout) != 0;
    errno = 0;
    bool now = fflush(stdout) != 0;
    int why = errno;
    if (!failed && !now)
        return STATUS_OK;
    if (why == EPIPE || reader_left())
        return STATUS_OK;
    if (output_ready(err) != STATUS_OK) /* whichever write it was that failed */
        return STATUS_IO;
    if (why != 0)
        return err_errno(err, why, "write to standard output");
    return err_set(err, STATUS_FULL, "write to standard output: a part of it could not be written");
}
