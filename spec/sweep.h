/* Sweep files: what one says, the search space, and the configuration of each of its trials.
 *
 * A sweep file stays a value tree (places and all); struct sweep holds what is read out of it. The
 * same function reads the file on the user's machine and the tree that reaches the coordinator over
 * the wire, and it knows which version of the language either is written in. docs/SWEEP.md lists
 * every key. */
#ifndef SPEC_SWEEP_H
#define SPEC_SWEEP_H

#include "core/value.h"
#include "spec/language.h"

#define SWEEP_PARAMS_MAX 64
#define SWEEP_TRIALS_MAX 1000000
#define SWEEP_SLOTS_MAX  4096

/* Ranks on one GPU at a time, at most. */
#define SWEEP_SLOTS_PER_GPU_MAX 64

enum space_kind { SPACE_CONST, SPACE_INT, SPACE_DOUBLE, SPACE_LOG, SPACE_CATEGORICAL };

struct hyperparameter {
    const char *name;
    enum space_kind kind;
    double minval, maxval;          /* INT, DOUBLE, LOG: values, never exponents */
    int64_t count;                  /* grid: points along this axis; 0 where it was not given */
    const struct value *vals;       /* CATEGORICAL: a list; CONST: the value */
    const char *when_name;          /* conditional: active only where this one… */
    const struct value *when_value; /* …has this value; NULL: always */
    int when_index;                 /* of when_name in params; -1: always active */
    const struct value *at;         /* the node in the file, for messages */
};

struct sweep {
    const struct value *root;
    struct schema_source source; /* the file, and the version of the language it is written in */
    const char *name;
    struct hyperparameter params[SWEEP_PARAMS_MAX];
    int param_count;
    int order[SWEEP_PARAMS_MAX]; /* indices into params: what others depend on comes first */
    const char *searcher;        /* single | grid | random; later ones are refused by name today */
    int64_t grid_size;           /* points of the grid; 0 for other searchers */
    const char *metric;          /* val_error, val_loss, … */
    bool smaller_is_better;
    bool metric_of_last;     /* a trial is ranked by its last evaluation, not by its best */
    int64_t max_trials;      /* as planned: a grid's size, or its cap */
    double max_time;         /* units of time_metric, a whole number */
    const char *time_metric; /* epochs | steps */
    int64_t slots_per_trial, max_slots, priority;
    int64_t slots_per_gpu;
    const char *device; /* auto | cpu | cuda */
    int64_t max_restarts;
    int64_t virtual_shards;
    uint64_t experiment_seed;
    bool bitwise;
};

/* `source`: the file that messages name (NULL: none) and the version of the language. Whatever can be
 * known without the data is checked, for every kind of trial that the sweep can come to: keys, types,
 * bounds, ranges, undefined and unused ${x}, P | V, V | global_batch_size, the size of a grid.
 * INVALID, with file:line:column; TOO_NEW: a version that this build does not know. */
enum status sweep_parse(struct arena *a, const struct value *root, struct schema_source source,
                        struct sweep **out, struct err *err) MUST_USE;

/* The file at `path` with every `key=value` of `sets` (values as in YAML) applied in turn, then
 * sweep_parse by today's language. A set that takes away the last mention of a hyperparameter is
 * INVALID. */
enum status sweep_load(struct arena *a, const char *path, const char *const *sets, size_t set_count,
                       struct sweep **out, struct err *err) MUST_USE;

/* The configuration of one trial: flat, complete, and enough to train it again.
 *   {language (absent: 1), name, hyperparameters: {name: value}, seed, experiment_seed,
 *    virtual_shards, bitwise, device, time_metric, max_time, metric, metric_of, smaller_is_better,
 *    digest_every, checkpoint: {every, keep}, data, model, training}
 * Every ${name} is filled in (a scalar that is only "${x}" takes the value's own type). What
 * mentions an inactive hyperparameter is dropped: in `model` the whole layer, elsewhere the member;
 * a null layer is dropped too. `seed` is trial_seed. Relative data paths are made absolute from
 * data.dir, which itself starts from `base`, and data.dir is dropped; initial_weights starts from
 * `base`. `base` NULL: paths stay as they are. */
enum status sweep_trial_config(struct arena *a, const struct sweep *sweep,
                               const struct value *chosen, uint64_t trial_seed, const char *base,
                               struct value **out, struct err *err) MUST_USE;

#endif
