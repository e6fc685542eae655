/* Registered models, their versions and aliases, and the audit chain.
 *
 *     'M' │ name │ 0              ──▶ document {created_ns, newest}
 *     'N' │ name │ 0 │ version be32 ──▶ document {name, version, run, created_ns, actor, comment,
 * card} 'A' │ name │ 0 │ alias │ 0  ──▶ document {version} 'u' │ number, be64          ──▶
 * document: a record with its digest 'H'                         ──▶ u64 number of the last record
 * │ its digest
 *
 * Each change and its audit record are one transaction. A record's digest is the SHA-256 of its
 * canonical JSON without the digest itself; `previous` in it is the digest before: whoever changes
 * one record must change all later ones and the head. */
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/store_impl.h"

#define ALIAS_BYTES_MAX     100
#define AUDIT_LIMIT_DEFAULT 100

/* ---- the audit chain ---- */

struct head {
    uint64_t sequence;
    struct digest digest;
};

static enum status head_load(struct op *op, struct head *out) {
    struct key k = key_of(KEY_AUDIT_HEAD);
    struct slice v;
    *out = (struct head){0};
    enum status st = kv_get(op->txn, key_slice(&k), &v, op->err);
    if (st != STATUS_OK || v.data == NULL)
        return st;
    if (v.len != 8 + DIGEST_BYTES)
        return err_set(op->err, STATUS_CORRUPT, "the head of the audit chain is damaged");
    out->sequence = bytes_get_u64(v.data);
    memcpy(out->digest.bytes, (const char *)v.data + 8, DIGEST_BYTES);
    return STATUS_OK;
}

static enum status digest_record(struct op *op, const struct value *record, struct digest *out) {
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    enum status st = STATUS_OK;
    TRY(json_dump(record, JSON_CANONICAL, &text, op->err));
    hash_bytes(buf_text(&text), text.len, out);
out:
    buf_release(&text);
    return st;
}

static enum status audit_append(struct op *op, const char *action, const char *subject,
                                struct value *details, char digest_out[DIGEST_HEX]) {
    struct head head;
    char previous[DIGEST_HEX];
    uint8_t b[8 + DIGEST_BYTES];
    struct value *record = value_map(op->a);
    enum status st = STATUS_OK;
    TRY(head_load(op, &head));
    hash_hex(&head.digest, previous);
    value_set_int(op->a, record, "sequence", (int64_t)head.sequence + 1);
    value_set_int(op->a, record, "time_ns", op_now(op));
    value_set_string(op->a, record, "actor", op_text(op, "actor"));
    value_set_string(op->a, record, "action", action);
    value_set_string(op->a, record, "subject", subject);
    value_set(op->a, record, "details", details);
    value_set_string(op->a, record, "previous", previous);
    TRY(digest_record(op, record, &head.digest));
    hash_hex(&head.digest, digest_out);
    value_set_string(op->a, record, "digest", digest_out);

    struct key k = key_of(KEY_AUDIT);
    key_add_be64(&k, head.sequence + 1);
    TRY(doc_put_value(op->txn, &k, record, op->err));
    k = key_of(KEY_AUDIT_HEAD);
    bytes_put_u64(b, head.sequence + 1);
    memcpy(b + 8, head.digest.bytes, DIGEST_BYTES);
    TRY(kv_put(op->txn, key_slice(&k), (struct slice){b, sizeof b}, op->err));
out:
    return st;
}

enum status op_audit_list(struct op *op) {
    uint64_t after = (uint64_t)value_get_int(op->req, "after", 0);
    uint64_t limit = (uint64_t)value_get_int(op->req, "limit", AUDIT_LIMIT_DEFAULT);
    struct value *list = value_list(op->a), *record;
    struct head head;
    char hex[DIGEST_HEX];
    size_t bytes = 0;
    bool full = false;
    enum status st = STATUS_OK;
    TRY(head_load(op, &head));
    for (uint64_t n = after + 1; n <= head.sequence && n - after <= limit; n++) {
        struct key k = key_of(KEY_AUDIT);
        key_add_be64(&k, n);
        TRY(doc_get_value(op->txn, &k, op->a, &record, op->err));
        if (record == NULL)
            TRY(err_set(op->err, STATUS_CORRUPT, "audit record %llu is missing",
                        (unsigned long long)n));
        TRY(reply_room(op, record, &bytes, &full));
        if (full)
            break;
        value_push(op->a, list, record);
    }
    hash_hex(&head.digest, hex);
    value_set(op->a, op->reply, "records", list);
    value_set_string(op->a, op->reply, "head", hex);
out:
    return st;
}

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
    return err_set(op->err, STATUS_NOT_FOUND, "there is no model '%s'", name);
}

/* Moves the alias; the version it stood at before goes into `details`, null where it is new. */
static enum status move_alias(struct op *op, const char *name, const char *alias, int64_t version,
                              struct value *details) {
    struct value *old, *target = value_map(op->a);
    enum status st = STATUS_OK;
    TRY(name_check(alias, ALIAS_BYTES_MAX, "an alias", op->err));
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
    const char *comment = op_text(op, "comment");
    return comment != NULL ? value_string(op->a, comment) : value_null(op->a);
}

/* Only what trained to a good end may become a version. */
static enum status check_run(struct op *op, const char *run) {
    struct value *record;
    enum status st = run_load(op, run, &record);
    if (st != STATUS_OK)
        return st;
    const char *state = value_get_string(record, "state", "");
    if (strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0)
        return STATUS_OK;
    return err_set(op->err, STATUS_CONFLICT,
                   "run %s is %s; only a completed or a stopped run becomes a model version", run,
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
    TRY(name_check(name, NAME_BYTES_MAX, "the model's name", op->err));
    TRY(check_run(op, run));
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

    TRY(digest_record(op, value_get(op->req, "card"), &d));
    hash_hex(&d, card);
    value_set_int(op->a, details, "version", version);
    value_set_string(op->a, details, "run", run);
    value_set_string(op->a, details, "card_digest", card);
    value_set(op->a, details, "comment", comment_of(op));
    if (alias != NULL)
        TRY(move_alias(op, name, alias, version, details));
    TRY(audit_append(op, "promote", name, details, audit));
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
    TRY(name_check(name, NAME_BYTES_MAX, "the model's name", op->err));
    TRY(model_load(op, name, &model));
    if (model == NULL)
        TRY(no_model(op, name));
    if (version > value_get_int(model, "newest", 0))
        TRY(err_set(op->err, STATUS_NOT_FOUND, "model '%s' has no version %lld", name,
                    (long long)version));
    value_set_int(op->a, details, "version", version);
    value_set(op->a, details, "comment", comment_of(op));
    TRY(move_alias(op, name, op_text(op, "alias"), version, details));
    TRY(audit_append(op, "alias", name, details, audit));
    st = answer(op, name, version, audit);
out:
    return st;
}

/* ---- reading ---- */

/* {alias: version} of a model; with `only` > 0 a list of the aliases that stand at that version. */
static enum status aliases(struct op *op, const char *name, int64_t only, struct value **out) {
    struct doc_scan scan = {0};
    struct key prefix = key_name(KEY_ALIAS, name);
    struct value *target;
    const char *alias;
    size_t len;
    enum status st = STATUS_OK;
    *out = only > 0 ? value_list(op->a) : value_map(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, &alias, &len, &target, op->err));
        if (alias == NULL)
            break;
        int64_t version = value_get_int(target, "version", 0);
        if (only == 0)
            value_set_int(op->a, *out, alias, version);
        else if (version == only)
            value_push(op->a, *out, value_string(op->a, alias));
    }
out:
    doc_scan_close(&scan);
    return st;
}

static enum status alias_version(struct op *op, const char *name, const char *alias,
                                 int64_t *version) {
    struct value *target;
    enum status st = STATUS_OK;
    TRY(name_check(alias, ALIAS_BYTES_MAX, "an alias", op->err));
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
    TRY(name_check(name, NAME_BYTES_MAX, "the model's name", op->err));
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
    struct value *list = value_list(op->a), *model, *map;
    const char *name;
    size_t len;
    enum status st = STATUS_OK;
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, &name, &len, &model, op->err));
        if (name == NULL)
            break;
        TRY(aliases(op, name, 0, &map));
        value_set_string(op->a, model, "name", name);
        value_set_int(op->a, model, "versions", value_get_int(model, "newest", 0));
        value_set(op->a, model, "aliases", map);
        value_push(op->a, list, model);
    }
    value_set(op->a, op->reply, "models", list);
out:
    doc_scan_close(&scan);
    return st;
}
