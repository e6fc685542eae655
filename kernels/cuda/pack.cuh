/* Sixteen bytes of neighbouring elements: what a thread moves at once. Seen by the .cu files only.
 *
 * Kernels that use it do the same operations on an element whether it came in a pack or alone, so
 * that alignment and counts never show in the bits. */
#ifndef KERNELS_CUDA_PACK_CUH
#define KERNELS_CUDA_PACK_CUH

#include <string.h>

#include "kernels/cuda/launch.cuh"

template <class T> struct alignas(16) pack {
    static constexpr int count = 16 / (int)sizeof(T);
    T v[count];
};

static inline bool aligned(const void *p) {
    return (uintptr_t)p % sizeof(uint4) == 0;
}

/* p: aligned. */
template <class T> __device__ static inline pack<T> load_pack(const T *p) {
    uint4 words = *(const uint4 *)p;
    pack<T> out;
    memcpy(&out, &words, sizeof out);
    return out;
}

template <class T> __device__ static inline void store_pack(T *p, const pack<T> &values) {
    uint4 words;
    memcpy(&words, &values, sizeof words);
    *(uint4 *)p = words;
}

#endif
