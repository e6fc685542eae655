/* What one element goes through in an optimizer's step: the same IEEE operations in the same order
 * on every backend, none of them fused. C and C++ (and device code). The sources of the formulas
 * are in optimizer.h. */
#ifndef KERNELS_RUN_OPTIMIZER_RULE_H
#define KERNELS_RUN_OPTIMIZER_RULE_H

#include <math.h>

#include "core/shared_inline.h"

/* The rates of one step, made in double and rounded once (optimizer_rates). */
struct optimizer_rates {
    float lr, decay, momentum;
    float b1, b2, c1, c2;  /* betas and one minus them */
    float step, root, eps; /* lr / (1 − b1^t), 1 / sqrt(1 − b2^t) */
};

/* `scale` multiplies the gradient: 1/B and clipping. */
SHARED_INLINE void rule_plain(float *w, float g, float scale, struct optimizer_rates r) {
    float d = g * scale + r.decay * *w;
    *w = *w - r.lr * d;
}

SHARED_INLINE void rule_momentum(float *w, float *v, float g, float scale,
                                 struct optimizer_rates r) {
    float d = g * scale + r.decay * *w;
    *v = r.momentum * *v + d;
    *w = *w - r.lr * *v;
}

SHARED_INLINE void rule_nesterov(float *w, float *v, float g, float scale,
                                 struct optimizer_rates r) {
    float d = g * scale + r.decay * *w;
    *v = r.momentum * *v + d;
    *w = *w - r.lr * (d + r.momentum * *v);
}

/* r.decay: λ added to g (adam); r.lr: the product lr·λ taken off w first (adamw). One of them is 0.
 */
SHARED_INLINE void rule_adam(float *w, float *m, float *v, float g, float scale,
                             struct optimizer_rates r) {
    float d = g * scale + r.decay * *w;
    float mi = r.b1 * *m + r.c1 * d;
    float vi = r.b2 * *v + r.c2 * (d * d);
    *m = mi;
    *v = vi;
    float kept = *w - r.lr * *w;
    *w = kept - r.step * mi / (sqrtf(vi) * r.root + r.eps);
}

/* Running statistics: the mean over shards joins in. keep = 1 − momentum, take = momentum / V. */
SHARED_INLINE void rule_stat(float *w, float g, float keep, float take) {
    *w = keep * *w + take * g;
}

#endif
