/* A worker group: rank 0 has the link, all ranks train what it is assigned.
 *
 *     rank 0: link_idle ─▶ share(config) ─▶ ┌ trial: trainer, start, steps, end ┐ ─▶ done ─▶ idle
 *     others: asleep in share ────────────▶ └ collective                        ┘
 *
 * What ends a trial early is known to rank 0 alone (a cancellation, a lost lease) or to any rank
 * (SIGTERM): the stop flag in the exchange brings all of them out at the same step, and rank 0's
 * decision what to keep is shared then. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/path.h"
#include "kernels/devices.h"
#include "wire/artifact.h"
#include "worker/group/link.h"
#include "worker/group/manifest.h"
#include "worker/group/modes.h"
#include "worker/group/resume.h"
#include "worker/group/run_paths.h"
#include "worker/group/share.h"
#include "worker/group/trial.h"

#define ARENA_MAX ((size_t)256 << 20)

struct group {
    struct worker *worker;
    struct link *link; /* rank 0's; NULL on the others */
    /* the trial at hand */
    struct arena arena;
    struct trainer *trainer;
    struct trace trace; /* rank 0's */
    struct progress progress;
    struct metrics *metrics;
    const char *run;
    struct value *resumed_from;
    bool told; /* rank 0's: some rank was told to end */
};

static enum spec_keep kept(const struct group *g) {
    return trainer_config(g->trainer)->keep;
}

/* ---- hooks of a trial ---- */

static void pump(void *arg) {
    struct group *g = arg;
    if (g->link != NULL)
        link_tend(g->link);
}

static void on_progress(void *arg, int64_t step, double units) {
    struct group *g = arg;
    struct err err;
    if (g->link == NULL)
        return;
    g->link->step = step;
    g->link->units = units;
    if (g->metrics != NULL && !g->link->dropped)
        while (metrics_flush(g->metrics, false, &err) == STATUS_FULL && !link_stop(g->link))
            link_rest(g->link, 10);
    link_tend(g->link);
}

static bool on_stop(void *arg) {
    const struct group *g = arg;
    return g->link != NULL ? link_stop(g->link) : *g->worker->terminate != 0;
}

/* No point is lost: where there is no room for it, training waits. */
static void on_metric(void *arg, const char *key, int64_t step, double value) {
    struct group *g = arg;
    struct err err;
    enum status st;
    if (strcmp(key, "samples_per_s") == 0)
        g->link->samples_per_s = value;
    while (!g->link->dropped &&
           (st = metrics_add(g->metrics, key, step, value, &err)) != STATUS_OK) {
        if (st != STATUS_FULL) {
            link_fail(g->link, "metrics", &err);
            return;
        }
        link_rest(g->link, 10);
    }
}

static void flush_metrics(struct group *g) {
    struct err err;
    enum status st = STATUS_OK;
    while (g->metrics != NULL && !g->link->dropped &&
           (st = metrics_flush(g->metrics, true, &err)) == STATUS_FULL)
        link_rest(g->link, 10);
    if (st != STATUS_OK)
        link_fail(g->link, "metrics", &err);
}

static void on_report(void *arg, const struct trial_metrics *m, int64_t step, double units,
                      bool boundary) {
    struct group *g = arg;
    struct arena a;
    arena_init(&a, ARENA_MAX);
    link_report(g->link, trial_metrics_map(&a, m), step, units, boundary);
    arena_release(&a);
}

static struct trial_verdict on_verdict(void *arg) {
    struct group *g = arg;
    bool here = link_verdict(g->link);
    /* Cancelled or dropped meanwhile: the next step's stop flag brings everybody out. */
    return (struct trial_verdict){.stop = here && g->link->verdict_stop,
                                  .until = here ? g->link->verdict_until : 0};
}

/* What is new of the trace: chunks that are full are let go, the last one will be written again. */
static void post_trace(struct group *g) {
    struct trace *t = &g->trace;
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct err err;
    while (t->count > t->first) {
        char path[TRACE_PATH_MAX];
        buf_clear(&bytes);
        trace_path(t, path);
        trace_write(t, &bytes);
        if (buf_status(&bytes, "trace", &err) != STATUS_OK) {
            link_fail(g->link, path, &err);
            break;
        }
        link_post_artifact(g->link, g->run, path, bytes.data, bytes.len);
        if (!trace_cut(t))
            break;
    }
    buf_release(&bytes);
}

static void post_weights(struct group *g, const struct value *metadata, const char *path) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct err err;
    if (checkpoint_write_weights(g->trainer, metadata, &bytes, &err) == STATUS_OK)
        link_post_artifact(g->link, g->run, path, bytes.data, bytes.len);
    else
        link_fail(g->link, path, &err);
    buf_release(&bytes);
}

/* Before the report of the same evaluation, and before the checkpoint of the same step. */
static void on_best(void *arg, const struct best *b) {
    struct group *g = arg;
    struct arena a;
    if (kept(g) == SPEC_KEEP_LAST)
        return;
    arena_init(&a, ARENA_MAX);
    post_weights(g, best_metadata(&a, b, trainer_config(g->trainer)->metric, g->run), RUN_BEST);
    arena_release(&a);
}

/* A checkpoint never arrives before what led to it. */
static void on_checkpoint(void *arg, const struct buf *bytes, int64_t step) {
    struct group *g = arg;
    char path[RUN_KEPT_MAX];
    flush_metrics(g);
    post_trace(g);
    link_post_artifact(g->link, g->run, RUN_CHECKPOINT, bytes->data, bytes->len);
    (void)snprintf(path, sizeof path, RUN_KEPT, (long long)step);
    if (kept(g) == SPEC_KEEP_ALL)
        link_post_artifact(g->link, g->run, path, bytes->data, bytes->len);
}

/* ---- the start of a trial ---- */

/* Whether another checkpoint may do where this one did not. */
static bool goes_on(enum status st) {
    return st == STATUS_CORRUPT || st == STATUS_INVALID || st == STATUS_TOO_NEW;
}

/* All ranks hear what rank 0 found; `r` is rank 0's, NULL on the others. */
static enum status take_checkpoints(struct group *g, struct resume *r, struct err *err) {
    for (;;) {
        bool found = r != NULL && resume_find(r);
        enum status st = worker_share_checkpoint(g->worker, g->trainer, &g->progress,
                                                 found ? &r->bytes : NULL, &found, err);
        if (!found || (st != STATUS_OK && !goes_on(st)))
            return st;
        if (st == STATUS_OK && r != NULL) {
            g->resumed_from = value_map(&g->arena);
            value_set_string(&g->arena, g->resumed_from, "run", r->run);
            value_set_int(&g->arena, g->resumed_from, "step", trainer_steps(g->trainer));
            resume_carry(r, g->run, &g->progress);
            post_trace(g);
        }
        if (st == STATUS_OK)
            return st;
        if (r != NULL)
            log_err(LOG_WARN, "checkpoint", err);
    }
}

/* The newest checkpoint among the earlier attempts; those that do not fit are passed over. */
static enum status find_checkpoint(struct group *g, struct err *err) {
    struct resume r = {.link = g->link,
                       .model = trainer_model(g->trainer),
                       .needs_best = kept(g) != SPEC_KEEP_LAST,
                       .bytes = BUF_INIT(CHECKPOINT_BYTES_MAX)};
    enum status st = take_checkpoints(g, g->link != NULL ? &r : NULL, err);
    buf_release(&r.bytes);
    return st;
}

/* The file's weights also become an artifact: replay needs nothing else. */
static enum status initial_weights(struct group *g, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    bool given = false;
    enum status st = worker_start_weights(g->worker, g->trainer, &bytes, &given, err);
    if (st == STATUS_OK && g->link != NULL && given)
        link_post_artifact(g->link, g->run, RUN_INITIAL, bytes.data, bytes.len);
    buf_release(&bytes);
    return st;
}

static enum status post_manifest(struct group *g, struct err *err) {
    struct arena *a = &g->arena;
    struct value *r = message_request(a, "run.update", NULL);
    struct value *m =
        manifest_make(a, g->trainer, g->worker->world, g->worker->device, g->resumed_from);
    enum status st = manifest_fits(m, err);
    if (st != STATUS_OK)
        return st;
    value_set_string(a, r, "run", g->run);
    value_set(a, r, "manifest", m);
    link_post_tracker(g->link, r);
    if (!g->link->failed)
        return STATUS_OK;
    *err = g->link->failure;
    return err->status;
}

static enum status start(struct group *g, const struct value *config, struct err *err) {
    enum status st = STATUS_OK;
    struct worker *w = g->worker;
    struct worker_trial trial = {.config = config, .pump = {.fn = pump, .arg = g}};
    TRY(worker_trainer(w, &trial, &g->trainer, err));
    g->progress = (struct progress){.trace = g->link != NULL ? &g->trace : NULL};
    if (g->link != NULL) {
        st = trace_init(&g->trace, trainer_steps_total(g->trainer), 1024, err);
        if (st == STATUS_OK)
            st = metrics_new(g->link->tracker, g->run, 0, &g->metrics, err);
    }
    TRY(world_agree(w->world, st, err));
    TRY(initial_weights(g, err)); /* a checkpoint then replaces them */
    TRY(find_checkpoint(g, err));
    if (g->link != NULL) /* what cannot be stored is known before a step is trained */
        st = post_manifest(g, err);
    TRY(world_agree(w->world, st, err));
    if (g->link != NULL)
        link_started(g->link, trainer_steps(g->trainer));
out:
    return st;
}

/* ---- the end of a trial ---- */

static void post_summary(struct group *g, const struct trial *t, const struct value *metrics) {
    struct arena *a = &g->arena;
    struct value *r = message_request(a, "run.update", NULL), *s = value_map(a);
    char hex[DIGEST_HEX];
    value_set_string(a, r, "run", g->run);
    hash_hex(&t->weights, hex);
    value_set_string(a, s, "weights_digest", hex);
    hash_hex(&t->state, hex);
    value_set_string(a, s, "state_digest", hex);
    hash_hex(&g->trace.chain, hex);
    value_set_string(a, s, "chain", hex);
    value_set_int(a, s, "steps", trainer_steps(g->trainer));
    value_set(a, s, "metrics", value_copy(a, metrics));
    best_describe(a, &g->progress.best, trainer_config(g->trainer)->metric, s);
    value_set(a, r, "summary", s);
    link_post_tracker(g->link, r);
}

static void post_model(struct group *g) {
    struct value *metadata = value_map(&g->arena);
    value_set_string(&g->arena, metadata, "run", g->run);
    post_weights(g, metadata, RUN_MODEL);
}

/* How rank 0 calls what happened. */
static const char *final_state(const struct group *g, const struct trial *t) {
    if (t->outcome == TRIAL_COMPLETED)
        return "completed";
    if (t->outcome == TRIAL_STOPPED)
        return "stopped";
    return g->link->failed ? "failed" : g->link->cancel ? g->link->cancel_state : "preempted";
}

/* Of a trial that failed: what its best weights are. */
static void post_best_summary(struct group *g) {
    struct arena *a = &g->arena;
    struct value *r = message_request(a, "run.update", NULL), *s = value_map(a);
    best_describe(a, &g->progress.best, trainer_config(g->trainer)->metric, s);
    value_set_string(a, r, "run", g->run);
    value_set(a, r, "summary", s);
    if (s->count > 0)
        link_post_tracker(g->link, r);
}

static void fail(struct group *g, const struct trial *t, const struct err *err) {
    struct value *metrics = trial_metrics_map(&g->arena, &t->metrics);
    log_line(LOG_WARN, "failed", "run=%s code=%s text=\"%s\"", g->run, status_name(err->status),
             err->text);
    if (g->metrics != NULL)
        flush_metrics(g);
    if (g->trainer != NULL && !g->link->failed) {
        post_trace(g);
        post_best_summary(g);
    }
    link_settle(g->link);
    link_done(g->link,
              &(struct link_end){.state = "failed",
                                 .code = status_name(err->status),
                                 .reason = err->text,
                                 .step = g->trainer != NULL ? trainer_steps(g->trainer) : 0,
                                 .units = g->trainer != NULL ? trainer_units(g->trainer) : 0,
                                 .metrics = metrics});
}

/* Rank 0: everything about the run is with the tracker before the coordinator hears of its end. */
static void finish(struct group *g, const struct trial *t, const char *state) {
    struct link *l = g->link;
    struct value *metrics = trial_metrics_map(&g->arena, &t->metrics);
    char hex[DIGEST_HEX];
    hash_hex(&t->weights, hex);
    if (!l->failed) {
        flush_metrics(g);
        post_trace(g);
        if (strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0)
            post_model(g);
        post_summary(g, t, metrics);
        link_settle(l);
    }
    if (l->failed) {
        fail(g, t, &l->failure);
        return;
    }
    const char *reason = l->reason[0] != '\0' ? l->reason
                         : g->told && strcmp(state, "preempted") == 0
                             ? "the group was told to end (SIGTERM)"
                             : NULL;
    link_done(l, &(struct link_end){.state = state,
                                    .reason = reason,
                                    .step = trainer_steps(g->trainer),
                                    .units = trainer_units(g->trainer),
                                    .metrics = metrics,
                                    .weights_digest = hex});
}

/* All ranks left the trial early. A group that goes keeps the state for the next one. */
static enum status leave(struct group *g, const char *state, struct err *err) {
    struct buf bytes = BUF_INIT(CHECKPOINT_BYTES_MAX);
    char keep = g->link != NULL && !g->link->dropped && strcmp(state, "preempted") == 0;
    void *at = &keep;
    size_t len = sizeof keep;
    enum status st = world_share(g->worker->world, &at, &len, err);
    if (st != STATUS_OK)
        return st;
    bool all_keep = *(const char *)at != 0;
    if (at != &keep)
        free(at);
    if (!all_keep)
        return STATUS_OK;
    st =
        world_agree(g->worker->world, checkpoint_write(g->trainer, &g->progress, &bytes, err), err);
    if (st == STATUS_OK && g->link != NULL)
        on_checkpoint(g, &bytes, trainer_steps(g->trainer));
    buf_release(&bytes);
    return st;
}

/* ---- a trial ---- */

static struct trial_hooks group_hooks(struct group *g) {
    return (struct trial_hooks){.arg = g,
                                .stop = on_stop,
                                .pump = on_progress,
                                .metric = on_metric,
                                .report = on_report,
                                .best = on_best,
                                .verdict = on_verdict,
                                .checkpoint = on_checkpoint};
}

/* Rank 0: a trial that was left although nothing here asked for it was left by a rank that was told to
 * end; the group goes with it. Else it would be given the same trial again, and leave it after a step. */
static void hear_others(struct group *g, const struct trial *t) {
    if (t->outcome == TRIAL_LEFT && !link_stop(g->link))
        g->link->leave = true;
    g->told = *g->worker->terminate != 0 || g->link->leave;
}

/* A failure of the trial is its own end, not the group's: only what breaks the world is returned.
 */
static enum status run_trial(struct group *g, const struct value *order, struct err *err) {
    struct trial t = {.world = g->worker->world,
                      .progress = &g->progress,
                      .hooks = group_hooks(g),
                      .until = value_get_real(order, "until", 0),
                      .evaluate = true,
                      .checkpoints = true};
    struct err why = {0};
    enum status st = start(g, value_get(order, "config"), &why);
    if (st == STATUS_OK) {
        t.trainer = g->trainer;
        if (t.until >= trainer_config(g->trainer)->max_time)
            t.until = 0; /* the end is not a boundary: nobody has to decide */
        st = trial_run(&t, &why);
        if (st != STATUS_OK && st != STATUS_NONFINITE && world_size(t.world) > 1) {
            *err = why; /* perhaps this rank's alone: the world must not go on without it */
            return st;
        }
    }
    if (st != STATUS_OK && worker_device_lost(g->worker)) {
        *err = why; /* nor would the next trial fare better; another group may take this one */
        return st;
    }
    if (g->link != NULL && st == STATUS_OK)
        hear_others(g, &t);
    const char *state = g->link != NULL && st == STATUS_OK ? final_state(g, &t) : "";
    if (st == STATUS_OK && t.outcome == TRIAL_LEFT) {
        st = leave(g, state, err);
        if (st != STATUS_OK)
            return st;
    }
    if (g->link != NULL && st != STATUS_OK)
        fail(g, &t, &why);
    else if (g->link != NULL && !g->link->dropped)
        finish(g, &t, state);
    return STATUS_OK;
}

static void end_trial(struct group *g) {
    metrics_destroy(&g->metrics);
    trace_release(&g->trace);
    trainer_destroy(&g->trainer);
    arena_release(&g->arena);
    g->run = NULL;
    g->resumed_from = NULL;
    if (g->link != NULL)
        link_free_trial(g->link);
}

/* ---- the group ---- */

/* Rank 0: the next order, {config, until}, or NULL to end. */
static const struct value *next_order(struct group *g, struct arena *a) {
    struct link *l = g->link;
    if (!link_idle(l))
        return NULL;
    g->run = arena_strdup(&g->arena, value_get_string(l->lease, "run", ""));
    struct value *order = value_map(a);
    value_set(a, order, "config", value_copy(a, l->config));
    value_set_real(a, order, "until", l->until);
    return order;
}

static enum status serve(struct group *g, struct err *err) {
    enum status st = STATUS_OK;
    for (bool more = true; more && st == STATUS_OK;) {
        struct arena a;
        struct value *order = NULL;
        arena_init(&a, ARENA_MAX);
        st = worker_share_value(g->worker, &a, g->link != NULL ? next_order(g, &a) : NULL, &order,
                                err);
        more = order != NULL;
        if (st == STATUS_OK && more)
            st = run_trial(g, order, err);
        end_trial(g);
        arena_release(&a);
    }
    return st;
}

enum status worker_serve(struct worker *w, const struct serve_args *args, struct err *err) {
    struct link link = {0};
    struct group g = {.worker = w};
    struct arena a;
    enum status st = STATUS_OK;
    arena_init(&a, ARENA_MAX);
    arena_init(&g.arena, ARENA_MAX);
    TRY(worker_device(w, "auto", err)); /* before HELLO: a trial finds it warm */
    if (world_rank(w->world) == 0) {
        struct link_options options = {.coordinator = args->coordinator,
                                       .tracker = args->tracker,
                                       .coordinator_keys = w->keys.coordinator,
                                       .tracker_keys = w->keys.tracker,
                                       .ranks = world_size(w->world),
                                       .terminate = w->terminate};
        const struct value *about = device_describe(&a, w->device);
        options.device = value_get_string(about, "gpu", device_name(w->device));
        st = link_open(&options, &link, err);
        if (st == STATUS_OK)
            g.link = &link;
    }
    st = world_agree(w->world, st, err);
    if (st == STATUS_OK)
        st = serve(&g, err);
out:
    if (g.link != NULL)
        link_close(&link, st == STATUS_OK ? "done" : err->text);
    arena_release(&a);
    return st;
}
