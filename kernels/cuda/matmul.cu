#include "kernels/cuda/matmul_kernels.h"

#include "core/philox.h"
#include "kernels/cuda/launch.cuh"

template <class T> static __global__ void fill(T *x, int64_t count, uint64_t seed) {
    EACH(i, count) {
        uint32_t bits = philox(seed, 0, (uint64_t)i).v[0] >> 8;
        store(&x[i], (float)bits * 0x1p-23f - 1.0f);
    }
}

template <class T>
static void launch_fill(T *x, int64_t count, uint64_t seed, cudaStream_t stream) {
    LAUNCH(fill<T>, blocks_for(count), BLOCK, stream)(x, count, seed);
}

extern "C" void matmul_fill(void *x, bool bf16, int64_t count, uint64_t seed, cudaStream_t stream) {
    if (bf16)
        launch_fill((__nv_bfloat16 *)x, count, seed, stream);
    else
        launch_fill((float *)x, count, seed, stream);
}

static __global__ void compare(const uint16_t *a, const uint16_t *b, int64_t count,
                               uint32_t *differs) {
    EACH(i, count) {
        if (a[i] != b[i])
            atomicOr(differs, 1u);
    }
}

extern "C" void matmul_compare(const uint16_t *a, const uint16_t *b, int64_t count,
                               uint32_t *differs, cudaStream_t stream) {
    LAUNCH(compare, blocks_for(count), BLOCK, stream)(a, b, count, differs);
}
