/* Weights and checkpoints as safetensors. Tensors are whole, whatever the number of ranks, and bear
 * the model's names, so that a checkpoint or an export may serve as `initial_weights`:
 *
 *     model.safetensors        "0.weight", "0.bias", …, running statistics included
 *     checkpoint.safetensors   the same, and
 *         "slot0/0.weight" …   the optimizer's slots (adam: slot0 first, slot1 second moment)
 *         "trace"              U8: the run's trace so far, as trace.bin
 *         __metadata__         format, step, epoch, position, seed, config (digest), data (digest)
 *
 * A checkpoint together with the configuration is the complete state: order, dropout and learning
 * rate are functions of the seed and the step. */
#ifndef WORKER_TRAIN_CHECKPOINT_H
#define WORKER_TRAIN_CHECKPOINT_H

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

/* Collective: slots are gathered. The bytes arrive in rank 0's `out` alone. */
enum status checkpoint_write(struct trainer *t, const struct trace *trace, struct buf *out,
                             struct err *err) MUST_USE;

/* The same bytes on every rank; rank 0 brings its trace, the others NULL. CONFLICT when it is of
 * another configuration or other data. Not collective. */
enum status checkpoint_read(struct trainer *t, const void *bytes, size_t len, struct trace *trace,
                            struct err *err) MUST_USE;

#endif
