/* What a trainer is: its parts, how they are made and described. A step: trainer_step.c; evaluation
 * and state: trainer_state.c. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/schema.h"
#include "kernels/graph/budget.h"
#include "kernels/host/tree.h"
#include "worker/train/trainer_private.h"
#include "worker/world/nccl.h"

#define ARENA_BYTES_MAX ((size_t)64 << 20)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are of little-endian floats");

/* ---- creation ---- */

enum status trainer_fits(const struct spec_trial *c, const struct model *m,
                         const struct data_info *info, const char *file, struct err *err) {
    const struct value *last = c->model.layers[c->model.count - 1].node;
    bool classify = c->training.loss == LOSS_CROSS_ENTROPY;
    char place[SCHEMA_PLACE_MAX];
    if (classify && info->classes == 0)
        return err_set(err, STATUS_INVALID,
                       "%straining.loss is cross_entropy, but the data has no classes; use mse",
                       schema_place(file, value_at(c->root, "training.loss"), place));
    if (!classify && info->classes != 0)
        return err_set(err, STATUS_INVALID,
                       "%straining.loss is mse, but the data has %lld classes; use cross_entropy",
                       schema_place(file, value_at(c->root, "training.loss"), place),
                       (long long)info->classes);
    /* A part of the data may lack the last class: more outputs than classes seen are fine. */
    int64_t outputs = classify ? info->classes : info->outputs;
    bool fits = classify ? m->out.dim[0] >= outputs : m->out.dim[0] == outputs;
    if (m->out.rank != 1 || !fits)
        return err_set(err, STATUS_INVALID,
                       "%sthe model ends with %lld outputs, the data has %lld %s",
                       schema_place(file, last, place), (long long)m->out.dim[0],
                       (long long)outputs, classify ? "classes" : "targets");
    if (info->train < c->training.batch)
        return err_set(err, STATUS_INVALID,
                       "%straining.global_batch_size is %lld, but there are %lld training samples",
                       schema_place(file, value_at(c->root, "training.global_batch_size"), place),
                       (long long)c->training.batch, (long long)info->train);
    return STATUS_OK;
}

static struct plan_spec rank_plan(const struct trainer *t) {
    int shards = t->config.shards / world_size(t->spec.world);
    return (struct plan_spec){
        .model = t->model,
        .loss = t->config.training.loss,
        .shard_rows = t->config.training.batch / t->config.shards,
        .first_shard = world_rank(t->spec.world) * shards,
        .shard_count = shards,
        .eval_rows = t->backend->traits->eval_rows,
        .seed = t->config.seed,
        .precision = t->config.training.precision,
    };
}

/* A net that this machine cannot hold is refused before any of it is taken; no rank takes any
 * before all have looked (trainer_new). */
static enum status fits_memory(struct trainer *t, struct err *err) {
    int64_t available = 0, total = 0;
    struct plan_spec rank = rank_plan(t);
    struct plan *plan = arena_take(&t->arena, sizeof *plan);
    struct budget budget;
    if (plan == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the training plan");
    t->backend->memory->room(t->spec.device, &available, &total);
    int64_t most = available / world_local_size(t->spec.world);
    struct budget_spec what = {
        .plan = &rank,
        .optimizer_slots = t->config.training.optimizer.slots,
        .ranks = world_size(t->spec.world),
        .features = t->info->features,
        .outputs = t->info->outputs,
        .capacity = most > 0 ? most : 1,
        .cache_bytes = t->spec.device->cache_bytes,
    };
    return budget_make(&what, t->backend->traits, plan, &budget, err);
}

/* Everything that one rank can do alone. */
static enum status prepare_data(struct trainer *t, struct err *err) {
    enum status st = STATUS_OK;
    const struct trainer_spec *s = &t->spec;
    struct spec_trial *c = &t->config;
    TRY(spec_trial_read(&t->arena, s->config, s->file, c, err));
    TRY(spec_trial_ranks(c, world_size(s->world), err));
    if (!c->bitwise && !t->backend->queues) {
        char place[SCHEMA_PLACE_MAX];
        st = err_set(err, STATUS_INVALID,
                     "%sthe cpu device does not offer bitwise: false; leave it out",
                     schema_place(s->file, value_get(c->root, "bitwise"), place));
        goto out;
    }
    /* One split for all trials of a sweep: they share the data and are compared on it. */
    struct data_request data = {.data = &c->data, .seed = c->split_seed, .pump = s->pump};
    TRY(data_cache_get(s->cache, &data, &t->data, &t->data_cached, err));
    t->info = data_info(t->data);
    TRY(model_build(&t->arena, &c->model, t->info->shape, &t->model, err));
    TRY(trainer_fits(c, t->model, t->info, s->file, err));
    t->steps_per_epoch = t->info->train / c->training.batch;
    t->steps_total = (int64_t)ceil(c->max_time * trainer_steps_per_unit(t) - 1e-9);
    if (t->steps_total < 1)
        t->steps_total = 1;
    t->rows = c->training.batch / world_size(s->world);
    if (!t->backend->queues)
        TRY(fits_memory(t, err));
out:
    return st;
}

/* Before anything is taken: the walk that fits, whether the data set fits as well. Ranks that
 * share a card share what is free. */
static enum status plan_memory(struct trainer *t, struct plan_spec *spec, struct err *err) {
    int64_t available = 0, total = 0;
    int cards = t->backend->count(NULL), here = world_local_size(t->spec.world);
    int sharing = cards > 0 ? (here + cards - 1) / cards : 1;
    struct plan *plan = arena_take(&t->arena, sizeof *plan);
    struct budget budget;
    if (plan == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the training plan");
    t->backend->memory->room(t->spec.device, &available, &total);
    int64_t most = available / sharing;
    if (t->spec.gpu_share > 1 && most > total / t->spec.gpu_share - BUDGET_CONTEXT)
        most = total / t->spec.gpu_share - BUDGET_CONTEXT;
    struct budget_spec what = {
        .plan = spec,
        .optimizer_slots = t->config.training.optimizer.slots,
        .ranks = world_size(t->spec.world),
        .nccl = t->spec.nccl != NULL,
        .features = t->info->features,
        .outputs = t->info->outputs,
        .data_bytes = data_table_bytes(t->data),
        .capacity = most > 0 ? most : 1,
    };
    enum status st = budget_make(&what, t->backend->traits, plan, &budget, err);
    spec->walk = budget.walk;
    t->resident = st == STATUS_OK && budget.data == what.data_bytes && !t->spec.stream_data;
    return st;
}

static enum status open_engine(struct trainer *t, void **bases, struct err *err) {
    int rank = world_rank(t->spec.world);
    struct plan_spec spec = rank_plan(t);
    struct engine_vectors shared = {.none = t->spec.planned};
    if (t->backend->queues) {
        enum status st = plan_memory(t, &spec, err);
        if (st != STATUS_OK)
            return st;
    }
    if (bases != NULL && !t->backend->queues && !t->spec.planned) {
        shared.weights = exchange_memory_weights(bases[rank], t->model->vector_count);
        shared.gradient = exchange_memory_gradient(bases[rank], t->model->vector_count);
        memset(shared.weights, 0, (size_t)t->model->vector_count * sizeof(float));
        memset(shared.gradient, 0, (size_t)t->model->vector_count * sizeof(float));
    }
    return engine_new(t->spec.device, &spec, &shared, &t->engine, err);
}

static void fold(void *arg, float *dst, const float *const *srcs, int n, int64_t count) {
    (void)arg;
    tree_sum(dst, srcs, n, count);
}

static enum status open_exchange(struct trainer *t, void **bases, struct err *err) {
    struct exchange_spec spec = {
        .weights = engine_weights(t->engine),
        .gradient = engine_gradient(t->engine),
        .vector_count = t->model->vector_count,
        .buckets = engine_buckets(t->engine),
        .bucket_count = engine_bucket_count(t->engine),
        .levels = t->spec.levels,
        .level_count = t->spec.level_count,
        .fold = fold,
        .bases = bases,
        .device = t->spec.device,
        .nccl = t->by_nccl ? t->spec.nccl : NULL,
        .library_sums = !t->config.bitwise,
    };
    return exchange_new(t->spec.world, &spec, &t->exchange, err);
}

static enum status open_loader(struct trainer *t, struct err *err) {
    const struct spec_trial *c = &t->config;
    struct loader_spec spec = {
        .device = t->spec.device,
        .data = t->data,
        .seed = c->seed,
        .shuffle = c->data.shuffle,
        .batch = c->training.batch,
        .rows = t->rows,
        .first_row = world_rank(t->spec.world) * t->rows,
        .steps_per_epoch = t->steps_per_epoch,
        .eval_rows = t->backend->traits->eval_rows,
        .classes = c->training.loss == LOSS_CROSS_ENTROPY,
        .resident = t->resident,
        .precision = c->training.precision,
    };
    return loader_new(&spec, &t->loader, err);
}

static enum status open_update(struct trainer *t, struct err *err) {
    int buckets = engine_bucket_count(t->engine);
    struct slice *owned = arena_array(&t->arena, (size_t)buckets, sizeof *owned);
    for (int b = 0; owned != NULL && b < buckets; b++)
        owned[b] = exchange_slice(t->exchange, world_rank(t->spec.world), b);
    struct update_spec spec = {
        .optimizer = &t->config.training.optimizer,
        .model = t->model,
        .weights = engine_weights(t->engine),
        .gradient = engine_gradient(t->engine),
        .owned = owned,
        .bucket_count = buckets,
        .blocks = exchange_blocks(t->exchange),
        .shards = t->config.shards,
        .batch = t->config.training.batch,
        .clip_norm = t->config.training.clip_norm,
    };
    if (owned == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    return update_new(t->spec.device, &spec, &t->update, err);
}

/* The rest that a step needs. */
static enum status open_state(struct trainer *t, struct err *err) {
    enum status st = STATUS_OK;
    struct device *d = t->spec.device;
    size_t bytes = (size_t)t->rows * sizeof(int32_t);
    int32_t *rows = arena_array(&t->arena, (size_t)t->rows, sizeof *rows);
    TRY(open_loader(t, err));
    TRY(open_update(t, err));
    t->rows_global = t->backend->memory->alloc(d, bytes);
    t->norms =
        t->backend->memory->alloc(d, (size_t)exchange_blocks(t->exchange) * sizeof *t->norms);
    t->ring = t->backend->memory->host_alloc(d, OUTCOME_SLOTS * sizeof *t->ring);
    if (rows == NULL || !t->rows_global || !t->norms || !t->ring) {
        st = err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows", (long long)t->rows);
        goto out;
    }
    for (int64_t i = 0; i < t->rows; i++)
        rows[i] = (int32_t)(world_rank(t->spec.world) * t->rows + i);
    t->backend->memory->upload(d, t->rows_global, rows, bytes);
    t->backend->update->resume(d);
out:
    return st;
}

static enum status draw_weights(struct trainer *t, struct err *err) {
    size_t bytes = (size_t)t->model->vector_count * sizeof(float);
    if (!t->backend->queues) {
        model_init(t->model, t->config.seed, engine_weights(t->engine));
        return STATUS_OK;
    }
    float *flat = malloc(bytes);
    if (flat == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the first weights: %zu bytes", bytes);
    model_init(t->model, t->config.seed, flat);
    t->backend->memory->upload(t->spec.device, engine_weights(t->engine), flat, bytes);
    free(flat);
    return t->backend->order->status(t->spec.device, err);
}

/* What a lost device does not give looks like a lack of memory: its own words are the better. */
static enum status blame_device(struct trainer *t, enum status st, struct err *err) {
    struct err why;
    enum status own = st != STATUS_OK ? trainer_status(t, &why) : STATUS_OK;
    if (own == STATUS_OK)
        return st;
    if (err != NULL)
        *err = why;
    return own;
}

/* A plan asks for a page: whether these ranks share memory at all. */
static size_t shared_bytes(const struct trainer *t) {
    return t->spec.planned ? 1 : exchange_memory_bytes(t->model->vector_count);
}

/* All that is not the engine's. */
static enum status take(struct trainer *t, void **bases, struct err *err) {
    struct world *w = t->spec.world;
    enum status st = STATUS_OK;
    TRY(open_exchange(t, bases, err));
    TRY(world_agree(w, blame_device(t, open_state(t, err), err), err));
    TRY(world_agree(w, draw_weights(t, err), err));
out:
    return st;
}

enum status trainer_new(const struct trainer_spec *spec, struct trainer **out, struct err *err) {
    enum status st = STATUS_OK;
    struct world *w = spec->world;
    void **bases = NULL;
    *out = NULL;
    struct trainer *t = calloc(1, sizeof *t);
    if (t == NULL)
        world_abort(w, status_exit_code(STATUS_NOMEM));
    t->spec = *spec;
    t->backend = spec->device->backend;
    arena_init(&t->arena, ARENA_BYTES_MAX);
    TRY(world_agree(w, prepare_data(t, err), err));
    t->by_nccl = spec->nccl != NULL && spec->exchange != EXCHANGE_MESSAGES &&
                 spec->exchange != EXCHANGE_MEMORY;
    if (spec->exchange != EXCHANGE_MESSAGES && !t->by_nccl)
        TRY(world_shared_memory(w, shared_bytes(t), &bases, err));
    t->in_memory = bases != NULL;
    if (spec->exchange == EXCHANGE_MEMORY && bases == NULL && world_size(w) > 1) {
        st = err_set(err, STATUS_UNAVAILABLE,
                     "--exchange memory: these ranks share no memory%s%s; leave it out, or "
                     "exchange by messages",
                     world_no_memory(w)[0] != '\0' ? ": " : "", world_no_memory(w));
        goto out;
    }
    TRY(world_agree(w, blame_device(t, open_engine(t, bases, err), err), err));
    if (!spec->planned)
        TRY(take(t, bases, err));
    *out = t;
    t = NULL;
out:
    trainer_destroy(&t);
    return st;
}

void trainer_destroy(struct trainer **trainer) {
    struct trainer *t = *trainer;
    if (t == NULL)
        return;
    struct device *d = t->spec.device;
    t->backend->order->sync(d);
    if (t->recorded != NULL)
        t->backend->order->record_release(d, t->recorded);
    loader_destroy(&t->loader);
    update_destroy(&t->update);
    exchange_destroy(&t->exchange);
    engine_destroy(&t->engine);
    if (t->in_memory)
        world_return_memory(t->spec.world);
    t->backend->memory->release(d, t->rows_global);
    t->backend->memory->release(d, t->norms);
    t->backend->memory->host_release(d, t->ring);
    free(t->host_weights);
    arena_release(&t->arena);
    free(t);
    *trainer = NULL;
}

/* ---- what it is ---- */

const struct spec_trial *trainer_config(const struct trainer *t) {
    return &t->config;
}

const struct model *trainer_model(const struct trainer *t) {
    return t->model;
}

const struct dataset *trainer_data(const struct trainer *t) {
    return t->data;
}

bool trainer_data_cached(const struct trainer *t) {
    return t->data_cached;
}

int64_t trainer_steps_per_epoch(const struct trainer *t) {
    return t->steps_per_epoch;
}

double trainer_steps_per_unit(const struct trainer *t) {
    return t->config.by_steps ? 1.0 : (double)t->steps_per_epoch;
}

int64_t trainer_steps_total(const struct trainer *t) {
    return t->steps_total;
}

int64_t trainer_steps(const struct trainer *t) {
    return t->step;
}

double trainer_units(const struct trainer *t) {
    return (double)t->step / trainer_steps_per_unit(t);
}

double trainer_flops(const struct trainer *t) {
    return (double)engine_flops(t->engine);
}

double trainer_peak_flops(struct trainer *t) {
    return t->backend->peak_flops(t->spec.device, t->config.training.precision);
}

int64_t trainer_memory(struct trainer *t) {
    int64_t available = 0, total = 0;
    struct rusage usage;
    if (!t->backend->queues)
        return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss << 10 : 0;
    t->backend->memory->room(t->spec.device, &available, &total);
    return total - available;
}

enum status trainer_status(struct trainer *t, struct err *err) {
    struct err ignored;
    return t->backend->queues
               ? t->backend->order->status(t->spec.device, err != NULL ? err : &ignored)
               : STATUS_OK;
}

static const char *way_of_bytes(const struct trainer *t) {
    if (t->exchange != NULL)
        return exchange_name(t->exchange);
    return exchange_way(&(struct exchange_ways){.ranks = world_size(t->spec.world),
                                                .nccl = t->by_nccl,
                                                .memory = t->in_memory,
                                                .staged = t->backend->queues});
}

static const char *way_of_batches(const struct trainer *t) {
    if (t->loader != NULL)
        return loader_name(t->loader);
    return loader_way(t->resident, t->backend->queues && !t->resident);
}

struct value *trainer_describe(struct arena *a, const struct trainer *t) {
    struct value *v = value_map(a);
    value_set(a, v, "engine", engine_describe(a, t->engine));
    value_set_string(a, v, "exchange", way_of_bytes(t));
    if (!t->in_memory && world_no_memory(t->spec.world)[0] != '\0')
        value_set_string(a, v, "exchange_because", world_no_memory(t->spec.world));
    value_set_string(a, v, "loader", way_of_batches(t));
    if (t->spec.nccl != NULL)
        value_set_string(a, v, "nccl", nccl_version(t->spec.nccl));
    return v;
}
