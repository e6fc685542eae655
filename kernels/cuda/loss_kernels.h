/* Launchers of loss.cu: the losses of whole shards and the gradient of their sum, as
 * kernels/cpu/loss.c. For C and C++. Errors wait for cudaGetLastError. */
#ifndef KERNELS_CUDA_LOSS_KERNELS_H
#define KERNELS_CUDA_LOSS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

struct loss_sum; /* kernels/run/device.h */

/* Pointers are device memory. */
struct loss_call {
    const void *x; /* (shards · shard_rows, width) of float or bfloat16 */
    void *dx;      /* the same, another buffer; NULL in evaluation */
    bool bf16;
    const int32_t
        *labels; /* (rows): cross entropy. One outside 0 … width − 1 makes NaN of its loss */
    const float *targets; /* (rows, width): mse */
    int shards;
    int64_t shard_rows, width;
    struct loss_sum *row_sums; /* scratch: (shards · shard_rows) */
    struct loss_sum *losses;   /* (shards) */
};

#ifdef __cplusplus
extern "C" {
#endif

/* One launch where shards are small, else two. The sum over a shard's rows has one order for each
 * number of rows; in evaluation (dx NULL) a row's loss is rounded to 2^−30 and the sum is exact. */
void loss_cross_entropy(const struct loss_call *call, cudaStream_t stream);
void loss_mse(const struct loss_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
