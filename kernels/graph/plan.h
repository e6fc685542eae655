/* The planner: nodes from layers, the walk, the buckets. Pure host code: no buffer is touched, so
 * that it can be asked about a net that does not fit this machine.
 *
 *     walk g:  how many shards go through the whole net together (see plan_walk)
 *     buckets: stretches of the vector, from its end to its beginning, cut at layers and
 * NORM_BLOCKs */
#ifndef KERNELS_GRAPH_PLAN_H
#define KERNELS_GRAPH_PLAN_H

#include "kernels/run/device.h"

#define NODES_MAX   (2 * SPEC_LAYERS_MAX + 4)
#define BUCKETS_MAX SPEC_LAYERS_MAX
#define BUCKET_MIN  INT64_C(65536) /* elements: 256 KiB; smaller stretches are merged */

struct plan {
    struct node nodes[NODES_MAX]; /* the last one is the loss */
    int node_count;
    struct bucket buckets[BUCKETS_MAX];
    int bucket_count;
    int bucket_node[BUCKETS_MAX]; /* final after this node's backward_weights */
    int walk;
    int64_t sample_floats; /* kept for the backward pass, of one sample */
    int64_t widest;        /* the largest gradient between nodes, elements of one sample */
    int64_t flops_step;    /* of the rank's rows: forward, backward data and weights */
};

/* cache_bytes[0] = 0: a device that likes few large calls; all shards are walked together. */
enum status plan_make(const struct engine_spec *spec, const struct op_traits *traits,
                      const size_t cache_bytes[2], struct plan *out, struct err *err) MUST_USE;

#endif
