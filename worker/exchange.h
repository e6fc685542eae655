/* The exchange: partial gradients in, owners' sums and updated weights out, exact by construction.
 *
 * MPI moves bytes; the additions are ours, in the fixed tree (design, section 6). For bucket b every
 * rank owns one slice; slices start at multiples of NORM_BLOCK.
 *
 *     all-to-all of slices      owner: fold of P partials, then update      all-gather of weights
 *     rank r ──slice o──▶ o     tree order 0..P-1                           o ──slice──▶ all
 *
 * Buckets are started as the backward pass finishes them (exchange_start from the engine's
 * bucket_fn), progressed while it goes on, and finished in the same order on every rank.
 *
 * Levels: exchange_new takes a list of group sizes whose product is P ({P} is one level; {4, 2} folds
 * within four neighbours first, then between the halves): the same bits.
 *
 * MPI lives in world.c alone (struct world); threads: the rank's only one. */
#ifndef WORKER_EXCHANGE_H
#define WORKER_EXCHANGE_H

#include "kernels/engine.h"
#include "worker/world.h"

#define EXCHANGE_LEVELS_MAX 4

struct exchange;

/* A stretch that this rank owns. */
struct slice {
    int64_t begin, count;
};

enum status exchange_new(struct world *w, struct engine *e, const int *levels, int level_count,
                         struct exchange **out, struct err *err) MUST_USE;
void exchange_destroy(struct exchange **x);

struct slice exchange_slice(const struct exchange *x, int bucket);
int64_t exchange_owned(const struct exchange *x); /* elements of all slices together */

/* Begins to move bucket b's partials; also progresses those under way. */
enum status exchange_start(struct exchange *x, int bucket, struct err *err) MUST_USE;

/* Waits until this rank's slice of bucket b is reduced; *g points at its first element, valid until the next step.
 * Idle waiting yields the core. */
enum status exchange_reduced(struct exchange *x, int bucket, const float **g, struct err *err) MUST_USE;

/* Begins to hand out the updated weights of bucket b from their owners. */
enum status exchange_publish(struct exchange *x, int bucket, struct err *err) MUST_USE;

/* Waits until the weights of all buckets are here; the step is over. `scalars` (SCALARS, the reduced tail)
 * are the same on every rank. */
enum status exchange_finish(struct exchange *x, float *scalars, struct err *err) MUST_USE;

#endif
