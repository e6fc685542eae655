/* Artifacts of a run, listed: beside its record as many as have room, or all of them page by page. */
#include <string.h>

#include "tracker/ops/artifacts.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/runs.h"

#define LIMIT_DEFAULT 1000

/* Of a run's entries what has room in the reply. */
struct listing {
    struct op *op;
    struct value *list; /* out */
    size_t bytes;       /* of the reply so far */
    int64_t total;      /* out: seen */
    bool full;          /* out: the last one had no room */
};

/* Names a run's own files before those in its folders, of which there may be very many. */
static enum status take(struct listing *l, struct value *entry, const char *path, bool whole) {
    size_t with = l->bytes;
    size_t share = whole || strchr(path, '/') == NULL ? REPLY_BYTES_MAX : REPLY_BYTES_MAX / 4 * 3;
    value_set_string(l->op->a, entry, "path", path);
    enum status st = op_room(l->op, entry, &with, &l->full);
    l->full = l->full || (l->bytes > 0 && with > share);
    l->total++;
    if (st == STATUS_OK && !l->full) {
        value_push(l->op->a, l->list, value_copy(l->op->a, entry));
        l->bytes = with;
    }
    return st;
}

enum status artifacts_attach(struct op *op, const char *run, struct value *record) {
    struct doc_scan scan = {0};
    struct key prefix = key_id(KEY_ARTIFACT, run);
    struct listing l = {.op = op, .list = value_list(op->a)};
    struct arena one;
    enum status st = STATUS_OK;
    arena_init(&one, (size_t)64 << 20);
    TRY(op_room(op, record, &l.bytes, &l.full));
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    for (;;) {
        arena_clear(&one);
        TRY(doc_scan_next(&scan, &one, op->err));
        if (scan.value == NULL)
            break;
        TRY(take(&l, scan.value, scan.name, false));
    }
    value_set(op->a, record, "artifacts", l.list);
    value_set_int(op->a, record, "artifacts_total", l.total);
out:
    doc_scan_close(&scan);
    arena_release(&one);
    return st;
}

enum status op_artifact_list(struct op *op) {
    const char *run = op_id(op, "run"), *after = op_text(op, "after");
    int64_t limit = value_get_int(op->req, "limit", LIMIT_DEFAULT);
    struct doc_scan scan = {0};
    struct key prefix = key_id(KEY_ARTIFACT, run), from = prefix;
    struct listing l = {.op = op, .list = value_list(op->a)};
    struct value *record;
    bool more = false;
    enum status st = STATUS_OK;
    TRY(runs_load(op, run, &record));
    TRY(doc_scan_open(op->txn, &prefix, false, &scan, op->err));
    if (after != NULL) { /* a path ends with a zero byte: what begins with more is later */
        key_add(&from, after, strlen(after));
        key_add(&from, "\1", 1);
        doc_scan_from(&scan, &from);
    }
    while (!more) {
        TRY(doc_scan_next(&scan, op->a, op->err));
        if (scan.value == NULL)
            break;
        if (l.total == limit)
            more = true;
        else
            TRY(take(&l, scan.value, scan.name, true));
        more = more || l.full;
    }
    value_set(op->a, op->reply, "artifacts", l.list);
    value_set_bool(op->a, op->reply, "more", more);
out:
    doc_scan_close(&scan);
    return st;
}
