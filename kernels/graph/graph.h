/* A graph: nodes that name the tensors they read and the one they write.
 *
 *     tensor 0       1         2       3       4
 *        x ──[dense]──▶ ──[relu]──▶ ──[dense]──▶ ──[cross entropy]
 *              node 0      node 1      node 2       node 3: the last one is the loss
 *
 * Tensor 0 is the input. Each node comes after the producers of its
 * inputs; a chain is the graph with one path. graph_link() works out the rest: who reads what, what
 * may share its bytes, and where gradients lie on their way back.
 *
 *     storage    relu works in place: tensors 1 and 2 are the same bytes, of tensor 1
 *     gradient   a slot for each tensor's; a slot is free again when its tensor's producer is done
 *
 * The limit today, which graph_link() checks: a tensor below which something trains
 * has one reader, because adding up the gradients of several takes an operator of its own;
 * below all parameters a tensor may have any number of readers.
 *
 * Host data only: no buffer is touched. */
#ifndef KERNELS_GRAPH_GRAPH_H
#define KERNELS_GRAPH_GRAPH_H

#include "kernels/graph/operators.h"

#define NODES_MAX     (2 * SPEC_LAYERS_MAX + 4)
#define TENSORS_MAX   (NODES_MAX + 1)
#define NODE_INPUTS   4
#define NODE_PARAMS   4
#define GRADIENTS_MIN 2 /* slots that the engine takes even where one would do */
#define GRADIENTS_MAX 32

/* What lies between nodes, of one sample. */
struct graph_tensor {
    struct shape shape;   /* the user's order of dimensions */
    int64_t count;        /* elements */
    enum precision dtype; /* float32, or bfloat16 where that is the precision */
    bool channels_last;   /* an image that lies as (H, W, C) */
    int producer;         /* −1: the input */
    int readers;          /* how many inputs of nodes it is */
    int last;             /* its last reader; −1: none */
    int storage;  /* the tensor whose bytes it is: itself, or what its producer overwrites */
    bool trains;  /* something trains below: its gradient is wanted */
    int gradient; /* slot of it; −1: none */
};

struct operation; /* kernels/run/device.h */
struct device;

/* One operator at work. */
struct node {
    enum op_kind kind;
    int inputs;
    int input[NODE_INPUTS]; /* tensors */
    int output;             /* tensor; −1: the loss */
    const struct op_traits *traits;
    const struct layer *layer;   /* NULL for layout and loss */
    struct shape in, out;        /* of input[0] and of the output */
    int64_t in_count, out_count; /* elements of one sample */
    int64_t param[NODE_PARAMS];  /* offsets in the flat vector, in the layer's order; −1: none */
    int64_t param_begin, param_end; /* the layer's stretch of the flat vector; equal: none */
    bool relu;                      /* y = max(0, ·) at once; backward masks by y > 0 */
    const struct layer *pool;       /* a max pool joined on: y is its output; NULL: none */
    bool needs_dx;                  /* of any input; false where nothing trains below */
    bool in_place;                  /* y is x */

    /* the engine's: NULL or 0 in a plan made for a device that is not open */
    const struct operation *op;
    struct device *device;
    bool planned; /* prepare counts what it would take, and need not take it */
    void *state;  /* the operator's own */
    size_t state_bytes;
};

struct graph {
    const struct traits *traits;
    enum precision precision;
    struct graph_tensor tensors[TENSORS_MAX];
    int tensor_count;
    struct node nodes[NODES_MAX];
    int node_count;
    int gradients; /* slots */
};

/* What graph_add() makes a node of. */
struct node_spec {
    enum op_kind kind;
    int inputs;
    int input[NODE_INPUTS];
    const struct layer *layer;
    struct shape out;
    bool is_loss;
};

/* A graph of tensor 0 alone. */
void graph_init(struct graph *g, const struct traits *traits, enum precision precision,
                const struct shape *input);

/* Adds a node and the tensor it writes; returns the node. */
struct node *graph_add(struct graph *g, const struct node_spec *spec);

/* Works out readers, storage, training and gradients. INVALID names what no engine can run. */
enum status graph_link(struct graph *g, struct err *err) MUST_USE;

#endif
