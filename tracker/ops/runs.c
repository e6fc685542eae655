/* Experiments and runs: created, changed, described.
 *
 * A run's record is a document {run, experiment, sweep, trial, attempt, name, state, reason,
 * created_ns, ended_ns}; parameters and tags are documents of their own, config, manifest and
 * summary one each. Indexes by sweep, experiment and state hold empty values and are kept in the
 * same transaction. */
#include <string.h>

#include "tracker/ops/store_impl.h"

static bool is_final(const char *state) {
    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static struct value *text_or_null(struct arena *a, const char *text) {
    return text != NULL ? value_string(a, text) : value_null(a);
}

static struct value *copy_or_null(struct arena *a, const struct value *map, const char *field) {
    struct value *v = value_get(map, field);
    return v != NULL ? v : value_null(a);
}

/* ---- experiments ---- */

enum status experiment_ensure(struct op *op, const char *name, int64_t add_runs,
                              struct value **out) {
    struct value *record = NULL;
    enum status st = STATUS_OK;
    TRY(name_check(name, NAME_BYTES_MAX, "the experiment's name", op->err));
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
    enum status st = experiment_ensure(op, name, 0, &record);
    if (st != STATUS_OK)
        return st;
    value_set_string(op->a, op->reply, "experiment", name);
    value_set_int(op->a, op->reply, "created_ns", value_get_int(record, "created_ns", 0));
    return STATUS_OK;
}

enum status op_experiment_list(struct op *op) {
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_EXPERIMENT);
    struct value *list = value_list(op->a), *record;
    const char *name;
    size_t len;
    enum status st = STATUS_OK;
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, &name, &len, &record, op->err));
        if (name == NULL)
            break;
        value_set_string(op->a, record, "experiment", name);
        value_push(op->a, list, record);
    }
    value_set(op->a, op->reply, "experiments", list);
out:
    doc_scan_close(&scan);
    return st;
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
        TRY(name_check(m->key, NAME_BYTES_MAX, "the name of a parameter", op->err));
        struct key k = named_key(KEY_PARAM, run, m->key);
        TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
        if (old != NULL && value_equal(old, m->value))
            continue;
        if (old != NULL)
            TRY(err_set(op->err, STATUS_CONFLICT,
                        "parameter '%s' of run %s has another value already; parameters never "
                        "change",
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
        TRY(name_check(m->key, NAME_BYTES_MAX, "the name of a tag", op->err));
        struct key k = named_key(KEY_TAG, run, m->key);
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
    struct value *item;
    const char *name;
    size_t len;
    enum status st = STATUS_OK;
    *out = value_map(op->a);
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        TRY(doc_scan_next(&scan, op->a, &name, &len, &item, op->err));
        if (name == NULL)
            break;
        value_set(op->a, *out, name, item);
    }
out:
    doc_scan_close(&scan);
    return st;
}

/* ---- the record ---- */

enum status run_load(struct op *op, const char *run, struct value **out) {
    struct key k = key_id(KEY_RUN, run);
    enum status st = doc_get_value(op->txn, &k, op->a, out, op->err);
    if (st == STATUS_OK && *out == NULL)
        st = err_set(op->err, STATUS_NOT_FOUND, "there is no run %s", run);
    return st;
}

enum status run_must_exist(struct op *op, const char *run) {
    struct key k = key_id(KEY_RUN, run);
    struct slice v;
    key_add_be16(&k, 0);
    enum status st = kv_get(op->txn, key_slice(&k), &v, op->err);
    if (st == STATUS_OK && v.data == NULL)
        st = err_set(op->err, STATUS_NOT_FOUND, "there is no run %s", run);
    return st;
}

static enum status store_record(struct op *op, const char *run, const struct value *record) {
    struct key k = key_id(KEY_RUN, run);
    return doc_put_value(op->txn, &k, record, op->err);
}

static enum status index_put(struct op *op, struct key k, const char *run) {
    key_add_id(&k, run);
    return kv_put(op->txn, key_slice(&k), (struct slice){"", 0}, op->err);
}

static enum status state_delta(struct op *op, const char *run, const struct value *record) {
    struct value *fields = value_map(op->a);
    value_set_string(op->a, fields, "run", run);
    value_set(op->a, fields, "state", copy_or_null(op->a, record, "state"));
    value_set(op->a, fields, "reason", copy_or_null(op->a, record, "reason"));
    if (fields == NULL)
        return op_nomem(op);
    return feed_delta(op, 'r', run, "run.state", fields, false);
}

/* Creating a run again is no error when all that cannot change is the same. */
static enum status compare_again(struct op *op, const char *run, const struct value *old,
                                 const struct value *record) {
    static const char *const fixed[] = {"experiment", "sweep", "trial", "attempt", "name"};
    struct value *config;
    struct key k = key_id(KEY_RUN_CONFIG, run);
    enum status st = STATUS_OK;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        struct value *x = value_get(old, fixed[i]), *y = value_get(record, fixed[i]);
        if (x == NULL || y == NULL || !value_equal(x, y))
            TRY(err_set(op->err, STATUS_EXISTS, "run %s exists with another %s", run, fixed[i]));
    }
    TRY(doc_get_value(op->txn, &k, op->a, &config, op->err));
    const struct value *given = value_get(op->req, "config");
    if ((config == NULL) != (given == NULL) || (config != NULL && !value_equal(config, given)))
        TRY(err_set(op->err, STATUS_EXISTS, "run %s exists with another config", run));
    st = put_params(op, run);
out:
    return st;
}

static enum status enter_run(struct op *op, const char *run, const struct value *record) {
    const char *sweep = value_get_string(record, "sweep", NULL);
    const struct value *config = value_get(op->req, "config");
    struct value *experiment;
    enum status st = STATUS_OK;
    TRY(experiment_ensure(op, op_text(op, "experiment"), 1, &experiment));
    TRY(store_record(op, run, record));
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
    op->runs++;
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
    value_set(op->a, record, "sweep", text_or_null(op->a, op_id(op, "sweep")));
    value_set(op->a, record, "trial", copy_or_null(op->a, op->req, "trial"));
    value_set(op->a, record, "attempt", copy_or_null(op->a, op->req, "attempt"));
    value_set(op->a, record, "name", copy_or_null(op->a, op->req, "name"));
    value_set_string(op->a, record, "state", state);
    value_set(op->a, record, "reason", value_null(op->a));
    value_set_int(op->a, record, "created_ns", now);
    value_set(op->a, record, "ended_ns",
              is_final(state) ? value_int(op->a, now) : value_null(op->a));
    if (record == NULL || record->broken)
        return op_nomem(op);
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    if (old != NULL)
        return compare_again(op, run, old, record);
    st = enter_run(op, run, record);
out:
    return st;
}

/* ---- change ---- */

static enum status change_state(struct op *op, const char *run, struct value *record, bool *moved) {
    const char *from = value_get_string(record, "state", "");
    const char *to = op_text(op, "state");
    enum status st = STATUS_OK;
    *moved = to != NULL && strcmp(from, to) != 0;
    if (is_final(from) && *moved)
        TRY(err_set(op->err, STATUS_CONFLICT, "run %s is %s; a final state never changes (to %s)",
                    run, from, to));
    if (!is_final(from) && op_text(op, "reason") != NULL)
        value_set_string(op->a, record, "reason", op_text(op, "reason"));
    if (!*moved)
        return STATUS_OK;
    struct key k = key_name(KEY_BY_STATE, from);
    key_add_id(&k, run);
    TRY(kv_del(op->txn, key_slice(&k), NULL, op->err));
    TRY(index_put(op, key_name(KEY_BY_STATE, to), run));
    value_set_string(op->a, record, "state", to);
    if (is_final(to))
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
    TRY(run_load(op, run, &record));
    TRY(put_params(op, run));
    TRY(put_tags(op, run));
    if (manifest != NULL) {
        struct key k = key_id(KEY_RUN_MANIFEST, run);
        TRY(doc_merge(op, &k, manifest));
    }
    if (summary != NULL) {
        struct key k = key_id(KEY_RUN_SUMMARY, run);
        TRY(doc_merge(op, &k, summary));
    }
    if (op_text(op, "state") != NULL || op_text(op, "reason") != NULL) {
        TRY(change_state(op, run, record, &moved));
        TRY(store_record(op, run, record));
    }
    if (moved)
        TRY(state_delta(op, run, record));
out:
    return st;
}

/* ---- all about one run ---- */

static enum status attach(struct op *op, struct value *record, enum key_kind kind, const char *run,
                          const char *name) {
    struct key k = key_id(kind, run);
    struct value *doc;
    enum status st = doc_get_value(op->txn, &k, op->a, &doc, op->err);
    if (st == STATUS_OK)
        value_set(op->a, record, name, doc != NULL ? doc : value_map(op->a));
    return st;
}

enum status run_describe(struct op *op, struct value *record) {
    const char *run = value_get_string(record, "run", "");
    struct value *params, *tags;
    enum status st = STATUS_OK;
    TRY(get_named(op, KEY_PARAM, run, &params));
    TRY(get_named(op, KEY_TAG, run, &tags));
    value_set(op->a, record, "params", params);
    value_set(op->a, record, "tags", tags);
    TRY(attach(op, record, KEY_RUN_SUMMARY, run, "summary"));
out:
    return st;
}

enum status op_run_get(struct op *op) {
    const char *run = op_id(op, "run");
    struct value *record, *list;
    enum status st = STATUS_OK;
    TRY(run_load(op, run, &record));
    TRY(run_describe(op, record));
    TRY(attach(op, record, KEY_RUN_CONFIG, run, "config"));
    TRY(attach(op, record, KEY_RUN_MANIFEST, run, "manifest"));
    TRY(series_list(op, run, &list));
    value_set(op->a, record, "metrics", list);
    TRY(artifact_list(op, run, &list));
    value_set(op->a, record, "artifacts", list);
    value_set(op->a, op->reply, "run", record);
out:
    return st;
}
