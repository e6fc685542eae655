/* Runs, for those that need one: loaded, described.
 *
 *     'r' │ run ──▶ document {run, experiment, sweep, trial, attempt, name, state, reason,
 *                             lost, created_ns, ended_ns, sealed}
 *     'p' │ run │ name, 't' │ run │ name ──▶ a parameter, a tag
 *     'C', 'D', 'Y' │ run ──▶ config, manifest, summary
 *     '1' │ sweep │ run, '2' │ experiment │ run, '3' │ state │ run ──▶ empty: indexes
 *
 * An index is kept in the transaction that changes the record. */
#ifndef TRACKER_OPS_RUNS_H
#define TRACKER_OPS_RUNS_H

#include "tracker/ops/op.h"

/* NOT_FOUND where there is no such run. */
enum status runs_load(struct op *op, const char *run, struct value **out) MUST_USE;
enum status runs_must_exist(struct op *op, const char *run) MUST_USE;
enum status runs_store(struct op *op, const char *run, const struct value *record) MUST_USE;

/* Closes the run, in the name of the request's `actor`, and stores its record. */
bool runs_is_sealed(const struct value *record);
enum status runs_seal(struct op *op, struct value *record, const char *comment) MUST_USE;

/* Adds to a run's record what run.list shows: parameters, tags and summary. */
enum status runs_describe(struct op *op, struct value *record) MUST_USE;

#endif
