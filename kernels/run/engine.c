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

#include "kernels/run/engine_private.h"

#define BLOCK_ALIGN 16 /* bytes: more, no library's kernel wants */

/* ---- creation ---- */

const char *engine_node_name(const struct node *n, char out[ENGINE_NAME_MAX]) {
    if (n->layer != NULL)
        (void)snprintf(out, ENGINE_NAME_MAX, "model[%d] %s", n->layer->index,
                       spec_layer_name(n->layer->kind));
    else
        (void)snprintf(out, ENGINE_NAME_MAX, "%s", op_name(n->kind));
    return out;
}

static enum status take(struct engine *e, const char *what, size_t bytes, void **out,
                        struct err *err) {
    *out = e->planned ? NULL : e->backend->memory->alloc(e->device, bytes);
    if (*out != NULL || e->planned)
        return STATUS_OK;
    enum status st = e->backend->order->status(e->device, err); /* a broken device has no memory */
    return st != STATUS_OK
               ? st
               : err_set(err, STATUS_NOMEM, "no memory for %zu bytes of %s on device %s", bytes,
                         what, e->backend->name);
}

static enum status take_vector(struct engine *e, const char *what, float **out, struct err *err) {
    void *p = NULL;
    enum status st = take(e, what, (size_t)e->spec.model->vector_count * sizeof(float), &p, err);
    *out = p;
    return st;
}

static enum status take_rows(struct engine *e, const char *what, int64_t elements, void **out,
                             struct err *err) {
    size_t bytes = (size_t)(e->group_rows * elements) * e->element;
    e->activation_bytes += bytes;
    return take(e, what, bytes, out, err);
}

static enum status take_vectors(struct engine *e, const struct engine_vectors *given,
                                struct err *err) {
    enum status st = STATUS_OK;
    size_t bytes = (size_t)e->spec.model->vector_count * sizeof(float);
    if (given == NULL || given->weights == NULL)
        TRY(take_vector(e, "weights", &e->own.weights, err));
    if (given == NULL || given->gradient == NULL)
        TRY(take_vector(e, "gradient", &e->own.gradient, err));
    e->weights = e->own.weights != NULL || given == NULL ? e->own.weights : given->weights;
    e->gradient = e->own.gradient != NULL || given == NULL ? e->own.gradient : given->gradient;
    for (int g = e->plan.walk; g < e->spec.shard_count; g *= 2) {
        TRY(take_vector(e, "partial gradients", &e->level[e->level_count++], err));
        e->workspace_bytes += bytes;
    }
out:
    return st;
}

static enum status take_tensors(struct engine *e, struct err *err) {
    enum status st = STATUS_OK;
    const struct graph *g = &e->plan.graph;
    char name[ENGINE_NAME_MAX];
    for (int i = 0; i < g->gradients; i++)
        TRY(take_rows(e, "gradients between layers", e->plan.widest, &e->gradients[i], err));
    TRY(take_rows(e, "input", g->tensors[0].count, &e->stage, err));
    for (int i = 1; i < g->tensor_count; i++) {
        const struct graph_tensor *t = &g->tensors[i];
        if (t->storage != i)
            e->data[i] = e->data[t->storage];
        else
            TRY(take_rows(e, engine_node_name(&g->nodes[t->producer], name), t->count, &e->data[i],
                          err));
    }
out:
    return st;
}

static enum status take_sums(struct engine *e, struct err *err) {
    enum status st = STATUS_OK;
    void *losses = NULL, *sums = NULL;
    size_t groups = (size_t)((e->spec.eval_rows + e->group_rows - 1) / e->group_rows);
    TRY(take(e, "losses", (size_t)e->spec.shard_count * sizeof *e->losses, &losses, err));
    e->losses = losses;
    TRY(take(e, "evaluation", groups * sizeof *e->eval_sums, &sums, err));
    e->eval_sums = sums;
    e->eval_host = calloc(groups, sizeof *e->eval_host);
    if (e->eval_host == NULL)
        st = err_set(err, STATUS_NOMEM, "no memory for the training plan");
out:
    return st;
}

static enum status prepare(struct engine *e, struct err *err) {
    struct graph *g = &e->plan.graph;
    struct extent extent = {.shard_rows = e->spec.shard_rows,
                            .shards = e->plan.walk,
                            .seed = e->spec.seed,
                            .precision = e->spec.precision};
    for (int i = 0; i < g->node_count; i++) {
        struct node *n = &g->nodes[i];
        char name[ENGINE_NAME_MAX];
        enum status st = STATUS_OK;
        n->device = e->device;
        n->planned = e->planned;
        if (n->op->prepare != NULL)
            st = n->op->prepare(e->device, n, &extent, err);
        if (st != STATUS_OK)
            return err_wrap(err, st, "%s", engine_node_name(n, name));
        e->workspace_bytes += n->state_bytes;
    }
    return STATUS_OK;
}

static bool self_check(struct engine *e) {
    for (int i = 0; i < e->plan.graph.node_count; i++) {
        const struct node *n = &e->plan.graph.nodes[i];
        if (n->op->self_check != NULL && !n->op->self_check(n))
            return false;
    }
    return true;
}

static enum status make_plan(struct engine *e, struct err *err) {
    struct graph *g = &e->plan.graph;
    enum status st = plan_make(&e->spec, e->backend->traits, e->device->cache_bytes, &e->plan, err);
    if (st != STATUS_OK)
        return st;
    for (int i = 0; i < g->node_count; i++)
        g->nodes[i].op = e->backend->operators->rows[g->nodes[i].kind];
    e->group_rows = e->spec.shard_rows * e->plan.walk;
    return STATUS_OK;
}

static enum status engine_try(struct device *device, const struct plan_spec *spec,
                              const struct engine_vectors *vectors, struct engine **out,
                              struct err *err) {
    enum status st = STATUS_OK;
    struct engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the engine");
    e->device = device;
    e->backend = device->backend;
    e->spec = *spec;
    e->planned = vectors != NULL && vectors->none;
    e->element = precision_bytes(spec->precision);
    e->backend->order->enter(device);
    if (spec->precision != PRECISION_FP32 && !e->backend->queues) {
        st = err_set(err, STATUS_INVALID, "device %s computes in fp32 only, not in %s",
                     e->backend->name, precision_name(spec->precision));
        goto out;
    }
    TRY(make_plan(e, err));
    TRY(take_vectors(e, vectors, err));
    TRY(take_tensors(e, err));
    TRY(take_sums(e, err));
    TRY(prepare(e, err));
    e->proven = self_check(e);
    TRY(e->backend->order->status(device, err));
    *out = e;
    e = NULL;
out:
    engine_destroy(&e);
    return st;
}

enum status engine_new(struct device *device, const struct plan_spec *spec,
                       const struct engine_vectors *vectors, struct engine **out, struct err *err) {
    enum status st = engine_try(device, spec, vectors, out, err);
    if (st != STATUS_OK || (*out)->proven || (*out)->plan.walk == 1)
        return st;
    /* Some operator's rows depend on their company here: every shard alone, then. */
    struct plan_spec alone = *spec;
    alone.walk = 1;
    engine_destroy(out);
    return engine_try(device, &alone, vectors, out, err);
}

void engine_destroy(struct engine **engine) {
    struct engine *e = *engine;
    if (e == NULL)
        return;
    const struct device_memory *memory = e->backend->memory;
    e->backend->order->sync(e->device);
    for (int i = 0; i < e->plan.graph.node_count; i++) {
        struct node *n = &e->plan.graph.nodes[i];
        if (n->state != NULL && n->op->release != NULL)
            n->op->release(e->device, n);
    }
    for (int i = 1; i < e->plan.graph.tensor_count; i++)
        if (e->plan.graph.tensors[i].storage == i)
            memory->release(e->device, e->data[i]);
    for (int i = 0; i < FOLD_MAX; i++)
        memory->release(e->device, e->level[i]);
    for (int i = 0; i < GRADIENTS_MAX; i++)
        memory->release(e->device, e->gradients[i]);
    memory->release(e->device, e->stage);
    memory->release(e->device, e->own.weights);
    memory->release(e->device, e->own.gradient);
    memory->release(e->device, e->losses);
    memory->release(e->device, e->eval_sums);
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
    char name[ENGINE_NAME_MAX];
    if (e->backend->order->range_push != NULL)
        e->backend->order->range_push(engine_node_name(n, name));
}

static void range_end(const struct engine *e) {
    if (e->backend->order->range_pop != NULL)
        e->backend->order->range_pop();
}

static void refresh(struct engine *e, bool training) {
    for (int i = 0; i < e->plan.graph.node_count; i++) {
        const struct node *n = &e->plan.graph.nodes[i];
        if (n->op->refresh != NULL)
            n->op->refresh(n, e->weights, training);
    }
}

void engine_point(const struct engine *e, const struct node *n, const void *input, struct pass *p) {
    for (int k = 0; k < n->inputs; k++)
        p->x[k] = n->input[k] > 0 ? e->data[n->input[k]] : input;
    p->y = n->output >= 0 ? e->data[n->output] : NULL;
}

/* And at their gradients. */
static void point_back(const struct engine *e, const struct node *n, struct pass *p) {
    const struct graph_tensor *t = e->plan.graph.tensors;
    for (int k = 0; k < n->inputs; k++)
        p->dx[k] = t[n->input[k]].trains ? e->gradients[t[n->input[k]].gradient] : NULL;
    p->dy = n->output >= 0 ? e->gradients[t[n->output].gradient] : NULL;
}

/* All but the loss, at which the pass points afterwards. */
static void forward(struct engine *e, struct pass *p, const void *input) {
    const struct graph *g = &e->plan.graph;
    for (int i = 0; i + 1 < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        engine_point(e, n, input, p);
        range(e, n);
        n->op->forward(n, p);
        range_end(e);
    }
    engine_point(e, plan_loss(&e->plan), input, p);
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

static void backward(struct engine *e, struct pass *p, const void *input,
                     const struct engine_hook *hook) {
    const struct plan *plan = &e->plan;
    int next = 0;
    for (int i = plan->graph.node_count - 2; i >= 0; i--) {
        const struct node *n = &plan->graph.nodes[i];
        if (!plan->graph.tensors[n->output].trains)
            continue;
        engine_point(e, n, input, p);
        point_back(e, n, p);
        range(e, n);
        if (n->op->backward_weights != NULL)
            n->op->backward_weights(n, p);
        for (; hook != NULL && next < plan->bucket_count && plan->bucket_node[next] == i; next++)
            hook->on_bucket(hook->arg, next);
        if (n->needs_dx)
            n->op->backward_data(n, p);
        range_end(e);
    }
}

static enum status check_labels(const struct engine *e, const int32_t *labels, int64_t rows,
                                struct err *err) {
    int64_t classes = e->spec.model->out.dim[0];
    for (int64_t i = 0; i < rows; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return err_set(err, STATUS_INVALID, "label %d of row %lld is not in 0 to %lld",
                           (int)labels[i], (long long)i, (long long)classes - 1);
    return STATUS_OK;
}

struct pass engine_pass(const struct engine *e, int64_t row) {
    const struct engine_batch *b = &e->batch;
    int64_t out = plan_loss(&e->plan)->in_count;
    return (struct pass){.training = true,
                         .shards = e->plan.walk,
                         .rows = e->group_rows,
                         .shard_rows = e->spec.shard_rows,
                         .weights = e->weights,
                         .rows_global = b->rows_global != NULL ? b->rows_global + row : NULL,
                         .step = e->step,
                         .labels = b->labels != NULL ? b->labels + row : NULL,
                         .targets = b->targets != NULL ? b->targets + row * out : NULL,
                         .losses = &e->losses[row / e->spec.shard_rows]};
}

static void run_group(struct engine *e, int group, int groups, const struct engine_hook *hook) {
    int64_t row = group * e->group_rows;
    const struct node *loss = plan_loss(&e->plan);
    const void *input = engine_at(e, e->batch.x, row * e->plan.graph.tensors[0].count);
    bool last = group == groups - 1;
    struct fold fold;
    struct pass p = engine_pass(e, row);
    make_fold(e, group, groups, &fold);
    p.fold = &fold;
    forward(e, &p, input);
    point_back(e, loss, &p);
    loss->op->forward(loss, &p);
    if (last)
        e->backend->operators->scalars(e->device, e->losses, e->spec.shard_count,
                                       e->spec.shard_rows, e->gradient + e->spec.model->flat_count);
    backward(e, &p, input, last ? hook : NULL);
}

enum status engine_step(struct engine *e, const struct engine_batch *batch, int64_t step,
                        const struct engine_hook *hook, struct err *err) {
    enum status st = STATUS_OK;
    int groups = e->spec.shard_count / e->plan.walk;
    assert(batch->x != NULL && batch->rows_global != NULL);
    assert((e->spec.loss == LOSS_MSE ? (const void *)batch->targets : batch->labels) != NULL);
    e->batch = *batch;
    e->step = step;
    if (e->spec.loss == LOSS_CROSS_ENTROPY && !e->backend->queues)
        TRY(check_labels(e, batch->labels, e->spec.shard_rows * e->spec.shard_count, err));
    e->backend->order->enter(e->device);
    refresh(e, true);
    for (int group = 0; group < groups; group++)
        run_group(e, group, groups, hook);
    TRY(e->backend->order->status(e->device, err));
out:
    return st;
}

/* ---- evaluation ---- */

/* Rows' losses lie on a grid (the operators see to it): sums of doubles are exact in any order. */
static void add_sums(struct engine *e, int groups, struct eval_result *out) {
    e->backend->memory->download(e->device, e->eval_host, e->eval_sums,
                                 (size_t)groups * sizeof *e->eval_host);
    for (int i = 0; i < groups; i++) {
        out->loss_sum += e->eval_host[i].loss;
        out->correct += e->eval_host[i].correct;
    }
}

/* Whether `input` is aligned as it would be some shards behind the start of a block of memory. */
static bool begins_a_shard(const struct engine *e, const void *input) {
    size_t bytes = (size_t)(e->spec.shard_rows * e->plan.graph.tensors[0].count) * e->element;
    size_t align = bytes & -bytes;
    return (uintptr_t)input % (align < BLOCK_ALIGN ? align : BLOCK_ALIGN) == 0;
}

/* Rows of a group; from a copy a last one that is not whole, because an operator may read on to a
 * whole unit of rows, and what is aligned in a way that its library was not told of. */
static const void *eval_input(struct engine *e, const struct engine_batch *b, int64_t row,
                              int64_t rows) {
    int64_t in = e->plan.graph.tensors[0].count;
    const void *input = engine_at(e, b->x, row * in);
    if (rows == e->group_rows && begins_a_shard(e, input))
        return input;
    e->backend->memory->copy(e->device, QUEUE_COMPUTE, e->stage, input,
                             (size_t)(rows * in) * e->element);
    return e->stage;
}

static void eval_group(struct engine *e, const struct engine_batch *b, int64_t row, void *output) {
    const struct node *loss = plan_loss(&e->plan);
    int64_t rows = b->rows - row < e->group_rows ? b->rows - row : e->group_rows;
    size_t row_bytes = (size_t)loss->in_count * e->element;
    struct pass p = {.shards = 1,
                     .rows = rows,
                     .shard_rows = rows,
                     .weights = e->weights,
                     .losses = &e->eval_sums[row / e->group_rows],
                     .labels = b->labels != NULL ? b->labels + row : NULL,
                     .targets = b->targets != NULL ? b->targets + row * loss->in_count : NULL};
    forward(e, &p, eval_input(e, b, row, rows));
    if (output != NULL)
        e->backend->memory->download(e->device, (char *)output + (size_t)row * row_bytes, p.x[0],
                                     (size_t)rows * row_bytes);
    if (p.labels != NULL || p.targets != NULL)
        loss->op->forward(loss, &p);
}

enum status engine_eval(struct engine *e, const struct engine_batch *batch, void *output,
                        struct eval_result *out, struct err *err) {
    enum status st = STATUS_OK;
    int64_t rows = batch->rows;
    int groups = 0;
    *out = (struct eval_result){.rows = rows};
    if (rows < 1 || rows > e->spec.eval_rows)
        return err_set(err, STATUS_INVALID, "an evaluation chunk has 1 to %lld rows, not %lld",
                       (long long)e->spec.eval_rows, (long long)rows);
    if (e->spec.loss == LOSS_CROSS_ENTROPY && batch->labels != NULL && !e->backend->queues)
        TRY(check_labels(e, batch->labels, rows, err));
    e->backend->order->enter(e->device);
    refresh(e, false);
    for (int64_t row = 0; row < rows; row += e->group_rows, groups++)
        eval_group(e, batch, row, output);
    if (batch->labels != NULL || batch->targets != NULL)
        add_sums(e, groups, out);
    TRY(e->backend->order->status(e->device, err));
out:
    return st;
}
