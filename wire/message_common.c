/* Fields that several messages share. */
#include "wire/message_private.h"

const struct field message_none[] = {FIELD_END};

const struct field message_sweep[] = {F_ULID("sweep", REQUIRED, "the sweep"), FIELD_END};

const struct field message_lease[] = {
    F_ULID("sweep", REQUIRED, "the sweep"), F_INT("trial", REQUIRED, 1, 1e9, "the trial"),
    F_ULID("run", REQUIRED, "the attempt"), F_INT("epoch", REQUIRED, 1, COUNT_MAX, "of the lease"),
    FIELD_END};

static const struct field series_item[] = {
    F_STRING("key", REQUIRED, 0, 200, "name of the metric"),
    F_INT("count", REQUIRED, 1, 65536, "points of this key in the columns"), FIELD_END};
const struct field message_series[] = {
    {.name = "item", .type = FIELD_MAP, .max = 16, .fields = series_item}, FIELD_END};
