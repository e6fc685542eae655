/* The run of a trial over its steps. */
#include "worker/group/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

/* What a run through the steps carries along. */
struct course {
    struct trial *trial;
    struct trainer *t;
    int64_t total, boundary; /* steps */
    int64_t eval_period, checkpoint_period;
    /* since the last evaluation: */
    int64_t train_ns, train_rows;
    double step_seconds, exchange_seconds;
};

void trial_metric_set(struct trial_metrics *m, const char *key, double value) {
    int i = 0;
    while (i < m->count && strcmp(m->items[i].key, key) != 0)
        i++;
    if (i == TRIAL_METRICS_MAX)
        return;
    m->count += i == m->count;
    m->items[i].key = key;
    m->items[i].value = value;
}

struct value *trial_metrics_map(struct arena *a, const struct trial_metrics *m) {
    struct value *map = value_map(a);
    for (int i = 0; i < m->count; i++)
        if (isfinite(m->items[i].value))
            value_set_real(a, map, m->items[i].key, m->items[i].value);
    return map;
}

static bool leader(const struct course *k) {
    return world_rank(k->trial->world) == 0;
}

static void note_at(struct course *k, const char *key, int64_t step, double value) {
    const struct trial_hooks *h = &k->trial->hooks;
    trial_metric_set(&k->trial->metrics, key, value);
    if (leader(k) && h->metric != NULL)
        h->metric(h->arg, key, step, value);
}

static void note(struct course *k, const char *key, double value) {
    note_at(k, key, trainer_steps(k->t), value);
}

static int64_t steps_of(const struct course *k, double units) {
    double steps = ceil(units * trainer_steps_per_unit(k->t) - 1e-9);
    return steps < (double)k->total ? (int64_t)steps : k->total;
}

static int64_t period_of(const struct course *k, int64_t every) {
    double steps = (double)every * trainer_steps_per_unit(k->t);
    if (every == 0)
        return trainer_steps_per_epoch(k->t);
    return steps < 1e15 ? (int64_t)steps : INT64_C(1000000000000000);
}

/* ---- the parts of a round ---- */

/* What came back of one step. */
static enum status take_result(struct course *k, const struct step_result *r, bool *stop,
                               struct err *err) {
    const struct trial_hooks *h = &k->trial->hooks;
    enum status st = STATUS_OK;
    note_at(k, "train_loss", r->step, r->loss);
    if (trainer_config(k->t)->training.clip_norm > 0)
        note_at(k, "grad_norm", r->step, r->grad_norm);
    trial_metric_set(&k->trial->metrics, "lr", r->lr);
    k->step_seconds += r->seconds;
    k->exchange_seconds += r->exchange_seconds;
    if (k->trial->progress->trace != NULL)
        st = trace_add(k->trial->progress->trace, r->loss_bits, err);
    if (leader(k) && h->step != NULL)
        h->step(h->arg, r);
    if (h->pump != NULL)
        h->pump(h->arg, r->step, (double)r->step / trainer_steps_per_unit(k->t));
    *stop |= r->stop;
    return st;
}

/* Waits for what is still under way. */
static enum status drain(struct course *k, bool *stop, struct err *err) {
    for (;;) {
        struct step_result r;
        enum status st = trainer_drain(k->t, &r, err);
        if (st != STATUS_OK || r.step == 0)
            return st;
        st = take_result(k, &r, stop, err);
        if (st != STATUS_OK)
            return st;
    }
}

static bool digest_after(const struct course *k, int64_t step) {
    return step >= k->total || step % trainer_config(k->t)->digest_every == 0 ||
           step == k->trial->digest_at;
}

/* Whether something happens after this step that needs its outcome. */
static bool pause_after(const struct course *k, int64_t step) {
    return digest_after(k, step) || step % k->eval_period == 0 ||
           (k->boundary > 0 && step >= k->boundary) ||
           (k->trial->checkpoints && step % k->checkpoint_period == 0);
}

static enum status one_step(struct course *k, bool *stop, struct err *err) {
    const struct trial_hooks *h = &k->trial->hooks;
    struct step_result r;
    int64_t begin = clock_mono_ns(&clock_system);
    enum status st = trainer_step(k->t, h->stop != NULL && h->stop(h->arg), &r, err);
    if (st == STATUS_OK && r.step > 0)
        st = take_result(k, &r, stop, err);
    if (st == STATUS_OK && (*stop || pause_after(k, trainer_steps(k->t))))
        st = drain(k, stop, err);
    k->train_ns += clock_mono_ns(&clock_system) - begin;
    k->train_rows += trainer_config(k->t)->training.batch;
    return st;
}

static enum status take_digest(struct course *k, struct err *err) {
    struct trial *t = k->trial;
    enum status st = trainer_digest(k->t, &t->weights, &t->state, err);
    if (st == STATUS_OK && t->progress->trace != NULL)
        st = trace_mark(t->progress->trace, &t->weights, &t->state, err);
    if (st == STATUS_OK && leader(k) && t->hooks.mark != NULL) {
        struct trace_mark m = {
            .step = trainer_steps(k->t), .weights = t->weights, .state = t->state};
        t->hooks.mark(t->hooks.arg, &m);
    }
    return st;
}

static enum status check_metric(struct course *k, const char *key, double value, struct err *err) {
    if (isfinite(value))
        return STATUS_OK;
    return err_set(
        err, STATUS_NONFINITE,
        "step %lld: %s is not finite, though training was so far: the held-back data has values "
        "that this model cannot take; normalize it, or lower training.optimizer.lr",
        (long long)trainer_steps(k->t), key);
}

static enum status evaluate_part(struct course *k, enum data_part part, const char *loss,
                                 const char *error, struct err *err) {
    struct evaluation e;
    enum status st = trainer_evaluate(k->t, part, &e, err);
    if (st != STATUS_OK)
        return st;
    note(k, loss, e.loss);
    if (trainer_config(k->t)->training.loss == LOSS_CROSS_ENTROPY)
        note(k, error, e.error);
    return check_metric(k, loss, e.loss, err);
}

/* Since the last evaluation: samples/s; MFU, the share of the device's peak that the model's own
 * FLOPs make (Chowdhery et al. 2022, "PaLM", section 4.1); the share of a step in which ranks wait
 * for each other; memory in use. */
static void note_speed(struct course *k) {
    double seconds = (double)k->train_ns / 1e9;
    double steps = (double)k->train_rows / (double)trainer_config(k->t)->training.batch;
    double peak = trainer_peak_flops(k->t);
    if (k->train_ns > 0) {
        note(k, "samples_per_s", (double)k->train_rows / seconds);
        if (peak > 0)
            note(k, "mfu", trainer_flops(k->t) * steps / seconds / peak);
        if (world_size(k->trial->world) > 1 && k->step_seconds > 0)
            note(k, "exchange_share", k->exchange_seconds / k->step_seconds);
        note(k, "memory_bytes", (double)trainer_memory(k->t));
    }
    k->train_ns = k->train_rows = 0;
    k->step_seconds = k->exchange_seconds = 0;
}

/* The value of the trial's metric in this evaluation; NAN where it has none. */
static double value_now(const struct course *k) {
    const char *metric = trainer_config(k->t)->metric;
    const struct trial_metrics *m = &k->trial->metrics;
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->items[i].key, metric) == 0)
            return m->items[i].value;
    return NAN;
}

/* Rank 0: whether this evaluation is the best so far, and what its weights are. */
static enum status judge(struct course *k, struct err *err) {
    struct best *best = &k->trial->progress->best;
    const struct trial_hooks *h = &k->trial->hooks;
    double value = value_now(k);
    if (!best_improves(best, value, trainer_config(k->t)->smaller_is_better))
        return STATUS_OK;
    const float *flat = trainer_weights(k->t);
    if (flat == NULL) {
        enum status own = trainer_status(k->t, err);
        return own != STATUS_OK ? own
                                : err_set(err, STATUS_NOMEM, "no memory for the best weights");
    }
    *best = (struct best){.step = trainer_steps(k->t), .value = value};
    hash_bytes(flat, (size_t)trainer_model(k->t)->flat_count * sizeof *flat, &best->weights);
    if (h->best != NULL)
        h->best(h->arg, best);
    return STATUS_OK;
}

static enum status evaluate(struct course *k, bool last, bool boundary, struct err *err) {
    enum status st = STATUS_OK;
    const struct data_info *info = data_info(trainer_data(k->t));
    const struct trial_hooks *h = &k->trial->hooks;
    note_speed(k);
    if (info->validation > 0)
        TRY(evaluate_part(k, DATA_VALIDATION, "val_loss", "val_error", err));
    if (last && info->test > 0)
        TRY(evaluate_part(k, DATA_TEST, "test_loss", "test_error", err));
    for (int i = 0; i < k->trial->metrics.count; i++)
        if (strcmp(k->trial->metrics.items[i].key, "lr") == 0)
            note(k, "lr", k->trial->metrics.items[i].value);
    TRY(world_agree(k->trial->world, leader(k) ? judge(k, err) : STATUS_OK, err));
    if (leader(k) && h->report != NULL)
        h->report(h->arg, &k->trial->metrics, trainer_steps(k->t), trainer_units(k->t), boundary);
out:
    return st;
}

static enum status keep(struct course *k, struct err *err) {
    struct trial *t = k->trial;
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    enum status st = world_agree(t->world, checkpoint_write(k->t, t->progress, &bytes, err), err);
    if (st == STATUS_OK && leader(k) && t->hooks.checkpoint != NULL)
        t->hooks.checkpoint(t->hooks.arg, &bytes, trainer_steps(k->t));
    buf_release(&bytes);
    return st;
}

/* Rank 0 asks; all ranks hear the answer. */
static enum status ask(struct course *k, struct trial_verdict *out, struct err *err) {
    struct trial *t = k->trial;
    struct trial_verdict v = {0};
    if (leader(k) && t->hooks.verdict != NULL)
        v = t->hooks.verdict(t->hooks.arg);
    void *bytes = &v;
    size_t len = sizeof v;
    enum status st = world_share(t->world, &bytes, &len, err);
    if (st != STATUS_OK)
        return st;
    memcpy(out, bytes, sizeof *out);
    if (bytes != &v)
        free(bytes);
    return STATUS_OK;
}

/* ---- the run ---- */

/* `stop`: whoever leaves writes its own checkpoint. */
static enum status after_step(struct course *k, bool stop, bool *leave, struct err *err) {
    enum status st = STATUS_OK;
    int64_t step = trainer_steps(k->t);
    bool last = step >= k->total, boundary = !last && k->boundary > 0 && step >= k->boundary;
    if (digest_after(k, step))
        TRY(take_digest(k, err));
    if (k->trial->evaluate && (last || boundary || step % k->eval_period == 0))
        TRY(evaluate(k, last, boundary, err));
    if (k->trial->checkpoints && !last && !stop && step % k->checkpoint_period == 0)
        TRY(keep(k, err));
    if (boundary) {
        struct trial_verdict v = {0};
        TRY(ask(k, &v, err));
        if (v.stop) {
            k->trial->outcome = TRIAL_STOPPED;
            *leave = true;
        }
        int64_t next = steps_of(k, v.until);
        k->boundary = next > step ? next : 0;
    }
out:
    return st;
}

enum status trial_run(struct trial *trial, struct err *err) {
    enum status st = STATUS_OK;
    const struct spec_trial *c = trainer_config(trial->trainer);
    struct course k = {.trial = trial, .t = trial->trainer};
    k.total = trainer_steps_total(k.t);
    if (trial->step_limit > 0 && trial->step_limit < k.total)
        k.total = trial->step_limit;
    k.eval_period = period_of(&k, c->training.eval_every);
    k.checkpoint_period = period_of(&k, c->checkpoint_every);
    k.boundary = steps_of(&k, trial->until);
    trial->outcome = TRIAL_COMPLETED;
    bool leave = false, stop = false, digested = false;
    while (!leave && trainer_steps(k.t) < k.total) {
        TRY(one_step(&k, &stop, err));
        /* What is due after the step is done before a rank leaves: who goes on begins with the next one. */
        TRY(after_step(&k, stop, &leave, err));
        digested = trainer_steps(k.t) >= k.total;
        if (stop && !leave && !digested) {
            trial->outcome = TRIAL_LEFT;
            digested = digest_after(&k, trainer_steps(k.t));
            leave = true;
        }
    }
    if (!digested)
        TRY(take_digest(&k, err));
out:
    return st;
}
