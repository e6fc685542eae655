/* Which weights of a run somebody means.
 *
 *     RUN        as the trial's `metric_of` says: its best, or its last
 *     RUN:best   those of the evaluation that was strictly better than all before it
 *     RUN:last   those after its last step
 *     RUN:120    those after step 120, where that checkpoint was kept
 *
 *     "RUN:best" ──weights_parse──▶ struct weights_ref ──weights_choose, run.get's record──▶ struct weights
 *
 * A bare RUN leaves a choice; what was chosen, and what the other would have been, is in `note`, to
 * be shown. Both functions are pure; weights_find asks its caller for other attempts' records. */
#ifndef WIRE_WEIGHTS_H
#define WIRE_WEIGHTS_H

#include "core/value.h"

#define WEIGHTS_LAST_PATH "model.safetensors"
#define WEIGHTS_BEST_PATH "best.safetensors"

enum weights_which { WEIGHTS_ANY, WEIGHTS_BEST, WEIGHTS_LAST, WEIGHTS_STEP };

struct weights_ref {
    const char *run; /* what is before ':' */
    enum weights_which which;
    int64_t step; /* STEP */
};

struct weights {
    const char *path;   /* the artifact */
    const char *which;  /* "best", "last", "step" */
    int64_t step;       /* -1: the run does not say */
    const char *digest; /* of the weights, as the run recorded it; NULL: it did not */
    bool checkpoint;    /* the artifact holds more than the weights */
    const char *note;   /* NULL: nothing to say */
};

/* INVALID where something else than best, last or a step follows ':'. */
enum status weights_parse(struct arena *a, const char *text, struct weights_ref *out,
                          struct err *err) MUST_USE;

/* `record` is run.get's `run`. NOT_FOUND says what the run has kept instead. The strings live in the
 * arena or in the record. */
enum status weights_choose(struct arena *a, const struct weights_ref *ref,
                           const struct value *record, struct weights *out,
                           struct err *err) MUST_USE;

/* The same, where an attempt that was resumed has not all of its trial's checkpoints: RUN:STEP is looked for in
 * the attempts that it goes on from (manifest.resumed_from), newest first. `record`: the run that somebody
 * named; in the end the one that has the weights. Where that is another, `note` says which. */
struct weights_among {
    const struct value *record;
    enum status (*get)(void *arg, const char *run, const struct value **record, struct err *err);
    void *arg;
};
enum status weights_find(struct arena *a, const struct weights_ref *ref,
                         struct weights_among *among, struct weights *out,
                         struct err *err) MUST_USE;

/* The record of the attempt that trained this step: among's, or one of those that it goes on from. */
const struct value *weights_trained_by(struct weights_among *among, int64_t step);

/* Whether the trial counts by its best evaluation (metric_of; trials of before it: by the last). */
bool weights_metric_of_best(const struct value *record);

/* "its best weights, of step 30 (val_error 0.1)": for notes and headings. */
const char *weights_describe(struct arena *a, const struct value *record, const struct weights *w);

#endif
