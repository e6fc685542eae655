/* Sweep files: parsing with file:line:column, the search space, and the configuration of one trial.
 *
 * A sweep file stays a value tree (positions and all); struct sweep holds what is read out of it.
 * The same function parses the file on the user's machine and the tree that reaches the coordinator
 * over the wire. docs/SWEEP.md describes every key. */
#ifndef CLIENT_SWEEP_H
#define CLIENT_SWEEP_H

#include "core/value.h"

#define SWEEP_PARAMS_MAX 64
#define SWEEP_TRIALS_MAX 1000000
#define SWEEP_SLOTS_MAX  4096

enum space_kind { SPACE_CONST, SPACE_INT, SPACE_DOUBLE, SPACE_LOG, SPACE_CATEGORICAL };

struct hyperparameter {
    const char *name;
    enum space_kind kind;
    double minval, maxval;     /* INT, DOUBLE, LOG: values, never exponents */
    int64_t count;             /* grid: points along this axis; 0 where it was not given */
    const struct value *vals;  /* CATEGORICAL: a list; CONST: the value */
    const char *when_name;     /* conditional: active only where this one… */
    const struct value *when_value; /* …has this value; NULL: always */
};

struct sweep {
    const struct value *root;
    const char *name;
    const char *file;
    struct hyperparameter params[SWEEP_PARAMS_MAX];
    int param_count;
    const char *searcher; /* single | grid | random; later ones are refused by name today */
    const char *metric;   /* val_error, val_loss, … */
    bool smaller_is_better;
    int64_t max_trials;
    double max_time;         /* units of time_metric */
    const char *time_metric; /* epochs | steps */
    int64_t slots_per_trial, max_slots, priority;
    int64_t max_restarts;
    int64_t virtual_shards;
    uint64_t experiment_seed;
    bool bitwise;
};

/* `file` names the source in messages (NULL: "sweep"). Everything that can be known without the data
 * is checked: keys, types, bounds, minval ≤ maxval, undefined ${x}, P | V, V | global_batch_size,
 * grid size, duplicate names. */
enum status sweep_parse(struct arena *a, const struct value *root, const char *file,
                        struct sweep **out, struct err *err) MUST_USE;

/* yaml_load + every `key=value` of `sets` (values parsed as YAML scalars or flow) + sweep_parse. */
enum status sweep_load(struct arena *a, const char *path, const char *const *sets, size_t set_count,
                       struct sweep **out, struct err *err) MUST_USE;

/* The configuration of one trial: the tree without `hyperparameters`, `searcher`, `name`,
 * `resources`, `max_restarts`; with `hyperparameters: {name: value}` as chosen, every ${name}
 * filled in (a scalar that is only "${x}" takes the value's own type), a layer list entry that is
 * null or an inactive conditional's dropped; `seed` set to trial_seed; relative data paths made absolute from `base`.
 *   {name, hyperparameters, seed, virtual_shards, bitwise, time_metric, max_time, metric,
 *    smaller_is_better, data, model, training, checkpoint, …} */
enum status sweep_trial_config(struct arena *a, const struct sweep *sweep,
                               const struct value *chosen, uint64_t trial_seed, const char *base,
                               struct value **out, struct err *err) MUST_USE;

#endif
