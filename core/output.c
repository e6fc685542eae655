/* Standard output is checked once, at the end: stdio remembers that a write failed. */
#include "core/output.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* The other end of a pipe or a socket is closed. */
static bool reader_left(void) {
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP)) != 0;
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
    if (why != 0)
        return err_errno(err, why, "write to standard output");
    return err_set(err, STATUS_FULL, "write to standard output: a part of it could not be written");
}
