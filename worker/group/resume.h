/* What the earlier attempts of a trial left: the newest checkpoint, and what lies beside it. Rank 0
 * alone.
 *
 *     checkpoint.safetensors   of step s
 *     trace/…                  up to s, or further: the chain must be the one that the checkpoint names
 *     best.safetensors         of its best evaluation, or of a later and better one (the attempt was
 *                              lost behind its last checkpoint: we would come to the same weights)
 *
 * A checkpoint without what belongs to it is passed over with a line in the log: another one, or the
 * start, gives the same bits. */
#ifndef WORKER_GROUP_RESUME_H
#define WORKER_GROUP_RESUME_H

#include "worker/group/link.h"
#include "worker/train/checkpoint.h"

struct resume {
    struct link *link;
    const struct model *model;
    bool needs_best;  /* of trials that keep their best weights */
    size_t next;      /* of link->resume, newest first */
    const char *run;  /* the attempt whose checkpoint is at hand */
    struct buf bytes; /* the checkpoint */
    struct checkpoint_about about;
};

/* The next checkpoint that can be used; false: there is none. */
bool resume_find(struct resume *r);

/* Once it is taken: the chunks of the trace and the best weights become `own` run's too, and the trace
 * goes on where the last chunk ends. What cannot be had any more fails the trial (link_fail). */
void resume_carry(struct resume *r, const char *own, struct progress *progress);

#endif
