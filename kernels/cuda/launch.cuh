/* How kernels are written: seen by the .cu files only.
 *
 *     LAUNCH(kernel, grid, block, stream)(arguments …);
 *
 * Kernels use static shared memory, __syncthreads, and warps of 32 by __shfl_*_sync with the full
 * mask: what the host stand-in of the tests (tests/standin/device_on_host.h) understands too.
 * Blocks have at most 1024 threads in x. Loops over elements are grid-stride; indices are 64-bit.
 */
#ifndef KERNELS_CUDA_LAUNCH_CUH
#define KERNELS_CUDA_LAUNCH_CUH

#ifndef LAUNCH /* a host build brings its own, and blockIdx and the like with it */
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, stream) (kernel)<<<(grid), (block), 0, (stream)>>>
#endif

#include <cuda_bf16.h>
#include <stdint.h>

#define BLOCK 256

/* Blocks for `count` elements, one each, at most 2^16: the loops stride. */
static inline unsigned blocks_for(int64_t count) {
    int64_t n = (count + BLOCK - 1) / BLOCK;
    return (unsigned)(n < 1 ? 1 : n > 65536 ? 65536 : n);
}

#define EACH(i, count)                                                                             \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count);                  \
         i += (int64_t)gridDim.x * blockDim.x)

/* An element between operators, as float and back (round to nearest even). */
__device__ static inline float load(const float *p) {
    return *p;
}
__device__ static inline float load(const __nv_bfloat16 *p) {
    return __bfloat162float(*p);
}
__device__ static inline void store(float *p, float v) {
    *p = v;
}
__device__ static inline void store(__nv_bfloat16 *p, float v) {
    *p = __float2bfloat16_rn(v);
}

#endif
