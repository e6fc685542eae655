/* Paths of artifacts: looked up, listed. */
#include "tracker/ops/artifacts.h"
#include "wire/artifact_path.h"

struct key artifacts_key(enum key_kind kind, const char *run, const char *path) {
    struct key k = key_id(kind, run);
    key_add_name(&k, path);
    return k;
}

enum status artifacts_load(struct op *op, const char *run, const char *path, struct value **out) {
    enum status st = STATUS_OK;
    TRY(artifact_path_check(path, op->err));
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
