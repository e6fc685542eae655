/* The context of one operation, and what many operations need.
 *
 *     request ──▶ struct op ──▶ op_run_create(op), … ──▶ reply, frames, deltas
 *
 * A function op_x answers one op (ops.h lists them). It may fail at any point: a write runs in a
 * nested transaction that is dropped then.
 *
 * Threading: a struct op belongs to the thread that made it. */
#ifndef TRACKER_OPS_OP_H
#define TRACKER_OPS_OP_H

#include "core/json.h"
#include "tracker/map/docs.h"
#include "tracker/ops/store_private.h"

#define OP_IDS_MAX      6
#define REPLY_BYTES_MAX ((size_t)3 << 20) /* of JSON in a listing: the header's bound is 4 MiB */

struct op {
    struct store *s;
    struct kv_txn *txn;       /* of the meta environment */
    const struct value *req;  /* the request's header, checked */
    struct net_frames frames; /* the request's */
    enum net_role role;       /* of who asks */
    struct store_answer *out; /* frames and deltas go here */
    struct arena *a;          /* the answer's */
    struct value *reply;      /* the answer's header */
    struct err *err;
    char ids[OP_IDS_MAX][ULID_TEXT]; /* private: op_id's */
    size_t id_count;                 /* private */

    /* Writes */
    struct store_counts added;
    bool drop_blob; /* after a failure: forget the upload of `blob` */
    struct digest blob;
};

typedef enum status op_fn(struct op *op);

int64_t op_now(const struct op *op); /* wall clock, ns */

/* Fields of the request; NULL where they are absent. An id is in upper case, and op's. */
const char *op_text(const struct op *op, const char *field);
const char *op_id(struct op *op, const char *field);
enum status op_digest(const struct op *op, const char *field, struct digest *out) MUST_USE;

enum status op_nomem(struct op *op);

/* For listings: adds the bytes of v as JSON to *used; *full where v would make the reply larger
 * than REPLY_BYTES_MAX, so that the listing ends before it. The first item always has room. */
enum status op_room(struct op *op, const struct value *v, size_t *used, bool *full) MUST_USE;

/* Sets record[name] to the document of this kind and id, an empty map where there is none. */
struct op_document {
    enum key_kind kind;
    const char *id, *name;
};
enum status op_attach(struct op *op, struct value *record, struct op_document doc) MUST_USE;

/* A string, or null where text is NULL. */
struct value *op_or_null(struct op *op, const char *text);

#endif
