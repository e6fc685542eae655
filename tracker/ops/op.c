/* What many operations need. */
#include "tracker/ops/op.h"

#include <assert.h>
#include <string.h>

int64_t op_now(const struct op *op) {
    return clock_wall_ns(op->s->clock);
}

const char *op_text(const struct op *op, const char *field) {
    return value_get_string(op->req, field, NULL);
}

const char *op_id(struct op *op, const char *field) {
    const char *given = op_text(op, field);
    if (given == NULL)
        return NULL;
    assert(op->id_count < OP_IDS_MAX);
    char *out = op->ids[op->id_count++];
    key_fold_id(given, out);
    return out;
}

enum status op_digest(const struct op *op, const char *field, struct digest *out) {
    const char *hex = op_text(op, field);
    return hash_parse(hex, strlen(hex), out, op->err);
}

enum status op_nomem(struct op *op) {
    return err_set(op->err, STATUS_NOMEM, "out of memory while a request was answered");
}

enum status op_room(struct op *op, const struct value *v, size_t *used, bool *full) {
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, op->err);
    *full = *used > 0 && *used + text.len > REPLY_BYTES_MAX;
    *used += text.len + 1;
    buf_release(&text);
    return st;
}

enum status op_attach(struct op *op, struct value *record, struct op_document doc) {
    struct key k = key_id(doc.kind, doc.id);
    struct value *v;
    enum status st = doc_get_value(op->txn, &k, op->a, &v, op->err);
    if (st == STATUS_OK)
        value_set(op->a, record, doc.name, v != NULL ? v : value_map(op->a));
    return st;
}

struct value *op_or_null(struct op *op, const char *text) {
    return text != NULL ? value_string(op->a, text) : value_null(op->a);
}
