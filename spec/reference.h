/* What people and shells are told about the language, from its tables. */
#ifndef SPEC_REFERENCE_H
#define SPEC_REFERENCE_H

#include "core/buf.h"

/* The tables of docs/SWEEP.md, in Markdown: every key with what it takes, its default and its line
 * of documentation. */
void spec_reference(struct buf *out);

/* Every path that `--set` takes, one a line: "searcher.max_time". Lists and hyperparameters end at
 * their own name. */
void spec_keys(struct buf *out);

#endif
