/* What the optimizer is, and its rates: the same for a whole slice, made in double and rounded once. */
#include "kernels/run/optimizer.h"

#include <math.h>
#include <string.h>

void optimizer_rates(const struct spec_optimizer *o, enum param_kind kind, int64_t t, double lr,
                     struct optimizer_rates *out) {
    bool decays = kind == PARAM_WEIGHT || (kind == PARAM_PLAIN && o->decay == DECAY_ALL);
    double decay = decays ? o->weight_decay : 0.0;
    *out = (struct optimizer_rates){.lr = (float)lr, .decay = (float)decay};
    if (o->kind == OPTIMIZER_SGD) {
        out->momentum = (float)o->momentum;
        return;
    }
    double bias1 = 1.0 - pow(o->betas[0], (double)t), bias2 = 1.0 - pow(o->betas[1], (double)t);
    bool decoupled = o->kind == OPTIMIZER_ADAMW;
    out->lr = decoupled ? (float)(lr * decay) : 0.0f;
    out->decay = decoupled ? 0.0f : (float)decay;
    out->b1 = (float)o->betas[0];
    out->c1 = (float)(1.0 - o->betas[0]);
    out->b2 = (float)o->betas[1];
    out->c2 = (float)(1.0 - o->betas[1]);
    out->step = (float)(lr / bias1);
    out->root = (float)(1.0 / sqrt(bias2));
    out->eps = (float)o->eps;
}
