/* Private to client/sweep*.c: the tables of a sweep file and the checks that go beyond them. */
#ifndef SPEC_CHECK_H
#define SPEC_CHECK_H

#include "core/schema.h"
#include "spec/sweep.h"

#define SWEEP_SHARDS_MAX 1024
#define SWEEP_COUNT_MAX  9007199254740992.0 /* 2^53 */

/* The root of the file; `data`, `model` and `training` are checked after substitution. */
extern const struct field sweep_root_fields[];

/* Refuses with "file:line:column: …" of `at`. */
enum status sweep_refuse(const char *file, const struct value *at, struct err *err,
                         const char *format, ...) PRINTF(4, 5);

/* Fills params, param_count and order from `hyperparameters`. */
enum status sweep_parse_params(struct sweep *s, struct err *err) MUST_USE;

/* Checks data, model, training and checkpoint of one trial configuration: keys, types, bounds, and
 * that the searched metric will be there. */
enum status sweep_check_config(const struct sweep *s, const struct value *config,
                               struct err *err) MUST_USE;

#endif
