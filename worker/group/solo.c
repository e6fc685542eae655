/* --train: a trial configuration from a file, no server. For tests and benchmarks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/path.h"
#include "worker/group/modes.h"
#include "worker/group/share.h"
#include "worker/group/trial.h"

#define ARENA_MAX ((size_t)64 << 20)

struct solo {
    struct worker *worker;
    const struct train_args *args;
    struct trainer *trainer;
    struct trace trace; /* rank 0's */
    struct progress progress;
    enum status lost; /* rank 0: a file that could not be written, and why */
    struct err why;
};

/* What cannot be written ends the training: nobody should wait for a file that will not be there. */
static bool solo_stop(void *arg) {
    const struct solo *s = arg;
    return s->lost != STATUS_OK || *s->worker->terminate != 0;
}

static void solo_checkpoint(void *arg, const struct buf *bytes, int64_t step) {
    struct solo *s = arg;
    if (s->lost != STATUS_OK)
        return;
    s->lost = path_write(s->args->checkpoint, bytes->data, bytes->len, 0644, &s->why);
    if (s->lost != STATUS_OK)
        s->lost = err_wrap(&s->why, s->lost, "checkpoint of step %" PRId64, step);
}

static enum status write_weights(struct trainer *t, const struct value *metadata, const char *file,
                                 struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    enum status st = checkpoint_write_weights(t, metadata, &bytes, err);
    if (st == STATUS_OK)
        st = path_write(file, bytes.data, bytes.len, 0644, err);
    buf_release(&bytes);
    return st;
}

static void solo_best(void *arg, const struct best *b) {
    struct solo *s = arg;
    struct arena a;
    if (s->args->best_out == NULL || s->lost != STATUS_OK)
        return;
    arena_init(&a, ARENA_MAX);
    const struct value *m = best_metadata(&a, b, trainer_config(s->trainer)->metric, NULL);
    s->lost = write_weights(s->trainer, m, s->args->best_out, &s->why);
    arena_release(&a);
}

static enum status start_weights(struct worker *w, struct trainer *t, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool given;
    enum status st = worker_start_weights(w, t, &bytes, &given, err);
    buf_release(&bytes);
    return st;
}

static enum status start_checkpoint(struct worker *w, struct trainer *t, struct progress *progress,
                                    const char *file, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool here = world_rank(w->world) == 0 && file != NULL && access(file, F_OK) == 0, found;
    enum status st = STATUS_OK;
    if (file == NULL)
        return STATUS_OK;
    if (here)
        st = path_read(file, &bytes, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = worker_share_checkpoint(w, t, progress, here ? &bytes : NULL, &found, err);
    if (st != STATUS_OK)
        st = err_wrap(err, st, "checkpoint %s", file);
    buf_release(&bytes);
    return st;
}

static enum status print_result(const struct trial *trial, const struct progress *progress,
                                int64_t resumed, struct err *err) {
    struct arena a;
    char hex[DIGEST_HEX];
    arena_init(&a, ARENA_MAX);
    struct value *v = value_map(&a), *plan = trainer_describe(&a, trial->trainer);
    hash_hex(&trial->weights, hex);
    value_set_string(&a, v, "weights_digest", hex);
    hash_hex(&trial->state, hex);
    value_set_string(&a, v, "state_digest", hex);
    hash_hex(&progress->trace->chain, hex);
    value_set_string(&a, v, "chain", hex);
    value_set_int(&a, v, "steps", trainer_steps(trial->trainer));
    value_set_int(&a, v, "resumed_at", resumed);
    value_set_int(&a, v, "ranks", world_size(trial->world));
    value_set_string(&a, v, "exchange", value_get_string(plan, "exchange", NULL));
    value_set_string(&a, v, "exchange_because", value_get_string(plan, "exchange_because", NULL));
    value_set_bool(&a, v, "completed", trial->outcome == TRIAL_COMPLETED);
    value_set(&a, v, "metrics", trial_metrics_map(&a, &trial->metrics));
    best_describe(&a, &progress->best, trainer_config(trial->trainer)->metric, v);
    enum status st = worker_print(v, err);
    arena_release(&a);
    return st;
}

static enum status train(struct solo *s, struct arena *a, struct err *err) {
    enum status st = STATUS_OK;
    struct worker *w = s->worker;
    const struct train_args *args = s->args;
    bool leader = world_rank(w->world) == 0;
    s->progress.trace = leader ? &s->trace : NULL;
    struct worker_trial what = {.file = args->file};
    struct value *config = NULL;
    TRY(worker_load_config(w, args->file, a, &config, err));
    what.config = config;
    TRY(worker_trainer(w, &what, &s->trainer, err));
    if (leader)
        TRY(trace_init(&s->trace, trainer_steps_total(s->trainer), 1024, err));
    TRY(start_weights(w, s->trainer, err));
    TRY(start_checkpoint(w, s->trainer, &s->progress, args->checkpoint, err));
    int64_t resumed = trainer_steps(s->trainer);
    struct trial trial = {
        .trainer = s->trainer,
        .world = w->world,
        .progress = &s->progress,
        .evaluate = true,
        .checkpoints = args->checkpoint != NULL,
        .hooks = {.arg = s, .stop = solo_stop, .best = solo_best, .checkpoint = solo_checkpoint},
    };
    TRY(trial_run(&trial, err));
    if (s->lost != STATUS_OK)
        *err = s->why;
    TRY(world_agree(w->world, s->lost, err));
    if (leader && args->weights_out != NULL)
        TRY(write_weights(s->trainer, NULL, args->weights_out, err));
    if (leader)
        TRY(print_result(&trial, &s->progress, resumed, err));
out:
    return st;
}

enum status worker_train(struct worker *w, const struct train_args *args, struct err *err) {
    struct arena a;
    struct solo s = {.worker = w, .args = args};
    arena_init(&a, ARENA_MAX);
    enum status st = train(&s, &a, err);
    trace_release(&s.trace);
    trainer_destroy(&s.trainer);
    arena_release(&a);
    return st;
}
