/* Fixed sizes of the GPU backend that the planner counts with. No CUDA header is needed here. */
#ifndef KERNELS_CUDA_LIMITS_H
#define KERNELS_CUDA_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define CUDA_BLAS_WORKSPACE ((size_t)32 << 20) /* part of the bits: never change it lightly */
#define CUDA_DNN_WORKSPACE                                                                         \
    ((size_t)256 << 20) /* at most: engines that ask for more are passed over */

#define CONV_CHUNK 512 /* pixels whose bias gradients one block adds up: part of the bits */

#define NORM_CHUNKS    128 /* into which the positions of a shard are cut at most, … */
#define NORM_CHUNK_MIN 128 /* and of so many positions at least: part of the bits */

#define POOL_NARROW 256 /* elements of a window that one byte can tell apart */

#define CUDA_EVAL_ROWS 4096 /* of a chunk of evaluation */

#define CUDA_CHECK_MAX                                                                             \
    ((int64_t)256 << 20) /* bytes of a self-check, unless two entries need more */

#define CUDA_BLOCK_GRAIN ((size_t)512)
#define CUDA_BLOCK_PAGE  ((size_t)2 << 20)

/* What a block of memory really takes: powers of two up to a page, whole pages from there, so that
 * another net finds blocks that fit it. 0: more than any machine has. */
static inline size_t cuda_block_bytes(size_t bytes) {
    size_t whole = CUDA_BLOCK_GRAIN;
    if (bytes > SIZE_MAX / 2)
        return 0;
    if (bytes > CUDA_BLOCK_PAGE)
        return (bytes + CUDA_BLOCK_PAGE - 1) / CUDA_BLOCK_PAGE * CUDA_BLOCK_PAGE;
    while (whole < bytes)
        whole *= 2;
    return whole;
}

#endif
