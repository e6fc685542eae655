/* Who reads what, what shares its bytes, where gradients lie. */
#include "kernels/graph/graph.h"

#include <assert.h>
#include <string.h>

static int add_tensor(struct graph *g, const struct shape *shape, int producer) {
    assert(g->tensor_count < TENSORS_MAX);
    g->tensors[g->tensor_count] = (struct graph_tensor){.shape = *shape,
                                                        .count = shape_size(shape),
                                                        .dtype = g->precision,
                                                        .producer = producer,
                                                        .last = -1,
                                                        .storage = g->tensor_count,
                                                        .gradient = -1};
    return g->tensor_count++;
}

void graph_init(struct graph *g, const struct traits *traits, enum precision precision,
                const struct shape *input) {
    memset(g, 0, sizeof *g);
    g->traits = traits;
    g->precision = precision;
    (void)add_tensor(g, input, -1);
}

struct node *graph_add(struct graph *g, const struct node_spec *spec) {
    assert(g->node_count < NODES_MAX && spec->inputs >= 1 && spec->inputs <= NODE_INPUTS);
    struct node *n = &g->nodes[g->node_count];
    const struct graph_tensor *first = &g->tensors[spec->input[0]];
    *n = (struct node){.kind = spec->kind,
                       .inputs = spec->inputs,
                       .output = -1,
                       .traits = &g->traits->op[spec->kind],
                       .layer = spec->layer,
                       .in = first->shape,
                       .out = spec->out,
                       .in_count = first->count,
                       .out_count = shape_size(&spec->out)};
    for (int i = 0; i < spec->inputs; i++) {
        assert(spec->input[i] >= 0 && spec->input[i] < g->tensor_count);
        n->input[i] = spec->input[i];
    }
    for (int i = 0; i < NODE_PARAMS; i++)
        n->param[i] = -1;
    if (!spec->is_loss)
        n->output = add_tensor(g, &spec->out, g->node_count);
    g->node_count++;
    return n;
}

/* ---- links ---- */

static bool has_params(const struct node *n) {
    return n->param_end > n->param_begin;
}

static void count_readers(struct graph *g) {
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].inputs; k++) {
            struct graph_tensor *t = &g->tensors[g->nodes[i].input[k]];
            t->readers++;
            t->last = i;
        }
}

/* In place where nobody else needs what would be overwritten. */
static bool may_overwrite(const struct graph *g, const struct node *n) {
    const struct graph_tensor *x = &g->tensors[n->input[0]];
    if (!op_promises(n->kind, OP_IN_PLACE) || n->output < 0 || x->producer < 0 || x->readers > 1)
        return false;
    const struct node *before = &g->nodes[x->producer];
    return !op_promises(before->kind, OP_KEEPS_Y) && !before->relu;
}

static void link_node(struct graph *g, struct node *n) {
    n->needs_dx = false;
    for (int k = 0; k < n->inputs; k++)
        n->needs_dx |= g->tensors[n->input[k]].trains;
    n->in_place = may_overwrite(g, n);
    if (n->output < 0)
        return;
    struct graph_tensor *y = &g->tensors[n->output];
    y->trains = n->needs_dx || has_params(n);
    y->storage = n->in_place ? g->tensors[n->input[0]].storage : n->output;
}

static enum status check_readers(const struct graph *g, struct err *err) {
    for (int i = 0; i < g->tensor_count; i++) {
        const struct graph_tensor *t = &g->tensors[i];
        if (t->readers == 0)
            return err_set(err, STATUS_INVALID, "tensor %d of the graph is read by no operator", i);
        if (t->trains && t->readers > 1)
            return err_set(err, STATUS_INVALID,
                           "tensor %d of the graph is read by %d operators and trained through: "
                           "no operator adds up their gradients yet",
                           i, t->readers);
    }
    return STATUS_OK;
}

static int take_slot(struct graph *g, uint32_t *used) {
    int slot = __builtin_ctz(~*used);
    assert(slot < GRADIENTS_MAX);
    *used |= UINT32_C(1) << slot;
    g->gradients = slot >= g->gradients ? slot + 1 : g->gradients;
    return slot;
}

/* From the loss back, in the order of the backward pass: the lowest slot that is free. */
static void place_gradients(struct graph *g) {
    uint32_t used = 0;
    g->gradients = GRADIENTS_MIN;
    for (int i = g->node_count - 1; i >= 0; i--) {
        const struct node *n = &g->nodes[i];
        struct graph_tensor *y = n->output >= 0 ? &g->tensors[n->output] : NULL;
        bool reuse =
            y != NULL && n->inputs == 1 && op_promises(n->kind, OP_DX_IN_PLACE) && n->pool == NULL;
        if (y != NULL && y->gradient < 0)
            continue; /* nothing trains below */
        for (int k = 0; k < n->inputs; k++) {
            struct graph_tensor *x = &g->tensors[n->input[k]];
            if (x->trains)
                x->gradient = reuse ? y->gradient : take_slot(g, &used);
        }
        if (y != NULL && !(reuse && n->needs_dx))
            used &= ~(UINT32_C(1) << y->gradient);
    }
}

enum status graph_link(struct graph *g, struct err *err) {
    count_readers(g);
    for (int i = 0; i < g->node_count; i++)
        link_node(g, &g->nodes[i]);
    enum status st = check_readers(g, err);
    if (st == STATUS_OK)
        place_gradients(g);
    return st;
}
