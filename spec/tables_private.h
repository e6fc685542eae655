/* Private to spec/: the tables that more than one file looks at, and the rows that sweeps and trials
 * have in common. */
#ifndef SPEC_TABLES_PRIVATE_H
#define SPEC_TABLES_PRIVATE_H

#include "spec/grammar_private.h"

extern const struct spec_variant spec_optimizers[], spec_schedules[], spec_formats[], spec_types[];

struct spec_layer_row {
    const char *name;
    const struct field *fields;
    const char *shorthand; /* the key that a bare value sets; NULL: none */
    const char *doc;
};
extern const struct spec_layer_row spec_layer_rows[]; /* by enum layer_kind; a name of NULL ends */

extern const struct field spec_training_fields[], spec_data_fields[], spec_transform_fields[];
extern const struct field spec_normalize_fields[];
extern const struct field spec_checkpoint_fields[]; /* fill a struct spec_trial */
extern const struct field spec_sweep_fields[], spec_resources_fields[],
    spec_reproducibility_fields[];

/* ---- rows of a sweep and of each of its trials; they differ in the struct that they fill ---- */

#define SPEC_METRICS "val_error|val_loss|train_loss|test_error|test_loss"

#define SPEC_SHARDS_ROW(...)                                                                       \
    F_INT("virtual_shards", 0, 1, SPEC_SHARDS_MAX,                                                 \
          "V: parts of a batch whose sums have a fixed order; a power of two", DEFAULT("8"),       \
          __VA_ARGS__)
#define SPEC_BITWISE_ROW(...)                                                                      \
    F_BOOL("bitwise", 0, "false: library reductions may add, on GPUs", DEFAULT("true"), __VA_ARGS__)
#define SPEC_DEVICE_ROW(...)                                                                       \
    F_ENUM("device", 0, "auto|cpu|cuda", "where trials are trained, see Devices", DEFAULT("auto"), \
           __VA_ARGS__)
#define SPEC_TIME_METRIC_ROW(...)                                                                  \
    F_ENUM("time_metric", 0, "epochs|steps", "what time is counted in", DEFAULT("epochs"),         \
           __VA_ARGS__)
#define SPEC_MAX_TIME_ROW(...)                                                                     \
    F_INT("max_time", REQUIRED, 1, SPEC_COUNT_MAX, "length of a trial, in time_metric", __VA_ARGS__)
#define SPEC_METRIC_ROW(...)                                                                       \
    F_ENUM("metric", 0, SPEC_METRICS, "what the search looks at", DEFAULT("val_error"), __VA_ARGS__)
#define SPEC_SMALLER_ROW(...)                                                                      \
    F_BOOL("smaller_is_better", 0, "of the metric", DEFAULT("true"), __VA_ARGS__)
#define SPEC_METRIC_OF_ROW(...)                                                                    \
    F_ENUM("metric_of", 0, "best|last",                                                            \
           "which of a trial's evaluations counts, in rankings and where its weights are taken",   \
           DEFAULT("best; last with checkpoint.keep: last, and before version 3"), __VA_ARGS__)
#define SPEC_DIGEST_ROW(...)                                                                       \
    F_INT("digest_every", 0, 1, SPEC_COUNT_MAX,                                                    \
          "steps between digests of weights and optimizer state", DEFAULT("100"), __VA_ARGS__)

/* Makes the paths of a `data` section start from data.dir, which starts from `base` (NULL: where the
 * process is), and drops data.dir. What is no path is left as it is, for a check to refuse. */
enum status spec_place_data(struct arena *a, struct value *data, struct schema_source source,
                            const char *base, struct err *err) MUST_USE;

/* Reads a trial by the given version of the language, whatever version it names. */
struct spec_trial;
enum status spec_trial_check(struct arena *a, const struct value *root, struct schema_source source,
                             struct spec_trial *out, struct err *err) MUST_USE;

/* Where a trial names its metric, it must be among what the trial measures. */
enum status spec_trial_measures(const struct spec_trial *t, struct schema_source source,
                                struct err *err) MUST_USE;

#endif
