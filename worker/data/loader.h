/* Where batches come from.
 *
 *     host      the CPU's rows: gathered from the data set when a step asks
 *     resident  the data set is on the device; a step gathers there, and nothing crosses the bus
 *     streamed  a data set that does not fit: a thread gathers the next step's rows into pinned
 *               memory while this one is computed, and they are copied before the step begins
 *
 *     loader_prepare(step)   outside of a recorded step: streamed rows are sent
 *     loader_gather()        inside of it: the batch's rows are there for what is queued next
 *
 * The rows are the same bits in all three. Threading: one thread (the loader has its own, which
 * touches host memory alone). */
#ifndef WORKER_DATA_LOADER_H
#define WORKER_DATA_LOADER_H

#include "kernels/run/device.h"
#include "worker/data/data.h"

struct loader;

struct loader_spec {
    struct device *device;
    struct dataset *data; /* outlives the loader */
    uint64_t seed;
    bool shuffle;
    int64_t batch, rows, first_row; /* B, this rank's share of it, and where that begins */
    int64_t steps_per_epoch;
    int64_t eval_rows; /* of a chunk of evaluation */
    bool classes;      /* labels, else targets */
    bool resident;     /* false: stream in any case */
    enum precision precision;
};

enum status loader_new(const struct loader_spec *spec, struct loader **out,
                       struct err *err) MUST_USE;
void loader_destroy(struct loader **l);
const char *loader_name(const struct loader *l);      /* "host", "resident", "streamed" */
const char *loader_way(bool resident, bool streamed); /* the same of a loader that is not made */

/* Fills in the terms of a step (from 1) what says which rows it takes. */
void loader_terms(const struct loader *l, int64_t step, struct step_terms *terms);

/* Whether loader_prepare would not have to wait for the device. A caller that must do other things
 * while it waits asks first. */
bool loader_ready(struct loader *l);
void loader_prepare(struct loader *l, int64_t step);
void loader_gather(struct loader *l, int64_t step);

/* Device memory; the same in every step. */
const struct batch *loader_batch(const struct loader *l);

/* Rows [first, first + rows) of a part in its own order, into the batch. Waits where it must. */
void loader_rows(struct loader *l, enum data_part part, int64_t first, int64_t rows);

#endif
