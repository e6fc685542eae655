/* CUDA C++ for the host: forced in front of each .cu file, so that g++ compiles its kernels as
 * plain functions and its launches as calls of the stand-in runtime, which runs them thread by
 * thread (block.cpp). What is missing here is not part of the dialect that kernels/cuda/launch.cuh
 * describes: a kernel that uses it does not compile, which is what this file is for. */
#ifndef TESTS_STANDIN_DEVICE_ON_HOST_H
#define TESTS_STANDIN_DEVICE_ON_HOST_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <chrono>
#include <tuple>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include "tests/standin/standin.h"

/* ---- words of the language ---- */

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __noinline__
#define __global__
#define __device__
#define __host__
#define __shared__   static /* blocks run one after the other */
#define __constant__ static const
#define __launch_bounds__(...)
#define __forceinline__ inline

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

/* ---- launches ---- */

namespace standin {

/* A kernel with its arguments, copied by value as a launch does. */
template <class... A> struct closure {
    void (*kernel)(A...);
    std::tuple<A...> args;
    static void thread(void *self) {
        auto *c = static_cast<closure *>(self);
        std::apply(c->kernel, c->args);
    }
    static void destroy(void *self) {
        delete static_cast<closure *>(self);
    }
};

template <class T> void check_argument(const char *kernel, const T &v) {
    static_assert(std::is_trivially_copyable_v<T>, "arguments are copied as bytes");
    if constexpr (std::is_pointer_v<T>)
        standin_check_pointer(kernel, (const void *)v);
}

template <class... A> struct launch {
    const char *name;
    dim3 grid, block;
    cudaStream_t stream;
    void (*kernel)(A...);

    void operator()(A... args) const {
        (check_argument(name, args), ...);
        auto *c = new closure<A...>{kernel, std::tuple<A...>(args...)};
        const unsigned g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
        (void)standin_launch(stream, name, g, b, closure<A...>::thread, c, closure<A...>::destroy);
    }
};

template <class... A>
launch<A...> prepare(const char *name, dim3 grid, dim3 block, cudaStream_t stream,
                     void (*kernel)(A...)) {
    return {name, grid, block, stream, kernel};
}

} // namespace standin

#define LAUNCH(kernel, grid, block, stream)                                                        \
    standin::prepare(#kernel, (grid), (block), (stream), (kernel))

/* ---- barriers and warps ---- */

#define __syncthreads() standin_barrier(__FILE__, __LINE__)

namespace standin {

template <class T> unsigned long long to_bits(T v) {
    static_assert(sizeof v <= 8 && std::is_trivially_copyable_v<T>, "a shuffle carries 64 bits");
    unsigned long long bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
template <class T> T of_bits(unsigned long long bits) {
    T v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
inline int lane() {
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}
/* `source`: a lane within the caller's group of `width`, or −1 for the caller's own value. */
template <class T>
T shuffle(unsigned mask, T v, int source, int width, const char *file, int line) {
    const unsigned long long *all = standin_exchange(mask, to_bits(v), file, line);
    if (width != 1 && width != 2 && width != 4 && width != 8 && width != 16 && width != 32)
        standin_trap("a shuffle's width is not a power of two up to 32", file, line);
    return source < 0 ? v : of_bits<T>(all[lane() / width * width + source]);
}

} // namespace standin

#define STANDIN_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32, STANDIN_HERE) {
    return standin::shuffle(mask, v, source & (width - 1), width, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, STANDIN_HERE) {
    int at = standin::lane() % width + (int)by;
    return standin::shuffle(mask, v, at < width ? at : -1, width, file, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, STANDIN_HERE) {
    int at = standin::lane() % width - (int)by;
    return standin::shuffle(mask, v, at >= 0 ? at : -1, width, file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32, STANDIN_HERE) {
    int at = (standin::lane() % width) ^ by;
    return standin::shuffle(mask, v, at < width ? at : -1, width, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, STANDIN_HERE) {
    const unsigned long long *all = standin_exchange(mask, predicate != 0, file, line);
    unsigned votes = 0;
    for (int i = 0; i < 32; i++)
        votes |= (unsigned)all[i] << i;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, STANDIN_HERE) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, STANDIN_HERE) {
    return __ballot_sync(mask, predicate, file, line) == 0xffffffffu;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, STANDIN_HERE) {
    (void)standin_exchange(mask, 0, file, line);
}

inline void __threadfence() {
}
inline void __threadfence_block() {
}
inline void __threadfence_system() {
}

/* ---- atomics: on integers only, since sums of floats would depend on the order of blocks ---- */

namespace standin {
template <class T, class F> T atomic(T *p, F f) {
    static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "atomics are for integers only");
    T old = *p;
    *p = f(old);
    return old;
}
template <class T> using same = typename std::common_type<T>::type; /* not deduced */
} // namespace standin

template <class T> T atomicAdd(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return (T)(old + v); });
}
template <class T> T atomicSub(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return (T)(old - v); });
}
template <class T> T atomicOr(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return (T)(old | v); });
}
template <class T> T atomicAnd(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return (T)(old & v); });
}
template <class T> T atomicMax(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return old > v ? old : v; });
}
template <class T> T atomicMin(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return old < v ? old : v; });
}
template <class T> T atomicExch(T *p, standin::same<T> v) {
    return standin::atomic(p, [=](T) { return v; });
}
template <class T> T atomicCAS(T *p, standin::same<T> expected, standin::same<T> v) {
    return standin::atomic(p, [=](T old) { return old == expected ? v : old; });
}

/* ---- loads, bits and arithmetic ---- */

template <class T> T __ldg(const T *p) {
    return *p;
}
template <class T> T __ldcs(const T *p) {
    return *p;
}
template <class T> void __stcs(T *p, T v) {
    *p = v;
}

/* As in device code: on floats, the number where the other is NaN. */
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return (T)fmin((T)a, (T)b);
    else
        return (T)a < (T)b ? (T)a : (T)b;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return (T)fmax((T)a, (T)b);
    else
        return (T)a > (T)b ? (T)a : (T)b;
}

inline unsigned __float_as_uint(float v) {
    return standin::of_bits<unsigned>(standin::to_bits(v));
}
inline int __float_as_int(float v) {
    return standin::of_bits<int>(standin::to_bits(v));
}
inline float __uint_as_float(unsigned v) {
    return standin::of_bits<float>(v);
}
inline float __int_as_float(int v) {
    return standin::of_bits<float>(standin::to_bits(v));
}
inline long long __double_as_longlong(double v) {
    return standin::of_bits<long long>(standin::to_bits(v));
}
inline double __longlong_as_double(long long v) {
    return standin::of_bits<double>(standin::to_bits(v));
}
inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
inline int __clz(int v) {
    return v == 0 ? 32 : __builtin_clz((unsigned)v);
}
inline int __clzll(long long v) {
    return v == 0 ? 64 : __builtin_clzll((unsigned long long)v);
}
inline int __ffs(int v) {
    return __builtin_ffs(v);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

/* IEEE's operations, which -ffp-contract=off keeps apart. */
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}
inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __fma_rn(double a, double b, double c) {
    return fma(a, b, c);
}
inline float rsqrtf(float a) {
    return 1.0f / sqrtf(a);
}
inline double rsqrt(double a) {
    return 1.0 / sqrt(a);
}

/* ---- clocks ---- */

inline unsigned long long __globaltimer() {
    return (unsigned long long)std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}
inline long long clock64() {
    return (long long)__globaltimer();
}

#endif
