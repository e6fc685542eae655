/* Where batches come from.
 *
 *     host      the CPU's rows: gathered from the data set when a step asks
 *     resident  the data set lies on the device; a step gathers there, and nothing crosses the bus
 *     streamed  a data set that does not fit: a thread gathers the next step's rows into pinned
 *               memory while this one is computed, and they are copied before the step begins
 *
 *     feed_prepare(step)   outside of a recorded step: streamed rows are sent
 *     feed_gather()        inside of it: the batch's rows are there for what is queued next
 *
 * The rows are the same bits in all three. Threading: one thread (the feed has its own, which
 * touches host memory alone). */
#ifndef WORKER_DATA_FEED_H
#define WORKER_DATA_FEED_H

#include "kernels/run/device.h"
#include "worker/data/data.h"

struct feed;

struct feed_spec {
    struct device *device;
    struct dataset *data; /* outlives the feed */
    uint64_t seed;
    bool shuffle;
    int64_t batch, rows, first_row; /* B, this rank's share of it, and where that begins */
    int64_t steps_per_epoch;
    int64_t eval_rows; /* of a chunk of evaluation */
    bool classes;      /* labels, else targets */
    bool resident;     /* false: stream in any case */
    enum precision precision;
};

enum status feed_new(const struct feed_spec *spec, struct feed **out, struct err *err) MUST_USE;
void feed_destroy(struct feed **f);
const char *feed_name(const struct feed *f); /* "host", "resident", "streamed" */

/* Fills in the terms of a step (from 1) what says which rows it takes. */
void feed_terms(const struct feed *f, int64_t step, struct step_terms *terms);

/* Whether feed_prepare would not wait for the device: who has more than that to look after while it
 * waits asks first. */
bool feed_ready(struct feed *f);
void feed_prepare(struct feed *f, int64_t step);
void feed_gather(struct feed *f, int64_t step);
const struct batch *feed_batch(const struct feed *f); /* device memory; the same in every step */

/* Rows [first, first + rows) of a part in its own order, into the batch. Waits where it must. */
void feed_rows(struct feed *f, enum data_part part, int64_t first, int64_t rows);

#endif
