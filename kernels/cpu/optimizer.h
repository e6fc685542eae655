/* The optimizer on a stretch of the flat vector, and norms of gradients, in host memory.
 *
 * Every element is computed with the same IEEE operations wherever a stretch begins or ends. */
#ifndef KERNELS_CPU_OPTIMIZER_H
#define KERNELS_CPU_OPTIMIZER_H

#include "kernels/run/optimizer.h"

/* Elements [begin, begin + count) of the flat vector; the pointers point at element `begin`. */
struct cpu_stretch {
    int64_t begin, count;
    float *weights;
    const float *gradient;
    float *slots[2];
};

/* What a step multiplies with. */
struct cpu_step {
    struct optimizer_rates rates[2]; /* of weights, of the rest */
    float scale;                     /* of the gradient: 1/B and clipping */
    double stat_scale;               /* of running statistics: 1/V */
};

/* One step. STAT elements take the running-average rule with g·stat_scale as the new mean. Nothing
 * is written when a gradient in the stretch is not finite: false is returned. */
bool cpu_optimizer_step(const struct spec_optimizer *o, const struct model *model,
                        const struct cpu_stretch *at, const struct cpu_step *step);

/* Sum of squares of each norm block of g[0..count), in a fixed order, in double; one per block. g
 * begins at a block. Returns whether all are finite. */
bool cpu_norm_blocks(const float *g, int64_t count, double *blocks);

#endif
