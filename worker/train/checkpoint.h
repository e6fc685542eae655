/* Weights and checkpoints as safetensors. Tensors are whole, whatever the number of ranks, and bear
 * the model's names, so that a checkpoint or an export may serve as `initial_weights`:
 *
 *     model.safetensors        "0.weight", "0.bias", …, running statistics included
 *     best.safetensors         those of the best evaluation
 *         __metadata__         run, step, metric, value
 *     checkpoint.safetensors   the weights, and
 *         "slot0/0.weight" …   the optimizer's slots (adam: slot0 first, slot1 second moment)
 *         __metadata__         format, step, epoch, position, seed, config (digest), data (digest),
 *                              chain (the trace's, behind `step`), best_step, best_value, best_digest
 *
 * A checkpoint together with the configuration is the complete state: order, dropout and learning
 * rate are functions of the seed and the step. The trace up to its step and the best weights are
 * artifacts beside it, written before it. Format 1 had all of the trace within, as tensor "trace". */
#ifndef WORKER_TRAIN_CHECKPOINT_H
#define WORKER_TRAIN_CHECKPOINT_H

#include "worker/train/best.h"
#include "worker/train/trace.h"
#include "worker/train/trainer.h"

#define CHECKPOINT_BYTES_MAX ((size_t)16 << 30)

/* The trained weights. Not collective. `metadata`: strings, or NULL. */
enum status checkpoint_write_weights(struct trainer *t, const struct value *metadata,
                                     struct buf *out, struct err *err) MUST_USE;

/* Fills a flat vector (flat_count) from a file's bytes. INVALID names a tensor that is missing or
 * has another shape; tensors that the model does not know are ignored. Not collective. */
enum status checkpoint_read_weights(const struct model *model, const void *bytes, size_t len,
                                    float *flat, struct err *err) MUST_USE;

/* The best weights' file: its step and value, and the digest of the weights within (0 and 0 where the
 * file does not say: any weights). Not collective. */
enum status checkpoint_read_best(const struct model *model, const void *bytes, size_t len,
                                 struct best *out, struct err *err) MUST_USE;

/* What a trial has come to beside the trainer's own state. */
struct progress {
    struct trace *trace; /* rank 0's; NULL on the others */
    struct best best;    /* `weights` is known on rank 0 alone */
};

/* Collective: slots are gathered. The bytes arrive in rank 0's `out` alone. */
enum status checkpoint_write(struct trainer *t, const struct progress *progress, struct buf *out,
                             struct err *err) MUST_USE;

/* The same bytes on every rank. CONFLICT when it is of another configuration or other data. Rank
 * 0's trace goes on behind the checkpoint's step; of a checkpoint of format 1 it holds all steps
 * before it, else none. Not collective. */
enum status checkpoint_read(struct trainer *t, const void *bytes, size_t len,
                            struct progress *progress, struct err *err) MUST_USE;

/* What it says, without a trainer and unchecked: whoever looks for what lies beside it. */
struct checkpoint_about {
    bool whole_trace; /* format 1: nothing lies beside it */
    int64_t step;
    struct digest chain;
    struct best best;
};
enum status checkpoint_about(const void *bytes, size_t len, struct checkpoint_about *out,
                             struct err *err) MUST_USE;

#endif
