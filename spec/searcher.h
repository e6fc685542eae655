/* Searchers by name: what a sweep file may say, and which of them are built. What implements them is
 * registered in coordinator/search/; a test demands that both lists agree. */
#ifndef SPEC_SEARCHER_H
#define SPEC_SEARCHER_H

#include "spec/language.h"

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
