/* One trial, read: everything that its training depends on, as plain structs. The coordinator reads
 * each kind of trial that a sweep can come to before it starts one; a worker reads the one that it
 * is given, by the same code.
 *
 *     sweep file ──sweep_parse──▶ struct sweep ──sweep_trial_config──▶ configuration (JSON)
 *                                                                          │ spec_trial_read
 *     manifest, `trireme-worker --train FILE` ──────────────────────────▶  struct spec_trial
 *
 * A configuration is flat, complete and kept in the run's manifest for good:
 *   {language (absent: 1), name, hyperparameters: {name: value}, seed, experiment_seed,
 *    virtual_shards, bitwise, device, time_metric, max_time, metric, metric_of, smaller_is_better,
 *    digest_every, checkpoint: {every, keep}, data, model, training} */
#ifndef SPEC_TRIAL_H
#define SPEC_TRIAL_H

#include "spec/data.h"
#include "spec/model.h"
#include "spec/training.h"

/* What stays of a trial beside its last weights and its last checkpoint. The words of
 * checkpoint.keep, in this order. */
enum spec_keep { SPEC_KEEP_BEST, SPEC_KEEP_LAST, SPEC_KEEP_ALL };

struct spec_trial {
    const struct value *root; /* the caller's tree, which must outlive this */
    const char *file;         /* for messages; may be NULL */
    int language;
    uint64_t seed;
    uint64_t split_seed; /* experiment_seed where it is given: the sweep's trials share one split */
    int shards;          /* V: a power of two */
    bool bitwise;        /* false: library reductions may add */
    const char *device;  /* auto, cpu, cuda */
    bool by_steps;       /* time_metric: steps, else epochs */
    double max_time;
    const char *metric;
    bool smaller_is_better;   /* of the metric */
    bool metric_of_last;      /* the trial's worth is its last evaluation, not its best */
    int64_t checkpoint_every; /* in time_metric; 0: each epoch */
    enum spec_keep keep;
    int64_t digest_every; /* steps */
    struct spec_data data;
    struct spec_model model;
    struct spec_training training;
};

/* INVALID with file:line:column, what is wrong and what would do. A trial is read by the version of
 * the language that it says it is written in; one of a newer version than ours is refused. */
enum status spec_trial_read(struct arena *a, const struct value *root, const char *file,
                            struct spec_trial *out, struct err *err) MUST_USE;

/* P ranks train V shards only where P divides V. */
enum status spec_trial_ranks(const struct spec_trial *t, int ranks, struct err *err) MUST_USE;

#endif
