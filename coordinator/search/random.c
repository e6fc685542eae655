/* Independent draws: point n is a function of (experiment_seed, n) and of nothing else. */
#include "coordinator/search/points.h"
#include "coordinator/search/registry.h"

static enum status create(const struct sweep *sweep, struct searcher **out, struct err *err) {
    return points_create(sweep, "random: every trial runs to max_time", out, err);
}

const struct searcher_class searcher_random = POINTS_CLASS("random", points_point);
