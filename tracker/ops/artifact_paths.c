/* Paths of artifacts: checked, looked up, listed. */
#include <string.h>

#include "tracker/ops/artifacts.h"

struct key artifacts_key(enum key_kind kind, const char *run, const char *path) {
    struct key k = key_id(kind, run);
    key_add_name(&k, path);
    return k;
}

enum status artifacts_check_path(const char *path, struct err *err) {
    enum status st = key_check_name(path, ARTIFACTS_PATH_MAX, "the artifact's path", err);
    if (st != STATUS_OK)
        return st;
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return err_set(
                err, STATUS_INVALID,
                "the artifact's path '%.200s' must be relative, and no part of it may be "
                "empty, '.' or '..'",
                path);
        if (p[n] == '\0')
            return STATUS_OK;
        p += n + 1;
    }
}

enum status artifacts_load(struct op *op, const char *run, const char *path, struct value **out) {
    enum status st = STATUS_OK;
    TRY(artifacts_check_path(path, op->err));
    struct key k = artifacts_key(KEY_ARTIFACT, run, path);
    TRY(doc_get_value(op->txn, &k, op->a, out, op->err));
    if (*out == NULL)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "run %s has no artifact '%s'", run, path));
out:
    return st;
}

enum status artifacts_list(struct op *op, const char *run, struct value **out) {
    struct doc_scan scan = {0};
    struct key prefix = key_id(KEY_ARTIFACT, run);
    enum status st = STATUS_OK;
    *out = value_list(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        value_set_string(op->a, scan.value, "path", scan.name);
        value_push(op->a, *out, scan.value);
    }
out:
    doc_scan_close(&scan);
    return st;
}
