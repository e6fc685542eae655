/* The home, endpoints, whole-file writes, network filesystems. */
#include "core/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/hash.h"

enum status path_join(char out[PATH_TEXT_MAX], const char *a, const char *b, struct err *err) {
    size_t len = strlen(a);
    bool slash = len > 0 && a[len - 1] != '/';
    int n = snprintf(out, PATH_TEXT_MAX, "%s%s%s", a, slash ? "/" : "", b);
    if (n < 0 || n >= PATH_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a path must have at most %d bytes: %.100s…/%.100s",
                       PATH_TEXT_MAX - 1, a, b);
    return STATUS_OK;
}

/* ---- directories ---- */

static enum status make_dir(const char *path, mode_t mode, struct err *err) {
    if (mkdir(path, mode) == 0)
        return STATUS_OK;
    int why = errno;
    struct stat sb;
    if (why != EEXIST && why != EROFS && why != EACCES)
        return err_errno(err, why, "make directory %s", path);
    if (stat(path, &sb) != 0) /* a parent we may not write to is fine when it is there */
        return err_errno(err, why, "make directory %s", path);
    if (!S_ISDIR(sb.st_mode))
        return err_set(err, STATUS_INVALID, "%s is not a directory", path);
    return STATUS_OK;
}

enum status path_absolute(char out[PATH_TEXT_MAX], const char *path, struct err *err) {
    enum status st = STATUS_OK;
    char here[PATH_TEXT_MAX] = "/";
    if (path[0] != '/' && getcwd(here, sizeof here) == NULL)
        return err_errno(err, errno, "working directory");
    TRY(path_join(out, here, path[0] == '/' ? path + 1 : path, err));
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
        out[n - 1] = '\0';
out:
    return st;
}

enum status path_mkdirs(const char *path, mode_t mode, struct err *err) {
    char part[PATH_TEXT_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part)
        return err_set(err, len == 0 ? STATUS_INVALID : STATUS_TOO_LARGE,
                       "a path must have 1 to %d bytes, not %zu", PATH_TEXT_MAX - 1, len);
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        enum status st = make_dir(part, mode, err);
        if (st != STATUS_OK)
            return st;
        part[i] = path[i];
    }
    return STATUS_OK;
}

static enum status absolute(char out[PATH_TEXT_MAX], const char *path, struct err *err) {
    char cwd[PATH_TEXT_MAX];
    if (path[0] == '/')
        return path_join(out, "", path, err);
    if (getcwd(cwd, sizeof cwd) == NULL)
        return err_errno(err, errno, "find the working directory");
    return path_join(out, cwd, path, err);
}

static const char *environment(const char *name) {
    const char *v = getenv(name);
    return v != NULL && *v != '\0' ? v : NULL;
}

static enum status choose_home(char out[PATH_TEXT_MAX], struct err *err) {
    const char *home = environment("TRIREME_HOME");
    if (home != NULL)
        return absolute(out, home, err);
    home = environment("XDG_STATE_HOME");
    if (home != NULL && home[0] == '/') /* the XDG specification ignores relative ones */
        return path_join(out, home, "trireme", err);
    home = environment("HOME");
    if (home == NULL || home[0] != '/')
        return err_set(
            err, STATUS_INVALID,
            "there is no place for state: HOME is not an absolute path; set TRIREME_HOME");
    return path_join(out, home, ".local/state/trireme", err);
}

enum status path_home(char out[PATH_TEXT_MAX], struct err *err) {
    char home[PATH_TEXT_MAX];
    bool network;
    const char *name;
    enum status st;
    TRY(choose_home(home, err));
    TRY(path_is_network(home, &network, &name, err));
    if (network)
        return err_set(err, STATUS_DENIED,
                       "%s is on %s; the store's memory map and locks need a local disk: "
                       "set TRIREME_HOME to a directory on one",
                       home, name);
    TRY(path_mkdirs(home, 0700, err));
    memcpy(out, home, sizeof home);
out:
    return st;
}

/* ---- sockets ---- */

/* A directory in which nobody else can put or reach a socket. */
static enum status private_dir(const char *dir, struct err *err) {
    enum status st = path_mkdirs(dir, 0700, err);
    if (st != STATUS_OK)
        return st;
    struct stat sb;
    if (lstat(dir, &sb) != 0)
        return err_errno(err, errno, "look at %s", dir);
    if (!S_ISDIR(sb.st_mode))
        return err_set(err, STATUS_DENIED, "%s is a link, not a directory", dir);
    if (sb.st_uid != geteuid())
        return err_set(err, STATUS_DENIED, "%s belongs to user %u, not to us", dir,
                       (unsigned)sb.st_uid);
    if ((sb.st_mode & 077) != 0)
        return err_set(err, STATUS_DENIED, "%s is open to others; chmod 700 it", dir);
    return STATUS_OK;
}

static bool plain_name(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

enum status path_endpoint(const char *home, const char *name, char out[PATH_TEXT_MAX],
                          struct err *err) {
    static const size_t socket_max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    char dir[PATH_TEXT_MAX], hex[DIGEST_HEX];
    if (!plain_name(name))
        return err_set(err, STATUS_INVALID, "'%.40s' cannot name a socket", name);
    enum status st = path_join(dir, home, "run", err);
    if (st != STATUS_OK)
        return st;
    if (strlen(dir) + strlen("/.sock") + strlen(name) > socket_max) {
        struct digest digest;
        hash_bytes(home, strlen(home), &digest);
        hash_hex(&digest, hex);
        (void)snprintf(dir, sizeof dir, "/tmp/trireme-%u-%.16s", (unsigned)geteuid(), hex);
    }
    st = private_dir(dir, err);
    if (st != STATUS_OK)
        return st;
    int n = snprintf(out, PATH_TEXT_MAX, "ipc://%s/%s.sock", dir, name);
    return n > 0 && n < PATH_TEXT_MAX ? STATUS_OK
                                      : err_set(err, STATUS_TOO_LARGE, "%.200s is too long", dir);
}

/* ---- filesystems ---- */

/* statfs(2) magics: statfs(2), linux/magic.h, and the sources of Lustre, GPFS and BeeGFS. */
const char *path_network_name(uint32_t magic) {
    static const struct {
        uint32_t magic;
        const char *name;
    } rows[] = {
        {0x6969, "NFS"},      {0x0BD00BD0, "Lustre"}, {0x47504653, "GPFS"}, {0xFF534D42, "CIFS"},
        {0x517B, "SMB"},      {0xFE534D42, "SMB"},    {0x01021997, "9p"},   {0x00C36400, "Ceph"},
        {0x65735546, "FUSE"}, {0x19830326, "BeeGFS"}, {0x5346414F, "AFS"},  {0x6B414653, "AFS"},
        {0x73757245, "Coda"}, {0x7461636F, "OCFS2"},  {0x01161970, "GFS2"}, {0xAAD7AAEA, "PanFS"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].magic == magic)
            return rows[i].name;
    return NULL;
}

enum status path_is_network(const char *path, bool *network, const char **name, struct err *err) {
    char part[PATH_TEXT_MAX];
    enum status st = absolute(part, path, err);
    if (st != STATUS_OK)
        return st;
    struct statfs fs;
    while (statfs(part, &fs) != 0) {
        if (errno == EINTR)
            continue;
        char *slash = strrchr(part, '/');
        if ((errno != ENOENT && errno != ENOTDIR) || part[1] == '\0')
            return err_errno(err, errno, "ask for the filesystem of %s", part);
        slash[slash == part ? 1 : 0] = '\0';
    }
    *name = path_network_name((uint32_t)fs.f_type);
    *network = *name != NULL;
    return STATUS_OK;
}

/* ---- whole files ---- */

static enum status write_bytes(int fd, const char *path, const void *bytes, size_t len,
                               struct err *err) {
    for (const char *p = bytes; len > 0;) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "write %s", path);
        p += n;
        len -= (size_t)n;
    }
    return STATUS_OK;
}

static enum status write_all(int fd, const char *path, const void *bytes, size_t len,
                             struct err *err) {
    enum status st = write_bytes(fd, path, bytes, len, err);
    return st != STATUS_OK || fsync(fd) == 0 ? st : err_errno(err, errno, "fsync %s", path);
}

static enum status sync_dir_of(const char *path, struct err *err) {
    char dir[PATH_TEXT_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    (void)snprintf(dir, sizeof dir, "%.*s", slash == NULL ? 1 : (int)len,
                   slash == NULL ? "." : path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open directory %s", dir);
    int rc = fsync(fd), why = errno;
    close(fd);
    return rc == 0 ? STATUS_OK : err_errno(err, why, "fsync directory %s", dir);
}

static enum status write_whole(const char *path, const void *bytes, size_t len, mode_t mode,
                               struct err *err) {
    char temporary[PATH_TEXT_MAX];
    int n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return err_set(err, STATUS_TOO_LARGE, "a path must have at most %d bytes: %.200s…",
                       PATH_TEXT_MAX - 8, path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "create a file beside %s", path);
    enum status st = STATUS_OK;
    if (fchmod(fd, mode) != 0)
        st = err_errno(err, errno, "chmod %s", temporary);
    if (st == STATUS_OK)
        st = write_all(fd, temporary, bytes, len, err);
    if (close(fd) != 0 && st == STATUS_OK)
        st = err_errno(err, errno, "close %s", temporary);
    if (st == STATUS_OK && rename(temporary, path) != 0)
        st = err_errno(err, errno, "rename %s to %s", temporary, path);
    if (st != STATUS_OK) {
        unlink(temporary);
        return st;
    }
    return sync_dir_of(path, err);
}

/* A pipe, a device, or what is open already (/dev/stdout > FILE): it keeps its place, and takes the bytes. */
static enum status write_through(const char *path, const void *bytes, size_t len, struct err *err) {
    int fd = open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open %s", path);
    enum status st = write_bytes(fd, path, bytes, len, err);
    if (st == STATUS_OK && fsync(fd) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP)
        st = err_errno(err, errno, "fsync %s", path);
    if (close(fd) != 0 && st == STATUS_OK)
        st = err_errno(err, errno, "close %s", path);
    return st;
}

/* What a link, if it is one, names: `path` becomes that. False: it is none. */
static bool follow_link(char path[PATH_TEXT_MAX], enum status *st, struct err *err) {
    char target[PATH_TEXT_MAX], dir[PATH_TEXT_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL || target[0] == '/') {
        memcpy(path, target, sizeof target);
        return true;
    }
    *slash = '\0';
    memcpy(dir, path, sizeof dir);
    *st = path_join(path, dir[0] == '\0' ? "/" : dir, target, err);
    return *st == STATUS_OK;
}

/* What somebody has open (where /dev/stdout leads): a shell's `>> FILE` is appended to, not replaced. */
static bool names_open_file(const char *path) {
    return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/fd/", 8) == 0;
}

enum status path_write(const char *path, const void *bytes, size_t len, mode_t mode,
                       struct err *err) {
    enum { LINKS_MAX = 40 }; /* as Linux */
    char target[PATH_TEXT_MAX];
    struct stat info;
    enum status st = STATUS_OK;
    bool there = stat(path, &info) == 0;
    if (there && S_ISDIR(info.st_mode))
        return err_set(err, STATUS_INVALID, "%s is a directory, not a file", path);
    if (there && !S_ISREG(info.st_mode))
        return write_through(path, bytes, len, err);
    if (strlen(path) >= sizeof target)
        return err_set(err, STATUS_TOO_LARGE, "a path must have at most %d bytes: %.200s…",
                       PATH_TEXT_MAX - 8, path);
    (void)snprintf(target, sizeof target, "%s", path);
    for (int links = 0; !names_open_file(target); links++) {
        if (!follow_link(target, &st, err))
            return st == STATUS_OK ? write_whole(target, bytes, len, mode, err) : st;
        if (links == LINKS_MAX)
            return err_errno(err, ELOOP, "follow %s", path);
    }
    return write_through(target, bytes, len, err);
}

#define READ_STEP ((size_t)64 << 10)

static enum status read_all(int fd, const char *path, struct buf *out, struct err *err) {
    for (;;) {
        size_t left = out->bytes_max - out->len;
        size_t ask = left < READ_STEP ? left + 1 : READ_STEP; /* + 1: to see that there is more */
        char chunk[READ_STEP];
        ssize_t n = read(fd, chunk, ask < sizeof chunk ? ask : sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read %s", path);
        if (n == 0)
            return STATUS_OK;
        buf_add(out, chunk, (size_t)n);
        if (out->failed != STATUS_OK)
            return buf_status(out, path, err);
    }
}

enum status path_read(const char *path, struct buf *out, struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open %s", path);
    struct stat info;
    enum status st = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)
                         ? err_set(err, STATUS_INVALID, "%s is a directory, not a file", path)
                         : read_all(fd, path, out, err);
    close(fd);
    return st;
}

enum status path_bindir(char out[PATH_TEXT_MAX], struct err *err) {
    char exe[PATH_TEXT_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0)
        return err_errno(err, errno, "read /proc/self/exe");
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash == NULL || (size_t)n == sizeof exe - 1)
        return err_set(err, STATUS_TOO_LARGE, "the path of this executable is too long");
    slash[slash == exe ? 1 : 0] = '\0';
    memcpy(out, exe, sizeof exe);
    return STATUS_OK;
}
