/* What a net takes on a device, before anything is allocated there: by arithmetic alone, so that it
 * can be asked of a GPU on a machine without one (`trireme-worker --plan FILE --assume-gpu 80`), and
 * of a net that this machine could not hold.
 *
 *     vectors      weights, gradient                         vector_count each
 *     optimizer    slots of the owned slices                 vector / P each
 *     partials     folds between groups of a walk            log2(shards / walk) vectors
 *     activations  outputs, gradients between layers, input  walk · shard rows
 *     operators    what they keep beside (struct traits)      shards' weight gradients, copies
 *     inbox        partials of other ranks, a bucket         NCCL only
 *     batch        rows, labels                              of a step or of an evaluation chunk
 *     library      workspaces of cuBLASLt and cuDNN; proving a product when it is chosen
 *     data         the data set, where there is room left
 *
 * On a GPU the walk is as long as fits: all shards of a rank at once ask for the fewest launches. On
 * the CPU it is what plan_walk makes of the caches, and the figures are the least that it takes: what
 * oneDNN keeps for itself is not known here. */
#ifndef KERNELS_GRAPH_BUDGET_H
#define KERNELS_GRAPH_BUDGET_H

#include "kernels/graph/plan.h"

/* Driver, context and library code: kept off a card's total. */
#define BUDGET_CONTEXT ((int64_t)768 << 20)

struct budget_spec {
    const struct plan_spec *plan; /* of one rank; walk 0 */
    int optimizer_slots;
    int ranks;
    bool nccl;                 /* ranks have a card each */
    int64_t features, outputs; /* of a sample; outputs 0: labels */
    int64_t data_bytes;        /* of the data set on the device; 0: none */
    int64_t capacity;          /* bytes that this rank may take; 0: no limit */
    const size_t *cache_bytes; /* of a CPU, as plan_make has it; NULL: a GPU */
};

struct budget {
    int64_t vectors, optimizer, partials, activations, operators, inbox, batch, library;
    int64_t total; /* of these */
    int64_t data;  /* beside it; 0: streamed from the host */
    int walk;
    bool recorded; /* the step is one graph: nothing in it waits for the host */
};

/* TOO_LARGE with the place of the layer that takes most, the figures, and the largest global batch
 * that would fit, if any does. `plan` gets nodes and buckets with the walk of the answer. */
enum status budget_make(const struct budget_spec *spec, const struct traits *traits,
                        struct plan *plan, struct budget *out, struct err *err) MUST_USE;

/* {vectors, …, total, data, walk, recorded} in bytes. */
struct value *budget_describe(struct arena *a, const struct budget *b);

#endif
