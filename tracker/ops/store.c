/* The store: opened once, changed in groups, read from snapshots.
 *
 * Order of a commit: bytes of artifacts first, then the meta environment. A crash between the two
 * leaves chunks that nothing refers to; the first maintenance after the next start removes them. */
#include "tracker/ops/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/path.h"
#include "core/process.h"
#include "tracker/blobs/blobs.h"
#include "tracker/ops/store_impl.h"

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
                   "store %s lies on %s, a network filesystem, where LMDB's locks and maps are not "
                   "safe; put it on a local disk (TRIREME_HOME)",
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

static enum status open_half(const char *dir, const char *name, size_t bytes, struct kv **out,
                             struct err *err) {
    char path[PATH_TEXT_MAX];
    int cleared = 0;
    enum status st = STATUS_OK;
    TRY(path_join(path, dir, name, err));
    TRY(path_mkdirs(path, 0700, err));
    TRY(kv_open(path, bytes, out, err));
    TRY(kv_clear_readers(*out, &cleared, err));
out:
    return st;
}

static enum status count_runs(struct store *s, struct err *err) {
    struct kv_txn t = {0};
    struct arena a;
    struct doc_scan scan = {0};
    struct key prefix = key_of(KEY_EXPERIMENT);
    const char *name;
    size_t name_len;
    struct value *record;
    uint64_t runs = 0;
    enum status st = STATUS_OK;
    arena_init(&a, (size_t)64 << 20);
    TRY(kv_begin(s->meta, NULL, false, &t, err));
    TRY(doc_scan_open(&t, &prefix, false, &scan, err));
    for (;;) {
        arena_clear(&a);
        TRY(doc_scan_next(&scan, &a, &name, &name_len, &record, err));
        if (name == NULL)
            break;
        runs += (uint64_t)value_get_int(record, "runs", 0);
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
    size_t meta_bytes = options->meta_bytes != 0 ? options->meta_bytes : DEFAULT_META_BYTES;
    size_t blobs_bytes = options->blobs_bytes != 0 ? options->blobs_bytes : DEFAULT_BLOBS_BYTES;
    TRY(refuse_network(dir, err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(lock(s, dir, err));
    if (options->artifact_dir != NULL) {
        TRY(path_mkdirs(options->artifact_dir, 0700, err));
        s->artifact_dir = strdup(options->artifact_dir);
        if (s->artifact_dir == NULL)
            TRY(err_set(err, STATUS_NOMEM, "out of memory while store %s was opened", dir));
    }
    TRY(open_half(dir, "meta", meta_bytes, &s->meta, err));
    TRY(open_half(dir, "blobs", blobs_bytes, &s->blobs, err));
    TRY(format_check(s, dir, err));
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
    for (size_t i = 0; i < UPLOAD_HASHES; i++)
        hash_destroy(&st->uploads[i].hash);
    kv_close(&st->meta);
    kv_close(&st->blobs);
    if (st->lock_fd >= 0)
        (void)close(st->lock_fd);
    free(st->artifact_dir);
    free(st);
    *s = NULL;
}

/* ---- groups ---- */

enum status store_begin(struct store *s, struct err *err) {
    assert(s->group.txn == NULL);
    s->group_failed = STATUS_OK;
    s->group_points = s->group_runs = s->group_requests = 0;
    return kv_begin(s->meta, NULL, true, &s->group, err);
}

void store_abort(struct store *s) {
    if (s->group.txn != NULL)
        blob_abort(s);
    kv_abort(&s->group);
}

enum status store_commit(struct store *s, struct err *err) {
    enum status st = STATUS_OK;
    assert(s->group.txn != NULL);
    if (s->group_failed != STATUS_OK)
        TRY(err_set(err, s->group_failed, "the group cannot be stored: an earlier write failed"));
    TRY(blob_sync(s, err));
    TRY(kv_commit(&s->group, err));
    atomic_fetch_add(&s->commits, 1);
    atomic_fetch_add(&s->points, s->group_points);
    atomic_fetch_add(&s->runs, s->group_runs);
    atomic_fetch_add(&s->requests, s->group_requests);
out:
    if (st != STATUS_OK) {
        store_abort(s);
        s->orphans_checked = false; /* bytes may be there that nothing refers to */
    }
    return st;
}

/* Failures of the disk or the map, after which the group cannot be trusted to be complete. */
static bool ends_group(enum status st) {
    return st == STATUS_FULL || st == STATUS_IO;
}

static enum status run_op(struct op *op, const struct message_type *type, op_fn *fn) {
    bool found;
    enum status st = STATUS_OK;
    TRY(reply_find(op, type->op, &found));
    if (found)
        return STATUS_OK;
    TRY(fn(op));
    if (op->reply->broken)
        TRY(op_nomem(op));
    TRY(reply_keep(op, type->op));
out:
    return st;
}

enum status store_apply(struct store *s, const struct message_type *type,
                        const struct value *request, const struct net_frame *frames,
                        size_t frame_count, struct arena *a, struct value *reply,
                        store_delta_fn *on_delta, void *arg, struct err *err) {
    struct kv_txn t = {0};
    struct err why = {STATUS_OK, ""};
    struct op op = {.s = s,
                    .txn = &t,
                    .req = request,
                    .a = a,
                    .reply = reply,
                    .err = &why,
                    .frames = frames,
                    .frame_count = frame_count};
    enum status st = STATUS_OK;
    op_fn *fn = type->writes ? op_find(type->op) : NULL;
    assert(s->group.txn != NULL);
    if (fn == NULL)
        return err_set(err, STATUS_INVALID, "%s is not an operation that changes the store",
                       type->op);
    if (s->group_failed != STATUS_OK)
        return err_set(err, s->group_failed, "the group cannot be stored: an earlier write failed");
    TRY(kv_begin(s->meta, &s->group, true, &t, &why));
    TRY(run_op(&op, type, fn));
    TRY(kv_commit(&t, &why));
    s->group_points += op.points;
    s->group_runs += op.runs;
    s->group_requests++;
    for (size_t i = 0; on_delta != NULL && i < op.delta_count; i++)
        on_delta(arg, &op.deltas[i]);
    return STATUS_OK;
out:
    kv_abort(&t);
    if (op.drop_blob) {
        struct err second = {STATUS_OK, ""};
        enum status dropped = artifact_drop_upload(s, &op.blob, &second);
        if (ends_group(dropped))
            s->group_failed = dropped;
    } else if (ends_group(st)) {
        s->group_failed = st;
    }
    return err_set(err, st, "%s", why.text);
}

/* ---- reading ---- */

enum status store_read(struct store *s, const struct message_type *type,
                       const struct value *request, struct arena *a, struct value *reply,
                       struct buf *bytes, size_t frame_lens[NET_FRAMES_MAX], size_t *frame_count,
                       struct err *err) {
    struct kv_txn t = {0};
    struct err why = {STATUS_OK, ""};
    struct op op = {.s = s,
                    .txn = &t,
                    .req = request,
                    .a = a,
                    .reply = reply,
                    .err = &why,
                    .bytes = bytes,
                    .frame_lens = frame_lens,
                    .frames_out = frame_count};
    enum status st = STATUS_OK;
    op_fn *fn = type->writes ? NULL : op_find(type->op);
    *frame_count = 0;
    if (fn == NULL)
        return err_set(err, STATUS_INVALID, "%s is not a question to the store", type->op);
    TRY(kv_begin(s->meta, NULL, false, &t, &why));
    TRY(fn(&op));
    if (reply->broken)
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
    assert(s->group.txn == NULL);
    TRY(kv_clear_readers(s->meta, &cleared, err));
    TRY(kv_clear_readers(s->blobs, &cleared, err));
    TRY(reply_forget(s, clock_wall_ns(s->clock) - REPLY_KEPT_NS, err));
    TRY(artifact_maintain(s, err));
out:
    return st;
}

void store_stats(struct store *s, struct store_stats *out) {
    *out = (struct store_stats){
        .points = atomic_load(&s->points),
        .commits = atomic_load(&s->commits),
        .requests = atomic_load(&s->requests),
        .runs = atomic_load(&s->runs),
        .meta_bytes = kv_bytes(s->meta),
        .blob_bytes = kv_bytes(s->blobs),
    };
}
