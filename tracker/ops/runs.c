/* Runs: created, changed, described. */
#include "tracker/ops/runs.h"

#include <string.h>

#include "tracker/ops/audit.h"
#include "tracker/ops/delta.h"
#include "tracker/ops/experiments.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/rights.h"

static struct value *copy_or_null(struct arena *a, const struct value *map, const char *field) {
    struct value *v = value_get(map, field);
    return v != NULL ? v : value_null(a);
}

/* ---- parameters and tags ---- */

static struct key named_key(enum key_kind kind, const char *run, const char *name) {
    struct key k = key_id(kind, run);
    key_add_name(&k, name);
    return k;
}

static enum status put_params(struct op *op, const char *run) {
    const struct value *params = value_get(op->req, "params");
    enum status st = STATUS_OK;
    for (size_t i = 0; params != NULL && i < params->count; i++) {
        const struct member *m = &params->members[i];
        struct value *old;
        TRY(key_check_new_name(m->key, NAME_BYTES_MAX, "the name of a parameter", op->err));
        struct key k = named_key(KEY_PARAM, run, m->key);
        TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
        if (old != NULL && value_equal(old, m->value))
            continue;
        if (old != NULL)
            TRY(err_set(op->err, STATUS_CONFLICT,
                        "parameter '%s' of run %s already has another value, and parameters never "
                        "change; create another run",
                        m->key, run));
        TRY(doc_put_value(op->txn, &k, m->value, op->err));
    }
out:
    return st;
}

static enum status put_tags(struct op *op, const char *run) {
    const struct value *tags = value_get(op->req, "tags");
    enum status st = STATUS_OK;
    for (size_t i = 0; tags != NULL && i < tags->count; i++) {
        const struct member *m = &tags->members[i];
        TRY(key_check_name(m->key, NAME_BYTES_MAX, "the name of a tag", op->err));
        struct key k = named_key(KEY_TAG, run, m->key);
        if (m->value->kind != VALUE_NULL)
            TRY(key_check_new_name(m->key, NAME_BYTES_MAX, "the name of a tag", op->err));
        if (m->value->kind == VALUE_NULL)
            TRY(doc_del(op->txn, &k, NULL, op->err));
        else if (m->value->kind == VALUE_STRING)
            TRY(doc_put_value(op->txn, &k, m->value, op->err));
        else
            TRY(err_set(op->err, STATUS_INVALID, "tag '%s' must be a string, not %s", m->key,
                        value_kind_name(m->value->kind)));
    }
out:
    return st;
}

static enum status get_named(struct op *op, enum key_kind kind, const char *run,
                             struct value **out) {
    struct doc_scan scan = {0};
    struct key prefix = key_id(kind, run);
    enum status st = STATUS_OK;
    *out = value_map(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        value_set(op->a, *out, scan.name, scan.value);
    }
out:
    doc_scan_close(&scan);
    return st;
}

/* ---- the record ---- */

enum status runs_load(struct op *op, const char *run, struct value **out) {
    struct key k = key_id(KEY_RUN, run);
    enum status st = doc_get_value(op->txn, &k, op->a, out, op->err);
    if (st == STATUS_OK && *out == NULL)
        st = err_set(op->err, STATUS_NOT_FOUND, "there is no run %s in this store", run);
    return st;
}

bool runs_is_sealed(const struct value *record) {
    const struct value *sealed = value_get(record, "sealed");
    return sealed != NULL && sealed->kind == VALUE_MAP;
}

enum status runs_must_exist(struct op *op, const char *run) {
    struct key k = key_id(KEY_RUN, run);
    struct kv_bytes v;
    key_add_be16(&k, 0);
    enum status st = kv_get(op->txn, key_bytes(&k), &v, op->err);
    if (st == STATUS_OK && v.data == NULL)
        st = err_set(op->err, STATUS_NOT_FOUND, "there is no run %s in this store", run);
    return st;
}

enum status runs_store(struct op *op, const char *run, const struct value *record) {
    struct key k = key_id(KEY_RUN, run);
    return doc_put_value(op->txn, &k, record, op->err);
}

static enum status index_put(struct op *op, struct key k, const char *run) {
    key_add_id(&k, run);
    return kv_put(op->txn, key_bytes(&k), (struct kv_bytes){"", 0}, op->err);
}

static enum status state_delta(struct op *op, const char *run, const struct value *record) {
    struct value *fields = value_map(op->a);
    value_set_string(op->a, fields, "run", run);
    value_set(op->a, fields, "state", copy_or_null(op->a, record, "state"));
    value_set(op->a, fields, "reason", copy_or_null(op->a, record, "reason"));
    return delta_add(op,
                     &(struct delta){.kind = 'r', .id = run, .op = "run.state", .fields = fields});
}

/* Creating a run again is not an error when everything that cannot change is the same. */
static enum status compare_again(struct op *op, const char *run, const struct value *old,
                                 const struct value *record) {
    static const char *const fixed[] = {"experiment", "sweep", "trial", "attempt", "name"};
    struct value *config;
    struct key k = key_id(KEY_RUN_CONFIG, run);
    enum status st = STATUS_OK;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        struct value *x = value_get(old, fixed[i]), *y = value_get(record, fixed[i]);
        if (x == NULL || y == NULL || !value_equal(x, y))
            TRY(err_set(op->err, STATUS_EXISTS,
                        "run %s exists already, with another %s; choose another id", run,
                        fixed[i]));
    }
    TRY(doc_get_value(op->txn, &k, op->a, &config, op->err));
    const struct value *given = value_get(op->req, "config");
    if ((config == NULL) != (given == NULL) || (config != NULL && !value_equal(config, given)))
        TRY(err_set(op->err, STATUS_EXISTS,
                    "run %s exists already, with another config; choose another id", run));
    st = put_params(op, run);
out:
    return st;
}

static enum status enter_run(struct op *op, const char *run, const struct value *record) {
    const char *sweep = value_get_string(record, "sweep", NULL);
    const struct value *config = value_get(op->req, "config");
    struct value *experiment;
    enum status st = STATUS_OK;
    TRY(experiments_ensure(op, op_text(op, "experiment"), 1, &experiment));
    TRY(runs_store(op, run, record));
    TRY(put_params(op, run));
    TRY(put_tags(op, run));
    if (config != NULL) {
        struct key k = key_id(KEY_RUN_CONFIG, run);
        TRY(doc_put_value(op->txn, &k, config, op->err));
    }
    if (sweep != NULL)
        TRY(index_put(op, key_id(KEY_BY_SWEEP, sweep), run));
    TRY(index_put(op, key_name(KEY_BY_EXPERIMENT, op_text(op, "experiment")), run));
    TRY(index_put(op, key_name(KEY_BY_STATE, value_get_string(record, "state", "")), run));
    TRY(state_delta(op, run, record));
    op->added.runs++;
out:
    return st;
}

enum status op_run_create(struct op *op) {
    const char *run = op_id(op, "run");
    const char *state = value_get_string(op->req, "state", "running");
    struct value *record = value_map(op->a), *old = NULL;
    struct key k = key_id(KEY_RUN, run);
    enum status st = STATUS_OK;
    int64_t now = op_now(op);
    value_set_string(op->a, record, "run", run);
    value_set_string(op->a, record, "experiment", op_text(op, "experiment"));
    value_set(op->a, record, "sweep", op_or_null(op, op_id(op, "sweep")));
    value_set(op->a, record, "trial", copy_or_null(op->a, op->req, "trial"));
    value_set(op->a, record, "attempt", copy_or_null(op->a, op->req, "attempt"));
    value_set(op->a, record, "name", copy_or_null(op->a, op->req, "name"));
    value_set_string(op->a, record, "state", state);
    value_set(op->a, record, "reason", value_null(op->a));
    value_set_bool(op->a, record, "lost", false);
    value_set_int(op->a, record, "created_ns", now);
    value_set(op->a, record, "ended_ns",
              rights_is_final(state) ? value_int(op->a, now) : value_null(op->a));
    value_set(op->a, record, "sealed", value_null(op->a));
    if (record == NULL || record->broken)
        return op_nomem(op);
    TRY(rights_check_create(op, record));
    if (op_text(op, "name") != NULL && op_text(op, "name")[0] != '\0')
        TRY(key_check_new_name(op_text(op, "name"), NAME_BYTES_MAX, "the run's name", op->err));
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    if (old != NULL)
        return compare_again(op, run, old, record);
    st = enter_run(op, run, record);
out:
    return st;
}

/* ---- change ---- */

/* A lost run has ended, but nobody heard how: the coordinator may correct it, as long as nothing
 * sealed it. */
static enum status check_move(struct op *op, const char *run, const struct value *record,
                              const char *to) {
    const char *from = value_get_string(record, "state", "");
    bool open =
        value_get_bool(record, "lost", false) && rights_is_final(to) && !runs_is_sealed(record);
    if (!rights_is_final(from) || open)
        return STATUS_OK;
    return err_set(op->err, STATUS_CONFLICT, "run %s is %s, a final state: it cannot become %s",
                   run, from, to);
}

static enum status change_state(struct op *op, const char *run, struct value *record, bool *moved) {
    const char *from = value_get_string(record, "state", "");
    const char *to = op_text(op, "state"), *reason = op_text(op, "reason");
    bool lost = value_get_bool(op->req, "lost", false);
    enum status st = STATUS_OK;
    *moved = to != NULL && strcmp(from, to) != 0;
    if (lost && (to == NULL || !rights_is_final(to)))
        TRY(err_set(op->err, STATUS_INVALID,
                    "lost says how a run ended: give its final state too"));
    if (*moved)
        TRY(check_move(op, run, record, to));
    if (reason != NULL && (*moved || !rights_is_final(from)))
        value_set_string(op->a, record, "reason", reason);
    if (!*moved)
        return STATUS_OK;
    struct key k = key_name(KEY_BY_STATE, from);
    key_add_id(&k, run);
    TRY(kv_del(op->txn, key_bytes(&k), NULL, op->err));
    TRY(index_put(op, key_name(KEY_BY_STATE, to), run));
    value_set_string(op->a, record, "state", to);
    value_set_bool(op->a, record, "lost", lost);
    if (rights_is_final(to) && !rights_is_final(from))
        value_set_int(op->a, record, "ended_ns", op_now(op));
out:
    return st;
}

enum status op_run_update(struct op *op) {
    const char *run = op_id(op, "run");
    const struct value *manifest = value_get(op->req, "manifest");
    const struct value *summary = value_get(op->req, "summary");
    struct value *record;
    bool moved = false;
    enum status st = STATUS_OK;
    TRY(runs_load(op, run, &record));
    TRY(rights_check_update(op, record));
    TRY(put_params(op, run));
    TRY(put_tags(op, run));
    if (manifest != NULL) {
        struct key k = key_id(KEY_RUN_MANIFEST, run);
        TRY(doc_merge(op->txn, &k, op->a, manifest, op->err));
    }
    if (summary != NULL) {
        struct key k = key_id(KEY_RUN_SUMMARY, run);
        TRY(doc_merge(op->txn, &k, op->a, summary, op->err));
    }
    if (op_text(op, "state") != NULL || op_text(op, "reason") != NULL ||
        value_get(op->req, "lost") != NULL) {
        TRY(change_state(op, run, record, &moved));
        TRY(runs_store(op, run, record));
    }
    if (moved)
        TRY(state_delta(op, run, record));
out:
    return st;
}

/* ---- sealed ---- */

enum status runs_seal(struct op *op, struct value *record, const char *comment) {
    struct value *seal = value_map(op->a);
    value_set_int(op->a, seal, "time_ns", op_now(op));
    value_set_string(op->a, seal, "actor", op_text(op, "actor"));
    value_set(op->a, seal, "comment", op_or_null(op, comment));
    value_set(op->a, record, "sealed", seal);
    return runs_store(op, value_get_string(record, "run", ""), record);
}

/* What is sealed stays as it is; by whom is in the audit log. */
enum status op_run_seal(struct op *op) {
    const char *run = op_id(op, "run");
    struct value *record, *details = value_map(op->a);
    char audit[DIGEST_HEX];
    bool moved = false;
    enum status st = STATUS_OK;
    TRY(runs_load(op, run, &record));
    TRY(rights_check(op, record, CHANGE_STATE));
    if (runs_is_sealed(record))
        return STATUS_OK;
    TRY(change_state(op, run, record, &moved));
    if (!rights_is_final(value_get_string(record, "state", "")))
        TRY(err_set(op->err, STATUS_CONFLICT,
                    "run %s is %s; only a run that has ended can be sealed: say how it ended", run,
                    value_get_string(record, "state", "")));
    TRY(runs_seal(op, record, op_text(op, "comment")));
    value_set(op->a, details, "comment", op_or_null(op, op_text(op, "comment")));
    TRY(audit_append(op, &(struct audit_entry){"seal", run, details}, audit));
    if (moved)
        TRY(state_delta(op, run, record));
out:
    return st;
}

/* ---- description ---- */

enum status runs_describe(struct op *op, struct value *record) {
    const char *run = value_get_string(record, "run", "");
    struct value *params, *tags;
    enum status st = STATUS_OK;
    if (value_get(record, "lost") == NULL) /* written before there were such */
        value_set_bool(op->a, record, "lost", false);
    if (value_get(record, "sealed") == NULL)
        value_set(op->a, record, "sealed", value_null(op->a));
    TRY(get_named(op, KEY_PARAM, run, &params));
    TRY(get_named(op, KEY_TAG, run, &tags));
    value_set(op->a, record, "params", params);
    value_set(op->a, record, "tags", tags);
    TRY(op_attach(op, record, (struct op_document){KEY_RUN_SUMMARY, run, "summary"}));
out:
    return st;
}
