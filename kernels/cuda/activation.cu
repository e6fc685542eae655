/* relu, gelu, tanh and sigmoid. Both element types are computed in float. */
#include "kernels/cuda/activation_kernels.h"
#include "kernels/cuda/pack.cuh"

/* Φ(x) and its density. By erfc, so that the left tail keeps its relative precision. */
__device__ static inline float normal_cdf(float x) {
    return 0.5f * erfcf(x * -0.707106781f);
}

__device__ static inline float normal_pdf(float x) {
    return 0.398942280f * expf(-0.5f * (x * x));
}

/* `value` of x; `slope`: dx from what backward keeps and dy. NaN goes through all of them. */
struct relu {
    __device__ static float value(float x) {
        return x < 0.0f ? 0.0f : x;
    }
    __device__ static float slope(float y, float dy) {
        return y <= 0.0f ? 0.0f : dy;
    }
};

struct gelu {
    __device__ static float value(float x) {
        return x * normal_cdf(x);
    }
    __device__ static float slope(float x, float dy) {
        return dy * (normal_cdf(x) + x * normal_pdf(x));
    }
};

struct hyperbolic_tangent {
    __device__ static float value(float x) {
        return tanhf(x);
    }
    __device__ static float slope(float y, float dy) {
        return dy * (1.0f - y * y);
    }
};

struct sigmoid {
    __device__ static float value(float x) {
        float e = expf(x < 0.0f ? x : -x); /* never overflows */
        float d = 1.0f / (1.0f + e);
        return x < 0.0f ? e * d : d;
    }
    __device__ static float slope(float y, float dy) {
        return dy * (y * (1.0f - y));
    }
};

/* The first `packs` packs, then the elements after them one by one. */
template <class F, class T>
__global__ void activation_values(const T *x, T *y, int64_t packs, int64_t count) {
    constexpr int N = pack<T>::count;
    EACH(i, packs) {
        pack<T> v = load_pack(x + i * N);
        for (int j = 0; j < N; j++)
            store(&v.v[j], F::value(load(&v.v[j])));
        store_pack(y + i * N, v);
    }
    EACH(i, count - packs * N) {
        store(y + packs * N + i, F::value(load(x + packs * N + i)));
    }
}

template <class F, class T>
__global__ void activation_slopes(const T *kept, const T *dy, T *dx, int64_t packs, int64_t count) {
    constexpr int N = pack<T>::count;
    EACH(i, packs) {
        pack<T> k = load_pack(kept + i * N), d = load_pack(dy + i * N);
        for (int j = 0; j < N; j++)
            store(&d.v[j], F::slope(load(&k.v[j]), load(&d.v[j])));
        store_pack(dx + i * N, d);
    }
    EACH(i, count - packs * N) {
        int64_t at = packs * N + i;
        store(dx + at, F::slope(load(kept + at), load(dy + at)));
    }
}

template <class F, class T>
static void forward(const void *x, void *y, int64_t count, cudaStream_t stream) {
    int64_t packs = aligned(x) && aligned(y) ? count / pack<T>::count : 0;
    LAUNCH((activation_values<F, T>), blocks_for(packs > 0 ? packs : count), BLOCK, stream)
    ((const T *)x, (T *)y, packs, count);
}

template <class F, class T>
static void backward(const void *kept, const void *dy, void *dx, int64_t count,
                     cudaStream_t stream) {
    bool whole = aligned(kept) && aligned(dy) && aligned(dx);
    int64_t packs = whole ? count / pack<T>::count : 0;
    LAUNCH((activation_slopes<F, T>), blocks_for(packs > 0 ? packs : count), BLOCK, stream)
    ((const T *)kept, (const T *)dy, (T *)dx, packs, count);
}

/* In the order of enum activation. */
#define OF_EACH(direction, T)                                                                      \
    {                                                                                              \
        direction<relu, T>, direction<gelu, T>, direction<hyperbolic_tangent, T>,                  \
            direction<sigmoid, T>                                                                  \
    }

void activation_forward(enum activation kind, bool bf16, const void *x, void *y, int64_t count,
                        cudaStream_t stream) {
    static void (*const of[2][4])(const void *, void *, int64_t, cudaStream_t) = {
        OF_EACH(forward, float), OF_EACH(forward, __nv_bfloat16)};
    of[bf16][kind](x, y, count, stream);
}

void activation_backward(enum activation kind, bool bf16, const void *kept, const void *dy,
                         void *dx, int64_t count, cudaStream_t stream) {
    static void (*const of[2][4])(const void *, const void *, void *, int64_t, cudaStream_t) = {
        OF_EACH(backward, float), OF_EACH(backward, __nv_bfloat16)};
    of[bf16][kind](kept, dy, dx, count, stream);
}
