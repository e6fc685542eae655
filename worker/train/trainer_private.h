/* What the trainer's files share: trainer.c (what it is), trainer_step.c (a step), trainer_state.c
 * (evaluation, weights, digests). */
#ifndef WORKER_TRAIN_TRAINER_PRIVATE_H
#define WORKER_TRAIN_TRAINER_PRIVATE_H

#include "kernels/run/update.h"
#include "worker/data/loader.h"
#include "worker/train/trainer.h"

/* Steps that may be under way on a device that queues. The same on every rank: a step's stop flag
 * must be seen at the same place by all. */
#define STEPS_AHEAD 8
static_assert(STEPS_AHEAD < OUTCOME_SLOTS, "every step under way has a slot");

struct trainer {
    struct trainer_spec spec;
    const struct backend *backend;
    struct arena arena; /* the trainer's life */
    struct spec_trial config;
    struct dataset *data; /* the cache's */
    const struct data_info *info;
    bool data_cached;
    struct model *model;
    struct engine *engine;
    struct exchange *exchange;
    struct update *update;
    struct loader *loader;
    bool resident;  /* the data set fits on the device */
    bool in_memory; /* the world's shared memory is ours */
    bool by_nccl;
    int64_t steps_per_epoch, steps_total;
    int64_t rows;         /* of this rank in a batch */
    int32_t *rows_global; /* (rows), device */
    double *norms;        /* norm blocks of the whole vector, device */
    float *host_weights;  /* (vector_count): what trainer_weights shows of a device's; lazily */

    int64_t step;              /* begun */
    int64_t collected;         /* whose outcome is known */
    bool stop;                 /* of the step under way */
    struct step_outcome *ring; /* (OUTCOME_SLOTS), host memory that the device writes */
    double lr[OUTCOME_SLOTS];  /* of the steps under way */
    void *recorded;            /* a step, to play again; NULL: none */
    int64_t exchange_ns;       /* waited for others, in this step; where the host does */
    int64_t work_begin_ns;
    enum status exchange_status;
    struct err exchange_err;
};

#endif
