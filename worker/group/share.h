/* Rank 0 reads for all ranks, and answers for them.
 *
 *     file, artifact ──▶ rank 0 ──world_share──▶ every rank: parsed, checked, agreed on
 *
 * Collective, except worker_print. */
#ifndef WORKER_GROUP_SHARE_H
#define WORKER_GROUP_SHARE_H

#include "core/buf.h"
#include "worker/group/warm.h"
#include "worker/train/checkpoint.h"

/* A value tree from rank 0 to all (NULL: none). */
enum status worker_share_value(struct worker *w, struct arena *a, const struct value *mine,
                               struct value **out, struct err *err) MUST_USE;

/* A configuration from a file ("-": standard input), the same on every rank. Its nodes know their
 * places in the file. */
enum status worker_load_config(struct worker *w, const char *file, struct arena *a,
                               struct value **out, struct err *err) MUST_USE;

/* Initial weights from rank 0's bytes (NULL: none; the other ranks bring none). No bytes are not
 * weights: INVALID or CORRUPT, as whatever else cannot be read. */
enum status worker_share_weights(struct worker *w, struct trainer *t, const struct buf *bytes,
                                 struct err *err) MUST_USE;

/* The start of a checkpoint, likewise. *found says whether there was one. */
enum status worker_share_checkpoint(struct worker *w, struct trainer *t, struct progress *progress,
                                    const struct buf *bytes, bool *found, struct err *err) MUST_USE;

/* The initial weights that the trainer's configuration names, if any: *found. On rank 0 the file's
 * bytes are left in `bytes`. */
enum status worker_start_weights(struct worker *w, struct trainer *t, struct buf *bytes,
                                 bool *found, struct err *err) MUST_USE;

/* Rank 0: one line of JSON on standard output. */
enum status worker_print(const struct value *v, struct err *err) MUST_USE;

#endif
