/* The executor: what a plan says, with buffers, for any backend.
 *
 *     group j of g shards:  refresh* → forward … loss → backward … ─▶ fold(j)
 *     fold(j): trailing ones of j = levels that are complete; add them, go one level up
 *         j: 0   1     2   3
 *            L0  +L0   L0  +L0 +L1          (the last group's sum is the rank's partial)
 *                =L1       =gradient                                        (* once a step) */
#include "kernels/run/engine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/graph/plan.h"
#include "kernels/run/device.h"

struct engine {
    struct device *device;
    const struct backend *backend;
    struct engine_spec spec;
    struct plan plan;
    int64_t group_rows;
    bool proven;    /* the self-check's verdict */
    size_t element; /* bytes of one between operators */
    float *weights, *gradient;
    float *level[FOLD_MAX]; /* partial folds between groups */
    void *between[2];       /* gradients between nodes */
    void *stage;
    int level_count;
    struct loss_sum *losses;                /* (shard_count) */
    struct loss_sum *eval_sums, *eval_host; /* (groups of an evaluation chunk): device, host */
    size_t activation_bytes, workspace_bytes;
    /* the last step, for engine_blame */
    const void *x;
    const int32_t *labels, *rows_global;
    const float *targets;
    int64_t step;
};

/* The element `i` of what lies between operators. */
static const void *at(const struct engine *e, const void *x, int64_t i) {
    return (const char *)x + (size_t)i * e->element;
}

/* ---- creation ---- */

static const char *node_name(const struct node *n, char out[64]) {
    if (n->layer)
        snprintf(out, 64, "model[%d] %s", n->layer->index, spec_layer_name(n->layer->kind));
    else
        snprintf(out, 64, "%s", n->op->name);
    return out;
}

static enum status take(struct engine *e, const char *what, size_t bytes, void **out, size_t *sum,
                        struct err *err) {
    *out = e->backend->memory->alloc(e->device, bytes);
    if (!*out) {
        enum status st =
            e->backend->order->status(e->device, err); /* a broken device has no memory either */
        return st != STATUS_OK
                   ? st
                   : err_set(err, STATUS_NOMEM, "no memory for %zu bytes of %s on device %s", bytes,
                             what, e->backend->name);
    }
    if (sum)
        *sum += bytes;
    return STATUS_OK;
}

static enum status take_vector(struct engine *e, const char *what, float **out, size_t *sum,
                               struct err *err) {
    void *p = NULL;
    enum status st =
        take(e, what, (size_t)e->spec.model->vector_count * sizeof(float), &p, sum, err);
    *out = p;
    return st;
}

static enum status take_rows(struct engine *e, const char *what, int64_t elements, void **out,
                             struct err *err) {
    size_t bytes = (size_t)(e->group_rows * elements) * e->element;
    return take(e, what, bytes, out, &e->activation_bytes, err);
}

static enum status take_buffers(struct engine *e, struct err *err) {
    enum status st = STATUS_OK;
    struct plan *plan = &e->plan;
    char name[64];
    void *losses = NULL, *sums = NULL;
    size_t groups = (size_t)((e->spec.eval_rows + e->group_rows - 1) / e->group_rows);
    e->weights = e->spec.weights;
    e->gradient = e->spec.gradient;
    if (!e->weights)
        TRY(take_vector(e, "weights", &e->weights, NULL, err));
    if (!e->gradient)
        TRY(take_vector(e, "gradient", &e->gradient, NULL, err));
    for (int g = plan->walk; g < e->spec.shard_count; g *= 2)
        TRY(take_vector(e, "partial gradients", &e->level[e->level_count++], &e->workspace_bytes,
                        err));
    for (int i = 0; i < 2; i++)
        TRY(take_rows(e, "gradients between layers", plan->widest, &e->between[i], err));
    TRY(take_rows(e, "input", plan->nodes[0].in_count, &e->stage, err));
    for (int i = 0; i + 1 < plan->node_count; i++) {
        struct node *node = &plan->nodes[i];
        if (node->in_place)
            node->y = node[-1].y;
        else
            TRY(take_rows(e, node_name(node, name), node->out_count, &node->y, err));
    }
    TRY(take(e, "losses", (size_t)e->spec.shard_count * sizeof *e->losses, &losses, NULL, err));
    e->losses = losses;
    TRY(take(e, "evaluation", groups * sizeof *e->eval_sums, &sums, NULL, err));
    e->eval_sums = sums;
    e->eval_host = calloc(groups, sizeof *e->eval_host);
    if (!e->eval_host)
        st = err_set(err, STATUS_NOMEM, "no memory for the training plan");
out:
    return st;
}

static enum status prepare(struct engine *e, struct err *err) {
    struct extent extent = {.shard_rows = e->spec.shard_rows,
                            .shards = e->plan.walk,
                            .seed = e->spec.seed,
                            .precision = e->spec.precision};
    for (int i = 0; i < e->plan.node_count; i++) {
        struct node *n = &e->plan.nodes[i];
        char name[64];
        n->device = e->device;
        enum status st = n->op->prepare ? n->op->prepare(e->device, n, &extent, err) : STATUS_OK;
        if (st != STATUS_OK)
            return err_wrap(err, st, "%s", node_name(n, name));
        e->workspace_bytes += n->state_bytes;
    }
    return STATUS_OK;
}

static bool self_check(struct engine *e) {
    for (int i = 0; i < e->plan.node_count; i++) {
        const struct node *n = &e->plan.nodes[i];
        if (n->op->self_check && !n->op->self_check(n))
            return false;
    }
    return true;
}

static enum status engine_try(struct device *device, const struct engine_spec *spec,
                              struct engine **out, struct err *err) {
    enum status st = STATUS_OK;
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, STATUS_NOMEM, "no memory for the engine");
    e->device = device;
    e->backend = device->backend;
    e->spec = *spec;
    e->element = precision_bytes(spec->precision);
    e->backend->order->enter(device);
    if (spec->precision != PRECISION_FP32 && !e->backend->queues) {
        st = err_set(err, STATUS_INVALID, "device %s computes in fp32 only, not in %s",
                     e->backend->name, precision_name(spec->precision));
        goto out;
    }
    TRY(plan_make(spec, e->backend->traits, device->cache_bytes, &e->plan, err));
    for (int i = 0; i < e->plan.node_count; i++)
        e->plan.nodes[i].op = e->backend->operators->rows[e->plan.nodes[i].kind];
    e->group_rows = spec->shard_rows * e->plan.walk;
    TRY(take_buffers(e, err));
    TRY(prepare(e, err));
    e->proven = self_check(e);
    TRY(e->backend->order->status(device, err));
    *out = e;
    e = NULL;
out:
    engine_destroy(&e);
    return st;
}

enum status engine_new(struct device *device, const struct engine_spec *spec, struct engine **out,
                       struct err *err) {
    enum status st = engine_try(device, spec, out, err);
    if (st != STATUS_OK || (*out)->proven || (*out)->plan.walk == 1)
        return st;
    /* Some operator's rows depend on their company here: every shard alone, then. */
    struct engine_spec alone = *spec;
    alone.walk = 1;
    engine_destroy(out);
    return engine_try(device, &alone, out, err);
}

void engine_destroy(struct engine **engine) {
    struct engine *e = *engine;
    if (!e)
        return;
    e->backend->order->sync(e->device);
    for (int i = 0; i < e->plan.node_count; i++) {
        struct node *n = &e->plan.nodes[i];
        if (n->state && n->op->release)
            n->op->release(e->device, n);
        if (!n->in_place)
            e->backend->memory->release(e->device, n->y);
    }
    for (int i = 0; i < FOLD_MAX; i++)
        e->backend->memory->release(e->device, e->level[i]);
    for (int i = 0; i < 2; i++)
        e->backend->memory->release(e->device, e->between[i]);
    e->backend->memory->release(e->device, e->stage);
    if (!e->spec.weights)
        e->backend->memory->release(e->device, e->weights);
    if (!e->spec.gradient)
        e->backend->memory->release(e->device, e->gradient);
    e->backend->memory->release(e->device, e->losses);
    e->backend->memory->release(e->device, e->eval_sums);
    free(e->eval_host);
    free(e);
    *engine = NULL;
}

float *engine_weights(struct engine *e) {
    return e->weights;
}

float *engine_gradient(struct engine *e) {
    return e->gradient;
}

int64_t engine_flops(const struct engine *e) {
    return e->plan.flops_step;
}

int engine_bucket_count(const struct engine *e) {
    return e->plan.bucket_count;
}

const struct bucket *engine_buckets(const struct engine *e) {
    return e->plan.buckets;
}

/* ---- the step ---- */

/* Profilers show what is queued under the layer's name. */
static void range(const struct engine *e, const struct node *n) {
    char name[64];
    if (e->backend->order->range_push)
        e->backend->order->range_push(node_name(n, name));
}

static void range_end(const struct engine *e) {
    if (e->backend->order->range_pop)
        e->backend->order->range_pop();
}

static void refresh(struct engine *e, bool training) {
    for (int i = 0; i < e->plan.node_count; i++) {
        const struct node *n = &e->plan.nodes[i];
        if (n->op->refresh)
            n->op->refresh(n, e->weights, training);
    }
}

static void forward(struct engine *e, struct pass *p, const void *x) {
    for (int i = 0; i + 1 < e->plan.node_count; i++) {
        const struct node *n = &e->plan.nodes[i];
        p->x = x;
        p->y = n->y;
        range(e, n);
        n->op->forward(n, p);
        range_end(e);
        x = n->y;
    }
    p->x = x;
}

static void make_fold(struct engine *e, int group, int groups, struct fold *fold) {
    int full = __builtin_ctz(~(unsigned)group);
    if (group == groups - 1)
        full = e->level_count;
    fold->adds = full;
    for (int i = 0; i < full; i++)
        fold->add[i] = e->level[i];
    fold->dst = group == groups - 1 ? e->gradient : e->level[full];
}

static void backward(struct engine *e, struct pass *p, const void *input, bucket_fn *on_bucket,
                     void *arg) {
    struct plan *plan = &e->plan;
    void *dy = e->between[0];
    int next = 0;
    for (int i = plan->node_count - 2; i >= 0; i--) {
        const struct node *n = &plan->nodes[i];
        p->x = i > 0 ? n[-1].y : input;
        p->y = n->y;
        p->dy = dy;
        range(e, n);
        if (n->op->backward_weights)
            n->op->backward_weights(n, p);
        for (; on_bucket && next < plan->bucket_count && plan->bucket_node[next] == i; next++)
            on_bucket(arg, next);
        if (n->needs_dx) {
            p->dx = n->traits->dx_in_place && !n->pool ? dy : e->between[dy == e->between[0]];
            n->op->backward_data(n, p);
            dy = p->dx;
        }
        range_end(e);
        if (!n->needs_dx)
            break;
    }
}

static enum status check_labels(const struct engine *e, const int32_t *labels, int64_t rows,
                                struct err *err) {
    int64_t classes = e->spec.model->out.dim[0];
    for (int64_t i = 0; i < rows; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return err_set(err, STATUS_INVALID, "label %d of row %lld is outside 0 to %lld",
                           (int)labels[i], (long long)i, (long long)classes - 1);
    return STATUS_OK;
}

static struct pass make_pass(const struct engine *e, int64_t row) {
    int64_t out = e->plan.nodes[e->plan.node_count - 1].in_count;
    return (struct pass){.training = true,
                         .shards = e->plan.walk,
                         .rows = e->group_rows,
                         .shard_rows = e->spec.shard_rows,
                         .weights = e->weights,
                         .rows_global = e->rows_global ? e->rows_global + row : NULL,
                         .step = e->step,
                         .labels = e->labels ? e->labels + row : NULL,
                         .targets = e->targets ? e->targets + row * out : NULL,
                         .losses = &e->losses[row / e->spec.shard_rows]};
}

enum status engine_step(struct engine *e, const void *x, const int32_t *labels,
                        const float *targets, const int32_t *rows_global, int64_t step,
                        bucket_fn *on_bucket, void *arg, struct err *err) {
    enum status st = STATUS_OK;
    int groups = e->spec.shard_count / e->plan.walk;
    const struct node *loss = &e->plan.nodes[e->plan.node_count - 1];
    assert(x && rows_global && (e->spec.loss == LOSS_MSE ? !!targets : !!labels));
    e->x = x;
    e->labels = labels;
    e->targets = targets;
    e->rows_global = rows_global;
    e->step = step;
    if (e->spec.loss == LOSS_CROSS_ENTROPY && !e->backend->queues)
        TRY(check_labels(e, labels, e->spec.shard_rows * e->spec.shard_count, err));
    e->backend->order->enter(e->device);
    refresh(e, true);
    for (int group = 0; group < groups; group++) {
        int64_t row = group * e->group_rows;
        struct fold fold;
        struct pass p = make_pass(e, row);
        const void *input = at(e, x, row * e->plan.nodes[0].in_count);
        make_fold(e, group, groups, &fold);
        p.fold = &fold;
        forward(e, &p, input);
        p.dx = e->between[0];
        loss->op->forward(loss, &p);
        bool last = group == groups - 1;
        if (last)
            e->backend->operators->scalars(e->device, e->losses, e->spec.shard_count,
                                           e->spec.shard_rows,
                                           e->gradient + e->spec.model->flat_count);
        backward(e, &p, input, last ? on_bucket : NULL, arg);
    }
    TRY(e->backend->order->status(e->device, err));
out:
    return st;
}

/* ---- evaluation ---- */

/* Rows' losses stand on a grid (the operators see to it): sums of doubles are exact in any order.
 */
static void add_sums(struct engine *e, int groups, struct eval_result *out) {
    e->backend->memory->download(e->device, e->eval_host, e->eval_sums,
                                 (size_t)groups * sizeof *e->eval_host);
    for (int i = 0; i < groups; i++) {
        out->loss_sum += e->eval_host[i].loss;
        out->correct += e->eval_host[i].correct;
    }
}

enum status engine_eval(struct engine *e, const void *x, const int32_t *labels,
                        const float *targets, int64_t rows, void *output, struct eval_result *out,
                        struct err *err) {
    const struct node *loss = &e->plan.nodes[e->plan.node_count - 1];
    int64_t in = e->plan.nodes[0].in_count, width = loss->in_count;
    *out = (struct eval_result){.rows = rows};
    if (rows < 1 || rows > e->spec.eval_rows)
        return err_set(err, STATUS_INVALID, "an evaluation chunk has 1 to %lld rows, not %lld",
                       (long long)e->spec.eval_rows, (long long)rows);
    if (e->spec.loss == LOSS_CROSS_ENTROPY && labels && !e->backend->queues) {
        enum status st = check_labels(e, labels, rows, err);
        if (st != STATUS_OK)
            return st;
    }
    e->backend->order->enter(e->device);
    refresh(e, false);
    int groups = 0;
    for (int64_t row = 0; row < rows; row += e->group_rows) {
        struct pass p = {.shards = 1, .weights = e->weights, .losses = &e->eval_sums[groups++]};
        const void *input = at(e, x, row * in);
        p.rows = p.shard_rows = rows - row < e->group_rows ? rows - row : e->group_rows;
        if (p.rows < e->group_rows) { /* an operator may read on to a whole unit of rows */
            e->backend->memory->copy(e->device, QUEUE_COMPUTE, e->stage, input,
                                     (size_t)(p.rows * in) * e->element);
            input = e->stage;
        }
        p.labels = labels ? labels + row : NULL;
        p.targets = targets ? targets + row * width : NULL;
        forward(e, &p, input);
        if (output)
            e->backend->memory->download(e->device,
                                         (char *)output + (size_t)(row * width) * e->element, p.x,
                                         (size_t)(p.rows * width) * e->element);
        if (p.labels || p.targets)
            loss->op->forward(loss, &p);
    }
    if (labels || targets)
        add_sums(e, groups, out);
    return e->backend->order->status(e->device, err);
}

/* ---- what the worker says about it ---- */

/* Forward again, group by group: the activations of earlier groups are gone. */
static const struct node *first_bad_output(struct engine *e) {
    const struct plan *plan = &e->plan;
    int best = plan->node_count;
    for (int group = 0; e->x && group < e->spec.shard_count / plan->walk; group++) {
        struct pass p = make_pass(e, group * e->group_rows);
        const void *x = at(e, e->x, group * e->group_rows * plan->nodes[0].in_count);
        for (int i = 0; i < best && i + 1 < plan->node_count; i++) {
            const struct node *n = &plan->nodes[i];
            p.x = x;
            p.y = n->y;
            n->op->forward(n, &p);
            x = n->y;
            if (n->layer && !e->backend->operators->finite(
                                e->device, n->y, e->group_rows * n->out_count, e->spec.precision))
                best = i;
        }
    }
    return best < plan->node_count ? &plan->nodes[best] : NULL;
}

void engine_blame(struct engine *e, char *out, size_t len) {
    char name[64];
    const struct plan *plan = &e->plan;
    e->backend->order->enter(e->device);
    const struct node *bad = first_bad_output(e);
    if (bad) {
        snprintf(out, len, "%s: output is not finite", node_name(bad, name));
        return;
    }
    for (int i = plan->node_count - 1; i >= 0; i--) {
        const struct node *n = &plan->nodes[i];
        if (!e->backend->operators->finite(e->device, e->gradient + n->param_begin,
                                           n->param_end - n->param_begin, PRECISION_FP32)) {
            snprintf(out, len, "%s: gradient is not finite", node_name(n, name));
            return;
        }
    }
    if (len > 0)
        out[0] = '\0';
}

struct value *engine_describe(struct arena *a, const struct engine *e) {
    struct value *out = value_map(a), *bytes = value_map(a), *device;
    int64_t vector = e->spec.model->vector_count * (int64_t)sizeof(float);
    device = e->backend->describe(a, e->device);
    value_set_int(a, out, "walk", e->plan.walk);
    value_set_bool(a, out, "self_check", e->proven);
    value_set_string(a, out, "isa", value_get_string(device, "isa", ""));
    value_set_int(a, bytes, "weights", vector);
    value_set_int(a, bytes, "gradients", vector);
    value_set_int(a, bytes, "activations", (int64_t)e->activation_bytes);
    value_set_int(a, bytes, "workspace", (int64_t)e->workspace_bytes);
    value_set(a, out, "bytes", bytes);
    value_set_string(a, out, "precision", precision_name(e->spec.precision));
    value_set_int(a, out, "buckets", e->plan.bucket_count);
    value_set_int(a, out, "flops_per_step", e->plan.flops_step);
    struct value *chosen = value_map(a);
    for (int i = 0; i < e->plan.node_count; i++) {
        char name[64];
        const struct node *n = &e->plan.nodes[i];
        if (n->op->describe)
            value_set(a, chosen, arena_strdup(a, node_name(n, name)), n->op->describe(a, n));
    }
    if (chosen->count > 0)
        value_set(a, out, "algorithms", chosen);
    return out;
}
