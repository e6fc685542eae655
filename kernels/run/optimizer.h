/* Optimizers (spec/training.h) on slices of the flat vector. State is one float vector per slot, laid
 * out like the weights, of which an owner keeps only its slices.
 *
 *     sgd     v ← m·v + g (+ λw);  w ← w − lr·v          (nesterov: w ← w − lr·(g + m·v))
 *             PyTorch's form
 *     adam    Kingma & Ba 2015, arXiv 1412.6980, algorithm 1; λ·w added to g
 *     adamw   Loshchilov & Hutter 2019, arXiv 1711.05101: w ← w − lr·λ·w, then Adam
 *
 * Every element is computed with the same IEEE operations wherever a slice begins or ends. */
#ifndef KERNELS_RUN_OPTIMIZER_H
#define KERNELS_RUN_OPTIMIZER_H

#include "kernels/graph/model.h"
#include "kernels/run/optimizer_rule.h"
#include "spec/training.h"

/* `kind`: PARAM_WEIGHT, or PARAM_PLAIN without decay. `t` counts optimizer steps from 1. */
void optimizer_rates(const struct spec_optimizer *o, enum param_kind kind, int64_t t, double lr,
                     struct optimizer_rates *out);

#endif
