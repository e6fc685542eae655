/* What a sweep would do: the searcher is asked for its trials, nothing is started or stored.
 *
 *     {"config": sweep, "base": directory, "language": L (absent: today's)}
 *                 │
 *                 ▼
 *     {"planned": N, "trials": [{trial, hyperparameters, config}]}
 *
 * For searchers that need results the list ends where the first trial would have to wait. */
#ifndef COORDINATOR_SHELL_PREVIEW_H
#define COORDINATOR_SHELL_PREVIEW_H

#include "core/value.h"

#define PREVIEW_TRIALS_MAX 2000

/* At most `trials` trials of the sweep in `input`, into the arena. INVALID as sweep_parse says. */
enum status preview_make(struct arena *a, const struct value *input, int64_t trials,
                         struct value **out, struct err *err) MUST_USE;

/* Reads `file` (JSON) and prints the preview on standard output. */
enum status preview_print(const char *file, int64_t trials, struct err *err) MUST_USE;

#endif
