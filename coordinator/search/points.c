/* Searchers whose points are known beforehand. */
#include "coordinator/search/points.h"

#include <stdlib.h>

enum status points_create(const struct sweep *sweep, const char *rule, struct searcher **out,
                          struct err *err) {
    struct searcher *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while a search was started");
    s->sweep = sweep;
    s->rule = rule;
    *out = s;
    return STATUS_OK;
}

void points_destroy(struct searcher *s) {
    free(s);
}

enum search_ready points_ready(const struct searcher *s) {
    return s->given < s->sweep->max_trials ? SEARCH_READY : SEARCH_DONE;
}

int64_t points_next(struct searcher *s) {
    return ++s->given;
}

struct value *points_point(struct searcher *s, struct arena *a, int64_t trial) {
    return sweep_point(a, s->sweep, trial);
}

double points_until(const struct searcher *s, int64_t trial) {
    (void)trial;
    return s->sweep->max_time;
}

struct search_verdict points_report(struct searcher *s, int64_t trial, double units,
                                    double metric) {
    (void)trial, (void)units, (void)metric;
    return (struct search_verdict){.until = s->sweep->max_time, .reason = s->rule};
}

void points_exited(struct searcher *s, const struct search_exit *e) {
    (void)e;
    s->exited++;
}

/* A resumed trial exits twice. */
double points_progress(const struct searcher *s) {
    double part = (double)s->exited / (double)s->sweep->max_trials;
    return part < 1.0 ? part : 1.0;
}

int64_t points_planned(const struct searcher *s) {
    return s->sweep->max_trials;
}
