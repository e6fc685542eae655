/* The one rule of artifacts' paths. */
#include "wire/artifact_path.h"

#include <string.h>

#include "wire/message.h"

static const char what[] = "the artifact's path";

static enum status check_length(const char *path, struct err *err) {
    if (path == NULL || *path == '\0')
        return err_set(err, STATUS_INVALID, "%s must not be empty", what);
    if (strnlen(path, ARTIFACT_PATH_MAX + 1) > ARTIFACT_PATH_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s is longer than %zu bytes: '%.40s…'", what,
                       ARTIFACT_PATH_MAX, path);
    return STATUS_OK;
}

enum status artifact_path_check(const char *path, struct err *err) {
    enum status st = check_length(path, err);
    if (st != STATUS_OK)
        return st;
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n <= 2 && strspn(p, ".") >= n))
            return err_set(
                err, STATUS_INVALID,
                "%s '%.200s' must be relative, and no part of it may be empty, '.' or '..'", what,
                path);
        if (p[n] == '\0')
            return STATUS_OK;
        p += n + 1;
    }
}

enum status artifact_path_check_new(const char *path, struct err *err) {
    enum status st = artifact_path_check(path, err);
    return st == STATUS_OK ? message_check_name(path, ARTIFACT_PATH_MAX, what, err) : st;
}
