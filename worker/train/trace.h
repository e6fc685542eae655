/* The trace of a run: every step's loss bits, chained, and the digests taken on the way. Two runs
 * with the same chain took the same steps.
 *
 *     chain_0 = 32 zero bytes;  chain_s = SHA-256(chain_{s−1} ‖ s as u64 ‖ loss bits as u32)
 *
 * The artifact trace.bin, all little-endian:
 *
 *     ┌ "TRITRACE" ┬ u32 1 ┬ u32 0 ┬ u64 steps ┬ u64 marks ┬ chain (32) ┐
 *     ├ steps × u32 loss bits, of step 1, 2, …                           ┤
 *     └ marks × (u64 step ┬ weights digest (32) ┬ state digest (32))     ┘
 *
 * Loss bits are those of the float32 sum over the batch, as the exchange's tree makes it.
 * Threading: one thread; a trace belongs to rank 0. */
#ifndef WORKER_TRAIN_TRACE_H
#define WORKER_TRAIN_TRACE_H

#include "core/buf.h"
#include "core/hash.h"

#define TRACE_STEPS_MAX INT64_C(1000000000)
#define TRACE_MARKS_MAX INT64_C(10000000)

struct trace_mark {
    int64_t step;
    struct digest weights, state;
};

struct trace {
    uint32_t *bits; /* [count]: of step 1, 2, … */
    int64_t count;
    struct trace_mark *marks; /* ascending steps */
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

void trace_write(const struct trace *t, struct buf *out);

/* Replaces what is in an initialised trace. CORRUPT when the bytes are no trace or break their
 * chain. */
enum status trace_read(struct trace *t, const void *bytes, size_t len, struct err *err) MUST_USE;

#endif
