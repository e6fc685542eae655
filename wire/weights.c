/* Which weights of a run: its best, its last, those of a checkpoint. */
#include "wire/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

#define CHECKPOINTS     "checkpoints/"
#define STEP_DIGITS     12 /* checkpoints/000000000120.safetensors */
#define STEP_DIGITS_MAX 18 /* fits int64 */

enum status weights_parse(struct arena *a, const char *text, struct weights_ref *out,
                          struct err *err) {
    const char *colon = strrchr(text, ':'), *slash = strrchr(text, '/');
    *out = (struct weights_ref){.run = text};
    if (colon == NULL || (slash != NULL && colon < slash)) /* the name of a sweep may have one */
        return STATUS_OK;
    const char *word = colon + 1;
    size_t len = strlen(word);
    out->run = arena_copy(a, text, (size_t)(colon - text));
    if (out->run == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    if (strcmp(word, "best") == 0)
        out->which = WEIGHTS_BEST;
    else if (strcmp(word, "last") == 0)
        out->which = WEIGHTS_LAST;
    else if (len > 0 && len <= STEP_DIGITS_MAX && strspn(word, "0123456789") == len) {
        out->which = WEIGHTS_STEP;
        out->step = strtoll(word, NULL, 10);
    } else
        return err_set(err, STATUS_INVALID,
                       "after the ':' of '%.100s' comes best, last or the number of a step", text);
    return STATUS_OK;
}

/* ---- what the run has ---- */

struct kept {
    const struct value *record, *best, *files; /* best: summary.best, or NULL */
    int64_t best_step, last_step;              /* -1: unknown */
    bool best_file;
};

static bool has_file(const struct value *files, const char *path) {
    for (size_t i = 0; files != NULL && i < files->count; i++)
        if (strcmp(value_get_string(files->items[i], "path", ""), path) == 0)
            return true;
    return false;
}

static struct kept look(const struct value *record) {
    const struct value *summary = value_get(record, "summary");
    struct kept k = {.record = record,
                     .best = value_get(summary, "best"),
                     .files = value_get(record, "artifacts")};
    k.best_step = value_get_int(k.best, "step", -1);
    k.last_step = value_get_int(summary, "steps", -1);
    k.best_file = has_file(k.files, WEIGHTS_BEST_PATH);
    return k;
}

static struct weights last_of(const struct kept *k) {
    return (struct weights){
        .path = WEIGHTS_LAST_PATH,
        .which = "last",
        .step = k->last_step,
        .digest = value_get_string(value_get(k->record, "summary"), "weights_digest", NULL)};
}

/* Where the last evaluation was the best one, the last weights are the best. */
static bool best_of(const struct kept *k, struct weights *out) {
    bool same = k->best_step >= 0 && k->best_step == k->last_step;
    if (!k->best_file && !same)
        return false;
    *out = last_of(k);
    out->which = "best";
    if (k->best_file) {
        out->path = WEIGHTS_BEST_PATH;
        out->step = k->best_step;
        out->digest = value_get_string(k->best, "weights_digest", NULL);
    }
    return true;
}

bool weights_metric_of_best(const struct value *record) {
    const struct value *config = value_get(record, "config");
    const char *said = value_get_string(config, "metric_of", NULL);
    if (said != NULL)
        return strcmp(said, "best") == 0;
    return value_get_int(config, "language", 1) >= 3;
}

/* ---- words ---- */

static const char *value_text(struct arena *a, const struct value *record,
                              const struct weights *w) {
    const struct value *summary = value_get(record, "summary"), *best = value_get(summary, "best");
    const char *metric = value_get_string(value_get(record, "config"), "metric",
                                          value_get_string(best, "metric", NULL));
    const struct value *v = NULL;
    if (strcmp(w->which, "best") == 0)
        v = value_get(best, "value");
    else if (strcmp(w->which, "last") == 0 && metric != NULL)
        v = value_get(value_get(summary, "metrics"), metric);
    if (metric == NULL || v == NULL || (v->kind != VALUE_REAL && v->kind != VALUE_INT))
        return "";
    return arena_printf(a, " (%s %.6g)", metric,
                        v->kind == VALUE_REAL ? v->real : (double)v->integer);
}

const char *weights_describe(struct arena *a, const struct value *record, const struct weights *w) {
    const char *value = value_text(a, record, w);
    if (w->step < 0)
        return arena_printf(a, "its %s weights%s", w->which, value);
    if (strcmp(w->which, "step") == 0)
        return arena_printf(a, "its weights of step %" PRId64, w->step);
    return arena_printf(a, "its %s weights, of step %" PRId64 "%s", w->which, w->step, value);
}

/* "best (step 30), last (step 40), steps 10, 20": what a run can be asked for. */
static const char *list_kept(struct arena *a, const struct kept *k) {
    enum { SHOWN_MAX = 20 };
    struct buf b = BUF_INIT(4096);
    struct weights best;
    if (best_of(k, &best))
        buf_addf(&b, "best (step %" PRId64 ")", best.step);
    if (has_file(k->files, WEIGHTS_LAST_PATH))
        buf_addf(&b, "%slast (step %" PRId64 ")", b.len > 0 ? ", " : "", k->last_step);
    int shown = 0;
    for (size_t i = 0; k->files != NULL && i < k->files->count && shown <= SHOWN_MAX; i++) {
        const char *path = value_get_string(k->files->items[i], "path", "");
        if (strncmp(path, CHECKPOINTS, strlen(CHECKPOINTS)) != 0)
            continue;
        if (shown++ == SHOWN_MAX)
            buf_adds(&b, ", …");
        else
            buf_addf(&b, "%s%lld", b.len > 0 ? ", " : "",
                     strtoll(path + strlen(CHECKPOINTS), NULL, 10));
    }
    const char *text = arena_strdup(a, b.len > 0 ? buf_text(&b) : "no weights");
    buf_release(&b);
    return text != NULL ? text : "";
}

/* ---- the choice ---- */

static enum status no_best(const struct kept *k, struct err *err) {
    const char *run = value_get_string(k->record, "run", "");
    const struct value *keep = value_at(k->record, "config.checkpoint.keep");
    if (k->best_step < 0)
        return err_set(err, STATUS_NOT_FOUND,
                       "run %s has no best weights, only its last; take %s:last", run, run);
    return err_set(err, STATUS_NOT_FOUND,
                   "run %s was best at step %" PRId64 ", but did not keep those weights "
                   "(checkpoint.keep: %s); take %s:last",
                   run, k->best_step,
                   keep != NULL && keep->kind == VALUE_STRING ? keep->string : "last", run);
}

static enum status choose_step(struct arena *a, const struct kept *k, int64_t step,
                               struct weights *out, struct err *err) {
    char path[64];
    const char *run = value_get_string(k->record, "run", "");
    if (step == k->last_step) {
        *out = last_of(k);
        return STATUS_OK;
    }
    if (step == k->best_step && best_of(k, out))
        return STATUS_OK;
    (void)snprintf(path, sizeof path, CHECKPOINTS "%0*" PRId64 ".safetensors", STEP_DIGITS, step);
    if (!has_file(k->files, path))
        return err_set(err, STATUS_NOT_FOUND,
                       "run %s kept no weights of step %" PRId64 "; it has %s", run, step,
                       list_kept(a, k));
    *out = (struct weights){
        .path = arena_strdup(a, path), .which = "step", .step = step, .checkpoint = true};
    return STATUS_OK;
}

/* A bare RUN. */
static void choose_any(struct arena *a, const struct kept *k, struct weights *out) {
    const char *run = value_get_string(k->record, "run", "");
    struct weights last = last_of(k), best;
    bool kept = best_of(k, &best), wants_best = weights_metric_of_best(k->record);
    *out = kept && wants_best ? best : last;
    if (!kept && k->best_step >= 0)
        out->note =
            arena_printf(a, "run %s: taking %s; the best, of step %" PRId64 ", were not kept", run,
                         weights_describe(a, k->record, &last), k->best_step);
    else if (kept && best.step != last.step)
        out->note =
            arena_printf(a, "run %s: taking %s; %s:%s are %s", run,
                         weights_describe(a, k->record, out), run, wants_best ? "last" : "best",
                         weights_describe(a, k->record, wants_best ? &last : &best));
}

enum status weights_choose(struct arena *a, const struct weights_ref *ref,
                           const struct value *record, struct weights *out, struct err *err) {
    struct kept k = look(record);
    switch (ref->which) {
    case WEIGHTS_LAST:
        *out = last_of(&k);
        break;
    case WEIGHTS_BEST:
        if (!best_of(&k, out))
            return no_best(&k, err);
        break;
    case WEIGHTS_STEP:
        return choose_step(a, &k, ref->step, out, err);
    case WEIGHTS_ANY:
        choose_any(a, &k, out);
        break;
    }
    return STATUS_OK;
}

/* ---- among the attempts at a trial ---- */

static bool same_trial(const struct value *x, const struct value *y) {
    const char *sweep = value_get_string(x, "sweep", NULL);
    return sweep != NULL && strcmp(sweep, value_get_string(y, "sweep", "")) == 0 &&
           value_get_int(x, "trial", 0) == value_get_int(y, "trial", 0);
}

/* The attempt before; NULL: none. Attempts count down, so that no record can lead in a circle. */
static const struct value *earlier_of(const struct weights_among *among,
                                      const struct value *record) {
    const struct value *from = value_at(record, "manifest.resumed_from"), *earlier = NULL;
    const char *run = value_get_string(from, "run", NULL);
    if (run == NULL || among->get(among->arg, run, &earlier, NULL) != STATUS_OK ||
        earlier == NULL || !same_trial(record, earlier) ||
        value_get_int(earlier, "attempt", 0) >= value_get_int(record, "attempt", 0))
        return NULL;
    return earlier;
}

enum status weights_find(struct arena *a, const struct weights_ref *ref,
                         struct weights_among *among, struct weights *out, struct err *err) {
    const struct value *named = among->record, *r = named;
    enum status st = weights_choose(a, ref, named, out, err);
    if (st != STATUS_NOT_FOUND || ref->which != WEIGHTS_STEP)
        return st;
    while ((r = earlier_of(among, r)) != NULL) {
        if (weights_choose(a, ref, r, out, NULL) != STATUS_OK)
            continue;
        among->record = r;
        out->note = arena_printf(a,
                                 "run %s: taking weights of step %" PRId64
                                 " from run %s, attempt %" PRId64 " at the same trial",
                                 value_get_string(named, "run", ""), ref->step,
                                 value_get_string(r, "run", ""), value_get_int(r, "attempt", 0));
        return STATUS_OK;
    }
    return st;
}

const struct value *weights_trained_by(struct weights_among *among, int64_t step) {
    const struct value *r = among->record;
    for (const struct value *earlier = r; earlier != NULL;) {
        r = earlier;
        const struct value *from = value_get(value_get(r, "manifest"), "resumed_from");
        earlier = step <= value_get_int(from, "step", -1) ? earlier_of(among, r) : NULL;
    }
    return r;
}
