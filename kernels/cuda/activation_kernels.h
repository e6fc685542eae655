/* Launchers of activation.cu: element by element, on `count` elements of float or bfloat16. For C
 * and C++. Errors wait for cudaGetLastError. */
#ifndef KERNELS_CUDA_ACTIVATION_KERNELS_H
#define KERNELS_CUDA_ACTIVATION_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/cuda/activations.h"

enum activation {
#define ACTIVATION_KIND(kind, name, kept) ACTIVATION_##kind,
    ACTIVATIONS(ACTIVATION_KIND)
#undef ACTIVATION_KIND
        ACTIVATION_KINDS
};

#ifdef __cplusplus
extern "C" {
#endif

/* y may be x. */
void activation_forward(enum activation kind, bool bf16, const void *x, void *y, int64_t count,
                        cudaStream_t stream);

/* kept: x or y, as the activation's row says. dx may be dy. */
void activation_backward(enum activation kind, bool bf16, const void *kept, const void *dy,
                         void *dx, int64_t count, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
