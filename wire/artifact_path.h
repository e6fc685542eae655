/* What may be the path of an artifact within its run: the one rule, for those who send one and for the
 * tracker that takes it.
 *
 *     model.safetensors, checkpoints/000000000120.safetensors, my files/été.txt
 *
 * 1 to ARTIFACT_PATH_MAX bytes, relative, no part of it empty, "." or "..": whoever fetches a run's files can
 * write them below a directory of their own. A new one is UTF-8 without what a terminal would obey; stores
 * of before that rule hold others, which can still be read. */
#ifndef WIRE_ARTIFACT_PATH_H
#define WIRE_ARTIFACT_PATH_H

#include <stddef.h>

#include "core/status.h"

#define ARTIFACT_PATH_MAX                                                                          \
    ((size_t)480) /* with run and kind it must fit a key of the tracker's store */

/* Of an artifact that is looked for. INVALID; TOO_LARGE: longer than ARTIFACT_PATH_MAX. */
enum status artifact_path_check(const char *path, struct err *err) MUST_USE;

/* Of one that is to be stored. */
enum status artifact_path_check_new(const char *path, struct err *err) MUST_USE;

#endif
