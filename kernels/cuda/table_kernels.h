/* Kernels of data sets: see table.c. All pointers are device memory. */
#ifndef KERNELS_CUDA_TABLE_KERNELS_H
#define KERNELS_CUDA_TABLE_KERNELS_H

#include <cuda_runtime_api.h>

#include "kernels/run/device.h"

/* A part of a data set as kernels see it. */
struct table_view {
    bool bytes; /* x is uint8, else float */
    int64_t features, outputs;
    const void *x;         /* (samples, features) */
    const int32_t *labels; /* (samples), or NULL */
    const float *targets;  /* (samples, outputs), or NULL */
    const int32_t *ids;    /* (count), or NULL: the samples in order */
    int64_t count;
    const struct table_transform *transforms; /* mean and inverse are device memory too */
    int transform_count;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Row i becomes the sample at position first + i of the part; terms, unless NULL: at the place that
 * the step's order has for position terms->first + i. bf16: x is bfloat16, else float. */
void table_launch_gather(cudaStream_t stream, const struct table_view *table,
                         const struct step_terms *terms, int64_t first, int64_t rows, bool bf16,
                         const struct batch *out);

#ifdef __cplusplus
}
#endif

#endif
