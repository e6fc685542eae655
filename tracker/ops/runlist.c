/* Listings of runs, all about one run, and ids from their prefixes.
 *
 * Ids are ULIDs, so that the order of keys is the order of time, in the primary table and within
 * each index. A listing scans the narrowest index that the request names (sweep, experiment, state,
 * all) and looks at the record for the rest. */
#include <string.h>

#include "tracker/ops/artifacts.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/points.h"
#include "tracker/ops/runs.h"

#define LIMIT_DEFAULT 100
#define MATCHES_SHOWN 4

struct index_scan {
    struct key prefix; /* the id follows it */
    bool is_primary;   /* documents: a part number follows the id */
    bool backwards, started;
    struct kv_cursor cursor;
};

static void choose_index(struct op *op, struct index_scan *scan) {
    const char *sweep = op_id(op, "sweep");
    scan->is_primary = false;
    if (sweep != NULL)
        scan->prefix = key_id(KEY_BY_SWEEP, sweep);
    else if (op_text(op, "experiment") != NULL)
        scan->prefix = key_name(KEY_BY_EXPERIMENT, op_text(op, "experiment"));
    else if (op_text(op, "state") != NULL)
        scan->prefix = key_name(KEY_BY_STATE, op_text(op, "state"));
    else {
        scan->prefix = key_of(KEY_RUN);
        scan->is_primary = true;
    }
}

/* To the first entry after `after` (NULL: the first of all) in the direction of the scan. */
static enum status start(struct index_scan *scan, const char *after, struct err *err) {
    struct key k = scan->prefix;
    scan->started = true;
    if (after != NULL)
        key_add_id(&k, after);
    if (!scan->backwards) {
        struct key from = after != NULL ? key_after(&k) : k;
        return kv_seek(&scan->cursor, key_bytes(&from), err);
    }
    struct key end = after != NULL ? k : key_after(&k);
    return kv_seek_before(&scan->cursor, key_bytes(&end), err);
}

/* The next id; empty at the end. */
static enum status scan_next(struct index_scan *scan, const char *after, char id[ULID_TEXT],
                             struct err *err) {
    size_t want = scan->prefix.len + ULID_LEN + (scan->is_primary ? 2 : 0);
    id[0] = '\0';
    for (;;) {
        enum status st = !scan->started    ? start(scan, after, err)
                         : scan->backwards ? kv_prev(&scan->cursor, err)
                                           : kv_next(&scan->cursor, err);
        if (st != STATUS_OK)
            return st;
        if (!kv_begins(scan->cursor.key, key_bytes(&scan->prefix)))
            return STATUS_OK;
        const uint8_t *k = scan->cursor.key.data;
        if (scan->cursor.key.len != want ||
            (scan->is_primary && (k[want - 1] != 0 || k[want - 2] != 0)))
            continue;
        memcpy(id, k + scan->prefix.len, ULID_LEN);
        id[ULID_LEN] = '\0';
        return STATUS_OK;
    }
}

static bool matches(const struct value *record, const char *field, const char *want) {
    return want == NULL || strcmp(value_get_string(record, field, ""), want) == 0;
}

enum status op_run_list(struct op *op) {
    const char *after = op_id(op, "after"), *sweep = op_id(op, "sweep");
    int64_t limit = value_get_int(op->req, "limit", LIMIT_DEFAULT);
    struct index_scan scan = {.backwards = value_get_bool(op->req, "newest_first", true)};
    struct value *list = value_list(op->a), *record;
    int64_t n = 0;
    size_t bytes = 0;
    bool more = false;
    char id[ULID_TEXT];
    enum status st = STATUS_OK;
    choose_index(op, &scan);
    TRY(kv_cursor_open(op->txn, &scan.cursor, op->err));
    while (!more) {
        TRY(scan_next(&scan, after, id, op->err));
        if (id[0] == '\0')
            break;
        TRY(runs_load(op, id, &record));
        if (!matches(record, "sweep", sweep) ||
            !matches(record, "experiment", op_text(op, "experiment")) ||
            !matches(record, "state", op_text(op, "state")))
            continue;
        if (n == limit) {
            more = true;
            continue;
        }
        TRY(runs_describe(op, record));
        TRY(op_room(op, record, &bytes, &more));
        if (!more)
            value_push(op->a, list, record);
        n++;
    }
    value_set(op->a, op->reply, "runs", list);
    value_set_bool(op->a, op->reply, "more", more);
out:
    kv_cursor_close(&scan.cursor);
    return st;
}

enum status op_run_get(struct op *op) {
    const char *run = op_id(op, "run");
    struct value *record, *list;
    enum status st = STATUS_OK;
    TRY(runs_load(op, run, &record));
    TRY(runs_describe(op, record));
    TRY(op_attach(op, record, (struct op_document){KEY_RUN_CONFIG, run, "config"}));
    TRY(op_attach(op, record, (struct op_document){KEY_RUN_MANIFEST, run, "manifest"}));
    TRY(points_list(op, run, &list));
    value_set(op->a, record, "metrics", list);
    TRY(artifacts_attach(op, run, record));
    value_set(op->a, op->reply, "run", record);
out:
    return st;
}

enum status op_run_resolve(struct op *op) {
    const char *prefix = op_id(op, "prefix");
    bool is_sweep = strcmp(value_get_string(op->req, "kind", "run"), "sweep") == 0;
    const char *noun = is_sweep ? "sweep" : "run";
    struct index_scan scan = {.is_primary = true};
    struct buf names = BUF_INIT(512);
    char id[ULID_TEXT], only[ULID_TEXT] = "";
    size_t found = 0, len = strlen(prefix);
    enum status st = STATUS_OK;
    TRY(kv_cursor_open(op->txn, &scan.cursor, op->err));
    scan.prefix = key_of(is_sweep ? KEY_SWEEP : KEY_RUN);
    /* From the first key at or after the prefix, as long as keys begin with it. */
    struct key from = scan.prefix;
    key_add(&from, prefix, len);
    TRY(kv_seek(&scan.cursor, key_bytes(&from), op->err));
    while (kv_begins(scan.cursor.key, key_bytes(&from)) && found <= MATCHES_SHOWN) {
        size_t want = scan.prefix.len + ULID_LEN;
        const uint8_t *k = scan.cursor.key.data;
        if (scan.cursor.key.len == want + 2 && k[want] == 0 && k[want + 1] == 0) {
            memcpy(id, k + scan.prefix.len, ULID_LEN);
            id[ULID_LEN] = '\0';
            if (found == 0)
                memcpy(only, id, sizeof id);
            if (found < MATCHES_SHOWN)
                buf_addf(&names, "%s%s", found > 0 ? ", " : "", id);
            found++;
        }
        TRY(kv_next(&scan.cursor, op->err));
    }
    if (found == 0)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "no %s in this store has an id that begins with %s",
                    noun, prefix));
    if (found > 1)
        TRY(err_set(op->err, STATUS_AMBIGUOUS,
                    "several %ss begin with %s: %s%s; give more characters", noun, prefix,
                    buf_text(&names), found > MATCHES_SHOWN ? ", …" : ""));
    value_set_string(op->a, op->reply, "resolved", only);
out:
    kv_cursor_close(&scan.cursor);
    buf_release(&names);
    return st;
}
