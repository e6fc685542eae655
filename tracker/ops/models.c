/* Registered models, their versions and aliases.
 *
 *     'M' │ name │ 0                ──▶ document {created_ns, newest}
 *     'N' │ name │ 0 │ version be32 ──▶ document {name, version, run, created_ns, actor, comment,
 *                                                 card}
 *     'A' │ name │ 0 │ alias │ 0    ──▶ document {version}
 *
 * Each change and its audit record are one transaction. */
#include <string.h>

#include "core/name.h"
#include "tracker/ops/audit.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/runs.h"

#define ALIAS_BYTES_MAX 100

/* ---- versions and aliases ---- */

static struct key version_key(const char *name, int64_t version) {
    struct key k = key_name(KEY_VERSION, name);
    key_add_be32(&k, (uint32_t)version);
    return k;
}

static enum status model_load(struct op *op, const char *name, struct value **out) {
    struct key k = key_name(KEY_MODEL, name);
    return doc_get_value(op->txn, &k, op->a, out, op->err);
}

static enum status no_model(struct op *op, const char *name) {
    return err_set(op->err, STATUS_NOT_FOUND, "there is no model '%s' in this store", name);
}

/* What a version is called by, NAME@ALIAS, and what its folder is called after an export. */
static enum status check_handle(const char *text, size_t max, const char *what, struct err *err) {
    enum status st = key_check_name(text, max, what, err);
    return st == STATUS_OK ? name_check(what, text, strlen(text), err) : st;
}

/* Moves the alias; the version it had before goes into `details`, null where it is new. */
static enum status move_alias(struct op *op, const char *name, const char *alias, int64_t version,
                              struct value *details) {
    struct value *old, *target = value_map(op->a);
    enum status st = STATUS_OK;
    TRY(check_handle(alias, ALIAS_BYTES_MAX, "alias", op->err));
    struct key k = key_name(KEY_ALIAS, name);
    key_add_name(&k, alias);
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    value_set_int(op->a, target, "version", version);
    TRY(doc_put_value(op->txn, &k, target, op->err));
    value_set_string(op->a, details, "alias", alias);
    value_set(op->a, details, "moved_from",
              old != NULL ? value_int(op->a, value_get_int(old, "version", 0)) : value_null(op->a));
out:
    return st;
}

static enum status answer(struct op *op, const char *name, int64_t version, const char *audit) {
    value_set_string(op->a, op->reply, "name", name);
    value_set_int(op->a, op->reply, "version", version);
    value_set_string(op->a, op->reply, "audit", audit);
    return STATUS_OK;
}

static struct value *comment_of(struct op *op) {
    return op_or_null(op, op_text(op, "comment"));
}

/* Only a run that trained to a good end may become a version; a run of no sweep is sealed by it. */
static enum status take_run(struct op *op, const char *run) {
    struct value *record;
    enum status st = runs_load(op, run, &record);
    if (st != STATUS_OK)
        return st;
    const char *state = value_get_string(record, "state", "");
    bool open = value_get_string(record, "sweep", NULL) == NULL && !runs_is_sealed(record);
    if (strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0)
        return open ? runs_seal(op, record, "promoted") : STATUS_OK;
    return err_set(op->err, STATUS_CONFLICT,
                   "run %s is %s; only a completed or stopped run may become a model version", run,
                   state);
}

static enum status put_version(struct op *op, const char *name, const char *run, int64_t version) {
    struct value *v = value_map(op->a);
    struct key k = version_key(name, version);
    value_set_string(op->a, v, "name", name);
    value_set_int(op->a, v, "version", version);
    value_set_string(op->a, v, "run", run);
    value_set_int(op->a, v, "created_ns", op_now(op));
    value_set_string(op->a, v, "actor", op_text(op, "actor"));
    value_set(op->a, v, "comment", comment_of(op));
    value_set(op->a, v, "card", value_get(op->req, "card"));
    return doc_put_value(op->txn, &k, v, op->err);
}

enum status op_model_promote(struct op *op) {
    const char *name = op_text(op, "name"), *run = op_id(op, "run"), *alias = op_text(op, "alias");
    struct value *model, *details = value_map(op->a);
    char audit[DIGEST_HEX], card[DIGEST_HEX];
    struct digest d;
    enum status st = STATUS_OK;
    TRY(check_handle(name, NAME_BYTES_MAX, "model name", op->err));
    TRY(take_run(op, run));
    TRY(model_load(op, name, &model));
    if (model == NULL) {
        model = value_map(op->a);
        value_set_int(op->a, model, "created_ns", op_now(op));
    }
    int64_t version = value_get_int(model, "newest", 0) + 1;
    value_set_int(op->a, model, "newest", version);
    struct key k = key_name(KEY_MODEL, name);
    TRY(doc_put_value(op->txn, &k, model, op->err));
    TRY(put_version(op, name, run, version));

    TRY(audit_digest(op, value_get(op->req, "card"), &d));
    hash_hex(&d, card);
    value_set_int(op->a, details, "version", version);
    value_set_string(op->a, details, "run", run);
    value_set_string(op->a, details, "card_digest", card);
    value_set(op->a, details, "comment", comment_of(op));
    if (alias != NULL)
        TRY(move_alias(op, name, alias, version, details));
    TRY(audit_append(op, &(struct audit_entry){"promote", name, details}, audit));
    st = answer(op, name, version, audit);
out:
    return st;
}

enum status op_model_alias(struct op *op) {
    const char *name = op_text(op, "name");
    int64_t version = value_get_int(op->req, "version", 0);
    struct value *model, *details = value_map(op->a);
    char audit[DIGEST_HEX];
    enum status st = STATUS_OK;
    TRY(key_check_name(name, NAME_BYTES_MAX, "the model's name", op->err));
    TRY(model_load(op, name, &model));
    if (model == NULL)
        TRY(no_model(op, name));
    if (version > value_get_int(model, "newest", 0))
        TRY(err_set(op->err, STATUS_NOT_FOUND, "model '%s' has no version %lld", name,
                    (long long)version));
    value_set_int(op->a, details, "version", version);
    value_set(op->a, details, "comment", comment_of(op));
    TRY(move_alias(op, name, op_text(op, "alias"), version, details));
    TRY(audit_append(op, &(struct audit_entry){"alias", name, details}, audit));
    st = answer(op, name, version, audit);
out:
    return st;
}

/* ---- reading ---- */

/* {alias: version} of a model; with `only` > 0 a list of the aliases of that version. */
static enum status aliases(struct op *op, const char *name, int64_t only, struct value **out) {
    struct doc_scan scan = {0};
    struct key prefix = key_name(KEY_ALIAS, name);
    enum status st = STATUS_OK;
    *out = only > 0 ? value_list(op->a) : value_map(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        int64_t version = value_get_int(scan.value, "version", 0);
        if (only == 0)
            value_set_int(op->a, *out, scan.name, version);
        else if (version == only)
            value_push(op->a, *out, value_string(op->a, scan.name));
    }
out:
    doc_scan_close(&scan);
    return st;
}

static enum status alias_version(struct op *op, const char *name, const char *alias,
                                 int64_t *version) {
    struct value *target;
    enum status st = STATUS_OK;
    TRY(key_check_name(alias, ALIAS_BYTES_MAX, "an alias", op->err));
    struct key k = key_name(KEY_ALIAS, name);
    key_add_name(&k, alias);
    TRY(doc_get_value(op->txn, &k, op->a, &target, op->err));
    if (target == NULL)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "model '%s' has no alias '%s'", name, alias));
    *version = value_get_int(target, "version", 0);
out:
    return st;
}

enum status op_model_get(struct op *op) {
    const char *name = op_text(op, "name"), *alias = op_text(op, "alias");
    struct value *model, *v, *list;
    enum status st = STATUS_OK;
    TRY(key_check_name(name, NAME_BYTES_MAX, "the model's name", op->err));
    if (alias != NULL && value_get(op->req, "version") != NULL)
        TRY(err_set(op->err, STATUS_INVALID, "give a version or an alias, not both"));
    TRY(model_load(op, name, &model));
    if (model == NULL)
        TRY(no_model(op, name));
    int64_t version = value_get_int(op->req, "version", value_get_int(model, "newest", 0));
    if (alias != NULL)
        TRY(alias_version(op, name, alias, &version));
    struct key k = version_key(name, version);
    TRY(doc_get_value(op->txn, &k, op->a, &v, op->err));
    if (v == NULL)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "model '%s' has no version %lld", name,
                    (long long)version));
    TRY(aliases(op, name, version, &list));
    value_set(op->a, v, "aliases", list);
    value_set(op->a, op->reply, "model", v);
out:
    return st;
}

enum status op_model_list(struct op *op) {
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_MODEL);
    struct value *list = value_list(op->a), *map;
    enum status st = STATUS_OK;
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        TRY(aliases(op, scan.name, 0, &map));
        value_set_string(op->a, scan.value, "name", scan.name);
        value_set_int(op->a, scan.value, "versions", value_get_int(scan.value, "newest", 0));
        value_set(op->a, scan.value, "aliases", map);
        value_push(op->a, list, scan.value);
    }
    value_set(op->a, op->reply, "models", list);
out:
    doc_scan_close(&scan);
    return st;
}
