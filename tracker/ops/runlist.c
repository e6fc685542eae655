/* Listings of runs, and ids from their prefixes.
 *
 * Ids are ULIDs, so that the order of keys is the order of time, in the primary table and within
 * each index. A listing walks the narrowest index that the request names (sweep, experiment, state,
 * all) and looks at the record for the rest. */
#include <string.h>

#include "tracker/ops/store_impl.h"

#define LIMIT_DEFAULT 100
#define MATCHES_SHOWN 4

struct walk {
    struct key prefix; /* the id stands behind it */
    bool is_primary;   /* documents: a part number stands behind the id */
    bool backwards, started;
    struct kv_cursor cursor;
};

static void choose_index(struct op *op, struct walk *w) {
    const char *sweep = op_id(op, "sweep");
    w->is_primary = false;
    if (sweep != NULL)
        w->prefix = key_id(KEY_BY_SWEEP, sweep);
    else if (op_text(op, "experiment") != NULL)
        w->prefix = key_name(KEY_BY_EXPERIMENT, op_text(op, "experiment"));
    else if (op_text(op, "state") != NULL)
        w->prefix = key_name(KEY_BY_STATE, op_text(op, "state"));
    else {
        w->prefix = key_of(KEY_RUN);
        w->is_primary = true;
    }
}

/* To the first entry behind `after` (NULL: the first of all) in the walk's direction. */
static enum status start(struct walk *w, const char *after, struct err *err) {
    struct key k = w->prefix;
    w->started = true;
    if (after != NULL)
        key_add_id(&k, after);
    if (!w->backwards) {
        struct key behind = after != NULL ? key_behind(&k) : k;
        return kv_seek(&w->cursor, key_slice(&behind), err);
    }
    struct key end = after != NULL ? k : key_behind(&k);
    return kv_seek_before(&w->cursor, key_slice(&end), err);
}

/* The next id; empty at the end. */
static enum status walk_next(struct walk *w, const char *after, char id[ULID_TEXT],
                             struct err *err) {
    size_t want = w->prefix.len + ULID_LEN + (w->is_primary ? 2 : 0);
    id[0] = '\0';
    for (;;) {
        enum status st = !w->started    ? start(w, after, err)
                         : w->backwards ? kv_prev(&w->cursor, err)
                                        : kv_next(&w->cursor, err);
        if (st != STATUS_OK)
            return st;
        if (!slice_begins(w->cursor.key, key_slice(&w->prefix)))
            return STATUS_OK;
        const uint8_t *k = w->cursor.key.data;
        if (w->cursor.key.len != want || (w->is_primary && (k[want - 1] != 0 || k[want - 2] != 0)))
            continue;
        memcpy(id, k + w->prefix.len, ULID_LEN);
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
    struct walk w = {.backwards = value_get_bool(op->req, "newest_first", true)};
    struct value *list = value_list(op->a), *record;
    int64_t n = 0;
    size_t bytes = 0;
    bool more = false;
    char id[ULID_TEXT];
    enum status st = STATUS_OK;
    choose_index(op, &w);
    TRY(kv_cursor_open(op->txn, &w.cursor, op->err));
    while (!more) {
        TRY(walk_next(&w, after, id, op->err));
        if (id[0] == '\0')
            break;
        TRY(run_load(op, id, &record));
        if (!matches(record, "sweep", sweep) ||
            !matches(record, "experiment", op_text(op, "experiment")) ||
            !matches(record, "state", op_text(op, "state")))
            continue;
        if (n == limit) {
            more = true;
            continue;
        }
        TRY(run_describe(op, record));
        TRY(reply_room(op, record, &bytes, &more));
        if (!more)
            value_push(op->a, list, record);
        n++;
    }
    value_set(op->a, op->reply, "runs", list);
    value_set_bool(op->a, op->reply, "more", more);
out:
    kv_cursor_close(&w.cursor);
    return st;
}

enum status op_run_resolve(struct op *op) {
    const char *prefix = op_id(op, "prefix");
    bool is_sweep = strcmp(value_get_string(op->req, "kind", "run"), "sweep") == 0;
    const char *noun = is_sweep ? "sweep" : "run";
    struct walk w = {.is_primary = true};
    struct buf names = BUF_INIT(512);
    char id[ULID_TEXT], only[ULID_TEXT] = "";
    size_t found = 0, len = strlen(prefix);
    enum status st = STATUS_OK;
    TRY(kv_cursor_open(op->txn, &w.cursor, op->err));
    w.prefix = key_of(is_sweep ? KEY_SWEEP : KEY_RUN);
    /* The first key at or behind the prefix, then on while it holds. */
    struct key from = w.prefix;
    key_add(&from, prefix, len);
    TRY(kv_seek(&w.cursor, key_slice(&from), op->err));
    while (slice_begins(w.cursor.key, key_slice(&from)) && found <= MATCHES_SHOWN) {
        size_t want = w.prefix.len + ULID_LEN;
        const uint8_t *k = w.cursor.key.data;
        if (w.cursor.key.len == want + 2 && k[want] == 0 && k[want + 1] == 0) {
            memcpy(id, k + w.prefix.len, ULID_LEN);
            id[ULID_LEN] = '\0';
            if (found == 0)
                memcpy(only, id, sizeof id);
            if (found < MATCHES_SHOWN)
                buf_addf(&names, "%s%s", found > 0 ? ", " : "", id);
            found++;
        }
        TRY(kv_next(&w.cursor, op->err));
    }
    if (found == 0)
        TRY(err_set(op->err, STATUS_NOT_FOUND, "no %s begins with %s", noun, prefix));
    if (found > 1)
        TRY(err_set(op->err, STATUS_AMBIGUOUS, "several %ss begin with %s: %s%s; give more of it",
                    noun, prefix, buf_text(&names), found > MATCHES_SHOWN ? ", …" : ""));
    value_set_string(op->a, op->reply, "resolved", only);
out:
    kv_cursor_close(&w.cursor);
    buf_release(&names);
    return st;
}
