/* One step: what is queued (or done at once), and how its outcome comes back.
 *
 *     at once      begin_step ─▶ enqueue ─▶ finish: scalars and flags are here
 *     queued       begin_step ─▶ play ─▶ mark
 *                  outcome of step − STEPS_AHEAD ◀─ ring ◀─ device */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "worker/train/schedule.h"
#include "worker/train/trainer_private.h"

#define BLAME_BYTES 160
#define HINT_BYTES  240
#define FLAG_FAILED 0x80000000u /* of a step, besides OUTCOME_*: a rank's device failed */

static int slot_of(int64_t step) {
    return (int)(step % OUTCOME_SLOTS);
}

static bool records(const struct trainer *t) {
    return t->backend->order->record_begin != NULL && exchange_queued(t->exchange) &&
           !t->spec.eager;
}

/* ---- what a step does ---- */

static void begin(struct trainer *t, int64_t step) {
    const struct spec_trial *c = &t->config;
    int slot = slot_of(step);
    t->lr[slot] = schedule_lr(&c->training.schedule, c->training.optimizer.lr, step, t->steps_total,
                              trainer_steps_per_unit(t));
    struct step_terms terms = {.step = step,
                               .scale = (float)(1.0 / (double)c->training.batch),
                               .stop = t->stop ? 1.0F : 0.0F,
                               .slot = slot};
    loader_terms(t->loader, step, &terms);
    optimizer_rates(&c->training.optimizer, PARAM_WEIGHT, step, t->lr[slot], &terms.rates[0]);
    optimizer_rates(&c->training.optimizer, PARAM_PLAIN, step, t->lr[slot], &terms.rates[1]);
    loader_prepare(t->loader, step);
    t->backend->update->begin_step(t->spec.device, &terms);
}

static void on_bucket(void *arg, int bucket) {
    struct trainer *t = arg;
    if (t->exchange_status == STATUS_OK)
        t->exchange_status = exchange_start(t->exchange, bucket, &t->exchange_err);
}

static enum status run_engine(struct trainer *t, int64_t step, const struct engine_hook *hook,
                              struct err *err) {
    const struct batch *b = loader_batch(t->loader);
    struct engine_batch batch = {
        .x = b->x, .labels = b->labels, .targets = b->targets, .rows_global = t->rows_global};
    loader_gather(t->loader, step);
    return engine_step(t->engine, &batch, step, hook, err);
}

/* Waits (where the host does) for a bucket, and says how long. */
static enum status reduced(struct trainer *t, int bucket, struct err *err) {
    int64_t begin = clock_mono_ns(&clock_system);
    enum status st = exchange_reduced(t->exchange, bucket, err);
    t->exchange_ns += clock_mono_ns(&clock_system) - begin;
    return st;
}

static enum status clip(struct trainer *t, struct err *err) {
    enum status st = STATUS_OK;
    double *mine = NULL;
    for (int b = 0; b < engine_bucket_count(t->engine); b++) {
        TRY(reduced(t, b, err));
        mine = update_norms(t->update, b);
    }
    TRY(exchange_gather_norms(t->exchange, mine, t->norms, err));
    update_clip(t->update, t->norms);
out:
    return st;
}

/* Reduced gradients to updated weights on every rank. */
static enum status update(struct trainer *t, struct err *err) {
    enum status st = STATUS_OK;
    int buckets = engine_bucket_count(t->engine);
    bool alone = world_size(t->spec.world) == 1;
    if (t->config.training.clip_norm > 0)
        TRY(clip(t, err));
    for (int b = 0; b < buckets; b++) {
        TRY(reduced(t, b, err));
        if (!alone)
            update_apply(t->update, b, 1);
        else if (b == buckets - 1)
            update_apply(t->update, 0, buckets); /* all that there is, at once */
        TRY(exchange_publish(t->exchange, b, err));
    }
out:
    return st;
}

static enum status enqueue(struct trainer *t, int64_t step, struct err *err) {
    t->exchange_status = STATUS_OK;
    struct engine_hook hook = {.on_bucket = on_bucket, .arg = t};
    enum status st = run_engine(t, step, &hook, err);
    if (st != STATUS_OK && (exchange_queued(t->exchange) || !t->backend->queues))
        goto out;
    st = STATUS_OK; /* others wait for our buckets: step_at_once tells them of the device */
    if (t->exchange_status != STATUS_OK) {
        st = t->exchange_status;
        if (err != NULL)
            *err = t->exchange_err;
        goto out;
    }
    TRY(update(t, err));
    if (exchange_queued(t->exchange))
        TRY(exchange_outcome(t->exchange, t->ring, err));
out:
    return st;
}

/* ---- how it ends ---- */

/* Of a loss that no layer is to blame for: every output is finite, and what is made of them is not. */
static const char *blame_loss(const struct trainer *t, const struct step_result *r) {
    if (isfinite(r->loss))
        return "; lower training.optimizer.lr, or set training.clip_norm";
    if (t->config.training.loss == LOSS_MSE)
        return "; the outputs are finite, their squared distances from the targets do not fit "
               "float32: "
               "scale the targets down (to about 1), or lower training.optimizer.lr";
    return "; the outputs are finite, their cross entropy is not: lower training.optimizer.lr, or "
           "set "
           "training.clip_norm";
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
                     words[0] != '\0' ? BLAME_BYTES - 1 : HINT_BYTES,
                     words[0] != '\0' ? words : blame_loss(t, r));
    free(all);
    return st;
}

/* The steps that went on behind a failed one changed nothing but buffers: its rows again. */
static enum status repeat(struct trainer *t, int64_t step, struct err *err) {
    enum status st = STATUS_OK;
    t->backend->order->sync(t->spec.device);
    t->step = t->collected = step - 1;
    begin(t, step);
    TRY(run_engine(t, step, NULL, err));
    t->backend->order->sync(t->spec.device);
    st = t->backend->order->status(t->spec.device, err);
out:
    return st;
}

/* What step out->step came to. */
static enum status tell(struct trainer *t, const float *scalars, uint32_t flags,
                        struct step_result *out, struct err *err) {
    int64_t step = out->step;
    out->lr = t->lr[slot_of(step)];
    memcpy(&out->loss_bits, &scalars[SCALAR_LOSS], sizeof out->loss_bits);
    out->loss = (double)scalars[SCALAR_LOSS] / (double)t->config.training.batch;
    out->stop = scalars[SCALAR_STOP] > 0;
    if (flags == 0 && isfinite(out->loss)) {
        t->collected = step;
        return STATUS_OK;
    }
    enum status st = STATUS_OK;
    if (exchange_queued(t->exchange)) /* the batch's buffers hold a later step's rows */
        st = world_agree(t->spec.world, repeat(t, step, err), err);
    t->step = t->collected;
    return st == STATUS_OK ? blame(t, out, err) : st;
}

static enum status collect(struct trainer *t, int64_t step, struct step_result *out,
                           struct err *err) {
    const struct step_outcome *o = &t->ring[slot_of(step)];
    unsigned rounds = 0;
    while (!t->backend->order->reached(t->spec.device, slot_of(step))) {
        enum status st = exchange_check(t->exchange, err);
        if (st != STATUS_OK)
            return st;
        world_relax(t->spec.world, &rounds);
    }
    enum status st = t->backend->order->status(t->spec.device, err);
    if (st != STATUS_OK)
        return st;
    out->grad_norm = o->grad_norm;
    if (o->end_ns > o->begin_ns && o->work_ns >= o->begin_ns) {
        out->seconds = (double)(o->end_ns - o->begin_ns) / 1e9;
        out->exchange_seconds = (double)(o->end_ns - o->work_ns) / 1e9;
    }
    out->step = step;
    return tell(t, o->scalars, o->flags, out, err);
}

/* A device that waits for a lost peer does not come to the copy that the loader waits for. */
static enum status await_loader(struct trainer *t, struct err *err) {
    unsigned rounds = 0;
    while (!loader_ready(t->loader)) {
        enum status st = exchange_check(t->exchange, err);
        if (st != STATUS_OK)
            return st;
        world_relax(t->spec.world, &rounds);
    }
    return STATUS_OK;
}

/* A recording ends in any case, and is kept only if all of the step is in it. */
static enum status record(struct trainer *t, int64_t step, struct err *err) {
    struct device *d = t->spec.device;
    void *recorded = NULL;
    enum status st = t->backend->order->record_begin(d, err);
    if (st != STATUS_OK)
        return st;
    enum status queued = enqueue(t, step, err);
    st = t->backend->order->record_end(d, &recorded, queued == STATUS_OK ? err : NULL);
    if (queued == STATUS_OK && st == STATUS_OK) {
        t->recorded = recorded;
        return STATUS_OK;
    }
    t->backend->order->record_release(d, recorded);
    return queued != STATUS_OK ? queued : st;
}

static enum status step_queued(struct trainer *t, struct step_result *out, struct err *err) {
    enum status st = STATUS_OK;
    struct device *d = t->spec.device;
    int64_t step = t->step + 1;
    if (records(t) && t->recorded == NULL)
        TRY(record(t, step, err));
    TRY(await_loader(t, err));
    begin(t, step);
    if (t->recorded != NULL)
        t->backend->order->play(d, t->recorded);
    else
        TRY(enqueue(t, step, err));
    t->backend->order->mark(d, QUEUE_COMPUTE, slot_of(step));
    t->step = step;
    if (t->step - t->collected > STEPS_AHEAD)
        st = collect(t, t->collected + 1, out, err);
out:
    return st;
}

/* The host waits for other ranks inside the step: a rank whose device fails goes with them to its
 * end, where all hear of it. */
static enum status step_at_once(struct trainer *t, struct step_result *out, struct err *err) {
    enum status st = STATUS_OK;
    float scalars[SCALARS];
    uint32_t flags = 0;
    enum status mine = STATUS_OK;
    int64_t start = clock_mono_ns(&clock_system), step = t->step + 1;
    t->exchange_ns = 0;
    begin(t, step);
    TRY(enqueue(t, step, err));
    int64_t wait = clock_mono_ns(&clock_system);
    if (!t->backend->queues)
        flags = *t->backend->update->flags(t->spec.device);
    else if ((mine = t->backend->order->status(t->spec.device, err)) != STATUS_OK)
        flags = FLAG_FAILED;
    TRY(exchange_finish(t->exchange, scalars, &flags, mine == STATUS_OK ? err : NULL));
    if ((flags & FLAG_FAILED) != 0) {
        st = world_agree(t->spec.world, mine, err);
        goto out;
    }
    int64_t end = clock_mono_ns(&clock_system);
    out->seconds = (double)(end - start) / 1e9;
    out->exchange_seconds = (double)(t->exchange_ns + end - wait) / 1e9;
    out->grad_norm = t->config.training.clip_norm > 0 ? update_norm(t->update) : 0;
    t->step = step;
    out->step = step;
    st = tell(t, scalars, flags, out, err);
out:
    return st;
}

enum status trainer_step(struct trainer *t, bool stop, struct step_result *out, struct err *err) {
    *out = (struct step_result){0};
    t->stop = stop;
    return exchange_queued(t->exchange) ? step_queued(t, out, err) : step_at_once(t, out, err);
}

enum status trainer_drain(struct trainer *t, struct step_result *out, struct err *err) {
    *out = (struct step_result){0};
    return t->collected == t->step ? STATUS_OK : collect(t, t->collected + 1, out, err);
}
