/* An ordered map of bytes to bytes on disk, with transactions: what the store needs of LMDB and no
 * more. lmdb.c is the only file that includes lmdb.h.
 *
 *     kv ─┬─▶ write transaction (one at a time) ──▶ nested ──▶ …  kv_commit of the outermost: fsync
 *         └─▶ snapshots (any number, any thread), which never wait
 *
 * The map is reserved once, sparse, and never resized; there is no MDB_WRITEMAP, no MDB_NOSYNC.
 * Pointers that a call returns point into the map: they die with the next write in their
 * transaction, and with the transaction.
 *
 * Statuses: FULL (map, disk or quota exhausted; the transaction can only be aborted), CORRUPT, IO,
 * NOMEM; BUSY where all reader slots are taken.
 *
 * Threading: a transaction belongs to one thread at a time. One open per process and directory. */
#ifndef TRACKER_MAP_KV_H
#define TRACKER_MAP_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/status.h"

#define KV_KEY_MAX     511
#define KV_NODE_MAX    2030 /* key and value together: more goes to overflow pages */
#define KV_READERS_MAX 1024
#define KV_MAP_LEAST   ((size_t)1 << 27) /* of a map that adapts */
#define KV_WALK_NS     (5 * NS_PER_S)    /* of opening: what is left then is checked when read */

struct kv;

/* Put on the stack, zeroed; `txn` is NULL while none is open. */
struct kv_txn {
    void *txn;     /* private */
    struct kv *kv; /* private */
};

/* A view of bytes: a key or a value. */
struct kv_bytes {
    const void *data;
    size_t len;
};

/* How to open a map. */
struct kv_how {
    size_t map_bytes; /* address space */
    bool adapt; /* halve it, down to KV_MAP_LEAST, where there is not as much; the log says so */
    bool whole; /* walk all of both trees, however long it takes */
};

/* Opens or creates DIR/data.mdb. An existing file is checked first: CORRUPT where it has no LMDB
 * header or has lost pages that are in use. */
enum status kv_open(const char *dir, const struct kv_how *how, struct kv **out,
                    struct err *err) MUST_USE;
void kv_close(struct kv **kv);

/* `parent` NULL: an outermost transaction, `write` or a snapshot. A nested one always writes. */
enum status kv_begin(struct kv *kv, struct kv_txn *parent, bool write, struct kv_txn *out,
                     struct err *err) MUST_USE;
enum status kv_commit(struct kv_txn *t, struct err *err) MUST_USE; /* aborts on failure */
void kv_abort(struct kv_txn *t);                                   /* idempotent */

/* A header page could not be written: every transaction fails until the file is opened anew. What was
 * committed before is in the file. From any thread. */
bool kv_is_lost(struct kv *kv);

/* From now on records have a head with a sum (seal.h), which is made by each write and checked by
 * each read: CORRUPT where it does not match. Not while a transaction is open. */
void kv_set_sealed(struct kv *kv, bool sealed);

/* NULL data where the key is missing. */
enum status kv_get(struct kv_txn *t, struct kv_bytes key, struct kv_bytes *out,
                   struct err *err) MUST_USE;
enum status kv_put(struct kv_txn *t, struct kv_bytes key, struct kv_bytes value,
                   struct err *err) MUST_USE;
enum status kv_del(struct kv_txn *t, struct kv_bytes key, bool *found, struct err *err) MUST_USE;

/* Deletes at most `limit` entries whose keys begin with `prefix`; *deleted says how many. */
enum status kv_del_prefix(struct kv_txn *t, struct kv_bytes prefix, size_t limit, size_t *deleted,
                          struct err *err) MUST_USE;

/* A position in the order of keys. After a step beyond either end `key.data` is NULL. */
struct kv_cursor {
    void *cursor;      /* private */
    bool sealed;       /* private */
    size_t page_bytes; /* private */
    struct kv_bytes key, value;
};
enum status kv_cursor_open(struct kv_txn *t, struct kv_cursor *c, struct err *err) MUST_USE;
void kv_cursor_close(struct kv_cursor *c); /* before its transaction ends; idempotent */
/* The first entry at or after `key`. */
enum status kv_seek(struct kv_cursor *c, struct kv_bytes key, struct err *err) MUST_USE;
/* The last entry before `key`. */
enum status kv_seek_before(struct kv_cursor *c, struct kv_bytes key, struct err *err) MUST_USE;
enum status kv_next(struct kv_cursor *c, struct err *err) MUST_USE;
enum status kv_prev(struct kv_cursor *c, struct err *err) MUST_USE;

/* Frees the slots of readers that died without closing. */
enum status kv_clear_readers(struct kv *kv, int *cleared, struct err *err) MUST_USE;

/* Bytes of the file in use, free pages inside it included. Any thread. */
uint64_t kv_size(struct kv *kv);

static inline bool kv_begins(struct kv_bytes s, struct kv_bytes prefix) {
    return s.data != NULL && s.len >= prefix.len &&
           __builtin_memcmp(s.data, prefix.data, prefix.len) == 0;
}

/* What can be said about a data.mdb without opening it; zeros for a file that does not exist or is
 * empty. */
struct kv_tree {
    uint64_t depth, branches, leaves, overflows, entries, root; /* root UINT64_MAX: empty */
};
struct kv_file {
    uint64_t page_bytes;
    struct kv_tree free, main; /* as its newest header counts them */
    uint64_t pages_used;       /* as its newest header counts them */
    uint64_t pages_there;      /* as its length says */
};

/* kv_check.c. CORRUPT where a header page is not LMDB's. */
enum status kv_check_file(const char *path, struct kv_file *out, struct err *err) MUST_USE;

/* A walk through both trees. */
struct kv_walk {
    int64_t limit_ns; /* it ends after so long, unfinished; INT64_MAX: never */
    bool heads;       /* read the heads of large values too */
    bool cut;         /* out: it was not finished */
    uint64_t pages;   /* out: pages read */
};

/* kv_tree.c. Reads every page but those of large values: CORRUPT where LMDB would stumble, or would
 * not find what is there. Before the file is opened. */
enum status kv_check_trees(const char *path, const struct kv_file *file, struct kv_walk *walk,
                           struct err *err) MUST_USE;

#endif
