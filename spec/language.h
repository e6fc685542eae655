/* The version of the sweep language. A sweep and a trial carry the version they were written in
 * (`language`; absent: 1) and are checked by it for as long as they live: a bound that became
 * tighter since does not make an old sweep unreadable.
 *
 *   1   the first. A sweep could ask for what no trial could do: {dropout: 0.9995}, eps: 0,
 *       momentum: 1.0, nesterov without momentum, `padding: same` with an even kernel, a
 *       hyperparameter that nothing mentions. Its trials failed as they began, and still do.
 *   2   one grammar for sweeps and trials: what cannot be trained is refused in the file, and every
 *       spelling that a trial understands may be written in a sweep.
 *   3   what a table's columns are is inferred by the many and not by every cell; values are centred
 *       in double before they become float32; the best evaluation is kept and ranked, not the last
 *       (checkpoint.keep, searcher.metric_of).
 *
 * Whoever changes what is accepted raises SPEC_LANGUAGE and writes the row's old bounds beside it
 * (SINCE in core/schema.h); loosening needs no new version. */
#ifndef SPEC_LANGUAGE_H
#define SPEC_LANGUAGE_H

#include "core/schema.h"

#define SPEC_LANGUAGE 3

/* A file of today's language, read from `file` (NULL: from a program). */
#define SPEC_TODAY(name)                                                                           \
    (struct schema_source) {                                                                       \
        .file = name, .language = SPEC_LANGUAGE                                                    \
    }

#endif
