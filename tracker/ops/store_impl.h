/* What the files of the store share: the store itself, and the context of one operation.
 *
 *     store.c      open, close, groups, maintenance        dispatch.c   op name → function
 *     format.c     the format record, migrations           replies.c    (client, seq) → stored
 * reply runs.c, runlist.c   runs, experiments, listings      points.c     run.log, run.metrics
 *     artifacts.c, blobs.c   artifacts and their bytes     sweeps.c, models.c
 *     series.c, thin.c, codec.c   points in chunks         docs.c, keys.c, lmdb.c   below all
 *
 * A function op_x answers one op. It may fail at any point: a write runs in a nested transaction
 * that is dropped then. Threading: a struct op belongs to the thread that made it. */
#ifndef TRACKER_OPS_STORE_IMPL_H
#define TRACKER_OPS_STORE_IMPL_H

#include <stdatomic.h>

#include "core/hash.h"
#include "core/json.h"
#include "tracker/map/docs.h"
#include "tracker/ops/store.h"

#define ITEM_BYTES_MAX   1000 /* a name as it comes in; each kind has its own bound below it */
#define DELTAS_MAX       2
#define OP_IDS_MAX       6
#define UPLOAD_HASHES    8 /* uploads whose digest is computed while the chunks come in */
#define REPLY_KEPT_NS    (24 * 3600 * NS_PER_S)
#define UPLOAD_KEPT_NS   (24 * 3600 * NS_PER_S)
#define UNREFERENCED_NS  (600 * NS_PER_S)  /* a complete blob that nothing refers to */
#define REPLY_BYTES_MAX  ((size_t)3 << 20) /* of JSON in a listing: the header's bound is 4 MiB */
#define MAINTAIN_DELETES 4096 /* entries a transaction, so that others get their turn */

/* The digest of the first `bytes` bytes of an upload, in the making. */
struct upload_hash {
    struct digest digest; /* of the whole, as announced */
    struct hash *hash;
    uint64_t bytes;
    uint64_t used; /* least recently used goes first */
};

struct store {
    struct kv *meta, *blobs;
    const struct clock *clock;
    int lock_fd;
    char *artifact_dir; /* NULL: bytes in the blobs environment */

    /* Of the writer's thread. */
    struct kv_txn group;       /* meta */
    struct kv_txn group_blobs; /* begun by the first chunk */
    enum status group_failed;  /* FULL, IO, …: the group can only be aborted */
    bool files_dirty;          /* artifact_dir: files to fsync before the commit */
    bool orphans_checked;
    struct upload_hash uploads[UPLOAD_HASHES];
    uint64_t upload_uses;
    uint64_t group_points, group_runs, group_requests;

    _Atomic uint64_t points, commits, requests, runs;
};

struct op {
    struct store *s;
    struct kv_txn *txn; /* of the meta environment */
    const struct value *req;
    struct arena *a;
    struct value *reply;
    struct err *err;
    char ids[OP_IDS_MAX][ULID_TEXT]; /* folded by op_id */
    size_t id_count;

    /* Writes */
    const struct net_frame *frames;
    size_t frame_count;
    struct store_delta deltas[DELTAS_MAX];
    size_t delta_count;
    uint64_t points, runs; /* added by this op */
    bool drop_blob;        /* after a failure: forget the upload of `blob` */
    struct digest blob;

    /* Reads */
    struct buf *bytes;
    size_t *frame_lens;
    size_t *frames_out;
};

typedef enum status op_fn(struct op *op);

op_fn op_experiment_create, op_experiment_list;
op_fn op_run_create, op_run_update, op_run_get, op_run_list, op_run_resolve;
op_fn op_run_log, op_run_metrics;
op_fn op_artifact_begin, op_artifact_chunk, op_artifact_commit, op_artifact_get, op_artifact_delete;
op_fn op_sweep_create, op_sweep_update, op_sweep_get, op_sweep_list;
op_fn op_event_append, op_event_read;
op_fn op_model_promote, op_model_alias, op_model_get, op_model_list, op_audit_list;

/* dispatch.c: NULL where the store does not answer it. */
op_fn *op_find(const char *name);

/* format.c: reads or writes the format records of both environments, migrates. */
enum status format_check(struct store *s, const char *dir, struct err *err) MUST_USE;

/* replies.c: *found and the reply's fields set, where this request was applied before. */
enum status reply_find(struct op *op, const char *name, bool *found) MUST_USE;
enum status reply_keep(struct op *op, const char *name) MUST_USE;
enum status reply_forget(struct store *s, int64_t before_ns, struct err *err) MUST_USE;

/* runs.c */
enum status run_load(struct op *op, const char *run, struct value **out) MUST_USE; /* NOT_FOUND */
enum status run_must_exist(struct op *op, const char *run) MUST_USE;
enum status experiment_ensure(struct op *op, const char *name, int64_t add_runs,
                              struct value **out) MUST_USE;
/* A run as run.list shows it: its record, parameters and tags. */
enum status run_describe(struct op *op, struct value *record) MUST_USE;

/* sweeps.c */
enum status sweep_must_exist(struct op *op, const char *sweep) MUST_USE;

/* points.c: [{key, rank, count, last, …}] of a run. */
enum status series_list(struct op *op, const char *run, struct value **out) MUST_USE;

/* artifacts.c: [{path, size, digest}] of a run. */
enum status artifact_list(struct op *op, const char *run, struct value **out) MUST_USE;
/* After a failed op that asked for it (drop_blob): forgets the upload, in the group. */
enum status artifact_drop_upload(struct store *s, const struct digest *d, struct err *err) MUST_USE;
/* Between groups. */
enum status artifact_maintain(struct store *s, struct err *err) MUST_USE;

/* feed.c is the server's; here: the next number of a topic, and a delta of the op. `kind` is 'r' or
 * 's'; `fields` is a map that gets v, topic, sequence and op in front. */
enum status feed_sequence(struct kv_txn *t, char kind, const char *id, uint64_t *out,
                          struct err *err) MUST_USE;
enum status feed_delta(struct op *op, char kind, const char *id, const char *name,
                       const struct value *fields, bool with_frames) MUST_USE;

/* Helpers of many ops. */
int64_t op_now(const struct op *op);                 /* wall clock, ns */
const char *op_id(struct op *op, const char *field); /* upper case, lives with op; NULL: absent */
const char *op_text(const struct op *op, const char *field);
enum status op_nomem(struct op *op);
/* Adds the bytes of v as JSON to *used; *full where a reply would grow over REPLY_BYTES_MAX with
 * it: a listing ends before v then. The first item always has room. */
enum status reply_room(struct op *op, const struct value *v, size_t *used, bool *full) MUST_USE;
/* Merges `from` into the document at `key`, member by member. */
enum status doc_merge(struct op *op, const struct key *key, const struct value *from) MUST_USE;

#endif
