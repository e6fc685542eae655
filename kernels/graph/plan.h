/* The planner: a graph from the model's layers, the walk, the buckets. Host code only: no buffer is
 * touched, so that it can be asked about a net that does not fit this machine.
 *
 *     model ──lower.c──▶ graph ──plan.c──▶ walk, buckets
 *
 *     walk g:  how many shards go through the whole net together (plan_walk)
 *     buckets: stretches of the flat vector from its end to its beginning, cut at layers and at
 *              NORM_BLOCKs */
#ifndef KERNELS_GRAPH_PLAN_H
#define KERNELS_GRAPH_PLAN_H

#include "kernels/graph/graph.h"
#include "spec/training.h"

#define BUCKETS_MAX SPEC_LAYERS_MAX
#define BUCKET_MIN  INT64_C(65536) /* elements: 256 KiB; smaller stretches are merged */

/* What one rank is to train. */
struct plan_spec {
    const struct model *model; /* outlives the plan */
    enum loss_kind loss;
    int64_t shard_rows; /* B / V */
    int first_shard;    /* of this rank; a multiple of shard_count */
    int shard_count;    /* V / P, a power of two */
    int64_t eval_rows;  /* rows of an evaluation chunk */
    uint64_t seed;      /* of dropout */
    int walk;           /* g; 0: the planner chooses */
    enum precision precision;
};

/* A stretch of the flat vector whose partial gradient is final. Buckets come in the order of the
 * backward pass: from the end of the vector to its beginning, the one with the scalars first. */
struct bucket {
    int64_t begin; /* elements; a multiple of NORM_BLOCK */
    int64_t end;   /* likewise, except in the first bucket, which ends with the vector */
    int layer;     /* the lowest layer in it */
};

struct plan {
    struct graph graph; /* the last node is the loss */
    struct bucket buckets[BUCKETS_MAX];
    int bucket_count;
    int bucket_node[BUCKETS_MAX]; /* final after this node's backward_weights */
    int walk;
    int64_t sample_floats; /* kept for the backward pass, of one sample */
    int64_t widest;        /* the largest gradient between nodes, elements of one sample */
    int64_t flops_step;    /* of the rank's rows: forward, backward data and weights */
};

/* cache_bytes[0] = 0: a device that likes few large calls; all shards are walked together. */
enum status plan_make(const struct plan_spec *spec, const struct traits *traits,
                      const size_t cache_bytes[2], struct plan *out, struct err *err) MUST_USE;

static inline const struct node *plan_loss(const struct plan *p) {
    return &p->graph.nodes[p->graph.node_count - 1];
}

/* lower.c: the graph of a model with its loss. */
enum status plan_lower(const struct plan_spec *spec, const struct traits *traits, struct graph *out,
                       struct err *err) MUST_USE;

#endif
