/* Who may change a run, and until when.
 *
 *     of a sweep    queued ─▶ running ─▶ ended: closed           by coordinator and worker
 *                                    └─▶ lost ──10 min──▶ closed; points are late from then on
 *     of no sweep   queued ─▶ running ─▶ ended ─▶ sealed: closed by submitters
 *                                              └▶ promoted: sealed
 *
 * The message table has let the role pass (message_allows); here counts whose run it is. Tags may be
 * set at any time: they are about a run, not of it. So may two things that are made from a closed
 * run: the verdict of a replay (in its summary) and the ONNX file of a promotion, each only where
 * it replaces nothing else. */
#ifndef TRACKER_OPS_RIGHTS_H
#define TRACKER_OPS_RIGHTS_H

#include "tracker/ops/op.h"

#define RIGHTS_LATE_NS ((int64_t)600 * 1000000000) /* a lost run is open for so long */

enum rights_change { CHANGE_STATE, CHANGE_TAGS, CHANGE_PAPERS, CHANGE_POINTS, CHANGE_ARTIFACTS };

/* DENIED: another role's run. CONFLICT: the run is closed. */
enum status rights_check(struct op *op, const struct value *run, enum rights_change what) MUST_USE;

/* The same for points: *late where they may only be kept aside, as late/KEY. */
enum status rights_check_points(struct op *op, const struct value *run, bool *late) MUST_USE;

/* The same for an artifact that gets these bytes under this path; digest NULL: it is removed. */
enum status rights_check_artifact(struct op *op, const struct value *run, const char *path,
                                  const char *digest) MUST_USE;

/* The same for what run.update brings: state, tags, parameters, manifest and summary. */
enum status rights_check_update(struct op *op, const struct value *run) MUST_USE;

/* DENIED where this role may not create such a run. */
enum status rights_check_create(struct op *op, const struct value *run) MUST_USE;

bool rights_is_final(const char *state);

#endif
