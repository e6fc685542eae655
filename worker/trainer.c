#include "worker/trainer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_MAX ((size_t)64 << 20)
#define CLIP_EPS        1e-6 /* as PyTorch's clip_grad_norm_ */
#define BLAME_BYTES     160

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are of little-endian floats");

struct trainer {
    struct trainer_spec spec;
    struct arena arena; /* the trainer's life */
    struct trial_config config;
    struct dataset *data; /* the cache's */
    const struct data_info *info;
    bool data_cached;
    struct model *model;
    struct engine *engine;
    struct exchange *exchange;
    bool in_memory; /* the world's shared memory is ours */
    int64_t steps_per_epoch, steps_total, step;

    int64_t rows; /* of this rank in a batch */
    float *x, *targets;
    int32_t *labels, *rows_global;
    int64_t *ids;

    float *slots[2];      /* owned blocks, packed */
    double *mine, *norms; /* norm blocks: owned, all */
    bool *mixed;          /* owned blocks that hold more than gradients */

    bool stop; /* of the step under way */
    enum status exchange_status;
    struct err exchange_err;
};

/* ---- creation ---- */

static enum status check_sizes(struct trainer *t, struct err *err) {
    const struct trial_config *c = &t->config;
    const struct model *m = t->model;
    if (c->loss == LOSS_CROSS_ENTROPY && t->info->classes == 0)
        return err_set(err, STATUS_INVALID,
                       "training.loss is cross_entropy, but the data has no classes; use mse");
    int64_t outputs = c->loss == LOSS_CROSS_ENTROPY ? t->info->classes : t->info->outputs;
    if (c->loss == LOSS_MSE && t->info->classes != 0)
        return err_set(err, STATUS_INVALID,
                       "training.loss is mse, but the data has %lld classes; use cross_entropy",
                       (long long)t->info->classes);
    /* A part of the data may lack the last class: more outputs than classes seen are fine. */
    bool fits = c->loss == LOSS_CROSS_ENTROPY ? m->out.dim[0] >= outputs : m->out.dim[0] == outputs;
    if (m->out.count != 1 || !fits)
        return err_set(err, STATUS_INVALID,
                       "the model ends with %lld outputs, the data has %lld %s",
                       (long long)m->out.dim[0], (long long)outputs,
                       c->loss == LOSS_CROSS_ENTROPY ? "classes" : "targets");
    if (t->info->train < c->batch)
        return err_set(err, STATUS_INVALID,
                       "training.global_batch_size is %lld, but there are %lld training samples",
                       (long long)c->batch, (long long)t->info->train);
    return STATUS_OK;
}

static void *take(struct trainer *t, int64_t count, size_t size) {
    size_t bytes = ((size_t)(count > 0 ? count : 1) * size + 63) / 64 * 64;
    (void)t;
    void *p = aligned_alloc(64, bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

static enum status take_batch(struct trainer *t, struct err *err) {
    int64_t rows = t->rows > TRAINER_EVAL_ROWS ? t->rows : TRAINER_EVAL_ROWS;
    t->x = take(t, rows * t->info->features, sizeof *t->x);
    t->targets = take(t, rows * t->info->outputs, sizeof *t->targets);
    t->labels = take(t, rows, sizeof *t->labels);
    t->rows_global = take(t, rows, sizeof *t->rows_global);
    t->ids = take(t, rows, sizeof *t->ids);
    if (!t->x || !t->targets || !t->labels || !t->rows_global || !t->ids)
        return err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows of %lld features",
                       (long long)rows, (long long)t->info->features);
    for (int64_t i = 0; i < t->rows; i++)
        t->rows_global[i] = (int32_t)(world_rank(t->spec.world) * t->rows + i);
    return STATUS_OK;
}

/* Everything that one rank can do alone. */
static enum status prepare_data(struct trainer *t, struct err *err) {
    enum status st = STATUS_OK;
    const struct trainer_spec *s = &t->spec;
    struct trial_config *c = &t->config;
    TRY(config_parse(s->config, s->file, world_size(s->world), c, err));
    /* One split for all trials of a sweep: they share the data and are compared on it. */
    uint64_t split = (uint64_t)value_get_int(s->config, "experiment_seed", (int64_t)c->seed);
    TRY(data_cache_get(s->cache, c->data, split, s->pump, s->arg, &t->data, &t->data_cached, err));
    t->info = data_info(t->data);
    TRY(model_parse(&t->arena, c->layers, t->info->shape, s->file, &t->model, err));
    TRY(check_sizes(t, err));
    t->steps_per_epoch = t->info->train / c->batch;
    t->steps_total = (int64_t)ceil(c->max_time * trainer_steps_per_unit(t) - 1e-9);
    if (t->steps_total < 1)
        t->steps_total = 1;
    t->rows = c->batch / world_size(s->world);
    TRY(take_batch(t, err));
out:
    return st;
}

static enum status open_engine(struct trainer *t, void **bases, struct err *err) {
    int shards = t->config.shards / world_size(t->spec.world), rank = world_rank(t->spec.world);
    struct engine_spec spec = {
        .model = t->model,
        .loss = t->config.loss,
        .shard_rows = t->config.batch / t->config.shards,
        .first_shard = rank * shards,
        .shard_count = shards,
        .eval_rows = TRAINER_EVAL_ROWS,
        .seed = t->config.seed,
    };
    if (bases != NULL) {
        spec.weights = exchange_memory_weights(bases[rank], t->model->vector_count);
        spec.gradient = exchange_memory_gradient(bases[rank], t->model->vector_count);
        memset(spec.weights, 0, (size_t)t->model->vector_count * sizeof(float));
        memset(spec.gradient, 0, (size_t)t->model->vector_count * sizeof(float));
    }
    return engine_new(t->spec.device, &spec, &t->engine, err);
}

static void fold(void *arg, float *dst, const float *const *srcs, int n, int64_t count) {
    engine_fold(arg, dst, srcs, n, count);
}

/* Blocks with running statistics or the scalars in them: no gradients, and not in the norm. */
static void mark_mixed(struct trainer *t) {
    int64_t k = 0;
    const struct model *m = t->model;
    for (int b = 0; b < engine_bucket_count(t->engine); b++) {
        struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), b);
        for (int64_t at = s.begin; at < s.begin + s.count; at += NORM_BLOCK, k++) {
            t->mixed[k] = at + NORM_BLOCK > m->flat_count;
            for (int i = 0; i < m->param_count; i++) {
                const struct param *p = &m->params[i];
                if (p->kind == PARAM_STAT && p->offset < at + NORM_BLOCK &&
                    p->offset + p->count > at)
                    t->mixed[k] = true;
            }
        }
    }
}

static enum status take_state(struct trainer *t, struct err *err) {
    int64_t owned = exchange_owned_blocks(t->exchange);
    bool ok = true;
    for (int i = 0; i < t->config.optimizer.slots; i++)
        ok &= (t->slots[i] = take(t, owned * NORM_BLOCK, sizeof(float))) != NULL;
    t->mine = take(t, owned, sizeof *t->mine);
    t->norms = take(t, exchange_blocks(t->exchange), sizeof *t->norms);
    t->mixed = take(t, owned, sizeof *t->mixed);
    if (!ok || !t->mine || !t->norms || !t->mixed)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    mark_mixed(t);
    return STATUS_OK;
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
        .fold_arg = t->engine,
        .bases = bases,
    };
    return exchange_new(t->spec.world, &spec, &t->exchange, err);
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
    arena_init(&t->arena, ARENA_BYTES_MAX);
    TRY(world_agree(w, prepare_data(t, err), err));
    if (spec->exchange != EXCHANGE_MESSAGES)
        TRY(world_shared_memory(w, exchange_memory_bytes(t->model->vector_count), &bases, err));
    t->in_memory = bases != NULL;
    if (spec->exchange == EXCHANGE_MEMORY && bases == NULL && world_size(w) > 1) {
        st = err_set(err, STATUS_UNAVAILABLE, "these ranks share no memory");
        goto out;
    }
    TRY(world_agree(w, open_engine(t, bases, err), err));
    TRY(open_exchange(t, bases, err));
    TRY(world_agree(w, take_state(t, err), err));
    model_init(t->model, t->config.seed, engine_weights(t->engine));
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
    exchange_destroy(&t->exchange);
    engine_destroy(&t->engine);
    if (t->in_memory)
        world_return_memory(t->spec.world);
    free(t->x);
    free(t->targets);
    free(t->labels);
    free(t->rows_global);
    free(t->ids);
    for (int i = 0; i < 2; i++)
        free(t->slots[i]);
    free(t->mine);
    free(t->norms);
    free(t->mixed);
    arena_release(&t->arena);
    free(t);
    *trainer = NULL;
}

/* ---- what it is ---- */

const struct trial_config *trainer_config(const struct trainer *t) {
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

const float *trainer_weights(const struct trainer *t) {
    return engine_weights(t->engine);
}

struct value *trainer_describe(struct arena *a, const struct trainer *t) {
    struct value *v = value_map(a);
    value_set(a, v, "engine", engine_describe(a, t->engine));
    value_set_string(a, v, "exchange",
                     world_size(t->spec.world) == 1    ? "none"
                     : exchange_in_memory(t->exchange) ? "memory"
                                                       : "messages");
    return v;
}

/* ---- the step ---- */

static void gather_batch(struct trainer *t) {
    const struct trial_config *c = &t->config;
    int64_t epoch = t->step / t->steps_per_epoch;
    int64_t first = t->step % t->steps_per_epoch * c->batch + world_rank(t->spec.world) * t->rows;
    for (int64_t i = 0; i < t->rows; i++)
        t->ids[i] = order_at(c->seed, epoch, first + i, t->info->train, c->shuffle);
    data_gather(t->data, DATA_TRAIN, t->ids, t->rows, t->x, t->labels, t->targets);
}

static void on_bucket(void *arg, int bucket) {
    struct trainer *t = arg;
    if (bucket == 0)
        engine_gradient(t->engine)[t->model->flat_count + SCALAR_STOP] = t->stop ? 1.0f : 0.0f;
    if (t->exchange_status == STATUS_OK)
        t->exchange_status = exchange_start(t->exchange, bucket, &t->exchange_err);
}

static enum status run_engine(struct trainer *t, struct err *err) {
    bool classes = t->config.loss == LOSS_CROSS_ENTROPY;
    t->exchange_status = STATUS_OK;
    enum status st =
        engine_step(t->engine, t->x, classes ? t->labels : NULL, classes ? NULL : t->targets,
                    t->rows_global, t->step + 1, on_bucket, t, err);
    if (st == STATUS_OK && t->exchange_status != STATUS_OK) {
        st = t->exchange_status;
        if (err != NULL)
            *err = t->exchange_err;
    }
    return st;
}

/* The sum of squares of block `at` without statistics and scalars. */
static double mixed_block(const struct trainer *t, const float *gradient, int64_t at) {
    const struct model *m = t->model;
    float block[NORM_BLOCK] = {0};
    double out = 0;
    int64_t end = at + NORM_BLOCK < m->flat_count ? at + NORM_BLOCK : m->flat_count;
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        int64_t from = p->offset > at ? p->offset : at;
        int64_t to = p->offset + p->count < end ? p->offset + p->count : end;
        if (p->kind != PARAM_STAT && from < to)
            memcpy(block + (from - at), gradient + from, (size_t)(to - from) * sizeof(float));
    }
    (void)gradient_norm_blocks(block, NORM_BLOCK, &out); /* what is not finite shows in the sum */
    return out;
}

/* The norm of the mean gradient: blocks of all ranks, added in the order of the vector. */
static enum status gradient_norm(struct trainer *t, double *norm, struct err *err) {
    enum status st = STATUS_OK;
    const float *gradient = engine_gradient(t->engine);
    int64_t k = 0;
    for (int b = 0; b < engine_bucket_count(t->engine); b++) {
        TRY(exchange_reduced(t->exchange, b, err));
        struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), b);
        (void)gradient_norm_blocks(gradient + s.begin, s.count, t->mine + k);
        for (int64_t at = s.begin; at < s.begin + s.count; at += NORM_BLOCK, k++)
            if (t->mixed[k])
                t->mine[k] = mixed_block(t, gradient, at);
    }
    TRY(exchange_gather_blocks(t->exchange, t->mine, sizeof *t->mine, t->norms, err));
    double sum = 0;
    for (int64_t i = 0; i < exchange_blocks(t->exchange); i++)
        sum += t->norms[i];
    *norm = sqrt(sum) / (double)t->config.batch;
out:
    return st;
}

/* Updates this rank's slice of a bucket; false when something in it is not finite. */
static bool update_slice(struct trainer *t, int bucket, int64_t packed, double lr, double scale) {
    struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), bucket);
    int64_t flat = t->model->flat_count;
    const float *g = engine_gradient(t->engine) + s.begin;
    bool finite = true;
    if (s.count > 0 && s.begin + s.count > flat) {
        finite = isfinite(g[flat + SCALAR_LOSS - s.begin]) != 0;
        s.count = flat > s.begin ? flat - s.begin : 0;
    }
    if (s.count == 0 || !finite)
        return finite;
    float *slots[2] = {NULL, NULL};
    for (int i = 0; i < t->config.optimizer.slots; i++)
        slots[i] = t->slots[i] + packed;
    return optimizer_update(&t->config.optimizer, t->model, s.begin, s.count,
                            engine_weights(t->engine) + s.begin, g, slots, t->step + 1, lr, scale,
                            1.0 / (double)t->config.shards);
}

enum { FLAG_NONFINITE = 1 };

/* Reduced gradients to updated weights on every rank. */
static enum status update(struct trainer *t, struct step_result *out, float *scalars,
                          uint32_t *flags, struct err *err) {
    enum status st = STATUS_OK;
    double scale = 1.0 / (double)t->config.batch;
    if (t->config.clip_norm > 0) {
        TRY(gradient_norm(t, &out->grad_norm, err));
        double share = t->config.clip_norm / (out->grad_norm + CLIP_EPS);
        scale *= share < 1 ? share : 1;
    }
    bool gate = isfinite(out->grad_norm) != 0;
    int64_t packed = 0;
    for (int b = 0; b < engine_bucket_count(t->engine); b++) {
        TRY(exchange_reduced(t->exchange, b, err));
        struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), b);
        if (!gate || !update_slice(t, b, packed, out->lr, scale))
            *flags |= FLAG_NONFINITE;
        packed += (s.count + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
        TRY(exchange_publish(t->exchange, b, err));
    }
    TRY(exchange_finish(t->exchange, scalars, flags, err));
out:
    return st;
}

/* Names the layer: the lowest rank that found one speaks for all. */
static enum status blame(struct trainer *t, const struct step_result *r, struct err *err) {
    struct world *w = t->spec.world;
    char mine[BLAME_BYTES] = "", *all = calloc((size_t)world_size(w), BLAME_BYTES);
    if (all == NULL)
        world_abort(w, status_exit_code(STATUS_NOMEM));
    engine_blame(t->engine, mine, sizeof mine);
    enum status st = world_gather(w, mine, sizeof mine, all, err);
    const char *words = "";
    for (int i = 0; i < world_size(w) && words[0] == '\0'; i++)
        words = all + (size_t)i * BLAME_BYTES;
    if (st == STATUS_OK)
        st = err_set(err, STATUS_NONFINITE, "step %lld: %s is not finite%s%.*s", (long long)r->step,
                     isfinite(r->loss) ? "gradient" : "loss", words[0] != '\0' ? "; " : "",
                     BLAME_BYTES - 1, words);
    free(all);
    return st;
}

enum status trainer_step(struct trainer *t, bool stop, struct step_result *out, struct err *err) {
    enum status st = STATUS_OK;
    float scalars[SCALARS];
    uint32_t flags = 0;
    *out = (struct step_result){.step = t->step + 1};
    out->lr = schedule_lr(&t->config.schedule, t->config.optimizer.lr, t->step + 1, t->steps_total,
                          trainer_steps_per_unit(t));
    t->stop = stop;
    gather_batch(t);
    TRY(run_engine(t, err));
    TRY(update(t, out, scalars, &flags, err));
    memcpy(&out->loss_bits, &scalars[SCALAR_LOSS], sizeof out->loss_bits);
    out->loss = (double)scalars[SCALAR_LOSS] / (double)t->config.batch;
    out->stop = scalars[SCALAR_STOP] > 0;
    if (flags != 0 || !isfinite(out->loss))
        return blame(t, out, err);
    t->step++;
out:
    return st;
}

/* ---- evaluation ---- */

static int64_t part_rows(const struct trainer *t, enum data_part part) {
    return part == DATA_TRAIN        ? t->info->train
           : part == DATA_VALIDATION ? t->info->validation
                                     : t->info->test;
}

static enum status eval_chunk(struct trainer *t, enum data_part part, int64_t chunk, int64_t n,
                              struct eval_result *out, struct err *err) {
    bool classes = t->config.loss == LOSS_CROSS_ENTROPY;
    int64_t first = chunk * TRAINER_EVAL_ROWS;
    int64_t rows = n - first < TRAINER_EVAL_ROWS ? n - first : TRAINER_EVAL_ROWS;
    for (int64_t i = 0; i < rows; i++)
        t->ids[i] = first + i;
    data_gather(t->data, part, t->ids, rows, t->x, t->labels, t->targets);
    return engine_eval(t->engine, t->x, classes ? t->labels : NULL, classes ? NULL : t->targets,
                       rows, NULL, out, err);
}

enum status trainer_evaluate(struct trainer *t, enum data_part part, struct evaluation *out,
                             struct err *err) {
    enum status st = STATUS_OK;
    int size = world_size(t->spec.world), rank = world_rank(t->spec.world);
    int64_t n = part_rows(t, part), chunks = (n + TRAINER_EVAL_ROWS - 1) / TRAINER_EVAL_ROWS;
    int64_t each = (chunks + size - 1) / size;
    *out = (struct evaluation){.rows = n};
    if (n == 0)
        return err_set(err, STATUS_INVALID, "there is nothing to evaluate");
    struct eval_result *all = calloc((size_t)(each * (size + 1)), sizeof *all);
    if (all == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    struct eval_result *mine = all + each * size;
    for (int64_t i = 0; st == STATUS_OK && i * size + rank < chunks; i++) {
        st = eval_chunk(t, part, i * size + rank, n, &mine[i], err);
        if (t->spec.pump != NULL)
            t->spec.pump(t->spec.arg);
    }
    TRY(world_agree(t->spec.world, st, err));
    TRY(world_gather(t->spec.world, mine, (size_t)each * sizeof *mine, all, err));
    double loss = 0;
    int64_t correct = 0;
    for (int64_t c = 0; c < chunks; c++) {
        const struct eval_result *r = &all[c % size * each + c / size];
        loss += r->loss_sum;
        correct += r->correct;
    }
    out->loss = loss / (double)n;
    if (t->config.loss == LOSS_CROSS_ENTROPY)
        out->error = (double)(n - correct) / (double)n;
out:
    free(all);
    return st;
}

/* ---- state ---- */

int64_t trainer_slot_count(const struct trainer *t) {
    return exchange_blocks(t->exchange) * NORM_BLOCK;
}

enum status trainer_gather_slot(struct trainer *t, int slot, float *out, struct err *err) {
    return exchange_gather_blocks(t->exchange, t->slots[slot], NORM_BLOCK * sizeof(float), out,
                                  err);
}

enum status trainer_digest(struct trainer *t, struct digest *weights, struct digest *state,
                           struct err *err) {
    enum status st = STATUS_OK;
    size_t slots = (size_t)t->config.optimizer.slots, width = slots * sizeof(struct digest);
    int64_t owned = exchange_owned_blocks(t->exchange), blocks = exchange_blocks(t->exchange);
    struct digest *mine = calloc((size_t)(owned + 1) * slots + 1, sizeof *mine);
    struct digest *all = calloc((size_t)blocks * slots + 1, sizeof *all);
    if (mine == NULL || all == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    for (int64_t k = 0; k < owned; k++)
        for (size_t s = 0; s < slots; s++)
            hash_bytes(t->slots[s] + k * NORM_BLOCK, NORM_BLOCK * sizeof(float),
                       &mine[(size_t)k * slots + s]);
    if (slots > 0)
        TRY(exchange_gather_blocks(t->exchange, mine, width, all, err));
    hash_bytes(all, (size_t)blocks * width, state);
    hash_bytes(engine_weights(t->engine), (size_t)t->model->flat_count * sizeof(float), weights);
out:
    free(mine);
    free(all);
    return st;
}

void trainer_set(struct trainer *t, const float *weights, const float *const *slots, int64_t step) {
    memcpy(engine_weights(t->engine), weights, (size_t)t->model->flat_count * sizeof(float));
    for (int i = 0; i < t->config.optimizer.slots; i++) {
        int64_t at = 0;
        memset(t->slots[i], 0,
               (size_t)(exchange_owned_blocks(t->exchange) * NORM_BLOCK) * sizeof(float));
        for (int b = 0; slots != NULL && b < engine_bucket_count(t->engine); b++) {
            struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), b);
            int64_t n = (s.count + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
            memcpy(t->slots[i] + at, slots[i] + s.begin, (size_t)n * sizeof(float));
            at += n;
        }
    }
    t->step = step;
}
