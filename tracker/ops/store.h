/* The store: two LMDB environments in one directory, opened by one process.
 *
 *     DIR/meta/   runs, params, tags, series chunks, sweeps, events, models, audit, request replies
 *     DIR/blobs/  artifact chunks of one fixed size (freed runs of pages are reusable)
 *     DIR/lock    who has it open (core/process.h)
 *
 * The byte layout of every key and value is docs/STORE.md. Writes go through one write transaction
 * at a time, made by one thread; reads take a snapshot of their own and never wait. What an
 * operation changes is visible to nobody before store_commit returned, and lost by nothing after.
 *
 * An operation that fails inside a group leaves the group's other operations alone: each runs in a
 * nested transaction (store_apply begins and ends it).
 *
 * Threading: open, close, begin, apply, commit and maintain on the writer's thread; store_read from
 * any thread, each with its own reader slot. Nothing that a call returns points into LMDB: replies
 * are built in the caller's arena and frames in its buffers. */
#ifndef TRACKER_OPS_STORE_H
#define TRACKER_OPS_STORE_H

#include <stdint.h>

#include "core/buf.h"
#include "core/clock.h"
#include "wire/message.h"
#include "wire/net.h"

#define STORE_FORMAT      1
#define STORE_META_BYTES  ((size_t)256 << 30) /* sparse map, reserved once, never resized */
#define STORE_BLOBS_BYTES ((size_t)4 << 40)
#define STORE_CHUNK       ((size_t)(1 << 20) - 16) /* whole pages with LMDB's page header */
#define STORE_CREDIT      8

struct store;

struct store_options {
    const struct clock *clock;
    size_t meta_bytes, blobs_bytes; /* 0: the defaults; tests make them small to fill them */
    const char *artifact_dir;       /* artifact bytes as hash-named files here; NULL: in LMDB */
};

/* Creates or opens; migrates an older format; clears stale readers. Refusals: BUSY (open elsewhere,
 * names the pid), DENIED (network filesystem, named), TOO_NEW (format), CORRUPT (magic). */
enum status store_open(const char *dir, const struct store_options *options, struct store **out,
                       struct err *err) MUST_USE;
void store_close(struct store **s);

/* A change that subscribers of the live feed hear of after the commit. */
struct store_delta {
    const char *topic;         /* "run.<id>", "sweep.<id>" */
    uint64_t sequence;         /* per topic, durable */
    struct value *header;      /* {"v":1,"topic","sequence","op",…} */
    struct net_frame frame[3]; /* as in the request: columns */
    size_t frame_count;
};
typedef void store_delta_fn(void *arg, const struct store_delta *delta);

/* A group: begin, apply any number of requests, commit (fsync). FULL where the disk or the map is
 * full: the group is gone as a whole, nothing of it was acknowledged. */
enum status store_begin(struct store *s, struct err *err) MUST_USE;
enum status store_commit(struct store *s, struct err *err) MUST_USE;
void store_abort(struct store *s);

/* Applies one validated writing request within the group and fills `reply` (a map that has "id" and
 * "ok" already). Where the header names client and seq and that request was applied before, the
 * stored reply is copied and nothing changes. on_delta may be NULL; deltas are reported as they
 * arise, to be published only after the commit. */
enum status store_apply(struct store *s, const struct message_type *type,
                        const struct value *request, const struct net_frame *frames,
                        size_t frame_count, struct arena *a, struct value *reply,
                        store_delta_fn *on_delta, void *arg, struct err *err) MUST_USE;

/* Answers one validated reading request from a snapshot. Frames (columns, bytes) go one behind the
 * other into `bytes`; frame_lens gets their lengths. */
enum status store_read(struct store *s, const struct message_type *type,
                       const struct value *request, struct arena *a, struct value *reply,
                       struct buf *bytes, size_t frame_lens[NET_FRAMES_MAX], size_t *frame_count,
                       struct err *err) MUST_USE;

/* On a timer (about a minute): clears dead readers, forgets request replies older than a day and
 * uploads abandoned for a day. Not within a group. */
enum status store_maintain(struct store *s, struct err *err) MUST_USE;

struct store_stats {
    uint64_t points, commits, requests, runs, meta_bytes, blob_bytes;
};
void store_stats(struct store *s, struct store_stats *out);

#endif
