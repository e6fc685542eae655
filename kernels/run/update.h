/* The optimizer at work: state and updates of the slices that one rank owns, on its device.
 *
 *     reduced gradient ─▶ update_norms (per block) ─▶ gather ─▶ update_clip ┐   only with clipping
 *                      └───────────────────────────▶ update_apply ◀─────────┘─▶ new weights
 *
 * State is packed: slice after slice in the order of buckets, each in whole norm blocks. Rates come
 * from the step's terms (device.h). Where a gradient or the loss is not finite, its slice stays as
 * it was and the step's flag goes up; a queuing backend leaves all slices.
 *
 * Threading and lifetime: as the engine whose vectors it changes. */
#ifndef KERNELS_RUN_UPDATE_H
#define KERNELS_RUN_UPDATE_H

#include "kernels/run/device.h"
#include "kernels/run/optimizer.h"

struct update_spec {
    const struct spec_optimizer *optimizer; /* these two outlive the update */
    const struct model *model;
    float *weights, *gradient; /* the engine's (vector_count), device memory */
    const struct slice *owned; /* (bucket_count): whole norm blocks, the vector's last one apart */
    int bucket_count;
    int64_t blocks;   /* norm blocks of the whole vector */
    int shards;       /* V: statistics are means over shards */
    int64_t batch;    /* B */
    double clip_norm; /* 0: none */
};

/* The start of every backend's own. */
struct update {
    struct device *device;
    struct update_spec spec; /* `owned`: a copy */
    int64_t *packed;         /* (bucket_count): where a bucket's state begins, elements */
    int64_t owned_blocks;
    bool *mixed; /* (owned_blocks): holds statistics or scalars: not all is gradient */
};

enum status update_new(struct device *d, const struct update_spec *spec, struct update **out,
                       struct err *err) MUST_USE;
void update_destroy(struct update **u);

/* What backends share: fills and frees the fields above. */
enum status update_init(struct update *u, struct device *d, const struct update_spec *spec,
                        struct err *err) MUST_USE;
void update_fini(struct update *u);

/* Optimizer slot i: (owned_blocks · NORM_BLOCK) floats of device memory. */
float *update_slot(struct update *u, int slot);

/* Sums of squares of the norm blocks of a bucket's reduced gradient, without statistics and
 * scalars. Returns the packed array of all owned blocks, device memory. */
double *update_norms(struct update *u, int bucket);

/* norms: (blocks), of the whole vector, device memory: the norm of the mean gradient, and from it
 * the scale min(1, clip_norm / (norm + 1e-6)), as PyTorch's clip_grad_norm_. */
void update_clip(struct update *u, const double *norms);

/* The norm of the mean gradient that update_clip found; waits for the device. */
double update_norm(struct update *u);

/* One step on the owned slices of buckets first … first + count − 1. */
void update_apply(struct update *u, int first, int count);

#endif
