/* Deltas, numbered. */
#include "tracker/ops/delta.h"

#include "core/bytes.h"

static struct key sequence_key(char kind, const char *id) {
    struct key k = key_of(KEY_FEED);
    key_add(&k, &kind, 1);
    key_add_id(&k, id);
    return k;
}

enum status delta_sequence(struct kv_txn *t, char kind, const char *id, uint64_t *out,
                           struct err *err) {
    struct key k = sequence_key(kind, id);
    struct kv_bytes v;
    enum status st = kv_get(t, key_bytes(&k), &v, err);
    *out = st == STATUS_OK && v.data != NULL && v.len == 8 ? bytes_get_u64(v.data) : 0;
    return st;
}

enum status delta_add(struct op *op, const struct delta *delta) {
    enum status st = STATUS_OK;
    struct store_delta *d = &op->out->deltas[op->out->delta_count];
    struct key k = sequence_key(delta->kind, delta->id);
    uint8_t number[8];
    if (delta->fields == NULL || delta->fields->broken)
        return op_nomem(op);
    if (op->out->delta_count == STORE_DELTAS_MAX)
        return err_set(op->err, STATUS_INTERNAL, "too many changes for the feed in one request");
    *d = (struct store_delta){0};
    TRY(delta_sequence(op->txn, delta->kind, delta->id, &d->sequence, op->err));
    d->sequence++;
    bytes_put_u64(number, d->sequence);
    TRY(kv_put(op->txn, key_bytes(&k), (struct kv_bytes){number, sizeof number}, op->err));

    d->topic = arena_printf(op->a, "%s.%s", delta->kind == 'r' ? "run" : "sweep", delta->id);
    d->header = value_map(op->a);
    if (d->topic == NULL || d->header == NULL)
        TRY(op_nomem(op));
    value_set_int(op->a, d->header, "v", WIRE_VERSION);
    value_set_string(op->a, d->header, "topic", d->topic);
    value_set_int(op->a, d->header, "sequence", (int64_t)d->sequence);
    value_set_string(op->a, d->header, "op", delta->op);
    for (size_t i = 0; i < delta->fields->count; i++)
        value_set(op->a, d->header, delta->fields->members[i].key, delta->fields->members[i].value);
    if (d->header->broken)
        TRY(op_nomem(op));
    for (size_t i = 0; delta->columns && i < op->frames.count && i < STORE_COLUMNS; i++)
        d->frame[d->frame_count++] = op->frames.items[i];
    op->out->delta_count++;
out:
    return st;
}
