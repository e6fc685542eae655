/* The searchers that there are: those that spec/searcher.h lists as built, each a file here that
 * defines searcher_NAME. */
#ifndef COORDINATOR_SEARCH_REGISTRY_H
#define COORDINATOR_SEARCH_REGISTRY_H

#include "coordinator/search/searcher.h"
#include "spec/searcher.h"

#define X(name, keys, doc) extern const struct searcher_class searcher_##name;
SPEC_SEARCHERS(X)
#undef X

const struct searcher_class *searcher_find(const char *name); /* NULL when unknown */

#endif
