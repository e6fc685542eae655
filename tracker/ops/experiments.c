/* Experiments: names that runs are grouped under.
 *
 *     'e' │ name ──▶ document {created_ns, runs} */
#include "tracker/ops/experiments.h"

#include "tracker/ops/ops.h"

enum status experiments_ensure(struct op *op, const char *name, int64_t add_runs,
                               struct value **out) {
    struct value *record = NULL;
    enum status st = STATUS_OK;
    TRY(key_check_new_name(name, NAME_BYTES_MAX, "the experiment's name", op->err));
    struct key k = key_name(KEY_EXPERIMENT, name);
    TRY(doc_get_value(op->txn, &k, op->a, &record, op->err));
    bool is_new = record == NULL;
    if (is_new) {
        record = value_map(op->a);
        value_set_int(op->a, record, "created_ns", op_now(op));
    }
    if (is_new || add_runs != 0) {
        value_set_int(op->a, record, "runs", value_get_int(record, "runs", 0) + add_runs);
        TRY(doc_put_value(op->txn, &k, record, op->err));
    }
    *out = record;
out:
    return st;
}

enum status op_experiment_create(struct op *op) {
    const char *name = op_text(op, "name");
    struct value *record;
    enum status st = experiments_ensure(op, name, 0, &record);
    if (st != STATUS_OK)
        return st;
    value_set_string(op->a, op->reply, "experiment", name);
    value_set_int(op->a, op->reply, "created_ns", value_get_int(record, "created_ns", 0));
    return STATUS_OK;
}

enum status op_experiment_list(struct op *op) {
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_EXPERIMENT);
    struct value *list = value_list(op->a);
    enum status st = STATUS_OK;
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        value_set_string(op->a, scan.value, "experiment", scan.name);
        value_push(op->a, list, scan.value);
    }
    value_set(op->a, op->reply, "experiments", list);
out:
    doc_scan_close(&scan);
    return st;
}
