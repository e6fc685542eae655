/* Schedules: one table for each name. */
#include "spec/schedule.h"

#include "spec/tables_private.h"

#define SCHEDULE(member) INTO(struct spec_schedule, member)
#define NAME_ROW         F_STRING("name", REQUIRED, 1, 32, "which schedule")
#define WARMUP_ROW                                                                                 \
    F_INT("warmup_steps", 0, 0, SPEC_COUNT_MAX, "steps in which the rate rises from 0 in a line",  \
          DEFAULT("0"), SCHEDULE(warmup_steps))

static const struct field constant_fields[] = {NAME_ROW, WARMUP_ROW, FIELD_END};
static const struct field step_fields[] = {
    NAME_ROW, WARMUP_ROW,
    F_INT("every", REQUIRED, 1, SPEC_COUNT_MAX, "units of time_metric from one change to the next",
          SCHEDULE(every)),
    F_REAL("factor", REQUIRED, 0, 1e6, "what the rate is multiplied by at each", SCHEDULE(factor)),
    FIELD_END};
static const struct field cosine_fields[] = {
    NAME_ROW, WARMUP_ROW,
    F_REAL("min_lr", 0, 0, 1e6, "where the half wave ends", DEFAULT("0"), SCHEDULE(min_lr)),
    FIELD_END};

const struct spec_variant spec_schedules[] = {
    [SCHEDULE_CONSTANT] = {"constant", constant_fields, "the rate as it is"},
    [SCHEDULE_STEP] = {"step", step_fields, "multiplied by `factor` every so often"},
    [SCHEDULE_COSINE] = {"cosine", cosine_fields, "half a cosine wave from the rate to `min_lr`"},
    {.name = NULL},
};

enum status spec_schedule_read(const struct value *map, struct schema_source source,
                               struct spec_schedule *out, struct err *err) {
    int kind = SCHEDULE_CONSTANT;
    struct spec_place place = {.source = source, .where = "training.schedule"};
    *out = (struct spec_schedule){.kind = SCHEDULE_CONSTANT, .every = 1, .factor = 1};
    if (map == NULL)
        return STATUS_OK;
    enum status st = spec_pick(spec_schedules, map, "name", place, &kind, err);
    if (st != STATUS_OK)
        return st;
    schema_read(spec_schedules[kind].fields, map, out);
    out->kind = (enum schedule_kind)kind;
    return STATUS_OK;
}
