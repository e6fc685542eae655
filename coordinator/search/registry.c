/* Searchers by name. */
#include "coordinator/search/registry.h"

#include <string.h>

const struct searcher_class *searcher_find(const char *name) {
    static const struct searcher_class *const all[] = {
#define X(name, keys, doc) &searcher_##name,
        SPEC_SEARCHERS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}
