/* Endpoints: which transport, and for ipc:// whether the place is safe. No ZeroMQ in here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/net_private.h"

#define UNIX_PATH_MAX ((int)sizeof(((struct sockaddr_un *)0)->sun_path))

enum status net_endpoint_transport(const char *endpoint, enum net_transport *out, struct err *err) {
    if (strlen(endpoint) >= NET_ENDPOINT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "an endpoint may have %d bytes: %.60s…",
                       NET_ENDPOINT_MAX - 1, endpoint);
    if (strncmp(endpoint, "ipc://", 6) == 0)
        *out = TRANSPORT_IPC;
    else if (strncmp(endpoint, "tcp://", 6) == 0)
        *out = TRANSPORT_TCP;
    else if (strncmp(endpoint, "inproc://", 9) == 0)
        *out = TRANSPORT_INPROC;
    else
        return err_set(err, STATUS_INVALID,
                       "endpoint '%s' must begin with ipc://, tcp:// or inproc://", endpoint);
    return STATUS_OK;
}

/* The socket's directory must be ours alone: whoever may enter it may talk to the server. With
 * `missing_ok` the directory need not exist yet (a client that starts before its server). */
static enum status check_ipc_path(const char *path, bool missing_ok, struct err *err) {
    if (path[0] != '/')
        return err_set(err, STATUS_INVALID,
                       "ipc://%s: the path must be absolute (abstract sockets belong to everybody)",
                       path);
    if (strlen(path) >= (size_t)UNIX_PATH_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "ipc://%s: the path may have %d bytes, not %zu; use a shorter one", path,
                       UNIX_PATH_MAX - 1, strlen(path));
    char dir[NET_ENDPOINT_MAX];
    size_t len = (size_t)(strrchr(path, '/') - path);
    memcpy(dir, path, len);
    memcpy(dir + len, len == 0 ? "/" : "", len == 0 ? 2 : 1);
    struct stat st;
    if (stat(dir, &st) != 0) {
        if (missing_ok && errno == ENOENT)
            return STATUS_OK;
        return err_errno(err, errno, "directory of ipc://%s", path);
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(err, STATUS_DENIED, "ipc://%s: %s must be a directory that you own", path,
                       dir);
    if ((st.st_mode & 077) != 0)
        return err_set(err, STATUS_DENIED,
                       "ipc://%s: others may enter %s (mode %04o); chmod 700 it", path, dir,
                       (unsigned)(st.st_mode & 07777));
    return STATUS_OK;
}

/* libzmq unlinks whatever is at the path: find out first whether somebody listens there. */
static enum status probe_ipc(const char *path, struct err *err) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? STATUS_OK : err_errno(err, errno, "ipc://%s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(
            err, STATUS_EXISTS,
            "ipc://%s: there is a file that is not a socket; remove it, or use another endpoint",
            path);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, errno, "ipc://%s", path);
    int rc = connect(fd, (const struct sockaddr *)&to, sizeof to);
    int errnum = rc == 0 ? 0 : errno;
    (void)close(fd);
    if (errnum == 0 || errnum == EAGAIN || errnum == EINPROGRESS)
        return err_set(err, STATUS_BUSY,
                       "ipc://%s is in use by a running process; stop it, or use another endpoint",
                       path);
    if (errnum == ECONNREFUSED || errnum == ENOENT)
        return STATUS_OK;
    return err_errno(err, errnum, "ipc://%s", path);
}

enum status net_endpoint_check_ipc(const char *endpoint, bool bind, struct err *err) {
    const char *path = endpoint + strlen("ipc://");
    enum status st = check_ipc_path(path, !bind, err);
    return st == STATUS_OK && bind ? probe_ipc(path, err) : st;
}
