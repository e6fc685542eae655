/* Sweeps and their event logs.
 *
 *     'w' │ sweep ──▶ document {sweep, name, state, reason, created_ns, ended_ns, events}
 *     'W' │ sweep ──▶ document: config           'U' │ sweep ──▶ document: summary
 *     'v' │ sweep │ number, be64 ──▶ document: the event
 *
 * Events are numbered from 1 without gaps. Appending is idempotent: what is stored under a
 * number is left alone, so that a coordinator that lost an answer may send its events again. */
#include <string.h>

#include "tracker/ops/delta.h"
#include "tracker/ops/experiments.h"
#include "tracker/ops/ops.h"

#define LIMIT_DEFAULT       100
#define EVENT_LIMIT_DEFAULT 1000

static bool is_final(const char *state) {
    return strcmp(state, "active") != 0 && strcmp(state, "paused") != 0;
}

static enum status sweep_load(struct op *op, const char *sweep, struct value **out) {
    struct key k = key_id(KEY_SWEEP, sweep);
    enum status st = doc_get_value(op->txn, &k, op->a, out, op->err);
    if (st == STATUS_OK && *out == NULL)
        st = err_set(op->err, STATUS_NOT_FOUND, "there is no sweep %s in this store", sweep);
    return st;
}

static enum status store_record(struct op *op, const char *sweep, const struct value *record) {
    struct key k = key_id(KEY_SWEEP, sweep);
    return doc_put_value(op->txn, &k, record, op->err);
}

static enum status state_delta(struct op *op, const char *sweep, const struct value *record) {
    struct value *fields = value_map(op->a);
    struct value *reason = value_get(record, "reason");
    value_set_string(op->a, fields, "sweep", sweep);
    value_set(op->a, fields, "state", value_get(record, "state"));
    value_set(op->a, fields, "reason", reason != NULL ? reason : value_null(op->a));
    return delta_add(
        op, &(struct delta){.kind = 's', .id = sweep, .op = "sweep.state", .fields = fields});
}

/* Creating it again with the same name and config is not an error. */
static enum status compare_again(struct op *op, const char *sweep, const struct value *old) {
    struct value *config;
    struct key k = key_id(KEY_SWEEP_CONFIG, sweep);
    enum status st = STATUS_OK;
    if (strcmp(value_get_string(old, "name", ""), op_text(op, "name")) != 0)
        TRY(err_set(op->err, STATUS_EXISTS,
                    "sweep %s exists already, with another name; choose another id", sweep));
    TRY(doc_get_value(op->txn, &k, op->a, &config, op->err));
    if (config == NULL || !value_equal(config, value_get(op->req, "config")))
        TRY(err_set(op->err, STATUS_EXISTS,
                    "sweep %s exists already, with another config; choose another id", sweep));
out:
    return st;
}

enum status op_sweep_create(struct op *op) {
    const char *sweep = op_id(op, "sweep");
    struct value *record = value_map(op->a), *old, *experiment;
    struct key k = key_id(KEY_SWEEP, sweep);
    enum status st = STATUS_OK;
    TRY(doc_get_value(op->txn, &k, op->a, &old, op->err));
    if (old != NULL)
        return compare_again(op, sweep, old);
    TRY(experiments_ensure(op, op_text(op, "name"), 0, &experiment));
    value_set_string(op->a, record, "sweep", sweep);
    value_set_string(op->a, record, "name", op_text(op, "name"));
    value_set_string(op->a, record, "state", "active");
    value_set(op->a, record, "reason", value_null(op->a));
    value_set_int(op->a, record, "created_ns", op_now(op));
    value_set(op->a, record, "ended_ns", value_null(op->a));
    value_set_int(op->a, record, "events", 0);
    if (record == NULL)
        TRY(op_nomem(op));
    TRY(store_record(op, sweep, record));
    k = key_id(KEY_SWEEP_CONFIG, sweep);
    TRY(doc_put_value(op->txn, &k, value_get(op->req, "config"), op->err));
    TRY(state_delta(op, sweep, record));
out:
    return st;
}

enum status op_sweep_update(struct op *op) {
    const char *sweep = op_id(op, "sweep"), *to = op_text(op, "state");
    const char *reason = op_text(op, "reason");
    const struct value *summary = value_get(op->req, "summary");
    struct value *record;
    enum status st = STATUS_OK;
    TRY(sweep_load(op, sweep, &record));
    bool moved = to != NULL && strcmp(value_get_string(record, "state", ""), to) != 0;
    if (moved) {
        value_set_string(op->a, record, "state", to);
        value_set(op->a, record, "ended_ns",
                  is_final(to) ? value_int(op->a, op_now(op)) : value_null(op->a));
        value_set(op->a, record, "reason", value_null(op->a)); /* the old state's */
    }
    if (reason != NULL)
        value_set_string(op->a, record, "reason", reason);
    if (moved || reason != NULL)
        TRY(store_record(op, sweep, record));
    if (summary != NULL) {
        struct key k = key_id(KEY_SWEEP_SUMMARY, sweep);
        TRY(doc_merge(op->txn, &k, op->a, summary, op->err));
    }
    if (moved)
        TRY(state_delta(op, sweep, record));
out:
    return st;
}

enum status op_sweep_get(struct op *op) {
    const char *sweep = op_id(op, "sweep");
    struct value *record;
    enum status st = STATUS_OK;
    TRY(sweep_load(op, sweep, &record));
    TRY(op_attach(op, record, (struct op_document){KEY_SWEEP_CONFIG, sweep, "config"}));
    TRY(op_attach(op, record, (struct op_document){KEY_SWEEP_SUMMARY, sweep, "summary"}));
    value_set(op->a, op->reply, "sweep", record);
out:
    return st;
}

enum status op_sweep_list(struct op *op) {
    const char *state = op_text(op, "state");
    size_t limit = (size_t)value_get_int(op->req, "limit", LIMIT_DEFAULT), n = 0;
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_SWEEP);
    struct value *list = value_list(op->a), *record;
    size_t bytes = 0;
    bool full = false;
    enum status st = STATUS_OK;
    TRY(doc_scan_open(op->txn, &prefix, true, &scan, op->err));
    while (n < limit) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        record = scan.value;
        if (state != NULL && strcmp(value_get_string(record, "state", ""), state) != 0)
            continue;
        const char *sweep = value_get_string(record, "sweep", "");
        TRY(op_attach(op, record, (struct op_document){KEY_SWEEP_SUMMARY, sweep, "summary"}));
        TRY(op_room(op, record, &bytes, &full));
        if (full)
            break;
        value_push(op->a, list, record);
        n++;
    }
    value_set(op->a, op->reply, "sweeps", list);
out:
    doc_scan_close(&scan);
    return st;
}

/* ---- events ---- */

static struct key event_key(const char *sweep, uint64_t number) {
    struct key k = key_id(KEY_EVENT, sweep);
    key_add_be64(&k, number);
    return k;
}

static enum status events_delta(struct op *op, const char *sweep, int64_t first,
                                struct value *events) {
    struct value *fields = value_map(op->a);
    value_set_string(op->a, fields, "sweep", sweep);
    value_set_int(op->a, fields, "first", first);
    value_set(op->a, fields, "events", events);
    return delta_add(
        op, &(struct delta){.kind = 's', .id = sweep, .op = "sweep.events", .fields = fields});
}

enum status op_event_append(struct op *op) {
    const char *sweep = op_id(op, "sweep");
    const struct value *events = value_get(op->req, "events");
    int64_t first = value_get_int(op->req, "first", 0);
    struct value *record, *added = value_list(op->a);
    enum status st = STATUS_OK;
    TRY(sweep_load(op, sweep, &record));
    int64_t last = value_get_int(record, "events", 0), before = last;
    if (first > last + 1)
        TRY(err_set(op->err, STATUS_CONFLICT,
                    "sweep %s has %lld events; the next must have number %lld, not %lld", sweep,
                    (long long)last, (long long)last + 1, (long long)first));
    for (size_t i = 0; i < events->count; i++) {
        if (events->items[i]->kind != VALUE_MAP)
            TRY(err_set(op->err, STATUS_INVALID, "event %lld must be a map, not %s",
                        (long long)first + (long long)i, value_kind_name(events->items[i]->kind)));
        if (first + (int64_t)i <= before)
            continue;
        struct key k = event_key(sweep, (uint64_t)++last);
        TRY(doc_put_value(op->txn, &k, events->items[i], op->err));
        value_push(op->a, added, events->items[i]);
    }
    if (last > before) {
        value_set_int(op->a, record, "events", last);
        TRY(store_record(op, sweep, record));
        TRY(events_delta(op, sweep, before + 1, added));
    }
    value_set_int(op->a, op->reply, "last", last);
out:
    return st;
}

enum status op_event_read(struct op *op) {
    const char *sweep = op_id(op, "sweep");
    int64_t after = value_get_int(op->req, "after", 0);
    int64_t limit = value_get_int(op->req, "limit", EVENT_LIMIT_DEFAULT);
    struct value *record, *list = value_list(op->a);
    size_t bytes = 0;
    enum status st = STATUS_OK;
    TRY(sweep_load(op, sweep, &record));
    int64_t last = value_get_int(record, "events", 0), n = after;
    while (n < last && n - after < limit) {
        struct key k = event_key(sweep, (uint64_t)++n);
        struct value *event = NULL;
        struct kv_bytes text;
        TRY(doc_get(op->txn, &k, op->a, &text, op->err));
        if (text.data == NULL)
            TRY(err_set(op->err, STATUS_CORRUPT,
                        "sweep %s has lost its event %lld; restore a backup", sweep, (long long)n));
        TRY(json_parse(op->a, text.data, text.len, "stored event", &event, op->err));
        bytes += text.len + 1;
        if (bytes > REPLY_BYTES_MAX && n > after + 1) {
            n--;
            break;
        }
        value_push(op->a, list, event);
    }
    value_set(op->a, op->reply, "events", list);
    value_set_int(op->a, op->reply, "first", n > after ? after + 1 : 0);
    value_set_int(op->a, op->reply, "last", last);
out:
    return st;
}
