/* The options of trireme-export, whose line `trireme export` and `trireme promote` read too: to find its
 * tracker and its operands. */
#ifndef WIRE_EXPORT_OPTIONS_H
#define WIRE_EXPORT_OPTIONS_H

#include "core/options.h"

struct export_options {
    const char *format, *output, *name, *tracker, *keys, *tracker_key, *actor, *comment;
    bool json;
};

/* Of `promote`, or of `export`. */
const struct option_row *export_options_rows(bool promote);

#endif
