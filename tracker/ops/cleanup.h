/* The upkeep of artifacts: bytes that nothing refers to any more go.
 *
 *     uploads begun and abandoned    their entry 'g' goes after CLEANUP_UPLOAD_NS
 *     blobs without a reference      complete ones CLEANUP_BLOB_NS after they were last begun,
 *                                    others CLEANUP_UPLOAD_NS after their last chunk
 *         in LMDB                    the record first, durably, then the bytes
 *         a file                     first the file, then its record: a crash between repeats it
 *     chunks without a record        after a crash or a failed commit: looked for once
 *
 * Threading: the writer's thread, not between begin and commit. */
#ifndef TRACKER_OPS_CLEANUP_H
#define TRACKER_OPS_CLEANUP_H

#include "tracker/ops/store_private.h"

#define CLEANUP_UPLOAD_NS (24 * 3600 * NS_PER_S)
#define CLEANUP_BLOB_NS   (600 * NS_PER_S)

enum status cleanup_run(struct store *s, struct err *err) MUST_USE;

#endif
