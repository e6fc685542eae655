/* Kernels of the optimizer: see update.c. All pointers are device memory. */
#ifndef KERNELS_CUDA_UPDATE_KERNELS_H
#define KERNELS_CUDA_UPDATE_KERNELS_H

#include <cuda_runtime_api.h>

#include "kernels/run/device.h"

enum update_rule { UPDATE_PLAIN, UPDATE_MOMENTUM, UPDATE_NESTEROV, UPDATE_ADAM };

/* Elements of a chunk at most: the work of one thread block. A multiple of MODEL_ALIGN. */
#define UPDATE_CHUNK 2048

/* A stretch of one tensor within one owned slice. Both offsets are multiples of MODEL_ALIGN. */
struct update_chunk {
    int64_t flat, packed; /* where it begins in the vector, and in the state */
    int32_t count;
    int32_t kind;     /* enum param_kind */
    float keep, take; /* PARAM_STAT: rule_stat's */
};

struct update_vectors {
    float *weights;        /* (vector_count) */
    const float *gradient; /* (vector_count) */
    float *slots[2];       /* packed; NULL where the rule has none */
};

struct step_state; /* step.h */

#ifdef __cplusplus
extern "C" {
#endif

/* One step on all elements of the chunks; nothing when a flag is up or the device is halted. */
void update_launch_apply(cudaStream_t stream, enum update_rule rule,
                         const struct update_chunk *chunks, int64_t count,
                         struct update_vectors vectors, const struct step_state *state);

/* out[k] = the sum of squares of gradient[k · NORM_BLOCK …], in the order of gradient_norm_blocks,
 * of those runs of MODEL_ALIGN elements whose bit is set in masks[k]. */
void update_launch_norms(cudaStream_t stream, const float *gradient, const uint64_t *masks,
                         int64_t blocks, double *out);

/* norms: (blocks). Writes grad_norm and scale of the state, and raises the flag where the norm is
 * not finite. The order of additions depends on `blocks` only. */
void update_launch_clip(cudaStream_t stream, const double *norms, int64_t blocks, int64_t batch,
                        double clip_norm, struct step_state *state);

#ifdef __cplusplus
}
#endif

#endif
