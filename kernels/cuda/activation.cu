/* Launches the activations over arrays, by packs where they are aligned. */
#include "kernels/cuda/activation_kernels.h"
#include "kernels/cuda/pack.cuh"

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
#define FORWARD_FLOAT(kind, name, kept)  forward<activation_##name, float>,
#define FORWARD_BF16(kind, name, kept)   forward<activation_##name, __nv_bfloat16>,
#define BACKWARD_FLOAT(kind, name, kept) backward<activation_##name, float>,
#define BACKWARD_BF16(kind, name, kept)  backward<activation_##name, __nv_bfloat16>,

void activation_forward(enum activation kind, bool bf16, const void *x, void *y, int64_t count,
                        cudaStream_t stream) {
    static void (*const of[2][ACTIVATION_KINDS])(const void *, void *, int64_t, cudaStream_t) = {
        {ACTIVATIONS(FORWARD_FLOAT)}, {ACTIVATIONS(FORWARD_BF16)}};
    of[bf16][kind](x, y, count, stream);
}

void activation_backward(enum activation kind, bool bf16, const void *kept, const void *dy,
                         void *dx, int64_t count, cudaStream_t stream) {
    static void (*const of[2][ACTIVATION_KINDS])(const void *, const void *, void *, int64_t,
                                                 cudaStream_t) = {{ACTIVATIONS(BACKWARD_FLOAT)},
                                                                  {ACTIVATIONS(BACKWARD_BF16)}};
    of[bf16][kind](kept, dy, dx, count, stream);
}
