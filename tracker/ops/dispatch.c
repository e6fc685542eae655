/* The table of operations. */
#include "tracker/ops/dispatch.h"

#include <string.h>

#include "tracker/ops/ops.h"

#define READS(op, function)  {.name = op, .fn = function, .writes = false},
#define WRITES(op, function) {.name = op, .fn = function, .writes = true},

static const struct dispatch_row rows[] = {OPS(READS, WRITES)};

const struct dispatch_row *dispatch_row(size_t i) {
    return i < sizeof rows / sizeof rows[0] ? &rows[i] : NULL;
}

const struct dispatch_row *dispatch_find(const char *name) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}
