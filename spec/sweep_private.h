/* Private to spec/: what sweep.c and its neighbours share. */
#ifndef SPEC_SWEEP_PRIVATE_H
#define SPEC_SWEEP_PRIVATE_H

#include "spec/sweep.h"
#include "spec/tables_private.h"

/* Checks the searcher's name and keys, and reads max_trials. */
enum status sweep_check_searcher(struct sweep *s, struct err *err) MUST_USE;

/* Fills params, param_count and order from `hyperparameters`. */
enum status sweep_parse_params(struct sweep *s, struct err *err) MUST_USE;

/* Reads every kind of trial that the sweep can come to (corners.c). */
enum status sweep_check_trials(const struct sweep *s, struct err *err) MUST_USE;

/* Refuses a hyperparameter that no key mentions (mentions.c). */
enum status sweep_check_mentions(const struct sweep *s, struct err *err) MUST_USE;

/* Whether `root` mentions a hyperparameter: ${name} in a section, or a `when`. */
bool sweep_mentions(const struct value *root, const char *name);

#endif
