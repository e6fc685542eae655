/* Where a run's artifacts are, for those who write and those who read them; the trace's chunks are
 * named by trace_path. */
#ifndef WORKER_GROUP_RUN_PATHS_H
#define WORKER_GROUP_RUN_PATHS_H

#define RUN_MODEL      "model.safetensors"
#define RUN_BEST       "best.safetensors"
#define RUN_CHECKPOINT "checkpoint.safetensors"
#define RUN_INITIAL    "initial_weights.safetensors"

/* A checkpoint that stays (checkpoint.keep: all): its step. */
#define RUN_KEPT     "checkpoints/%012lld.safetensors"
#define RUN_KEPT_MAX 64

#endif
