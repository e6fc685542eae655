#include "worker/train/schedule.h"

#include <math.h>
#include <string.h>

#include "core/schema.h"

#define PI 3.14159265358979323846

static const struct field schedule_fields[] = {
    F_ENUM("name", REQUIRED, "constant|step|cosine", "which"),
    F_INT("warmup_steps", 0, 0, 1e12, "default 0"),
    F_INT("every", 0, 1, 1e12, "step: in time_metric"),
    F_REAL("factor", 0, 0, 1e6, "step"),
    F_REAL("min_lr", 0, 0, 1e6, "cosine: where it ends (default 0)"),
    FIELD_END,
};

enum status schedule_parse(const struct value *map, const char *file, struct schedule *out,
                           struct err *err) {
    *out = (struct schedule){.kind = SCHEDULE_CONSTANT, .every = 1, .factor = 1};
    if (map == NULL)
        return STATUS_OK;
    enum status st = schema_check(schedule_fields, map, file, "training.schedule", err);
    if (st != STATUS_OK)
        return st;
    const char *name = value_get_string(map, "name", "");
    out->kind = strcmp(name, "step") == 0     ? SCHEDULE_STEP
                : strcmp(name, "cosine") == 0 ? SCHEDULE_COSINE
                                              : SCHEDULE_CONSTANT;
    out->warmup_steps = value_get_int(map, "warmup_steps", 0);
    out->every = value_get_int(map, "every", 1);
    out->factor = value_get_real(map, "factor", 1);
    out->min_lr = value_get_real(map, "min_lr", 0);
    if (out->kind == SCHEDULE_STEP &&
        (value_get(map, "every") == NULL || value_get(map, "factor") == NULL)) {
        char place[SCHEMA_PLACE_MAX];
        return err_set(err, STATUS_INVALID, "%straining.schedule: step needs every and factor",
                       schema_place(file, map, place));
    }
    return STATUS_OK;
}

double schedule_lr(const struct schedule *s, double lr, int64_t step, int64_t total,
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
