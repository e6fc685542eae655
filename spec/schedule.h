/* `training.schedule`: how the learning rate moves. The formulas: worker/train/schedule.h. */
#ifndef SPEC_SCHEDULE_H
#define SPEC_SCHEDULE_H

#include "spec/language.h"

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_COSINE };

struct spec_schedule {
    enum schedule_kind kind;
    int64_t warmup_steps;
    int64_t every; /* step: units of time_metric */
    double factor; /* step */
    double min_lr; /* cosine: where it ends */
};

/* `map` may be NULL: constant, without warm-up. */
enum status spec_schedule_read(const struct value *map, struct schema_source source,
                               struct spec_schedule *out, struct err *err) MUST_USE;

#endif
