/* The trainer: one trial's model, data and optimizer on this world, a step at a time, exactly as
 * the design's section 6 has it, on whatever device it is given. The same trainer serves groups,
 * replay, --train and the benchmark.
 *
 *     loader ─▶ engine_step ──bucket──▶ exchange ─▶ (clip) ─▶ update ─▶ publish ─▶ outcome
 *     rows of this rank: [rank·B/P, (rank+1)·B/P) of the batch, V/P neighbouring shards
 *
 * On a device that queues, a step without a wait in it (one rank, or NCCL) is recorded once and
 * then played; outcomes come back some steps later. Optimizer state is kept for owned slices only.
 * Nothing is allocated in a step.
 *
 * Every function is collective: all ranks call it with the same arguments and leave with the same
 * answer, unless it says otherwise. Threading: one thread. */
#ifndef WORKER_TRAIN_TRAINER_H
#define WORKER_TRAIN_TRAINER_H

#include "core/hash.h"
#include "spec/trial.h"
#include "worker/data/data.h"
#include "worker/world/exchange.h"

enum exchange_choice { EXCHANGE_AUTO, EXCHANGE_MESSAGES, EXCHANGE_MEMORY, EXCHANGE_NCCL };

struct trainer;

struct trainer_spec {
    struct world *world;
    struct device *device;
    struct nccl *nccl; /* of these ranks; NULL: bytes go through the host */
    struct data_cache *cache;
    const struct value *config; /* outlives the trainer */
    const char *file;           /* for messages; may be NULL */
    enum exchange_choice exchange;
    const int *levels; /* of the exchange; NULL: one */
    int level_count;
    bool stream_data; /* leave the data set in host memory */
    bool planned;     /* to be described only: nothing is taken, no step can be done */
    bool eager;       /* queue every step anew: for debuggers and profilers */
    int gpu_share;    /* ranks that share a card, of any group; 0: 1 */
    struct pump pump; /* during long work: data, evaluation */
};

/* Weights are drawn from the seed; step 0. INVALID for configurations and data that do not fit
 * together, with numbers. */
enum status trainer_new(const struct trainer_spec *spec, struct trainer **out,
                        struct err *err) MUST_USE;
void trainer_destroy(struct trainer **t);

/* INVALID where a configuration's model, loss or batch does not fit the data. `file` is for
 * messages; may be NULL. */
enum status trainer_fits(const struct spec_trial *c, const struct model *m,
                         const struct data_info *info, const char *file, struct err *err) MUST_USE;

/* What does not change. Not collective. */
const struct spec_trial *trainer_config(const struct trainer *t);
const struct model *trainer_model(const struct trainer *t);
const struct dataset *trainer_data(const struct trainer *t);
bool trainer_data_cached(const struct trainer *t); /* nothing was read for this trial */
int64_t trainer_steps_per_epoch(const struct trainer *t);
double trainer_steps_per_unit(const struct trainer *t);
int64_t trainer_steps_total(const struct trainer *t);

/* {engine, exchange, loader, nccl} */
struct value *trainer_describe(struct arena *a, const struct trainer *t);

/* What does. Not collective. */
int64_t trainer_steps(const struct trainer *t); /* begun; after a drain: done */
double trainer_units(const struct trainer *t);
double trainer_flops(const struct trainer *t); /* of one step, on this rank */
double trainer_peak_flops(struct trainer *t);  /* of this rank's device, per second; 0: unknown */
int64_t trainer_memory(struct trainer *t);     /* bytes in use: the process's, or the card's */

/* (flat_count), host memory; of a device: a copy, valid until the next call. NULL: no memory, or a
 * device that has failed: trainer_status says which. */
const float *trainer_weights(struct trainer *t);
enum status trainer_status(struct trainer *t, struct err *err) MUST_USE; /* of the device */

struct step_result {
    int64_t step;       /* from 1; 0: no outcome has come back yet */
    uint32_t loss_bits; /* of the folded sum over the batch: what the trace chains */
    double loss;        /* mean */
    double grad_norm;   /* with clipping; else 0 */
    double lr;
    bool stop; /* some rank asked to stop: every rank sees it at the same step */
    double seconds, exchange_seconds; /* of the step; of it, waited for other ranks */
};

/* One step. A device that queues goes on with it while the outcome of an earlier step, or none yet,
 * is returned: trainer_drain waits for the others, one by one, in order; out->step is 0 after the
 * last. `stop` may differ from rank to rank. NONFINITE: "step 17: loss is not finite; model[3]
 * dense: output is not finite", on every rank; the failing slices were not updated. */
enum status trainer_step(struct trainer *t, bool stop, struct step_result *out,
                         struct err *err) MUST_USE;
enum status trainer_drain(struct trainer *t, struct step_result *out, struct err *err) MUST_USE;

struct evaluation {
    double loss;  /* mean */
    double error; /* share of wrong classes; 0 in regression */
    int64_t rows;
};
/* Fixed chunks go round the ranks; their sums are added in the order of chunks. */
enum status trainer_evaluate(struct trainer *t, enum data_part part, struct evaluation *out,
                             struct err *err) MUST_USE;

/* weights: SHA-256 of the flat vector (flat_count float32, little-endian, padding zero). state:
 * SHA-256 of the digests of every norm block of every optimizer slot (NORM_BLOCK floats, the last
 * one padded with zeros): block 0 slot 0, block 0 slot 1, block 1 slot 0, … The same on any number
 * of ranks. */
enum status trainer_digest(struct trainer *t, struct digest *weights, struct digest *state,
                           struct err *err) MUST_USE;

/* One slot of the optimizer, whole: (trainer_slot_count floats), by the same offsets as the
 * weights. */
int64_t trainer_slot_count(const struct trainer *t);
enum status trainer_gather_slot(struct trainer *t, int slot, float *out, struct err *err) MUST_USE;

/* Sets weights (flat_count), slots (each trainer_slot_count floats; NULL: zeros) and the step. */
void trainer_set(struct trainer *t, const float *weights, const float *const *slots, int64_t step);

#endif
