/* The exchange: partial gradients in, owners' sums and updated weights out, exact by construction.
 *
 * MPI or shared memory moves bytes; the additions are ours, in the fixed tree (design, section 6).
 * A slice is a stretch of the flat vector. Of each bucket every rank owns one; slices begin at
 * multiples of NORM_BLOCK.
 *
 *     all-to-all of slices      owner: fold of P partials, then update      all-gather of weights
 *     rank r ──slice o──▶ o     tree order 0..P-1                           o ──slice──▶ all
 *
 * Buckets are started as the backward pass finishes them (exchange_start from the engine's
 * bucket_fn), progressed while it goes on, and finished in the same order on every rank. The
 * reduced slice is left in the rank's own gradient vector, in place: one rank alone copies nothing.
 *
 * Levels: a list of group sizes whose product is P. {P} is one level; {4, 2} folds within four
 * neighbours first, then between the halves. Neighbours own aligned subtrees: the same bits.
 *
 *     the bucket     ┌─────────────────────────────────────────────────┐
 *     after level 0  │ d0 = 0      │ d0 = 1    │ d0 = 2    │ d0 = 3    │   rank = d0 + 4·d1
 *     after level 1  │d1=0  │ d1=1 │ …                                 │   what each rank owns
 *
 * Ways to move:
 *     messages (exchange_message.c)   over any network that MPI knows
 *     memory   (exchange_memory.c)    of one node: partials are read in place
 *     staged   (exchange_staged.c)    the vectors are a GPU's: one of the above, on host mirrors
 *     queued   (exchange_queue.c)     by NCCL, or alone on a GPU: the host only queues the step
 *
 * MPI lives in world.c alone (struct world), NCCL in nccl.c; threads: the rank's only one. */
#ifndef WORKER_WORLD_EXCHANGE_H
#define WORKER_WORLD_EXCHANGE_H

#include "kernels/run/engine.h"
#include "worker/world/nccl.h"
#include "worker/world/world.h"

#define EXCHANGE_LEVELS_MAX  4
#define EXCHANGE_BUCKETS_MAX 512

struct exchange;
struct step_outcome; /* kernels/run/device.h */

/* dst[i] = sum of srcs[0..n)[i] in the fixed tree; dst may be one of srcs. */
typedef void exchange_fold_fn(void *arg, float *dst, const float *const *srcs, int n,
                              int64_t count);

struct exchange_spec {
    float *weights, *gradient; /* (vector_count): this rank's, as the engine uses them; the device's
                                  memory where there is one */
    int64_t vector_count;
    const struct bucket *buckets;
    int bucket_count;
    const int *levels; /* NULL: one */
    int level_count;
    exchange_fold_fn *fold; /* of host memory, mirrors too; not called by a queued exchange */
    void *fold_arg;
    void **bases; /* world_shared_memory with exchange_memory_bytes each. Vectors in host memory
                   must be the ones in bases[rank]; a device's are mirrored there. NULL: messages */
    struct device *device; /* outlives the exchange; NULL: plain host memory */
    struct nccl *nccl;     /* NULL: none. Else the device's queues exchange; `bases` stay unused */
    bool library_sums; /* NCCL adds, in an order of its own: the bits are no longer the tree's */
};

/* What a rank's part of the shared memory must hold, and where in it the two vectors are. */
size_t exchange_memory_bytes(int64_t vector_count);
float *exchange_memory_weights(void *base, int64_t vector_count);
float *exchange_memory_gradient(void *base, int64_t vector_count);

/* Collective. INVALID when the levels do not make P or a bucket does not begin at a norm block. */
enum status exchange_new(struct world *w, const struct exchange_spec *spec, struct exchange **out,
                         struct err *err) MUST_USE;
void exchange_destroy(struct exchange **x);

bool exchange_in_memory(const struct exchange *x); /* staged, too */

/* "none", "memory", "messages", "staged memory", "staged messages", "nccl": for the manifest. */
const char *exchange_name(const struct exchange *x);

/* The same of an exchange that is not made: how its bytes would move. */
struct exchange_ways {
    int ranks;
    bool nccl;   /* by the cards themselves */
    bool memory; /* that the ranks share */
    bool staged; /* by way of the host's mirrors of a card's vectors */
};
const char *exchange_way(const struct exchange_ways *w);

/* Whether nothing in a step waits for the host: alone on a device that queues, or by NCCL. Then
 * start, reduced and publish return at once, and the step ends with exchange_outcome in place of
 * exchange_finish. All that they queue may be recorded (device.h) and played again. A staged
 * exchange waits; it uses the device's marks from OUTCOME_SLOTS on. */
bool exchange_queued(const struct exchange *x);

/* The slice of bucket b that `rank` owns; may be empty. */
struct slice exchange_slice(const struct exchange *x, int rank, int bucket);

/* Norm blocks that this rank owns in all buckets together, and of the whole vector. */
int64_t exchange_owned_blocks(const struct exchange *x);
int64_t exchange_blocks(const struct exchange *x);

/* Begins to move bucket b's partials; also progresses those under way. */
enum status exchange_start(struct exchange *x, int bucket, struct err *err) MUST_USE;

/* Waits until this rank's slice of bucket b is reduced, in place in the gradient vector, where it
 * is valid until the next step. Waiting yields the core. Queued: what is queued for computing from
 * now on waits. */
enum status exchange_reduced(struct exchange *x, int bucket, struct err *err) MUST_USE;

/* Begins to hand out the weights of bucket b from their owners. The last SCALARS elements of the
 * vector travel with them: their owner puts the reduced gradient's tail there by itself. */
enum status exchange_publish(struct exchange *x, int bucket, struct err *err) MUST_USE;

/* Waits until the weights of all buckets are here; the step is over. `scalars` (SCALARS, the
 * reduced tail) are the same on every rank; *flags becomes the OR of what every rank brought in it
 * and, staged, of the flag words of their devices. */
enum status exchange_finish(struct exchange *x, float *scalars, uint32_t *flags,
                            struct err *err) MUST_USE;

/* The end of a queued step, after every bucket was published: queues that computing waits for all
 * weights, and the backend's `outcome` into `ring` from the reduced tail and the flag words of all
 * ranks. */
enum status exchange_outcome(struct exchange *x, struct step_outcome *ring,
                             struct err *err) MUST_USE;

/* Not collective; does not wait. UNAVAILABLE when NCCL has lost a peer: what is queued was ended
 * (ncclCommAbort), the group must end. Whoever waits for a queued step asks this in between. */
enum status exchange_check(struct exchange *x, struct err *err) MUST_USE;

/* Collective, outside of steps or between reduced and publish: something of block_bytes for each
 * norm block, of which every rank has its own, packed in the order of buckets, becomes whole on
 * every rank, in the order of the vector. Allocates when block_bytes is more than ever before
 * (a double for each block is provided for). */
enum status exchange_gather_blocks(struct exchange *x, const void *mine, size_t block_bytes,
                                   void *all, struct err *err) MUST_USE;

/* The same for a double of each block, where the vectors are: in the device's memory (host memory
 * without a device that queues). Queued where the exchange is. */
enum status exchange_gather_norms(struct exchange *x, const double *mine, double *all,
                                  struct err *err) MUST_USE;

#endif
