/* The best evaluations of a trial, as its reports tell them. */
#include "coordinator/state/best.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

enum status best_note(struct trial *t, int64_t step, double metric, struct err *err) {
    double sign = t->sweep->spec->smaller_is_better ? 1.0 : -1.0;
    const struct trial_best *last = best_of(t);
    if (!isfinite(metric) || (last != NULL && !(sign * metric < sign * last->metric)))
        return STATUS_OK;
    if (t->best_count == STATE_BESTS_MAX) {
        memmove(t->bests, t->bests + 1, (STATE_BESTS_MAX - 1) * sizeof *t->bests);
        t->best_count--;
    }
    struct trial_best *bigger = realloc(t->bests, (t->best_count + 1) * sizeof *bigger);
    if (bigger == NULL)
        return state_no_memory(err);
    t->bests = bigger;
    bigger[t->best_count++] = (struct trial_best){.step = step, .metric = metric};
    return STATUS_OK;
}

void best_resume(struct trial *t, int64_t step) {
    while (t->best_count > 0 && t->bests[t->best_count - 1].step > step)
        t->best_count--;
}

const struct trial_best *best_of(const struct trial *t) {
    return t->best_count > 0 ? &t->bests[t->best_count - 1] : NULL;
}

/* What the trial would be ranked by if it ended now; false: nothing, or it has failed. */
static bool ranked_so_far(struct arena *a, const struct trial *t, double *out) {
    const struct trial_best *best = best_of(t);
    struct value *metrics = NULL;
    *out = t->metric;
    if (t->ranked || t->state == TRIAL_FAILED || best == NULL)
        return t->ranked;
    *out = best->metric;
    if (t->sweep->spec->metric_of_last && t->metrics != NULL &&
        json_parse(a, t->metrics, strlen(t->metrics), "metrics", &metrics, NULL) == STATUS_OK)
        *out = value_get_real(metrics, t->sweep->spec->metric, best->metric);
    return isfinite(*out);
}

/* A sweep that has not come to its end has trials that have not, either: what they have reached counts. */
static const struct trial *best_trial(struct arena *a, const struct sweep_state *s,
                                      double *metric) {
    const struct trial *best = state_find_trial(s, s->best);
    double sign = s->spec->smaller_is_better ? 1.0 : -1.0, v;
    *metric = best != NULL ? best->metric : 0.0;
    if (s->state == SWEEP_COMPLETED || s->state == SWEEP_FAILED)
        return best;
    for (int64_t n = 1; n <= s->created; n++) {
        const struct trial *t = state_find_trial(s, n);
        if (!ranked_so_far(a, t, &v) || (best != NULL && !(sign * v < sign * *metric)))
            continue;
        best = t;
        *metric = v;
    }
    return best;
}

struct value *best_of_sweep(struct arena *a, const struct sweep_state *s) {
    double metric;
    const struct trial *t = best_trial(a, s, &metric);
    if (t == NULL)
        return NULL;
    const struct trial_best *best = best_of(t);
    bool last = s->spec->metric_of_last || best == NULL;
    struct value *v = value_map(a);
    value_set_string(a, v, "run", t->run);
    value_set_int(a, v, "trial", t->number);
    value_set_real(a, v, "metric", metric);
    value_set_int(a, v, "step", last ? t->step : best->step);
    return v;
}
