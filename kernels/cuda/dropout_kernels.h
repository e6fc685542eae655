/* The launcher of dropout.cu. For C and C++. Errors wait for cudaGetLastError. */
#ifndef KERNELS_CUDA_DROPOUT_KERNELS_H
#define KERNELS_CUDA_DROPOUT_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

struct dropout_call {
    const void *from; /* (rows, features): x or dy */
    void *to;         /* y or dx; may be `from` */
    bool bf16;
    int64_t rows, features;
    const int32_t *rows_global; /* (rows) */
    const int64_t *step;        /* device memory */
    uint64_t seed, stream;      /* of Philox, the stream without the step */
    uint64_t step_mask;         /* the bits of the stream that hold the step */
    uint32_t threshold;         /* a word below it drops */
    float scale;
};

#ifdef __cplusplus
extern "C" {
#endif

/* to = from · scale where the element's word keeps it, else 0. */
void dropout_apply(const struct dropout_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
