/* The store: opened once, changed in transactions of many requests, read from snapshots.
 *
 * Order of a commit: bytes of artifacts first, then the meta environment. A crash between the two
 * leaves chunks that nothing refers to; the first upkeep after the next start removes them. */
#include "tracker/ops/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/path.h"
#include "core/process.h"
#include "tracker/ops/cleanup.h"
#include "tracker/ops/dispatch.h"
#include "tracker/ops/replies.h"
#include "tracker/ops/store_private.h"

/* The thread sanitizer's shadow leaves no room for maps of the usual size. */
#if defined(__SANITIZE_THREAD__)
#define DEFAULT_META_BYTES  ((size_t)4 << 30)
#define DEFAULT_BLOBS_BYTES ((size_t)16 << 30)
#else
#define DEFAULT_META_BYTES  STORE_META_BYTES
#define DEFAULT_BLOBS_BYTES STORE_BLOBS_BYTES
#endif

/* ---- open and close ---- */

static enum status refuse_network(const char *dir, struct err *err) {
    bool network = false;
    const char *name = "";
    enum status st = path_is_network(dir, &network, &name, err);
    if (st != STATUS_OK || !network)
        return st;
    return err_set(err, STATUS_DENIED,
                   "store %s is on %s, a network filesystem, where LMDB's locks and maps are not "
                   "safe; put it on a local disk (--store, TRIREME_HOME)",
                   dir, name);
}

static enum status lock(struct store *s, const char *dir, struct err *err) {
    char path[PATH_TEXT_MAX];
    enum status st = path_join(path, dir, "lock", err);
    if (st != STATUS_OK)
        return st;
    st = process_lock(path, &s->lock_fd, err);
    return st == STATUS_OK ? st : err_wrap(err, st, "store %s", dir);
}

void store_leaving(const struct store *s) {
    process_lock_leaving(s->lock_fd);
}

bool store_is_lost(const struct store *s) {
    return kv_is_lost(s->meta) || kv_is_lost(s->blobs_kv);
}

static enum status open_half(const char *dir, const char *name, const struct kv_how *how,
                             struct kv **out, struct err *err) {
    char path[PATH_TEXT_MAX];
    int cleared = 0;
    enum status st = STATUS_OK;
    TRY(path_join(path, dir, name, err));
    TRY(path_mkdirs(path, 0700, err));
    TRY(kv_open(path, how, out, err));
    TRY(kv_clear_readers(*out, &cleared, err));
out:
    return st;
}

static enum status count_runs(struct store *s, struct err *err) {
    struct kv_txn t = {0};
    struct arena a;
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_EXPERIMENT);
    uint64_t runs = 0;
    enum status st = STATUS_OK;
    arena_init(&a, (size_t)64 << 20);
    TRY(kv_begin(s->meta, NULL, false, &t, err));
    TRY(doc_scan_open(&t, &prefix, false, &scan, err));
    for (;;) {
        arena_clear(&a);
        TRY(doc_scan_next(&scan, &a, err));
        if (scan.value == NULL)
            break;
        runs += (uint64_t)value_get_int(scan.value, "runs", 0);
    }
    atomic_store(&s->runs, runs);
out:
    doc_scan_close(&scan);
    kv_abort(&t);
    arena_release(&a);
    return st;
}

enum status store_open(const char *dir, const struct store_options *options, struct store **out,
                       struct err *err) {
    enum status st = STATUS_OK;
    *out = NULL;
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while store %s was opened", dir);
    s->lock_fd = -1;
    s->clock = options->clock != NULL ? options->clock : &clock_system;
    struct kv_how meta = {options->meta_bytes, false, options->whole};
    struct kv_how blobs = {options->blobs_bytes, false, options->whole};
    if (meta.map_bytes == 0)
        meta = (struct kv_how){DEFAULT_META_BYTES, true, options->whole};
    if (blobs.map_bytes == 0)
        blobs = (struct kv_how){DEFAULT_BLOBS_BYTES, true, options->whole};
    TRY(refuse_network(dir, err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(lock(s, dir, err));
    TRY(open_half(dir, "meta", &meta, &s->meta, err));
    TRY(open_half(dir, "blobs", &blobs, &s->blobs_kv, err));
    TRY(blobs_init(&s->blobs, s->blobs_kv, options->artifact_dir, err));
    struct format_halves halves = {.meta = s->meta, .blobs = s->blobs_kv, .clock = s->clock};
    TRY(format_check(&halves, dir, err));
    TRY(count_runs(s, err));
    *out = s;
    return STATUS_OK;
out:
    store_close(&s);
    return st;
}

void store_close(struct store **s) {
    struct store *st = *s;
    if (st == NULL)
        return;
    store_abort(st);
    uploads_release(&st->uploads);
    blobs_release(&st->blobs);
    kv_close(&st->meta);
    kv_close(&st->blobs_kv);
    if (st->lock_fd >= 0)
        (void)close(st->lock_fd);
    free(st);
    *s = NULL;
}

/* ---- the writer's transaction ---- */

enum status store_begin(struct store *s, struct err *err) {
    assert(s->txn.txn == NULL);
    s->failed = STATUS_OK;
    s->added = (struct store_counts){0};
    return kv_begin(s->meta, NULL, true, &s->txn, err);
}

void store_abort(struct store *s) {
    if (s->txn.txn != NULL)
        blobs_abort(&s->blobs);
    kv_abort(&s->txn);
}

static enum status already_failed(const struct store *s, struct err *err) {
    return err_set(err, s->failed,
                   "nothing of this transaction can be stored: an earlier write failed");
}

enum status store_commit(struct store *s, struct err *err) {
    enum status st = STATUS_OK;
    assert(s->txn.txn != NULL);
    if (s->failed != STATUS_OK)
        TRY(already_failed(s, err));
    TRY(blobs_sync(&s->blobs, err));
    TRY(kv_commit(&s->txn, err));
    atomic_fetch_add(&s->commits, 1);
    atomic_fetch_add(&s->points, s->added.points);
    atomic_fetch_add(&s->runs, s->added.runs);
    atomic_fetch_add(&s->requests, s->added.requests);
out:
    if (st != STATUS_OK) {
        store_abort(s);
        s->orphans_checked = false; /* there may be bytes that nothing refers to */
    }
    return st;
}

/* Failures of the disk or the map, after which the transaction cannot be trusted to be complete. */
static bool ends_transaction(enum status st) {
    return st == STATUS_FULL || st == STATUS_IO;
}

static enum status run_op(struct op *op, const struct dispatch_row *row) {
    bool found;
    enum status st = STATUS_OK;
    TRY(replies_find(op, row->name, &found));
    if (found)
        return STATUS_OK;
    TRY(row->fn(op));
    if (op->reply->broken)
        TRY(op_nomem(op));
    TRY(replies_keep(op, row->name));
out:
    return st;
}

/* After a commit whose bytes had another digest than announced: the next begin starts anew. Its
 * chunks stay until the next upkeep. */
static enum status drop_upload(struct store *s, const struct digest *d, struct err *err) {
    uploads_forget(&s->uploads, d);
    s->orphans_checked = false;
    return blob_record_forget(&s->txn, d, err);
}

static struct op make_op(struct store *s, const struct store_request *request,
                         struct store_answer *answer, struct kv_txn *txn, struct err *err) {
    answer->frame_count = answer->delta_count = 0;
    return (struct op){.s = s,
                       .txn = txn,
                       .req = request->header,
                       .frames = request->frames,
                       .role = request->role,
                       .out = answer,
                       .a = answer->a,
                       .reply = answer->header,
                       .err = err};
}

enum status store_apply(struct store *s, const struct store_request *request,
                        struct store_answer *answer, struct err *err) {
    struct kv_txn t = {0};
    struct err why = {STATUS_OK, ""};
    struct op op = make_op(s, request, answer, &t, &why);
    enum status st = STATUS_OK;
    const struct dispatch_row *row = dispatch_find(request->type->op);
    assert(s->txn.txn != NULL);
    if (row == NULL || !row->writes)
        return err_set(err, STATUS_INVALID, "%s is not an operation that changes the store",
                       request->type->op);
    if (s->failed != STATUS_OK)
        return already_failed(s, err);
    TRY(kv_begin(s->meta, &s->txn, true, &t, &why));
    TRY(run_op(&op, row));
    TRY(kv_commit(&t, &why));
    s->added.points += op.added.points;
    s->added.runs += op.added.runs;
    s->added.requests++;
    return STATUS_OK;
out:
    kv_abort(&t);
    answer->delta_count = 0;
    if (op.drop_blob) {
        struct err second = {STATUS_OK, ""};
        enum status dropped = drop_upload(s, &op.blob, &second);
        if (ends_transaction(dropped))
            s->failed = dropped;
    } else if (ends_transaction(st)) {
        s->failed = st;
    }
    return err_set(err, st, "%s", why.text);
}

/* ---- reading ---- */

enum status store_read(struct store *s, const struct store_request *request,
                       struct store_answer *answer, struct err *err) {
    struct kv_txn t = {0};
    struct err why = {STATUS_OK, ""};
    struct op op = make_op(s, request, answer, &t, &why);
    enum status st = STATUS_OK;
    const struct dispatch_row *row = dispatch_find(request->type->op);
    if (row == NULL || row->writes)
        return err_set(err, STATUS_INVALID, "%s is not a question that the store answers",
                       request->type->op);
    TRY(kv_begin(s->meta, NULL, false, &t, &why));
    TRY(row->fn(&op));
    if (answer->header->broken)
        TRY(op_nomem(&op));
    atomic_fetch_add(&s->requests, 1);
out:
    kv_abort(&t);
    return st == STATUS_OK ? st : err_set(err, st, "%s", why.text);
}

/* ---- upkeep ---- */

enum status store_maintain(struct store *s, struct err *err) {
    int cleared = 0;
    enum status st = STATUS_OK;
    assert(s->txn.txn == NULL);
    TRY(kv_clear_readers(s->meta, &cleared, err));
    TRY(kv_clear_readers(s->blobs_kv, &cleared, err));
    TRY(replies_forget(s, clock_wall_ns(s->clock) - REPLIES_KEPT_NS, err));
    TRY(cleanup_run(s, err));
out:
    return st;
}
