/* Who may change a run, and until when. */
#include "tracker/ops/rights.h"

#include <string.h>

#include "tracker/ops/artifacts.h"

bool rights_is_final(const char *state) {
    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static bool of_sweep(const struct value *run) {
    return value_get_string(run, "sweep", NULL) != NULL;
}

static enum status denied(struct op *op, const char *why) {
    return err_set(op->err, STATUS_DENIED, "%s; your key has the role %s", why,
                   net_role_name(op->role));
}

/* Whose run it is. */
static enum status check_owner(struct op *op, const struct value *run, enum rights_change what) {
    switch (op->role) {
    case NET_ADMIN:
        return STATUS_OK;
    case NET_SUBMITTER:
        return what == CHANGE_TAGS || !of_sweep(run)
                   ? STATUS_OK
                   : denied(op, "this run belongs to a sweep: its coordinator and its worker write "
                                "it, others only its tags");
    case NET_WORKER:
        return of_sweep(run) && what != CHANGE_STATE && what != CHANGE_TAGS
                   ? STATUS_OK
                   : denied(op, "a worker writes points, artifacts, manifest and summary of runs "
                                "that belong to a sweep, and nothing else");
    case NET_COORDINATOR:
        return of_sweep(run) ? STATUS_OK
                             : denied(op, "a coordinator writes only runs that belong to a sweep");
    case NET_VIEWER:
        break;
    }
    return denied(op, "a viewer only reads");
}

enum openness { RUN_OPEN, RUN_LATE, RUN_CLOSED };

/* An attempt that was preempted may have points on their way like one that was lost: its group
 * leaves in a hurry. */
static enum openness openness_of(const struct op *op, const struct value *run) {
    const char *state = value_get_string(run, "state", "");
    const struct value *sealed = value_get(run, "sealed");
    if (sealed != NULL && sealed->kind == VALUE_MAP)
        return RUN_CLOSED;
    if (!of_sweep(run) || !rights_is_final(state))
        return RUN_OPEN;
    if (!value_get_bool(run, "lost", false) && strcmp(state, "preempted") != 0)
        return RUN_CLOSED;
    int64_t ended = value_get_int(run, "ended_ns", 0);
    return op_now(op) - ended < RIGHTS_LATE_NS ? RUN_OPEN : RUN_LATE;
}

static enum status closed(struct op *op, const struct value *run, const char *what) {
    return err_set(op->err, STATUS_CONFLICT,
                   "run %s is %s%s: its %s cannot change any more, only its tags",
                   value_get_string(run, "run", ""), value_get_string(run, "state", ""),
                   of_sweep(run) ? "" : " and sealed", what);
}

static const char *name_of(enum rights_change what) {
    switch (what) {
    case CHANGE_STATE:
        return "state";
    case CHANGE_POINTS:
        return "metrics";
    case CHANGE_ARTIFACTS:
        return "artifacts";
    case CHANGE_TAGS:
    case CHANGE_PAPERS:
        break;
    }
    return "parameters, manifest and summary";
}

enum status rights_check(struct op *op, const struct value *run, enum rights_change what) {
    enum status st = check_owner(op, run, what);
    if (st != STATUS_OK || what == CHANGE_TAGS || what == CHANGE_STATE)
        return st; /* what a state may become is the state's own rule (runs.c) */
    return openness_of(op, run) == RUN_OPEN ? STATUS_OK : closed(op, run, name_of(what));
}

enum status rights_check_points(struct op *op, const struct value *run, bool *late) {
    enum status st = check_owner(op, run, CHANGE_POINTS);
    enum openness open = openness_of(op, run);
    *late = open == RUN_LATE;
    if (st == STATUS_OK && open == RUN_CLOSED)
        st = closed(op, run, name_of(CHANGE_POINTS));
    return st;
}

/* model.onnx, model-0123456789ab.onnx: what a promotion makes of the weights. */
static bool is_derived(const char *path) {
    size_t n = strlen(path);
    return n >= strlen("model.onnx") && strncmp(path, "model", 5) == 0 &&
           strchr(path, '/') == NULL && strcmp(path + n - 5, ".onnx") == 0;
}

enum status rights_check_artifact(struct op *op, const struct value *run, const char *path,
                                  const char *digest) {
    enum status st = STATUS_OK;
    struct value *old;
    const char *id = value_get_string(run, "run", "");
    bool derives = digest != NULL && is_derived(path) && op->role != NET_WORKER;
    if (!derives || !rights_is_final(value_get_string(run, "state", "")))
        return rights_check(op, run, CHANGE_ARTIFACTS);
    if (op->role != NET_SUBMITTER)
        TRY(check_owner(op, run, CHANGE_ARTIFACTS));
    if (openness_of(op, run) == RUN_OPEN)
        return STATUS_OK;
    struct key k = artifacts_key(KEY_ARTIFACT, id, path);
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    if (old != NULL && strcmp(value_get_string(old, "digest", ""), digest) != 0)
        TRY(closed(op, run, name_of(CHANGE_ARTIFACTS)));
out:
    return st;
}

/* A replay judges a run that has ended. */
static bool is_verdict(const struct op *op) {
    const struct value *summary = value_get(op->req, "summary");
    return summary != NULL && summary->count == 1 && value_get(summary, "replay") != NULL &&
           value_get(op->req, "manifest") == NULL && value_get(op->req, "params") == NULL;
}

enum status rights_check_update(struct op *op, const struct value *run) {
    static const char *const papers[] = {"params", "manifest", "summary"};
    enum status st = STATUS_OK;
    bool writes = false;
    for (size_t i = 0; i < sizeof papers / sizeof papers[0]; i++)
        writes = writes || value_get(op->req, papers[i]) != NULL;
    if (op->role == NET_WORKER && value_get(op->req, "params") != NULL)
        TRY(denied(op, "the parameters of a run are its coordinator's"));
    if (op_text(op, "state") != NULL || op_text(op, "reason") != NULL ||
        value_get(op->req, "lost") != NULL)
        TRY(rights_check(op, run, CHANGE_STATE));
    if (value_get(op->req, "tags") != NULL)
        TRY(rights_check(op, run, CHANGE_TAGS));
    if (is_verdict(op) && rights_is_final(value_get_string(run, "state", "")))
        return op->role == NET_SUBMITTER ? STATUS_OK : check_owner(op, run, CHANGE_PAPERS);
    if (writes)
        TRY(rights_check(op, run, CHANGE_PAPERS));
out:
    return st;
}

enum status rights_check_create(struct op *op, const struct value *run) {
    return check_owner(op, run, CHANGE_STATE);
}
