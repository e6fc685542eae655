/* --replay: the run's configuration and nothing else is trained again, and every step's loss bits
 * and every digest are compared with what the run left behind:
 *
 *     trace/…            loss bits and digests up to the last checkpoint or the end (trace.h)
 *     train_loss         of the steps behind the trace (a group that was lost left no newer one)
 *     summary            the last weights and state, and the best weights
 *     kept weights       the best ones on the way, and those of the step at which it ends (kept.h)
 *
 * A run that failed or was lost is replayed as far as it left something to compare with. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "wire/artifact.h"
#include "worker/group/kept.h"
#include "worker/group/manifest.h"
#include "worker/group/modes.h"
#include "worker/group/run_paths.h"
#include "worker/group/share.h"
#include "worker/group/trial.h"

#define ARENA_MAX     ((size_t)256 << 20)
#define CALL_MS       30000
#define EXIT_DIVERGED 3
#define REASON_MAX    1024
#define PROGRESS_NS   NS_PER_S
#define SERIES_MAX    ((size_t)1 << 30)
#define SERIES_PAGE   INT64_C(1000000)

enum verdict { VERDICT_EXACT, VERDICT_DIVERGED, VERDICT_REFUSED };

struct point {
    int64_t step;
    double value;
};

struct replay {
    struct worker *worker;
    const struct replay_args *args;
    struct arena arena;
    struct trainer *trainer;
    struct trace trace; /* our own; rank 0 */
    struct progress progress;

    /* rank 0: what the run left */
    struct value *run;
    struct trace then;
    struct buf series; /* of struct point, ascending */
    struct buf initial;
    bool initial_here;
    struct buf best_file; /* best.safetensors */
    bool best_here;
    struct digest best; /* of the weights within */
    int64_t best_step;  /* 0: none */
    int64_t limit;      /* compare up to this step */
    int64_t next_mark, next_point;

    /* what came of it */
    enum verdict verdict;
    enum status refusal; /* why it was refused: the exit code */
    int64_t divergent;   /* 0: none */
    char reason[REASON_MAX];
    struct buf differences;
    int64_t said_ns;
};

/* ---- fetching ---- */

static enum status fetch_run(struct replay *r, struct session *s, struct err *err) {
    struct session_reply reply;
    struct value *request = message_request(&r->arena, "run.get", NULL);
    value_set_string(&r->arena, request, "run", r->args->run);
    enum status st =
        session_call(s, &r->arena, &(struct session_ask){.request = request, .timeout_ms = CALL_MS},
                     &reply, err);
    if (st != STATUS_OK)
        return st;
    r->run = value_get(reply.header, "run");
    session_reply_release(&reply);
    return artifact_list_all(s, &r->arena, r->run, err);
}

static enum status fetch_artifact(struct replay *r, struct session *s, const char *path,
                                  struct buf *out, struct err *err) {
    buf_clear(out);
    return artifact_get(s, &(struct artifact){.run = r->args->run, .path = path}, out, NULL, err);
}

/* Chunk by chunk; all of it stays in `then`, so that a chunk's name has to be made from its number. */
static enum status fetch_chunks(struct replay *r, struct session *s, struct buf *bytes,
                                struct err *err) {
    char path[TRACE_PATH_MAX];
    struct trace at = {0};
    enum status st = STATUS_OK;
    while (r->then.count == at.first) {
        trace_path(&at, path);
        st = fetch_artifact(r, s, path, bytes, err);
        if (st == STATUS_OK)
            st = trace_append(&r->then, bytes->data, bytes->len, err);
        if (st != STATUS_OK)
            return st == STATUS_NOT_FOUND && at.first > 0 ? STATUS_OK : st;
        at.first += TRACE_CHUNK;
    }
    return STATUS_OK;
}

static enum status fetch_trace(struct replay *r, struct session *s, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct err why;
    enum status st = trace_init(&r->then, 0, 0, err);
    if (st != STATUS_OK)
        return st;
    st = fetch_chunks(r, s, &bytes, &why);
    if (st == STATUS_NOT_FOUND) {
        st = fetch_artifact(r, s, TRACE_PATH_V1, &bytes, &why);
        if (st == STATUS_OK)
            st = trace_append(&r->then, bytes.data, bytes.len, &why);
    }
    buf_release(&bytes);
    if (st == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (st != STATUS_OK && err != NULL)
        *err = why;
    return st;
}

/* One page of train_loss behind `after`; *count tells how much came. */
static enum status fetch_page(struct replay *r, struct session *s, int64_t after, int64_t *count,
                              struct err *err) {
    struct arena a;
    struct session_reply reply;
    arena_init(&a, ARENA_MAX);
    struct value *request = message_request(&a, "run.metrics", NULL);
    value_set_string(&a, request, "run", r->args->run);
    value_set_string(&a, request, "key", "train_loss");
    value_set_int(&a, request, "after_step", after);
    *count = 0;
    enum status st = session_call(
        s, &a, &(struct session_ask){.request = request, .timeout_ms = CALL_MS}, &reply, err);
    if (st == STATUS_OK) {
        const struct net_message *m = &reply.message;
        int64_t n = value_get_int(reply.header, "count", 0);
        bool whole = m->frame_count == 3 && n >= 0 && n <= SERIES_PAGE;
        for (size_t f = 0; whole && f < 3; f++)
            whole = m->frames[f].len == (size_t)n * 8;
        if (!whole && n != 0)
            st = err_set(err, STATUS_CORRUPT, "run.metrics: columns do not match their count");
        for (int64_t i = 0; st == STATUS_OK && i < n; i++) {
            struct point p = {
                .step = (int64_t)bytes_get_u64((const uint8_t *)m->frames[0].data + i * 8),
                .value = bytes_get_f64((const uint8_t *)m->frames[2].data + i * 8)};
            buf_add(&r->series, &p, sizeof p);
            r->limit = p.step > r->limit ? p.step : r->limit;
        }
        *count = n;
        session_reply_release(&reply);
    }
    arena_release(&a);
    return st == STATUS_NOT_FOUND ? STATUS_OK : st;
}

static enum status fetch_series(struct replay *r, struct session *s, struct err *err) {
    enum status st = STATUS_OK;
    int64_t count = SERIES_PAGE;
    r->limit = r->then.count;
    while (st == STATUS_OK && count == SERIES_PAGE)
        st = fetch_page(r, s, r->limit, &count, err);
    return st == STATUS_OK ? buf_status(&r->series, "train_loss", err) : st;
}

/* The best weights, if they are there: read when the model is known. */
static enum status fetch_best(struct replay *r, struct session *s, struct err *err) {
    struct err why;
    enum status st = fetch_artifact(r, s, RUN_BEST, &r->best_file, &why);
    r->best_step = value_get_int(value_at(r->run, "summary.best"), "step", 0);
    r->best_here = st == STATUS_OK;
    if (st == STATUS_OK || st == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (err != NULL)
        *err = why;
    return st;
}

static enum status open_tracker(struct replay *r, struct net **net, struct session **s,
                                struct err *err) {
    struct session_options options = {
        .endpoint = r->args->tracker, .keys = r->worker->keys.tracker, .clock = &clock_system};
    enum status st = net_new(net, err);
    return st == STATUS_OK ? session_open(*net, &options, s, err) : st;
}

static void close_tracker(struct net **net, struct session **s) {
    if (*s != NULL)
        (void)session_close(s, 0, NULL);
    net_destroy(net);
}

static enum status fetch(struct replay *r, struct err *err) {
    enum status st = STATUS_OK;
    struct net *net = NULL;
    struct session *s = NULL;
    struct err why;
    TRY(open_tracker(r, &net, &s, err));
    TRY(fetch_run(r, s, err));
    TRY(fetch_trace(r, s, err));
    TRY(fetch_series(r, s, err));
    st = fetch_artifact(r, s, RUN_INITIAL, &r->initial, &why);
    r->initial_here = st == STATUS_OK;
    if (st == STATUS_NOT_FOUND)
        st = STATUS_OK;
    else if (st != STATUS_OK && err != NULL)
        *err = why;
    if (st == STATUS_OK)
        st = fetch_best(r, s, err);
out:
    close_tracker(&net, &s);
    return st;
}

static const struct value *config_of(const struct value *run) {
    const struct value *config = value_at(run, "manifest.config");
    return config != NULL ? config : value_get(run, "config");
}

/* ---- comparing ---- */

static void diverge(struct replay *r, int64_t step, const char *format, ...) PRINTF(3, 4);
static void diverge(struct replay *r, int64_t step, const char *format, ...) {
    va_list args;
    if (r->divergent != 0)
        return;
    r->verdict = VERDICT_DIVERGED;
    r->divergent = step;
    va_start(args, format);
    (void)vsnprintf(r->reason, sizeof r->reason, format, args);
    va_end(args);
}

static void compare_loss(struct replay *r, const struct step_result *now) {
    int64_t step = now->step;
    const struct point *points = (const void *)r->series.data;
    int64_t count = (int64_t)(r->series.len / sizeof *points);
    if (step <= r->then.count) {
        uint32_t then = r->then.bits[step - 1];
        if (then != now->loss_bits)
            diverge(r, step,
                    "step %" PRId64 ": loss bits are %08" PRIx32 ", the run had %08" PRIx32, step,
                    now->loss_bits, then);
        return;
    }
    while (r->next_point < count && points[r->next_point].step < step)
        r->next_point++;
    if (r->next_point < count && points[r->next_point].step == step &&
        memcmp(&points[r->next_point].value, &now->loss, sizeof now->loss) != 0)
        diverge(r, step, "step %" PRId64 ": train_loss is %.17g, the run had %.17g", step,
                now->loss, points[r->next_point].value);
}

static void on_step(void *arg, const struct step_result *now) {
    struct replay *r = arg;
    int64_t t = clock_mono_ns(&clock_system);
    compare_loss(r, now);
    if (t - r->said_ns < PROGRESS_NS && now->step < r->limit)
        return;
    r->said_ns = t;
    (void)fprintf(stderr, "replay %.26s: step %" PRId64 " of %" PRId64 "%s\n", r->args->run,
                  now->step, r->limit, r->divergent != 0 ? ", diverged" : "");
}

/* On our way past the best evaluation: what the run says of its weights, and what it kept. */
static void compare_best(struct replay *r, const struct trace_mark *now) {
    const char *best = value_get_string(value_at(r->run, "summary.best"), "weights_digest", NULL);
    char hex[DIGEST_HEX];
    if (now->step != r->best_step)
        return;
    hash_hex(&now->weights, hex);
    if (best != NULL && strcmp(best, hex) != 0)
        diverge(r, now->step, "step %" PRId64 ": the weights are not the run's best ones",
                now->step);
    if (r->best_here && memcmp(&r->best, &now->weights, sizeof now->weights) != 0)
        diverge(r, now->step, "step %" PRId64 ": the weights are not those in %s", now->step,
                RUN_BEST);
}

static void on_mark(void *arg, const struct trace_mark *now) {
    struct replay *r = arg;
    compare_best(r, now);
    while (r->next_mark < r->then.mark_count && r->then.marks[r->next_mark].step < now->step)
        r->next_mark++;
    if (r->next_mark == r->then.mark_count || r->then.marks[r->next_mark].step != now->step)
        return;
    const struct trace_mark *then = &r->then.marks[r->next_mark];
    if (memcmp(&then->weights, &now->weights, sizeof then->weights) != 0)
        diverge(r, now->step, "step %" PRId64 ": losses agree, weights do not", now->step);
    else if (memcmp(&then->state, &now->state, sizeof then->state) != 0)
        diverge(r, now->step, "step %" PRId64 ": weights agree, the optimizer's state does not",
                now->step);
}

static bool on_stop(void *arg) {
    const struct replay *r = arg;
    return r->divergent != 0 || *r->worker->terminate != 0;
}

static void compare_summary(struct replay *r, const struct trial *t) {
    const struct value *summary = value_get(r->run, "summary");
    int64_t steps = trainer_steps(r->trainer);
    char hex[DIGEST_HEX];
    if (value_get_int(summary, "steps", -1) != steps)
        return;
    const char *weights = value_get_string(summary, "weights_digest", NULL);
    const char *state = value_get_string(summary, "state_digest", NULL);
    hash_hex(&t->weights, hex);
    if (weights != NULL && strcmp(weights, hex) != 0)
        diverge(r, steps, "step %" PRId64 ": losses agree, the last weights do not", steps);
    hash_hex(&t->state, hex);
    if (state != NULL && strcmp(state, hex) != 0)
        diverge(r, steps, "step %" PRId64 ": the optimizer's last state does not agree", steps);
}

/* The best weights or a checkpoint of the step at which the replay ends: bits, not only a digest. */
static enum status compare_kept(struct replay *r, struct err *err) {
    struct net *net = NULL;
    struct session *s = NULL;
    const char *path = NULL;
    int64_t step = trainer_steps(r->trainer);
    bool same = true;
    enum status st = open_tracker(r, &net, &s, err);
    if (st == STATUS_OK)
        st = kept_compare(s, &r->arena, r->run, r->trainer, &path, &same, err);
    close_tracker(&net, &s);
    if (st == STATUS_OK && !same)
        diverge(r, step, "step %" PRId64 ": losses agree, the weights kept as %s do not", step,
                path);
    return st;
}

/* ---- before training ---- */

static void refuse(struct replay *r, enum status why, const char *format, ...) PRINTF(3, 4);
static void refuse(struct replay *r, enum status why, const char *format, ...) {
    va_list args;
    r->verdict = VERDICT_REFUSED;
    r->refusal = why;
    va_start(args, format);
    (void)vsnprintf(r->reason, sizeof r->reason, format, args);
    va_end(args);
}

/* What is within best.safetensors. One that cannot be read is no reason not to train: no weights have
 * the digest of zeros, and so it is a divergence at its step. */
static void read_best(struct replay *r) {
    struct best b;
    struct err err;
    if (!r->best_here)
        return;
    enum status st = checkpoint_read_best(trainer_model(r->trainer), r->best_file.data,
                                          r->best_file.len, &b, &err);
    if (st != STATUS_OK) {
        log_err(LOG_WARN, "best", &err);
        return;
    }
    r->best = b.weights;
    if (r->best_step == 0)
        r->best_step = b.step; /* a run that was lost has no summary */
}

/* Rank 0: whether training can show anything. */
static void check(struct replay *r) {
    const struct value *manifest = value_get(r->run, "manifest");
    const char *then = value_get_string(value_get(manifest, "data"), "digest", NULL);
    const char *now = data_info(trainer_data(r->trainer))->digest;
    struct value *ours =
        manifest_make(&r->arena, r->trainer, r->worker->world, r->worker->device, NULL);
    if (r->args->until > 0 && r->args->until < r->limit)
        r->limit = r->args->until;
    manifest_differences(manifest, ours, &r->differences);
    read_best(r);
    if (then != NULL && strcmp(then, now) != 0)
        refuse(r, STATUS_CONFLICT, "the data files have changed: digest %.12s then, %.12s now",
               then, now);
    else if (r->limit == 0)
        refuse(r, STATUS_NOT_FOUND,
               "the run left nothing to compare with (no trace, no train_loss)");
    else if (trainer_config(r->trainer)->training.initial_weights != NULL && !r->initial_here)
        refuse(r, STATUS_NOT_FOUND,
               "the run's initial weights were not stored (initial_weights.safetensors)");
}

/* Rank 0's decision for all: how many steps (0: none), and where weights are compared. */
struct decision {
    int64_t limit, digest_at;
};

static enum status share_decision(struct replay *r, struct decision *out, struct err *err) {
    struct decision mine = {.limit = r->verdict == VERDICT_REFUSED ? 0 : r->limit,
                            .digest_at = r->best_step};
    void *at = &mine;
    size_t len = sizeof mine;
    enum status st = world_share(r->worker->world, &at, &len, err);
    if (st != STATUS_OK)
        return st;
    memcpy(out, at, sizeof *out);
    if (at != &mine)
        free(at);
    return STATUS_OK;
}

static enum status train(struct replay *r, const struct decision *d, struct trial *t,
                         struct err *err) {
    bool leader = world_rank(r->worker->world) == 0;
    r->progress.trace = leader ? &r->trace : NULL;
    enum status st =
        worker_share_weights(r->worker, r->trainer, r->initial_here ? &r->initial : NULL, err);
    if (st != STATUS_OK)
        return st;
    *t = (struct trial){
        .trainer = r->trainer,
        .world = r->worker->world,
        .progress = &r->progress,
        .step_limit = d->limit,
        .digest_at = d->digest_at,
        .hooks = {.arg = r, .stop = on_stop, .step = on_step, .mark = on_mark},
    };
    struct err why = {0};
    st = trial_run(t, &why);
    if (st == STATUS_NONFINITE && leader)
        diverge(r, trainer_steps(r->trainer) + 1, "%s", why.text);
    else if (st != STATUS_OK && st != STATUS_NONFINITE) {
        *err = why;
        return st;
    }
    if (leader && st == STATUS_OK) {
        compare_summary(r, t);
        if (r->divergent == 0)
            st = compare_kept(r, err);
        if (st != STATUS_OK)
            return st;
    }
    if (t->outcome == TRIAL_LEFT && *r->worker->terminate != 0 && r->divergent == 0)
        return err_set(err, STATUS_CANCELLED, "replay was interrupted at step %" PRId64,
                       trainer_steps(r->trainer));
    return STATUS_OK;
}

/* ---- the answer ---- */

static const char *verdict_name(enum verdict v) {
    return v == VERDICT_EXACT ? "exact" : v == VERDICT_DIVERGED ? "diverged" : "refused";
}

static void explain(struct replay *r) {
    size_t len = strlen(r->reason);
    if (r->verdict == VERDICT_EXACT)
        return;
    if (r->differences.len > 0)
        (void)snprintf(r->reason + len, sizeof r->reason - len, "; %s", buf_text(&r->differences));
    else if (r->verdict == VERDICT_DIVERGED)
        (void)snprintf(r->reason + len, sizeof r->reason - len,
                       "; cpu, libraries and program are the same as then");
}

/* What scripts read, and what the run keeps as summary.replay. */
static struct value *describe_verdict(struct replay *r, int64_t steps, const char *hex) {
    struct arena *a = &r->arena;
    struct value *v = value_map(a);
    value_set_string(a, v, "run", r->args->run);
    value_set_string(a, v, "verdict", verdict_name(r->verdict));
    value_set_int(a, v, "ranks", world_size(r->worker->world));
    value_set_int(a, v, "steps", steps);
    value_set(a, v, "weights_digest", hex[0] != '\0' ? value_string(a, hex) : value_null(a));
    value_set(a, v, "first_divergent_step",
              r->divergent != 0 ? value_int(a, r->divergent) : value_null(a));
    value_set(a, v, "reason", r->reason[0] != '\0' ? value_string(a, r->reason) : value_null(a));
    return v;
}

/* A verdict over the whole run goes into its summary: promotion puts it on the model's card. That
 * it could not be kept (a key that may only read) does not change the verdict. */
static void keep_verdict(struct replay *r, const struct value *verdict) {
    struct arena *a = &r->arena;
    struct net *net = NULL;
    struct session *s = NULL;
    struct err err;
    if (r->args->until > 0 || r->verdict == VERDICT_REFUSED)
        return;
    struct value *request = message_request(a, "run.update", NULL), *summary = value_map(a);
    struct value *kept = value_copy(a, verdict);
    value_remove(kept, "run");
    value_set_int(a, kept, "time_ns", clock_wall_ns(&clock_system));
    value_set(a, summary, "replay", kept);
    value_set_string(a, request, "run", r->args->run);
    value_set(a, request, "summary", summary);
    enum status st = open_tracker(r, &net, &s, &err);
    if (st == STATUS_OK)
        st = session_call(s, a, &(struct session_ask){.request = request, .timeout_ms = CALL_MS},
                          NULL, &err);
    if (st != STATUS_OK)
        log_err(LOG_WARN, "verdict_not_kept", &err);
    close_tracker(&net, &s);
}

static enum status answer(struct replay *r, const struct trial *t, struct err *err) {
    int64_t steps = r->trainer != NULL ? trainer_steps(r->trainer) : 0;
    int ranks = world_size(r->worker->world);
    char hex[DIGEST_HEX] = "";
    explain(r);
    if (steps > 0)
        hash_hex(&t->weights, hex);
    const struct value *verdict = describe_verdict(r, steps, hex);
    keep_verdict(r, verdict);
    if (!r->args->json) {
        if (r->verdict == VERDICT_EXACT)
            (void)printf("exact: %" PRId64 " steps on %d rank%s, weights %.16s…%s%s\n", steps,
                         ranks, ranks > 1 ? "s" : "", hex,
                         r->differences.len > 0 ? "; although " : "", buf_text(&r->differences));
        else
            (void)printf("%s: %s\n", verdict_name(r->verdict), r->reason);
        return STATUS_OK;
    }
    struct buf text = BUF_INIT(65536);
    enum status st = json_dump(verdict, JSON_COMPACT, &text, err);
    if (st == STATUS_OK)
        (void)printf("%s\n", buf_text(&text));
    buf_release(&text);
    return st;
}

/* ---- all together ---- */

/* The run's configuration; `device: auto` becomes the device that the run was trained on. */
static struct value *config_here(struct replay *r) {
    struct value *config = value_copy(&r->arena, config_of(r->run));
    const struct value *then = value_at(r->run, "manifest.device.device");
    if (then != NULL && then->kind == VALUE_STRING &&
        strcmp(value_get_string(config, "device", "auto"), "auto") == 0)
        value_set_string(&r->arena, config, "device", then->string);
    return config;
}

static enum status replay(struct replay *r, struct trial *t, struct err *err) {
    enum status st = STATUS_OK;
    struct worker *w = r->worker;
    bool leader = world_rank(w->world) == 0;
    struct value *config = NULL;
    struct spec_trial parsed;
    struct err why = {0};
    struct decision decision = {0};
    if (leader) {
        st = fetch(r, err);
        if (st == STATUS_OK && config_of(r->run) == NULL)
            st = err_set(err, STATUS_INVALID, "run %s has no configuration in its manifest",
                         r->args->run);
    }
    TRY(world_agree(w->world, st, err));
    TRY(worker_share_value(w, &r->arena, leader ? config_here(r) : NULL, &config, err));
    TRY(spec_trial_read(&r->arena, config, NULL, &parsed, err));
    TRY(spec_trial_ranks(&parsed, world_size(w->world), err));
    if (worker_trainer(w, &(struct worker_trial){.config = config}, &r->trainer, &why) !=
        STATUS_OK) {
        refuse(r, why.status, "cannot be trained here: %.600s", why.text);
    } else {
        if (leader) {
            check(r);
            st = trace_init(&r->trace, r->limit, 1024, err);
        }
        TRY(world_agree(w->world, st, err));
        TRY(share_decision(r, &decision, err));
        if (decision.limit > 0)
            TRY(train(r, &decision, t, err));
    }
    if (leader)
        TRY(answer(r, t, err));
out:
    return st;
}

enum status worker_replay(struct worker *w, const struct replay_args *args, int *exit_code,
                          struct err *err) {
    struct replay r = {.worker = w,
                       .args = args,
                       .series = BUF_INIT(SERIES_MAX),
                       .initial = BUF_INIT(CHECKPOINT_BYTES_MAX),
                       .best_file = BUF_INIT(CHECKPOINT_BYTES_MAX),
                       .differences = BUF_INIT(REASON_MAX)};
    struct trial t = {0};
    arena_init(&r.arena, ARENA_MAX);
    enum status st = replay(&r, &t, err);
    if (st == STATUS_OK && world_rank(w->world) == 0 && r.verdict != VERDICT_EXACT)
        *exit_code = r.verdict == VERDICT_DIVERGED ? EXIT_DIVERGED : status_exit_code(r.refusal);
    trainer_destroy(&r.trainer);
    trace_release(&r.trace);
    trace_release(&r.then);
    buf_release(&r.series);
    buf_release(&r.initial);
    buf_release(&r.best_file);
    buf_release(&r.differences);
    arena_release(&r.arena);
    return st;
}
