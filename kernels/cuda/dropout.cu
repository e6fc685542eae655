/* The mask of dropout is made where it is used, forward and backward: four words of Philox cost
 * less than a byte an element kept between the passes. */
#include "core/philox.h"
#include "kernels/cuda/dropout_kernels.h"
#include "kernels/cuda/pack.cuh"

/* A thread takes the features of one pack, the last of a row perhaps in part. */
template <class T> __global__ void dropout_rows(struct dropout_call call, bool whole) {
    constexpr int N = pack<T>::count;
    const int64_t packs = (call.features + N - 1) / N, quads = (call.features + 3) / 4;
    const uint64_t stream = call.stream | ((uint64_t)*call.step & call.step_mask);
    EACH(i, call.rows * packs) {
        int64_t row = i / packs, first = (i - row * packs) * N;
        int64_t left = call.features - first;
        const T *from = (const T *)call.from + row * call.features + first;
        T *to = (T *)call.to + row * call.features + first;
        uint64_t counter = (uint64_t)call.rows_global[row] * (uint64_t)quads;
        pack<T> v;
        if (whole)
            v = load_pack(from);
        else
            for (int j = 0; j < N; j++)
                store(&v.v[j], j < left ? load(from + j) : 0.0f);
        for (int q = 0; q < N / 4; q++) {
            struct philox4 words = philox(call.seed, stream, counter + (uint64_t)(first / 4 + q));
            for (int j = 0; j < 4; j++) {
                T *element = &v.v[4 * q + j];
                store(element, words.v[j] >= call.threshold ? load(element) * call.scale : 0.0f);
            }
        }
        if (whole)
            store_pack(to, v);
        else
            for (int j = 0; j < N && j < left; j++)
                to[j] = v.v[j];
    }
}

template <class T> static void launch(const struct dropout_call *call, cudaStream_t stream) {
    constexpr int N = pack<T>::count;
    bool whole = aligned(call->from) && aligned(call->to) && call->features % N == 0;
    LAUNCH(dropout_rows<T>, blocks_for(call->rows * ((call->features + N - 1) / N)), BLOCK, stream)
    (*call, whole);
}

void dropout_apply(const struct dropout_call *call, cudaStream_t stream) {
    if (call->bf16)
        launch<__nv_bfloat16>(call, stream);
    else
        launch<float>(call, stream);
}
