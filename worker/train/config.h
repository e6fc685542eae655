/* One trial's configuration, as the sweep makes it and as it stands in a run's manifest, read into
 * numbers. The data, the model and the optimizer are checked by those who use them. */
#ifndef WORKER_TRAIN_CONFIG_H
#define WORKER_TRAIN_CONFIG_H

#include "core/value.h"
#include "kernels/run/engine.h"
#include "worker/train/schedule.h"

#define CONFIG_SHARDS_MAX 1024

struct trial_config {
    const struct value *root, *data, *layers; /* in the caller's tree, which must outlive this */
    const char *file;                         /* for messages; may be NULL */
    uint64_t seed;
    int shards; /* V: a power of two */
    bool shuffle;
    bool bitwise; /* false: library reductions may add */
    enum precision precision;
    const char *device; /* "auto", "cpu", "cuda" */
    bool by_steps;      /* time_metric: steps, else epochs */
    double max_time;
    const char *metric;
    enum loss_kind loss;
    struct optimizer optimizer;
    struct schedule schedule;
    int64_t batch;                        /* B */
    double clip_norm;                     /* 0: none */
    int64_t eval_every, checkpoint_every; /* in time_metric; 0: each epoch */
    bool keep_all;                        /* checkpoints */
    int64_t digest_every;                 /* steps */
    const char *initial_weights;          /* NULL: drawn from the seed */
};

/* INVALID with what is wrong, and numbers: V no power of two, B no multiple of V, ranks that do not
 * divide V, an unknown key. */
enum status config_parse(const struct value *root, const char *file, int ranks,
                         struct trial_config *out, struct err *err) MUST_USE;

#endif
