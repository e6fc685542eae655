/* Learning rates, step by step. */
#include "worker/train/schedule.h"

#include <math.h>

#define PI 3.14159265358979323846

double schedule_lr(const struct spec_schedule *s, double lr, int64_t step, int64_t total,
                   double steps_per_unit) {
    if (step <= s->warmup_steps)
        return lr * (double)step / (double)s->warmup_steps;
    switch (s->kind) {
    case SCHEDULE_CONSTANT:
        return lr;
    case SCHEDULE_STEP:
        return lr * pow(s->factor, floor((double)(step - 1) / (steps_per_unit * (double)s->every)));
    case SCHEDULE_COSINE: {
        double span = (double)(total - s->warmup_steps);
        double done = span > 0 ? (double)(step - 1 - s->warmup_steps) / span : 1;
        return s->min_lr + (lr - s->min_lr) / 2 * (1 + cos(PI * (done < 1 ? done : 1)));
    }
    }
    return lr;
}
