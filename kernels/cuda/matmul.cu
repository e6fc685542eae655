/* Products that the library does not offer, one sum per element in order; comparing two products. */
#include "kernels/cuda/matmul_kernels.h"

#include "core/philox.h"
#include "kernels/cuda/launch.cuh"

/* ---- products ---- */

#define TILE 16 /* a block makes TILE × TILE of D, and takes TILE of k at once */

/* Element (row, column) of a matrix stored by rows; 0 outside. */
template <class T>
__device__ static inline float element(const T *x, int64_t row, int64_t column, int64_t rows,
                                       int64_t columns) {
    return row < rows && column < columns ? load(&x[row * columns + column]) : 0.0f;
}

template <class T, class D>
static __global__ void product(struct matmul_call c, int64_t tiles_m, int64_t tiles_n) {
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE + 1]; /* (row, k), (k, column) */
    int64_t entry = blockIdx.x / (tiles_m * tiles_n), tile = blockIdx.x % (tiles_m * tiles_n);
    int x = threadIdx.x % TILE, y = threadIdx.x / TILE;
    int64_t row = tile / tiles_n * TILE, column = tile % tiles_n * TILE;
    const T *from_a = (const T *)c.a + entry * c.a_stride;
    const T *from_b = (const T *)c.b + entry * c.b_stride;
    float sum = 0.0f;
    for (int64_t k = 0; k < c.k; k += TILE) {
        if (c.transpose_a) /* x runs along what is stored side by side */
            a[x][y] = element(from_a, k + y, row + x, c.k, c.m);
        else
            a[y][x] = element(from_a, row + y, k + x, c.m, c.k);
        if (c.transpose_b)
            b[x][y] = element(from_b, column + y, k + x, c.n, c.k);
        else
            b[y][x] = element(from_b, k + y, column + x, c.k, c.n);
        __syncthreads();
        for (int i = 0; i < TILE && k + i < c.k; i++)
            sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    row += y;
    column += x;
    if (row >= c.m || column >= c.n)
        return;
    if (c.bias)
        sum += load((const D *)c.bias + column);
    if (c.relu && sum < 0.0f)
        sum = 0.0f;
    store((D *)c.d + entry * c.d_stride + row * c.n + column, sum);
}

template <class T, class D>
static void launch_product(const struct matmul_call *c, int batch, cudaStream_t stream) {
    int64_t tiles_m = (c->m + TILE - 1) / TILE, tiles_n = (c->n + TILE - 1) / TILE;
    auto kernel = product<T, D>; /* no comma within the macro's argument */
    LAUNCH(kernel, (unsigned)(tiles_m * tiles_n * batch), TILE * TILE, stream)
    (*c, tiles_m, tiles_n);
}

extern "C" void matmul_plain(const struct matmul_call *call, int batch, cudaStream_t stream) {
    if (!call->bf16)
        launch_product<float, float>(call, batch, stream);
    else if (call->d_float)
        launch_product<__nv_bfloat16, float>(call, batch, stream);
    else
        launch_product<__nv_bfloat16, __nv_bfloat16>(call, batch, stream);
}

template <class T>
static __global__ void relu(T *d, int64_t entries, int64_t stride, int64_t count) {
    EACH(i, entries * count) {
        T *at = &d[i / count * stride + i % count];
        if (load(at) < 0.0f)
            store(at, 0.0f);
    }
}

template <class T>
static void launch_relu(T *d, int64_t entries, int64_t stride, int64_t count, cudaStream_t stream) {
    LAUNCH(relu<T>, blocks_for(entries * count), BLOCK, stream)(d, entries, stride, count);
}

extern "C" void matmul_relu(void *d, bool bf16, int entries, int64_t stride, int64_t count,
                            cudaStream_t stream) {
    if (bf16)
        launch_relu((__nv_bfloat16 *)d, entries, stride, count, stream);
    else
        launch_relu((float *)d, entries, stride, count, stream);
}

/* ---- self-check ---- */

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

template <class T> static __global__ void numbers(const T *d, int64_t count, uint32_t *lost) {
    EACH(i, count) {
        float v = load(&d[i]);
        if (v == v)
            atomicOr(lost, 1u);
    }
}

extern "C" void matmul_numbers(const void *d, bool bf16, int64_t count, uint32_t *lost,
                               cudaStream_t stream) {
    if (bf16) {
        LAUNCH(numbers<__nv_bfloat16>, blocks_for(count), BLOCK, stream)
        ((const __nv_bfloat16 *)d, count, lost);
    } else {
        LAUNCH(numbers<float>, blocks_for(count), BLOCK, stream)((const float *)d, count, lost);
    }
}
