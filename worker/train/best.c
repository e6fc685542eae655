/* The best evaluation: judged, described, kept in a checkpoint's metadata. */
#include "worker/train/best.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool best_improves(const struct best *b, double value, bool smaller_is_better) {
    if (b->unknown || !isfinite(value))
        return false;
    return b->step == 0 || (smaller_is_better ? value < b->value : value > b->value);
}

void best_describe(struct arena *a, const struct best *b, const char *metric, struct value *out) {
    char hex[DIGEST_HEX];
    if (b->step == 0 || b->unknown)
        return;
    struct value *v = value_map(a);
    hash_hex(&b->weights, hex);
    value_set_int(a, v, "step", b->step);
    value_set_string(a, v, "metric", metric);
    value_set_real(a, v, "value", b->value);
    value_set_string(a, v, "weights_digest", hex);
    value_set(a, out, "best", v);
}

struct value *best_metadata(struct arena *a, const struct best *b, const char *metric,
                            const char *run) {
    struct value *m = value_map(a);
    value_set_string(a, m, "run", run);
    value_set_string(a, m, "step", arena_printf(a, "%" PRId64, b->step));
    value_set_string(a, m, "metric", metric);
    value_set_string(a, m, "value", arena_printf(a, "%.17g", b->value));
    return m;
}

void best_set(struct arena *a, const struct best *b, struct value *metadata) {
    char hex[DIGEST_HEX];
    value_set_string(a, metadata, "best_step",
                     b->unknown ? "unknown" : arena_printf(a, "%" PRId64, b->step));
    if (b->unknown || b->step == 0)
        return;
    hash_hex(&b->weights, hex);
    value_set_string(a, metadata, "best_value", arena_printf(a, "%.17g", b->value));
    value_set_string(a, metadata, "best_digest", hex);
}

enum status best_get(const struct value *metadata, struct best *b, struct err *err) {
    const char *step = value_get_string(metadata, "best_step", "unknown");
    const char *number = value_get_string(metadata, "best_value", "");
    const char *hex = value_get_string(metadata, "best_digest", "");
    char *end = NULL, *number_end = NULL;
    *b = (struct best){.unknown = strcmp(step, "unknown") == 0};
    if (b->unknown || strcmp(step, "0") == 0)
        return STATUS_OK;
    b->step = strtoll(step, &end, 10);
    b->value = strtod(number, &number_end);
    if (end == step || *end != '\0' || b->step < 0 || number_end == number || *number_end != '\0' ||
        !isfinite(b->value) || hash_parse(hex, strlen(hex), &b->weights, NULL) != STATUS_OK)
        return err_set(err, STATUS_CORRUPT, "the checkpoint's best evaluation cannot be read");
    return STATUS_OK;
}
