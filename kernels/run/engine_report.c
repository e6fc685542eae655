/* What the worker says about an engine: which layer went wrong, and what it is made of. */
#include <stdio.h>

#include "kernels/run/engine_private.h"

static bool is_finite(const struct engine *e, const void *x, int64_t count,
                      enum precision precision) {
    return e->backend->operators->finite(e->device, x, count, precision);
}

/* Forward again, group by group: the activations of earlier groups are gone. */
static const struct node *first_bad_output(struct engine *e) {
    const struct graph *g = &e->plan.graph;
    int best = g->node_count, groups = e->spec.shard_count / e->plan.walk;
    for (int group = 0; e->batch.x != NULL && group < groups; group++) {
        int64_t row = group * e->group_rows;
        struct pass p = engine_pass(e, row);
        const void *input = engine_at(e, e->batch.x, row * g->tensors[0].count);
        for (int i = 0; i < best && i + 1 < g->node_count; i++) {
            const struct node *n = &g->nodes[i];
            engine_point(e, n, input, &p);
            n->op->forward(n, &p);
            if (n->layer != NULL &&
                !is_finite(e, p.y, e->group_rows * n->out_count, e->spec.precision))
                best = i;
        }
    }
    return best < g->node_count ? &g->nodes[best] : NULL;
}

void engine_blame(struct engine *e, char *out, size_t len) {
    char name[ENGINE_NAME_MAX];
    e->backend->order->enter(e->device);
    const struct node *bad = first_bad_output(e);
    if (bad != NULL) {
        (void)snprintf(out, len, "%s: output is not finite", engine_node_name(bad, name));
        return;
    }
    for (int i = e->plan.graph.node_count - 1; i >= 0; i--) {
        const struct node *n = &e->plan.graph.nodes[i];
        if (!is_finite(e, e->gradient + n->param_begin, n->param_end - n->param_begin,
                       PRECISION_FP32)) {
            (void)snprintf(out, len, "%s: gradient is not finite", engine_node_name(n, name));
            return;
        }
    }
    if (len > 0)
        out[0] = '\0';
}

static struct value *bytes_value(struct arena *a, const struct engine *e) {
    struct value *v = value_map(a);
    int64_t vector = e->spec.model->vector_count * (int64_t)sizeof(float);
    value_set_int(a, v, "weights", vector);
    value_set_int(a, v, "gradients", vector);
    value_set_int(a, v, "activations", (int64_t)e->activation_bytes);
    value_set_int(a, v, "workspace", (int64_t)e->workspace_bytes);
    return v;
}

static struct value *algorithms_value(struct arena *a, const struct engine *e) {
    struct value *v = value_map(a);
    for (int i = 0; i < e->plan.graph.node_count; i++) {
        char name[ENGINE_NAME_MAX];
        const struct node *n = &e->plan.graph.nodes[i];
        if (n->op->describe != NULL)
            value_set(a, v, arena_strdup(a, engine_node_name(n, name)), n->op->describe(a, n));
    }
    return v;
}

struct value *engine_describe(struct arena *a, const struct engine *e) {
    struct value *out = value_map(a), *device = e->backend->describe(a, e->device);
    value_set_int(a, out, "walk", e->plan.walk);
    value_set_bool(a, out, "self_check", e->proven);
    value_set_string(a, out, "isa", value_get_string(device, "isa", ""));
    value_set(a, out, "bytes", bytes_value(a, e));
    value_set_string(a, out, "precision", precision_name(e->spec.precision));
    value_set_int(a, out, "buckets", e->plan.bucket_count);
    value_set_int(a, out, "flops_per_step", e->plan.flops_step);
    struct value *chosen = algorithms_value(a, e);
    if (chosen->count > 0)
        value_set(a, out, "algorithms", chosen);
    return out;
}
