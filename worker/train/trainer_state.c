/* What a trainer's model is worth and what it is made of: evaluation, weights, slots, digests. */
#include <stdlib.h>
#include <string.h>

#include "worker/train/trainer_private.h"

/* ---- evaluation ---- */

static int64_t part_rows(const struct trainer *t, enum data_part part) {
    return part == DATA_TRAIN        ? t->info->train
           : part == DATA_VALIDATION ? t->info->validation
                                     : t->info->test;
}

static enum status eval_chunk(struct trainer *t, enum data_part part, int64_t chunk,
                              struct eval_result *out, struct err *err) {
    int64_t most = t->backend->traits->eval_rows, first = chunk * most;
    int64_t n = part_rows(t, part), rows = n - first < most ? n - first : most;
    const struct batch *b = loader_batch(t->loader);
    loader_rows(t->loader, part, first, rows);
    struct engine_batch batch = {
        .rows = rows, .x = b->x, .labels = b->labels, .targets = b->targets};
    return engine_eval(t->engine, &batch, NULL, out, err);
}

enum status trainer_evaluate(struct trainer *t, enum data_part part, struct evaluation *out,
                             struct err *err) {
    enum status st = STATUS_OK;
    int size = world_size(t->spec.world), rank = world_rank(t->spec.world);
    int64_t n = part_rows(t, part), most = t->backend->traits->eval_rows,
            chunks = (n + most - 1) / most;
    int64_t each = (chunks + size - 1) / size;
    *out = (struct evaluation){.rows = n};
    if (n == 0)
        return err_set(err, STATUS_INVALID,
                       "there is nothing to evaluate: this part of the "
                       "data is empty");
    struct eval_result *all = calloc((size_t)(each * (size + 1)), sizeof *all);
    if (all == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    struct eval_result *mine = all + each * size;
    for (int64_t i = 0; st == STATUS_OK && i * size + rank < chunks; i++) {
        st = eval_chunk(t, part, i * size + rank, &mine[i], err);
        pump_now(&t->spec.pump);
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
    if (t->config.training.loss == LOSS_CROSS_ENTROPY)
        out->error = (double)(n - correct) / (double)n;
out:
    free(all);
    return st;
}

/* ---- state ---- */

/* What is on a device that has failed stays there: the copy is whatever was in it before. */
static const float *copy_weights(struct trainer *t) {
    size_t bytes = (size_t)t->model->vector_count * sizeof(float);
    if (!t->backend->queues)
        return engine_weights(t->engine);
    if (t->host_weights == NULL)
        t->host_weights = malloc(bytes);
    if (t->host_weights != NULL)
        t->backend->memory->download(t->spec.device, t->host_weights, engine_weights(t->engine),
                                     bytes);
    return t->host_weights;
}

const float *trainer_weights(struct trainer *t) {
    const float *flat = copy_weights(t);
    return trainer_status(t, NULL) == STATUS_OK ? flat : NULL;
}

int64_t trainer_slot_count(const struct trainer *t) {
    return exchange_blocks(t->exchange) * NORM_BLOCK;
}

/* This rank's part of a slot, on the host; free it. */
static float *own_slot(struct trainer *t, int slot) {
    size_t bytes = (size_t)(exchange_owned_blocks(t->exchange) * NORM_BLOCK) * sizeof(float);
    float *mine = malloc(bytes > 0 ? bytes : 1);
    if (mine == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    t->backend->memory->download(t->spec.device, mine, update_slot(t->update, slot), bytes);
    return mine;
}

enum status trainer_gather_slot(struct trainer *t, int slot, float *out, struct err *err) {
    float *mine = own_slot(t, slot);
    enum status st = world_agree(t->spec.world, trainer_status(t, err), err);
    if (st == STATUS_OK)
        st = exchange_gather_blocks(t->exchange, mine, NORM_BLOCK * sizeof(float), out, err);
    free(mine);
    return st;
}

enum status trainer_digest(struct trainer *t, struct digest *weights, struct digest *state,
                           struct err *err) {
    enum status st = STATUS_OK;
    size_t slots = (size_t)t->config.training.optimizer.slots,
           width = slots * sizeof(struct digest);
    int64_t owned = exchange_owned_blocks(t->exchange), blocks = exchange_blocks(t->exchange);
    struct digest *mine = calloc((size_t)(owned + 1) * slots + 1, sizeof *mine);
    struct digest *all = calloc((size_t)blocks * slots + 1, sizeof *all);
    const float *flat = copy_weights(t);
    if (mine == NULL || all == NULL || flat == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    for (size_t s = 0; s < slots; s++) {
        float *slot = own_slot(t, (int)s);
        for (int64_t k = 0; k < owned; k++)
            hash_bytes(slot + k * NORM_BLOCK, NORM_BLOCK * sizeof(float),
                       &mine[(size_t)k * slots + s]);
        free(slot);
    }
    TRY(world_agree(t->spec.world, trainer_status(t, err), err));
    if (slots > 0)
        TRY(exchange_gather_blocks(t->exchange, mine, width, all, err));
    hash_bytes(all, (size_t)blocks * width, state);
    hash_bytes(flat, (size_t)t->model->flat_count * sizeof(float), weights);
out:
    free(mine);
    free(all);
    return st;
}

/* This rank's blocks of a whole slot (NULL: zeros), packed in the order of buckets. */
static void set_slot(struct trainer *t, int slot, const float *whole) {
    size_t floats = (size_t)(exchange_owned_blocks(t->exchange) * NORM_BLOCK);
    float *mine = calloc(floats + 1, sizeof *mine);
    int64_t at = 0;
    if (mine == NULL)
        world_abort(t->spec.world, status_exit_code(STATUS_NOMEM));
    for (int b = 0; whole != NULL && b < engine_bucket_count(t->engine); b++) {
        struct slice s = exchange_slice(t->exchange, world_rank(t->spec.world), b);
        int64_t n = (s.count + NORM_BLOCK - 1) / NORM_BLOCK * NORM_BLOCK;
        memcpy(mine + at, whole + s.begin, (size_t)n * sizeof(float));
        at += n;
    }
    t->backend->memory->upload(t->spec.device, update_slot(t->update, slot), mine,
                               floats * sizeof(float));
    free(mine);
}

void trainer_set(struct trainer *t, const float *weights, const float *const *slots, int64_t step) {
    if (t->spec.planned)
        return;
    t->backend->memory->upload(t->spec.device, engine_weights(t->engine), weights,
                               (size_t)t->model->flat_count * sizeof(float));
    for (int i = 0; i < t->config.training.optimizer.slots; i++)
        set_slot(t, i, slots != NULL ? slots[i] : NULL);
    t->step = t->collected = step;
}
