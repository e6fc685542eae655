/* Paths of artifacts: looked up. */
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
