/* What the engine's files share: engine.c runs it, engine_report.c says what it is and what went
 * wrong in it. */
#ifndef KERNELS_RUN_ENGINE_PRIVATE_H
#define KERNELS_RUN_ENGINE_PRIVATE_H

#include "kernels/run/device.h"
#include "kernels/run/engine.h"

struct engine {
    struct device *device;
    const struct backend *backend;
    struct plan_spec spec;
    struct plan plan;
    int64_t group_rows;
    bool proven;    /* the self-check's verdict */
    bool planned;   /* counted, not taken: to be described only */
    size_t element; /* bytes of one between operators */
    float *weights, *gradient;
    struct engine_vectors own; /* of these two, what is not the caller's */
    float *level[FOLD_MAX];    /* partial folds between groups */
    int level_count;
    void *data[TENSORS_MAX];        /* (group rows, elements) of each tensor but the input */
    void *gradients[GRADIENTS_MAX]; /* by slot: (group rows, widest) */
    void *stage;                    /* a copy of the input: (group rows, in) */
    struct loss_sum *losses;        /* (shard_count) */
    struct loss_sum *eval_sums, *eval_host; /* (groups of an evaluation chunk): device, host */
    size_t activation_bytes, workspace_bytes;
    /* the last step, for engine_blame */
    struct engine_batch batch;
    int64_t step;
};

#define ENGINE_NAME_MAX 64

/* "model[3] dense", or the operator's name where the planner put it in. */
const char *engine_node_name(const struct node *n, char out[ENGINE_NAME_MAX]);

/* The element `i` of what lies between operators. */
static inline const void *engine_at(const struct engine *e, const void *x, int64_t i) {
    return (const char *)x + (size_t)i * e->element;
}

/* What training passes to the operators for the group of shards that begins at `row` of the batch.
 */
struct pass engine_pass(const struct engine *e, int64_t row);

/* Points the pass at the node's tensors; `input`: the group's rows of the batch. */
void engine_point(const struct engine *e, const struct node *n, const void *input, struct pass *p);

#endif
