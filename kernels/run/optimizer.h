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

/* Norm blocks: fixed stretches of NORM_BLOCK elements from the start of the flat vector. A slice
 * handed to optimizer functions starts at a multiple of NORM_BLOCK. */
#define NORM_BLOCK 1024

/* Sum of squares of each block of g[0..count), in a fixed order, in double; one per block.
 * Whether an element is not finite is returned. */
bool gradient_norm_blocks(const float *g, int64_t count, double *blocks);

/* One step on the elements [begin, begin + count) of the flat vector, by rates[0] for weights and
 * rates[1] for the rest. w, g and slots[i] point at element `begin`. `scale` multiplies g (1/B and
 * clipping). STAT elements take the running-average rule with g·stat_scale as the new mean
 * (stat_scale = 1/V). Nothing is written when a g in the slice is not finite: false is returned. */
bool optimizer_update(const struct spec_optimizer *o, const struct model *model, int64_t begin,
                      int64_t count, float *w, const float *g, float *const *slots,
                      const struct optimizer_rates rates[2], float scale, double stat_scale);

#endif
