/* The store: two LMDB environments in one directory, opened by one process.
 *
 *     DIR/meta/   runs, params, tags, series chunks, sweeps, events, models, audit, request replies
 *     DIR/blobs/  artifact chunks of one fixed size (freed runs of pages are reusable)
 *     DIR/lock    who has it open (core/process.h)
 *
 *     store_begin ─▶ store_apply ─▶ store_apply ─▶ … ─▶ store_commit (fsync)    the writer's thread
 *                    store_read, from a snapshot                                any thread
 *
 * The byte layout of every key and value is in docs/STORE.md. Writes go through one write
 * transaction at a time, made by one thread; reads take a snapshot of their own and never wait.
 * What an operation changes is visible to nobody before store_commit has returned, and is lost by
 * nothing after.
 *
 * An operation that fails leaves the others of its transaction alone: each runs in a nested
 * transaction (store_apply begins and ends it).
 *
 * Threading: open, close, begin, apply, commit and maintain on the writer's thread; the rest on any
 * thread, each with its own reader slot. Nothing that a call returns points into LMDB: answers are
 * built in the caller's arena and buffers. */
#ifndef TRACKER_OPS_STORE_H
#define TRACKER_OPS_STORE_H

#include <stdint.h>

#include "core/buf.h"
#include "core/clock.h"
#include "tracker/map/format.h"
#include "wire/message.h"
#include "wire/net.h"

#define STORE_META_BYTES  ((size_t)256 << 30) /* sparse map, reserved once, never resized */
#define STORE_BLOBS_BYTES ((size_t)4 << 40)
#define STORE_CREDIT      8 /* chunks of an artifact that may be under way unanswered */
#define STORE_COLUMNS     3 /* frames of points: steps, times, values */
#define STORE_DELTAS_MAX  2 /* of one request */

struct store;

struct store_options {
    const struct clock *clock;
    /* Of the maps, exactly. 0: the defaults, or less where there is less address space. */
    size_t meta_bytes, blobs_bytes;
    bool whole;               /* walk all of both halves before they are opened */
    const char *artifact_dir; /* artifact bytes as hash-named files here; NULL: in LMDB */
};

/* Creates or opens; migrates an older format; clears stale readers. Refusals: BUSY (open elsewhere,
 * names the pid), DENIED (network filesystem, named), TOO_NEW (format), CORRUPT (not a store). */
enum status store_open(const char *dir, const struct store_options *options, struct store **out,
                       struct err *err) MUST_USE;
void store_close(struct store **s);

/* What store_check has read. */
struct store_checked {
    uint64_t records, points, blobs, bytes;
};

/* Reads all that is stored and checks each sum: records, points, bytes of artifacts. CORRUPT at the
 * first that is wrong. */
enum status store_check(struct store *s, struct store_checked *out, struct err *err) MUST_USE;

/* Marks the store's lock: whoever needs a tracker waits for the next one. */
void store_leaving(const struct store *s);

/* Every request fails until the store is opened anew (kv_is_lost). From any thread. */
bool store_is_lost(const struct store *s);

/* One validated request. */
struct store_request {
    const struct message_type *type;
    const struct value *header;
    struct net_frames frames;
    enum net_role role; /* of who asks: message_allows has let it pass */
};

/* A change that subscribers of the live feed are told of after the commit. */
struct store_delta {
    const char *topic;                     /* "run.<id>", "sweep.<id>" */
    uint64_t sequence;                     /* per topic, durable */
    struct value *header;                  /* {"v":1,"topic","sequence","op",…} */
    struct net_frame frame[STORE_COLUMNS]; /* the request's columns */
    size_t frame_count;
};

/* Where an answer goes. The caller sets the first three; store_read appends its frames (columns,
 * bytes) to `bytes`, one after the other, and store_apply adds deltas, to be published only after
 * the commit. */
struct store_answer {
    struct arena *a;
    struct value *header; /* in `a`: a map that has "id" and "ok" already */
    struct buf *bytes;    /* NULL for a write */
    size_t frame_lens[NET_FRAMES_MAX];
    size_t frame_count;
    struct store_delta deltas[STORE_DELTAS_MAX]; /* in `a`; frames are the request's */
    size_t delta_count;
};

/* The writer's transaction: begin, apply any number of requests, commit (fsync). FULL where the
 * disk or the map is full: the transaction is gone as a whole, nothing of it was acknowledged. */
enum status store_begin(struct store *s, struct err *err) MUST_USE;
enum status store_commit(struct store *s, struct err *err) MUST_USE;
void store_abort(struct store *s);

/* Applies one request that writes. Where its header names client and seq and that request was
 * applied before, the stored reply is copied and nothing changes. */
enum status store_apply(struct store *s, const struct store_request *request,
                        struct store_answer *answer, struct err *err) MUST_USE;

/* Answers one request that reads, from a snapshot. */
enum status store_read(struct store *s, const struct store_request *request,
                       struct store_answer *answer, struct err *err) MUST_USE;

/* On a timer (about once a minute): clears dead readers, forgets request replies older than a day
 * and uploads abandoned for a day. Not between begin and commit. */
enum status store_maintain(struct store *s, struct err *err) MUST_USE;

/* Counters since the store was opened; `runs` and bytes are of all it holds. */
struct store_stats {
    uint64_t points, commits, requests, runs, meta_bytes, blob_bytes;
};
void store_stats(struct store *s, struct store_stats *out);

#endif
