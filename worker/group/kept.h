/* The weights that a run kept of one step, beside those of a trainer that has come to it. */
#ifndef WORKER_GROUP_KEPT_H
#define WORKER_GROUP_KEPT_H

#include "wire/session.h"
#include "worker/train/trainer.h"

/* `run` is run.get's. Looks for best.safetensors, model.safetensors or the checkpoint of the trainer's step
 * and compares every tensor's bits. *path is the artifact, in `a`; NULL: the run kept none of this step. Not collective:
 * rank 0 calls it. */
enum status kept_compare(struct session *s, struct arena *a, const struct value *run,
                         struct trainer *t, const char **path, bool *same,
                         struct err *err) MUST_USE;

#endif
