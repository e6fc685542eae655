/* Neighbouring channels that travel together: 16 bytes of them where the number of channels is a
 * multiple of that, else one. A bundle's address is a multiple of its size, since tensors begin
 * where memory was allocated or whole rows further on. The width follows from the shape, so that
 * sums may be arranged by it. */
#ifndef KERNELS_CUDA_BUNDLE_CUH
#define KERNELS_CUDA_BUNDLE_CUH

#include "kernels/cuda/launch.cuh"

template <class T, int W> struct alignas(W * sizeof(T)) bundle { T v[W]; };

template <class T, int W> __device__ static inline bundle<T, W> load_bundle(const T *p) {
    return *reinterpret_cast<const bundle<T, W> *>(p);
}
template <class T, int W> __device__ static inline void store_bundle(T *p, const bundle<T, W> &v) {
    *reinterpret_cast<bundle<T, W> *>(p) = v;
}

static inline int bundle_width(bool bf16, int64_t channels) {
    int whole = bf16 ? 8 : 4;
    return channels % whole == 0 ? whole : 1;
}

/* One kernel, compiled for each type and width. */
template <class Kernel> struct family {
    Kernel *float1, *float4, *bfloat1, *bfloat8;

    Kernel *pick(bool bf16, int64_t channels) const {
        bool wide = bundle_width(bf16, channels) > 1;
        return bf16 ? wide ? bfloat8 : bfloat1 : wide ? float4 : float1;
    }
};

#endif
