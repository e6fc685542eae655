/* Every operation of the store: one row each. From them come the prototypes here and the table in
 * dispatch.c; docs/WIRE.md says what each takes and answers (wire/message_tracker.c).
 *
 *     READS   a question, answered from a snapshot
 *     WRITES  a change, in the writer's transaction */
#ifndef TRACKER_OPS_OPS_H
#define TRACKER_OPS_OPS_H

#include "tracker/ops/op.h"

#define OPS(READS, WRITES)                                                                         \
    READS("stats", op_stats)                                                                       \
    WRITES("experiment.create", op_experiment_create)                                              \
    READS("experiment.list", op_experiment_list)                                                   \
    WRITES("run.create", op_run_create)                                                            \
    WRITES("run.update", op_run_update)                                                            \
    WRITES("run.seal", op_run_seal)                                                                \
    READS("run.get", op_run_get)                                                                   \
    READS("run.list", op_run_list)                                                                 \
    READS("run.resolve", op_run_resolve)                                                           \
    WRITES("run.log", op_run_log)                                                                  \
    READS("run.metrics", op_run_metrics)                                                           \
    WRITES("artifact.begin", op_artifact_begin)                                                    \
    WRITES("artifact.chunk", op_artifact_chunk)                                                    \
    WRITES("artifact.commit", op_artifact_commit)                                                  \
    READS("artifact.list", op_artifact_list)                                                       \
    READS("artifact.get", op_artifact_get)                                                         \
    WRITES("artifact.delete", op_artifact_delete)                                                  \
    WRITES("sweep.create", op_sweep_create)                                                        \
    WRITES("sweep.update", op_sweep_update)                                                        \
    READS("sweep.get", op_sweep_get)                                                               \
    READS("sweep.list", op_sweep_list)                                                             \
    WRITES("event.append", op_event_append)                                                        \
    READS("event.read", op_event_read)                                                             \
    WRITES("model.promote", op_model_promote)                                                      \
    WRITES("model.alias", op_model_alias)                                                          \
    READS("model.get", op_model_get)                                                               \
    READS("model.list", op_model_list)                                                             \
    WRITES("audit.revoked", op_audit_revoked)                                                      \
    READS("audit.list", op_audit_list)

#define OPS_PROTOTYPE(name, fn) op_fn fn;
OPS(OPS_PROTOTYPE, OPS_PROTOTYPE)
#undef OPS_PROTOTYPE

#endif
