/* What single, grid and random share: their points are known beforehand, there are no rungs, and
 * the verdict is always "go on". Private to those three; other searchers have a struct of their
 * own. */
#ifndef COORDINATOR_SEARCH_POINTS_H
#define COORDINATOR_SEARCH_POINTS_H

#include "coordinator/search/searcher.h"
#include "spec/space.h"

struct searcher {
    const struct sweep *sweep;
    int64_t given, exited;
    const char *rule;         /* the reason of every verdict */
    struct sweep_grid cursor; /* grid: at the point of trial `cursor_trial` */
    int64_t cursor_trial;
};

enum status points_create(const struct sweep *sweep, const char *rule, struct searcher **out,
                          struct err *err) MUST_USE;
void points_destroy(struct searcher *s);
enum search_ready points_ready(const struct searcher *s);
int64_t points_next(struct searcher *s);
struct value *points_point(struct searcher *s, struct arena *a, int64_t trial);
double points_until(const struct searcher *s, int64_t trial);
struct search_verdict points_report(struct searcher *s, int64_t trial, double units, double metric);
void points_exited(struct searcher *s, const struct search_exit *e);
double points_progress(const struct searcher *s);
int64_t points_planned(const struct searcher *s);

#define POINTS_CLASS(n, point_fn)                                                                  \
    {                                                                                              \
        .name = n, .create = create, .destroy = points_destroy, .ready = points_ready,             \
        .next = points_next, .point = point_fn, .until = points_until, .report = points_report,    \
        .exited = points_exited, .progress = points_progress, .planned = points_planned            \
    }

#endif
