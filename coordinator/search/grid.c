/* Every point of the grid, the last axis in the file fastest. A cursor stays where the last point
 * was taken, so that a walk through a grid with conditionals costs one step a trial. */
#include "coordinator/search/points.h"
#include "coordinator/search/registry.h"

static enum status create(const struct sweep *sweep, struct searcher **out, struct err *err) {
    enum status st = points_create(sweep, "grid: every trial runs to max_time", out, err);
    if (st == STATUS_OK) {
        sweep_grid_first(&(*out)->cursor);
        (*out)->cursor_trial = 1;
    }
    return st;
}

static struct value *point(struct searcher *s, struct arena *a, int64_t trial) {
    if (trial < s->cursor_trial) {
        sweep_grid_first(&s->cursor);
        s->cursor_trial = 1;
    }
    while (s->cursor_trial < trial && sweep_grid_next(s->sweep, &s->cursor))
        s->cursor_trial++;
    return sweep_grid_point(a, s->sweep, &s->cursor);
}

const struct searcher_class searcher_grid = POINTS_CLASS("grid", point);
