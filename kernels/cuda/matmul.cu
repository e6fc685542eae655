#include "kernels/cuda/matmul_kernels.h"

#include "core/philox.h"
#include "kernels/cuda/launch.cuh"

template <class T> static __global__ void fill(T *x, int64_t count, int64_t period, uint64_t seed) {
    EACH(i, count) {
        uint32_t bits = philox(seed, 0, (uint64_t)(i % period)).v[0] >> 8;
        store(&x[i], (float)bits * 0x1p-23f - 1.0f);
    }
}

template <class T>
static void launch_fill(T *x, int64_t count, int64_t period, uint64_t seed, cudaStream_t stream) {
    LAUNCH(fill<T>, blocks_for(count), BLOCK, stream)(x, count, period, seed);
}

extern "C" void matmul_fill(void *x, bool bf16, int64_t count, int64_t period, uint64_t seed,
                            cudaStream_t stream) {
    if (bf16)
        launch_fill((__nv_bfloat16 *)x, count, period, seed, stream);
    else
        launch_fill((float *)x, count, period, seed, stream);
}

static __global__ void compare(const uint16_t *all, int64_t stride, int64_t entries,
                               const uint16_t *alone, int64_t count, uint32_t *differs) {
    EACH(i, entries * count) {
        if (all[i / count * stride + i % count] != alone[i % count])
            atomicOr(differs, 1u);
    }
}

extern "C" void matmul_compare(const uint16_t *all, int64_t stride, int entries,
                               const uint16_t *alone, int64_t count, uint32_t *differs,
                               cudaStream_t stream) {
    LAUNCH(compare, blocks_for(entries * count), BLOCK, stream)
    (all, stride, (int64_t)entries, alone, count, differs);
}
