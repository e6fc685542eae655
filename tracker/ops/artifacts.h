/* Artifacts: a path in a run that refers to a blob, which is known by its digest.
 *
 *     'a' │ run │ path │ 0 ──▶ document {digest, size, meta}          the listing
 *     'g' │ run │ path │ 0 ──▶ document {digest, meta, time_ns}       begun, not committed
 *
 *     begin ──▶ chunk… in order ──▶ commit: the whole digest is checked; complete, references + 1
 *                                      └── wrong: the upload is forgotten, CORRUPT
 *
 * A blob without references is removed by the upkeep (cleanup.h).
 *
 * Threading: as the op that calls. */
#ifndef TRACKER_OPS_ARTIFACTS_H
#define TRACKER_OPS_ARTIFACTS_H

#include "tracker/ops/op.h"

/* `kind` is KEY_ARTIFACT or KEY_UPLOAD. */
struct key artifacts_key(enum key_kind kind, const char *run, const char *path);

/* The run's entry at this path; NOT_FOUND. */
enum status artifacts_load(struct op *op, const char *run, const char *path,
                           struct value **out) MUST_USE;

/* Sets record.artifacts, [{path, size, digest, meta}], and record.artifacts_total: as many as have room
 * beside what is in the record already. */
enum status artifacts_attach(struct op *op, const char *run, struct value *record) MUST_USE;

#endif
