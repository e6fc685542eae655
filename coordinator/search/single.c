/* One trial. Ranges, where there are any, are drawn as random draws them. */
#include "coordinator/search/points.h"
#include "coordinator/search/registry.h"

static enum status create(const struct sweep *sweep, struct searcher **out, struct err *err) {
    return points_create(sweep, "single: the trial runs to max_time", out, err);
}

const struct searcher_class searcher_single = POINTS_CLASS("single", points_point);
