/* Searchers by name: what a sweep file may say, and which of them are built. coordinator/search/ makes
 * its registry of the same list, so that a name without a searcher does not link. */
#ifndef SPEC_SEARCHER_H
#define SPEC_SEARCHER_H

#include "spec/language.h"

/* The keys of `searcher` beside `name` that most of them take. */
#define SPEC_SEARCHER_KEYS "metric|smaller_is_better|metric_of|max_trials|max_time|time_metric"

/* Those that are built: name (a searcher_NAME in coordinator/search/), keys, documentation. */
#define SPEC_SEARCHERS(X)                                                                          \
    X(single, SPEC_SEARCHER_KEYS, "one trial; ranges are drawn from as by random")                 \
    X(grid, SPEC_SEARCHER_KEYS, "every combination, the last axis in the file fastest")            \
    X(random, SPEC_SEARCHER_KEYS, "points drawn by experiment_seed and the trial's number")

struct spec_searcher {
    const char *name; /* NULL ends the list */
    const char *keys; /* of `searcher` beside `name` that it takes, "a|b" */
    bool built;       /* false: the name is known, and refused with words that say so */
    const char *doc;
};

extern const struct spec_searcher spec_searchers[];

/* The keys of `searcher`, of all searchers together; they fill a struct sweep. */
extern const struct field spec_searcher_fields[];

#endif
