/* Fixed sizes of the GPU backend that the planner counts with. No CUDA header is needed here. */
#ifndef KERNELS_CUDA_LIMITS_H
#define KERNELS_CUDA_LIMITS_H

#include <stddef.h>

#define CUDA_BLAS_WORKSPACE ((size_t)32 << 20) /* part of the bits: never change it lightly */
#define CUDA_DNN_WORKSPACE                                                                         \
    ((size_t)256 << 20) /* at most: engines that ask for more are passed over */

#define CONV_CHUNK 512 /* pixels whose bias gradients one block adds up: part of the bits */

#define NORM_CHUNKS    128 /* into which the positions of a shard are cut at most, … */
#define NORM_CHUNK_MIN 128 /* and of so many positions at least: part of the bits */

#define POOL_NARROW 256 /* elements of a window that one byte can tell apart */

#define CUDA_EVAL_ROWS 4096 /* of a chunk of evaluation */

#endif
