/* The searchers that there are. Each names itself in spec/ too, where sweep files are checked; a unit
 * test demands that both agree. */
#ifndef COORDINATOR_SEARCH_REGISTRY_H
#define COORDINATOR_SEARCH_REGISTRY_H

#include "coordinator/search/searcher.h"

/* A row here, a row in spec/, and a file that defines searcher_NAME: that is a searcher. */
#define SEARCHERS(X)                                                                               \
    X(single)                                                                                      \
    X(grid)                                                                                        \
    X(random)

#define X(name) extern const struct searcher_class searcher_##name;
SEARCHERS(X)
#undef X

const struct searcher_class *searcher_find(const char *name); /* NULL when unknown */

#endif
