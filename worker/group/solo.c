/* --train: a trial configuration from a file, no server. For tests and benchmarks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/path.h"
#include "worker/group/trial.h"
#include "worker/group/worker.h"

#define ARENA_MAX ((size_t)64 << 20)

struct solo {
    struct worker *worker;
    const struct train_args *args;
};

/* Rank 0 reads ("-": standard input), everybody parses; positions stay for messages. */
static enum status read_text(const char *file, struct buf *out, struct err *err) {
    if (strcmp(file, "-") != 0)
        return path_read(file, out, err);
    for (;;) {
        char chunk[65536];
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read standard input");
        if (n == 0)
            return buf_status(out, "standard input", err);
        buf_add(out, chunk, (size_t)n);
    }
}

enum status worker_load_config(struct worker *w, const char *file, struct arena *a,
                               struct value **out, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = STATUS_OK;
    bool leader = world_rank(w->world) == 0;
    if (leader)
        st = read_text(file, &text, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK) {
        void *bytes = text.data;
        size_t len = text.len;
        st = world_share(w->world, &bytes, &len, err);
        if (st == STATUS_OK) {
            st = world_agree(w->world, json_parse(a, bytes, len, file, out, err), err);
            if (!leader)
                free(bytes);
        }
    }
    buf_release(&text);
    return st;
}

enum status worker_print(const struct value *v, struct err *err) {
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    enum status st = json_dump(v, JSON_COMPACT, &text, err);
    if (st == STATUS_OK && (printf("%s\n", buf_text(&text)) < 0 || fflush(stdout) != 0))
        st = err_errno(err, errno, "write the result");
    buf_release(&text);
    return st;
}

/* ---- --train ---- */

static bool solo_stop(void *arg) {
    const struct solo *s = arg;
    return *s->worker->terminate != 0;
}

static void solo_checkpoint(void *arg, const struct buf *bytes, int64_t step) {
    const struct solo *s = arg;
    struct err err;
    if (path_write(s->args->checkpoint, bytes->data, bytes->len, 0644, &err) != STATUS_OK)
        (void)fprintf(stderr, "checkpoint of step %" PRId64 ": %s\n", step, err.text);
}

enum status worker_start_weights(struct worker *w, struct trainer *t, struct err *err) {
    const char *file = trainer_config(t)->initial_weights;
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool found = false;
    enum status st = STATUS_OK;
    if (file == NULL)
        return STATUS_OK;
    if (world_rank(w->world) == 0)
        st = path_read(file, &bytes, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = worker_share_weights(w, t, bytes.data, bytes.len, &found, err);
    if (st != STATUS_OK)
        st = err_wrap(err, st, "initial_weights %s", file);
    buf_release(&bytes);
    return st;
}

static enum status start_checkpoint(struct worker *w, struct trainer *t, struct trace *trace,
                                    const char *file, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool found = false;
    enum status st = STATUS_OK;
    if (file == NULL)
        return STATUS_OK;
    if (world_rank(w->world) == 0 && access(file, F_OK) == 0)
        st = path_read(file, &bytes, err);
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = worker_share_checkpoint(w, t, trace, bytes.data, bytes.len, &found, err);
    if (st != STATUS_OK)
        st = err_wrap(err, st, "checkpoint %s", file);
    buf_release(&bytes);
    return st;
}

static enum status print_result(const struct trial *trial, const struct trace *trace,
                                int64_t resumed, struct err *err) {
    struct arena a;
    char hex[DIGEST_HEX];
    arena_init(&a, ARENA_MAX);
    struct value *v = value_map(&a), *plan = trainer_describe(&a, trial->trainer);
    hash_hex(&trial->weights, hex);
    value_set_string(&a, v, "weights_digest", hex);
    hash_hex(&trial->state, hex);
    value_set_string(&a, v, "state_digest", hex);
    hash_hex(&trace->chain, hex);
    value_set_string(&a, v, "chain", hex);
    value_set_int(&a, v, "steps", trainer_steps(trial->trainer));
    value_set_int(&a, v, "resumed_at", resumed);
    value_set_int(&a, v, "ranks", world_size(trial->world));
    value_set_string(&a, v, "exchange", value_get_string(plan, "exchange", NULL));
    value_set_bool(&a, v, "completed", trial->outcome == TRIAL_COMPLETED);
    value_set(&a, v, "metrics", trial_metrics_map(&a, &trial->metrics));
    enum status st = worker_print(v, err);
    arena_release(&a);
    return st;
}

static enum status write_weights(struct trainer *t, const char *file, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    enum status st = weights_write(t, NULL, &bytes, err);
    if (st == STATUS_OK)
        st = path_write(file, bytes.data, bytes.len, 0644, err);
    buf_release(&bytes);
    return st;
}

static enum status train(struct worker *w, const struct train_args *args, struct arena *a,
                         struct trainer **t, struct trace *trace, struct err *err) {
    enum status st = STATUS_OK;
    bool leader = world_rank(w->world) == 0;
    struct solo solo = {.worker = w, .args = args};
    struct value *config = NULL;
    TRY(worker_load_config(w, args->file, a, &config, err));
    TRY(worker_trainer(w, &(struct worker_trial){.config = config, .file = args->file}, t, err));
    if (leader)
        TRY(trace_init(trace, trainer_steps_total(*t), 1024, err));
    struct trace *own = leader ? trace : NULL;
    TRY(worker_start_weights(w, *t, err));
    TRY(start_checkpoint(w, *t, own, args->checkpoint, err));
    int64_t resumed = trainer_steps(*t);
    struct trial trial = {
        .trainer = *t,
        .world = w->world,
        .trace = own,
        .evaluate = true,
        .checkpoints = args->checkpoint != NULL,
        .hooks = {.arg = &solo, .stop = solo_stop, .checkpoint = solo_checkpoint},
    };
    TRY(trial_run(&trial, err));
    if (leader && args->weights_out != NULL)
        TRY(write_weights(*t, args->weights_out, err));
    if (leader)
        TRY(print_result(&trial, trace, resumed, err));
out:
    return st;
}

enum status worker_train(struct worker *w, const struct train_args *args, struct err *err) {
    struct arena a;
    struct trainer *t = NULL;
    struct trace trace = {0};
    arena_init(&a, ARENA_MAX);
    enum status st = train(w, args, &a, &t, &trace, err);
    trace_release(&trace);
    trainer_destroy(&t);
    arena_release(&a);
    return st;
}
