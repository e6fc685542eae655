/* From an op's name to the function that answers it, and what many of them need. */
#include <assert.h>
#include <string.h>

#include "core/bytes.h"
#include "tracker/ops/store_impl.h"

static const struct {
    const char *name;
    op_fn *fn;
} ops[] = {
    {"run.log", op_run_log},
    {"run.metrics", op_run_metrics},
    {"run.create", op_run_create},
    {"run.update", op_run_update},
    {"run.get", op_run_get},
    {"run.list", op_run_list},
    {"run.resolve", op_run_resolve},
    {"experiment.create", op_experiment_create},
    {"experiment.list", op_experiment_list},
    {"artifact.begin", op_artifact_begin},
    {"artifact.chunk", op_artifact_chunk},
    {"artifact.commit", op_artifact_commit},
    {"artifact.get", op_artifact_get},
    {"artifact.delete", op_artifact_delete},
    {"sweep.create", op_sweep_create},
    {"sweep.update", op_sweep_update},
    {"sweep.get", op_sweep_get},
    {"sweep.list", op_sweep_list},
    {"event.append", op_event_append},
    {"event.read", op_event_read},
    {"model.promote", op_model_promote},
    {"model.alias", op_model_alias},
    {"model.get", op_model_get},
    {"model.list", op_model_list},
    {"audit.list", op_audit_list},
};

op_fn *op_find(const char *name) {
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].name, name) == 0)
            return ops[i].fn;
    return NULL;
}

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
    id_fold(given, out);
    return out;
}

enum status op_nomem(struct op *op) {
    return err_set(op->err, STATUS_NOMEM, "out of memory while a request was answered");
}

enum status reply_room(struct op *op, const struct value *v, size_t *used, bool *full) {
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, op->err);
    *full = *used > 0 && *used + text.len > REPLY_BYTES_MAX;
    *used += text.len + 1;
    buf_release(&text);
    return st;
}

enum status doc_merge(struct op *op, const struct key *key, const struct value *from) {
    struct value *doc = NULL;
    enum status st = doc_get_value(op->txn, key, op->a, &doc, op->err);
    if (st != STATUS_OK)
        return st;
    if (doc == NULL || doc->kind != VALUE_MAP)
        doc = value_map(op->a);
    for (size_t i = 0; i < from->count; i++)
        value_set(op->a, doc, from->members[i].key, from->members[i].value);
    return doc_put_value(op->txn, key, doc, op->err);
}

/* ---- numbers of the live feed ---- */

static struct key feed_key(char kind, const char *id) {
    struct key k = key_of(KEY_FEED);
    key_add(&k, &kind, 1);
    key_add_id(&k, id);
    return k;
}

enum status feed_sequence(struct kv_txn *t, char kind, const char *id, uint64_t *out,
                          struct err *err) {
    struct key k = feed_key(kind, id);
    struct slice v;
    enum status st = kv_get(t, key_slice(&k), &v, err);
    *out = st == STATUS_OK && v.data != NULL && v.len == 8 ? bytes_get_u64(v.data) : 0;
    return st;
}

enum status feed_delta(struct op *op, char kind, const char *id, const char *name,
                       const struct value *fields, bool with_frames) {
    enum status st = STATUS_OK;
    struct store_delta *d = &op->deltas[op->delta_count];
    struct key k = feed_key(kind, id);
    uint8_t number[8];
    if (op->delta_count == DELTAS_MAX)
        return err_set(op->err, STATUS_INTERNAL, "too many changes for the feed in one request");
    *d = (struct store_delta){0};
    TRY(feed_sequence(op->txn, kind, id, &d->sequence, op->err));
    d->sequence++;
    bytes_put_u64(number, d->sequence);
    TRY(kv_put(op->txn, key_slice(&k), (struct slice){number, sizeof number}, op->err));

    d->topic = arena_printf(op->a, "%s.%s", kind == 'r' ? "run" : "sweep", id);
    d->header = value_map(op->a);
    if (d->topic == NULL || d->header == NULL)
        TRY(op_nomem(op));
    value_set_int(op->a, d->header, "v", WIRE_VERSION);
    value_set_string(op->a, d->header, "topic", d->topic);
    value_set_int(op->a, d->header, "sequence", (int64_t)d->sequence);
    value_set_string(op->a, d->header, "op", name);
    for (size_t i = 0; i < fields->count; i++)
        value_set(op->a, d->header, fields->members[i].key, fields->members[i].value);
    for (size_t i = 0; with_frames && i < op->frame_count && i < 3; i++)
        d->frame[d->frame_count++] = op->frames[i];
    op->delta_count++;
out:
    return st;
}
