/* run.log and run.metrics: columns in, columns out; and what run.get says of each metric. */
#include "tracker/ops/points.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/ops/delta.h"
#include "tracker/ops/ops.h"
#include "tracker/ops/rights.h"
#include "tracker/ops/runs.h"
#include "tracker/series/series.h"

#define POINTS_MAX ((size_t)1000000)

/* One stretch of the columns. */
struct stretch {
    const char *key;
    size_t from, count, place;
};

/* By name, so that writes go through the tree in its order; stretches of one name keep theirs. */
static int by_key(const void *a, const void *b) {
    const struct stretch *x = a, *y = b;
    int c = strcmp(x->key, y->key);
    return c != 0 ? c : (x->place > y->place) - (x->place < y->place);
}

static enum status read_stretches(struct op *op, struct stretch *out, size_t *points) {
    const struct value *series = value_get(op->req, "series");
    enum status st = STATUS_OK;
    *points = 0;
    for (size_t i = 0; i < series->count; i++) {
        out[i] = (struct stretch){
            .key = value_get_string(series->items[i], "key", ""),
            .from = *points,
            .count = (size_t)value_get_int(series->items[i], "count", 0),
            .place = i,
        };
        TRY(key_check_new_name(out[i].key, NAME_BYTES_MAX, "the name of a metric", op->err));
        *points += out[i].count;
    }
    if (op->frames.count != STORE_COLUMNS)
        TRY(err_set(op->err, STATUS_INVALID,
                    "run.log needs three frames (steps, times, values), not %zu",
                    op->frames.count));
    for (size_t i = 0; i < 3; i++)
        if (op->frames.items[i].len != *points * 8)
            TRY(err_set(op->err, STATUS_INVALID,
                        "run.log announces %zu points, but frame %zu has %zu bytes instead of "
                        "%zu",
                        *points, i + 1, op->frames.items[i].len, *points * 8));
out:
    return st;
}

static enum status log_delta(struct op *op, const char *run, unsigned rank, struct value *series) {
    struct value *fields = value_map(op->a);
    value_set_string(op->a, fields, "run", run);
    value_set_int(op->a, fields, "rank", (int64_t)rank);
    value_set(op->a, fields, "series", series);
    return delta_add(
        op, &(struct delta){
                .kind = 'r', .id = run, .op = "run.points", .fields = fields, .columns = true});
}

/* What comes too late for a run that was lost is kept beside its curves, under a name of its own. */
static enum status rename_late(struct op *op, struct stretch *stretches, struct value **series) {
    const struct value *given = *series;
    struct value *renamed = value_list(op->a);
    enum status st = STATUS_OK;
    for (size_t i = 0; i < given->count; i++) {
        struct value *item = value_map(op->a);
        stretches[i].key = arena_printf(op->a, "late/%s", stretches[i].key);
        if (stretches[i].key == NULL)
            return op_nomem(op);
        TRY(key_check_name(stretches[i].key, NAME_BYTES_MAX, "the name of a late metric", op->err));
        value_set_string(op->a, item, "key", stretches[i].key);
        value_set_int(op->a, item, "count", (int64_t)stretches[i].count);
        value_push(op->a, renamed, item);
    }
    *series = renamed;
out:
    return st;
}

static enum status append(struct op *op, const char *run, unsigned rank,
                          const struct stretch *stretch, struct points *work) {
    size_t at = stretch->from * 8;
    struct series_name name = {.run = run, .rank = rank, .metric = stretch->key};
    struct columns c = {.count = stretch->count,
                        .steps = (const uint8_t *)op->frames.items[0].data + at,
                        .times = (const uint8_t *)op->frames.items[1].data + at,
                        .values = (const uint8_t *)op->frames.items[2].data + at};
    return series_append(op->txn, &name, &c, work, op->err);
}

enum status op_run_log(struct op *op) {
    const char *run = op_id(op, "run");
    unsigned rank = (unsigned)value_get_int(op->req, "rank", 0);
    struct value *series = value_get(op->req, "series"), *record;
    struct stretch *stretches = arena_array(op->a, series->count, sizeof *stretches);
    struct points *work = malloc(sizeof *work);
    size_t points;
    bool late;
    enum status st = STATUS_OK;
    if (stretches == NULL || work == NULL)
        TRY(op_nomem(op));
    TRY(read_stretches(op, stretches, &points));
    TRY(runs_load(op, run, &record));
    TRY(rights_check_points(op, record, &late));
    if (late)
        TRY(rename_late(op, stretches, &series));
    qsort(stretches, series->count, sizeof *stretches, by_key);
    for (size_t i = 0; i < series->count; i++)
        TRY(append(op, run, rank, &stretches[i], work));
    if (points > 0)
        TRY(log_delta(op, run, rank, series));
    op->added.points += points;
    value_set_int(op->a, op->reply, "points", (int64_t)points);
out:
    free(work);
    return st;
}

enum status op_run_metrics(struct op *op) {
    struct series_name name = {.run = op_id(op, "run"),
                               .rank = (unsigned)value_get_int(op->req, "rank", 0),
                               .metric = op_text(op, "key")};
    struct series_query query = {.after_step = value_get_int(op->req, "after_step", INT64_MIN),
                                 .points =
                                     (size_t)value_get_int(op->req, "points", (int64_t)POINTS_MAX)};
    struct series s;
    uint64_t sequence;
    bool found;
    enum status st = STATUS_OK;
    TRY(runs_must_exist(op, name.run));
    TRY(key_check_name(name.metric, NAME_BYTES_MAX, "the name of a metric", op->err));
    TRY(series_find(op->txn, &name, &s, &found, op->err));
    if (!found)
        TRY(err_set(op->err, STATUS_NOT_FOUND,
                    "run %s has no metric '%s' of rank %u; run.get lists its metrics", name.run,
                    name.metric, name.rank));
    TRY(delta_sequence(op->txn, 'r', name.run, &sequence, op->err));
    size_t before = op->out->bytes->len;
    TRY(series_read(op->txn, &s, query, op->out->bytes, op->err));
    size_t column = (op->out->bytes->len - before) / STORE_COLUMNS;
    for (size_t i = 0; i < STORE_COLUMNS; i++)
        op->out->frame_lens[i] = column;
    op->out->frame_count = STORE_COLUMNS;
    value_set_int(op->a, op->reply, "count", (int64_t)(column / 8));
    value_set_int(op->a, op->reply, "total", (int64_t)s.count);
    value_set_int(op->a, op->reply, "sequence", (int64_t)sequence);
out:
    return st;
}

/* JSON has no NaN and no Inf. */
static struct value *finite_or_null(struct arena *a, double v) {
    return isfinite(v) ? value_real(a, v) : value_null(a);
}

enum status points_list(struct op *op, const char *run, struct value **out) {
    struct kv_cursor c = {0};
    struct key prefix = key_id(KEY_SERIES, run);
    struct series s;
    enum status st = STATUS_OK;
    *out = value_list(op->a);
    TRY(kv_cursor_open(op->txn, &c, op->err));
    TRY(kv_seek(&c, key_bytes(&prefix), op->err));
    while (kv_begins(c.key, key_bytes(&prefix))) {
        const uint8_t *k = c.key.data;
        if (c.key.len < prefix.len + 2)
            TRY(err_set(op->err, STATUS_CORRUPT,
                        "the key of a metric is damaged; restore a backup"));
        TRY(series_decode(c.value, run, &s, op->err));
        struct value *m = value_map(op->a);
        value_set(op->a, m, "key",
                  value_bytes(op->a, (const char *)k + prefix.len + 2, c.key.len - prefix.len - 2));
        value_set_int(op->a, m, "rank", (int64_t)(k[prefix.len] << 8 | k[prefix.len + 1]));
        value_set_int(op->a, m, "count", (int64_t)s.count);
        value_set(op->a, m, "last", finite_or_null(op->a, s.last));
        value_set_int(op->a, m, "last_step", s.last_step);
        value_set(op->a, m, "min", finite_or_null(op->a, s.min));
        value_set(op->a, m, "max", finite_or_null(op->a, s.max));
        value_push(op->a, *out, m);
        TRY(kv_next(&c, op->err));
    }
out:
    kv_cursor_close(&c);
    return st;
}
