/* Documents: byte strings of any length (JSON, mostly), cut into parts that share pages with
 * others. LMDB would put a larger value on a run of pages of its own, and runs of mixed sizes make
 * its free list slow.
 *
 *     key │ be16 0 ──▶ u32 length │ bytes…            (≤ DOC_PART bytes a value)
 *     key │ be16 1 ──▶ bytes…
 *
 * Keys of documents must not be prefixes of one another within a kind: ids have one length, names
 * end with a zero byte. */
#ifndef TRACKER_MAP_DOCS_H
#define TRACKER_MAP_DOCS_H

#include "core/json.h"
#include "tracker/map/keys.h"

#define DOC_PART      ((size_t)1792) /* with the record's head (seal.h) 1,800 */
#define DOC_BYTES_MAX ((size_t)8 << 20)

enum status doc_put(struct kv_txn *t, const struct key *key, const void *bytes, size_t len,
                    struct err *err) MUST_USE;

/* The same where there is no document, or one of no more parts. */
enum status doc_put_new(struct kv_txn *t, const struct key *key, const void *bytes, size_t len,
                        struct err *err) MUST_USE;

/* A copy in the arena, NUL-terminated; NULL data where there is none. */
enum status doc_get(struct kv_txn *t, const struct key *key, struct arena *a, struct kv_bytes *out,
                    struct err *err) MUST_USE;

enum status doc_del(struct kv_txn *t, const struct key *key, bool *found, struct err *err) MUST_USE;

/* The same with a value as JSON, its keys in the order they came in (a grid's axes depend on it).
 * *out is NULL where there is none. */
enum status doc_put_value(struct kv_txn *t, const struct key *key, const struct value *v,
                          struct err *err) MUST_USE;
enum status doc_get_value(struct kv_txn *t, const struct key *key, struct arena *a,
                          struct value **out, struct err *err) MUST_USE;

/* Sets the members of the map `from` in the document at `key`, which is created when missing. */
enum status doc_merge(struct kv_txn *t, const struct key *key, struct arena *a,
                      const struct value *from, struct err *err) MUST_USE;

/* Visits the documents whose keys begin with a prefix, forwards or backwards. After each step
 * `name` is the document's key without the prefix and the part number, and `value` the document,
 * both in the arena; NULL at the end. */
struct doc_scan {
    const char *name;
    size_t name_len;
    struct value *value;
    struct kv_cursor cursor; /* private from here */
    struct kv_txn *txn;
    struct key prefix, from;
    bool backwards, started;
};
enum status doc_scan_open(struct kv_txn *t, const struct key *prefix, bool backwards,
                          struct doc_scan *scan, struct err *err) MUST_USE;
/* Before the first step of a scan forwards: it begins at the first key at or after `from`. */
void doc_scan_from(struct doc_scan *scan, const struct key *from);
enum status doc_scan_next(struct doc_scan *scan, struct arena *a, struct err *err) MUST_USE;
void doc_scan_close(struct doc_scan *scan);

#endif
