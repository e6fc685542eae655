/* The trace of a run: every step's loss bits, chained, and the digests taken on the way. Two runs
 * with the same chain took the same steps.
 *
 *     chain_0 = 32 zero bytes;  chain_s = SHA-256(chain_{s−1} ‖ s as u64 ‖ loss bits as u32)
 *
 * A run keeps it in chunks of TRACE_CHUNK steps, trace/000000.bin, trace/000001.bin, …: those that
 * are full are written once, and only the last one again as it grows. All little-endian:
 *
 *     ┌ "TRITRACE" ┬ u32 2 ┬ u32 0 ┬ u64 first ┬ u64 steps ┬ u64 marks ┐
 *     ├ chain behind step `first` (32) ┬ chain behind the last step (32) ┤
 *     ├ steps × u32 loss bits, of step first + 1, first + 2, …           ┤
 *     └ marks × (u64 step ┬ weights digest (32) ┬ state digest (32))     ┘
 *
 * Runs of earlier versions kept all of it in one file, trace.bin, and wrote that anew with each
 * checkpoint: version 1, without `first` and the chain behind it.
 *
 * In memory a trace holds the steps behind `first`; those before it have been written and let go.
 * Loss bits are those of the float32 sum over the batch, as the exchange's tree makes it.
 * Threading: one thread; a trace belongs to rank 0. */
#ifndef WORKER_TRAIN_TRACE_H
#define WORKER_TRAIN_TRACE_H

#include "core/buf.h"
#include "core/hash.h"

#define TRACE_CHUNK     INT64_C(4096) /* 16 KiB: what a checkpoint may have to write again */
#define TRACE_STEPS_MAX INT64_C(1000000000)
#define TRACE_MARKS_MAX INT64_C(10000000)

struct trace_mark {
    int64_t step;
    struct digest weights, state;
};

struct trace {
    int64_t first;            /* steps that are no longer held */
    struct digest before;     /* the chain behind them */
    uint32_t *bits;           /* [count − first]: of step first + 1, … */
    int64_t count;            /* steps in all */
    struct trace_mark *marks; /* of held steps, ascending */
    int64_t mark_count;
    struct digest chain;
    int64_t cap, mark_cap; /* private */
    struct hash *hash;
};

/* Room for `steps` without another allocation (within reason). */
enum status trace_init(struct trace *t, int64_t steps, int64_t marks, struct err *err) MUST_USE;
void trace_release(struct trace *t); /* idempotent; {0} is fine */

/* The next step's loss. */
enum status trace_add(struct trace *t, uint32_t bits, struct err *err) MUST_USE;
enum status trace_mark(struct trace *t, const struct digest *weights, const struct digest *state,
                       struct err *err) MUST_USE; /* of the state after the last step */

/* Where the chunk that begins with the first held step is kept: "trace/000003.bin". */
#define TRACE_PATH_MAX 32
void trace_path(const struct trace *t, char out[TRACE_PATH_MAX]);
#define TRACE_PATH_V1 "trace.bin"

/* The first held steps, at most a chunk of them. */
void trace_write(struct trace *t, struct buf *out);

/* Lets the first chunk go, if all of it is held; false: it is not. */
bool trace_cut(struct trace *t);

/* A chunk of any version, behind what is there already. CORRUPT when the bytes are no trace, break
 * their chain or do not continue ours; the trace is of no more use then. */
enum status trace_append(struct trace *t, const void *bytes, size_t len, struct err *err) MUST_USE;

/* Forgets the steps behind `step`, which must not lie before `first`. */
void trace_shorten(struct trace *t, int64_t step);

/* Nothing is held: the trace goes on behind `step`, whose chain is known. */
void trace_begin_at(struct trace *t, int64_t step, const struct digest *chain);

#endif
