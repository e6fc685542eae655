/* The directory of public keys that are allowed in over tcp: one file per key,
 *
 *     <40 characters of Z85> <role> <name, for people>
 *
 * Read at each handshake, on the ZAP handler's thread: a key that is added counts from the next
 * connection on; one that is removed ends those it has (net_guard.h). A file of any other form lets nobody in. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "core/utf8.h"
#include "wire/net_private.h"

#define KEY_FILE_MAX  512
#define KEY_FILES_MAX 4096

static const char *const role_names[NET_ROLES] = {
    [NET_VIEWER] = "viewer",           [NET_SUBMITTER] = "submitter", [NET_WORKER] = "worker",
    [NET_COORDINATOR] = "coordinator", [NET_ADMIN] = "admin",
};

const char *net_role_name(enum net_role role) {
    return role_names[role];
}

bool net_role_find(const char *word, size_t len, enum net_role *out) {
    for (size_t i = 0; i < NET_ROLES; i++)
        if (strlen(role_names[i]) == len && memcmp(role_names[i], word, len) == 0) {
            *out = (enum net_role)i;
            return true;
        }
    return false;
}

enum status net_keys_check_dir(const char *dir, struct err *err) {
    struct stat st;
    if (stat(dir, &st) != 0)
        return err_errno(err, errno, "directory of allowed keys %s", dir);
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(err, STATUS_DENIED,
                       "directory of allowed keys %s: it must be a directory that you own", dir);
    if ((st.st_mode & 022) != 0)
        return err_set(
            err, STATUS_DENIED,
            "directory of allowed keys %s: others may write to it (mode %04o); chmod 700 it", dir,
            (unsigned)(st.st_mode & 07777));
    return STATUS_OK;
}

/* The rest of the line, as far as it can be shown. */
static void copy_name(const char *line, char out[NET_KEY_NAME_MAX]) {
    size_t blanks = strspn(line, " \t"), len = strcspn(line + blanks, "\r\n");
    len = utf8_printable(line + blanks, len < NET_KEY_NAME_MAX ? len : NET_KEY_NAME_MAX - 1);
    memcpy(out, line + blanks, len);
    out[len] = '\0';
}

/* The role that this file gives to `key`, NULL when none. */
static const char *key_file_role(int dir, const char *name, const char *key,
                                 char called[NET_KEY_NAME_MAX]) {
    char text[KEY_FILE_MAX];
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    struct stat st;
    ssize_t len = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, sizeof text - 1) : -1;
    (void)close(fd);
    if (len < NET_KEY_TEXT || memcmp(text, key, NET_KEY_TEXT) != 0)
        return NULL;
    text[len] = '\0';
    const char *word = text + NET_KEY_TEXT;
    size_t blanks = strspn(word, " \t");
    word += blanks;
    size_t n = strcspn(word, " \t\r\n");
    enum net_role role;
    if (blanks == 0 || !net_role_find(word, n, &role))
        return NULL;
    if (called != NULL)
        copy_name(word + n, called);
    return role_names[role];
}

const char *net_keys_role(const char *allowed_dir, const char *key, char name[NET_KEY_NAME_MAX]) {
    DIR *dir = opendir(allowed_dir);
    if (dir == NULL)
        return NULL;
    const char *role = NULL;
    const struct dirent *entry;
    for (int i = 0; i < KEY_FILES_MAX && role == NULL && (entry = readdir(dir)) != NULL; i++)
        if (entry->d_name[0] != '.')
            role = key_file_role(dirfd(dir), entry->d_name, key, name);
    (void)closedir(dir);
    return role;
}

/* Of names, inodes, lengths and times of change: the order of the directory does not count. */
uint64_t net_keys_sum(const char *allowed_dir) {
    DIR *dir = opendir(allowed_dir);
    uint64_t sum = 0;
    const struct dirent *entry;
    if (dir == NULL)
        return 1;
    for (int i = 0; i < KEY_FILES_MAX && (entry = readdir(dir)) != NULL; i++) {
        struct stat st;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, 0) != 0)
            continue;
        const uint64_t parts[] = {(uint64_t)st.st_ino,         (uint64_t)st.st_size,
                                  (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec,
                                  (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec};
        uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
            h = (h ^ parts[p]) * UINT64_C(1099511628211);
        sum += h;
    }
    (void)closedir(dir);
    return sum;
}

enum status net_pair_load(const char *file, struct net_pair *out, struct err *err) {
    enum status st = STATUS_OK;
    struct stat info;
    struct buf text = BUF_INIT(4096);
    int end = 0;
    TRY(path_read(file, &text, err));
    if (stat(file, &info) == 0 && (info.st_mode & 077) != 0)
        st = err_set(err, STATUS_DENIED, "%s may be read by others (mode %04o); chmod 600 it", file,
                     (unsigned)(info.st_mode & 07777));
    else if (sscanf(buf_text(&text), "%40s %40s %n", out->public_key, out->secret_key, &end) != 2 ||
             strlen(out->public_key) != NET_KEY_TEXT || strlen(out->secret_key) != NET_KEY_TEXT ||
             (size_t)end != text.len)
        st =
            err_set(err, STATUS_INVALID,
                    "%s must contain a public and a secret key of %d characters each; make it with "
                    "`trireme keygen`",
                    file, NET_KEY_TEXT);
out:
    buf_release(&text);
    return st;
}
