/* The audit chain: appended to, listed. */
#include "tracker/ops/audit.h"

#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/ops.h"

#define LIMIT_DEFAULT 100

struct head {
    uint64_t sequence;
    struct digest digest;
};

static enum status head_load(struct op *op, struct head *out) {
    struct key k = key_of(KEY_AUDIT_HEAD);
    struct kv_bytes v;
    *out = (struct head){0};
    enum status st = kv_get(op->txn, key_bytes(&k), &v, op->err);
    if (st != STATUS_OK || v.data == NULL)
        return st;
    if (v.len != 8 + DIGEST_BYTES)
        return err_set(op->err, STATUS_CORRUPT,
                       "the head of the audit chain is damaged; restore a backup");
    out->sequence = bytes_get_u64(v.data);
    memcpy(out->digest.bytes, (const char *)v.data + 8, DIGEST_BYTES);
    return STATUS_OK;
}

enum status audit_digest(struct op *op, const struct value *record, struct digest *out) {
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    enum status st = STATUS_OK;
    TRY(json_dump(record, JSON_CANONICAL, &text, op->err));
    hash_bytes(buf_text(&text), text.len, out);
out:
    buf_release(&text);
    return st;
}

enum status audit_append(struct op *op, const struct audit_entry *entry,
                         char digest_out[DIGEST_HEX]) {
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
    value_set_string(op->a, record, "action", entry->action);
    value_set_string(op->a, record, "subject", entry->subject);
    value_set(op->a, record, "details", entry->details);
    value_set_string(op->a, record, "previous", previous);
    TRY(audit_digest(op, record, &head.digest));
    hash_hex(&head.digest, digest_out);
    value_set_string(op->a, record, "digest", digest_out);

    struct key k = key_of(KEY_AUDIT);
    key_add_be64(&k, head.sequence + 1);
    TRY(doc_put_value(op->txn, &k, record, op->err));
    k = key_of(KEY_AUDIT_HEAD);
    bytes_put_u64(b, head.sequence + 1);
    memcpy(b + 8, head.digest.bytes, DIGEST_BYTES);
    TRY(kv_put(op->txn, key_bytes(&k), (struct kv_bytes){b, sizeof b}, op->err));
out:
    return st;
}

enum status op_audit_revoked(struct op *op) {
    const char *name = op_text(op, "name"), *key = op_text(op, "key");
    int64_t connections = value_get_int(op->req, "connections", 1);
    struct value *details = value_map(op->a);
    char audit[DIGEST_HEX];
    name = name != NULL && name[0] != '\0' ? name : key;
    value_set_string(op->a, details, "key", key);
    value_set_string(op->a, details, "role", op_text(op, "role"));
    value_set_int(op->a, details, "connections", connections);
    value_set_string(op->a, details, "comment",
                     arena_printf(op->a, "%lld connection%s of this %s ended",
                                  (long long)connections, connections == 1 ? "" : "s",
                                  op_text(op, "role")));
    return audit_append(op, &(struct audit_entry){"revoke", name, details}, audit);
}

enum status op_audit_list(struct op *op) {
    uint64_t after = (uint64_t)value_get_int(op->req, "after", 0);
    uint64_t limit = (uint64_t)value_get_int(op->req, "limit", LIMIT_DEFAULT);
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
            TRY(err_set(op->err, STATUS_CORRUPT, "audit record %llu is missing; restore a backup",
                        (unsigned long long)n));
        TRY(op_room(op, record, &bytes, &full));
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
