/* One loop, compiled for each instruction set, chosen once at run time.
 *
 *     CLONES(static, axpy, (float *y, const float *x, float a, int64_t n), (y, x, a, n))
 *     { for (int64_t i = 0; i < n; i++) y[i] += a * x[i]; }
 *
 * gives axpy() in three copies (AVX-512, AVX2, baseline) that the compiler vectorises, and a
 * dispatcher. Contraction is off and each lane uses IEEE operations only, so that all copies give
 * the same bits, wherever a loop is cut; reductions are written with explicit lanes for the same
 * reason. (No ifunc: sanitizers cannot run before their own start-up.) */
#ifndef KERNELS_HOST_SIMD_H
#define KERNELS_HOST_SIMD_H

#include <stdbool.h>
#include <stdint.h>

enum simd_level { SIMD_BASE, SIMD_AVX2, SIMD_AVX512 };

/* What this processor offers; 3 loads and a compare, no cpuid in the hot path. */
static inline enum simd_level simd_level(void) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return SIMD_AVX512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? SIMD_AVX2 : SIMD_BASE;
}

#define TARGET_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define TARGET_AVX2   __attribute__((target("avx2,fma")))

/* Everything between BEGIN and END is compiled for that target: for code whose vectors are types.
 * (GCC splits a vector type where a function is defined, before it is inlined into a CLONES copy.)
 */
#define SIMD_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define SIMD_AVX512_BEGIN SIMD_PRAGMA(clang attribute push(TARGET_AVX512, apply_to = function))
#define SIMD_AVX2_BEGIN   SIMD_PRAGMA(clang attribute push(TARGET_AVX2, apply_to = function))
#define SIMD_END          SIMD_PRAGMA(clang attribute pop)
#else
#define SIMD_AVX512_BEGIN                                                                          \
    SIMD_PRAGMA(GCC push_options)                                                                  \
    SIMD_PRAGMA(GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))
#define SIMD_AVX2_BEGIN                                                                            \
    SIMD_PRAGMA(GCC push_options)                                                                  \
    SIMD_PRAGMA(GCC target("avx2,fma"))
#define SIMD_END SIMD_PRAGMA(GCC pop_options)
#endif

#define CLONES(linkage, name, params, args)                                                        \
    static inline __attribute__((always_inline)) void name##_body params;                          \
    TARGET_AVX512 static void name##_avx512 params {                                               \
        name##_body args;                                                                          \
    }                                                                                              \
    TARGET_AVX2 static void name##_avx2 params {                                                   \
        name##_body args;                                                                          \
    }                                                                                              \
    static void name##_base params {                                                               \
        name##_body args;                                                                          \
    }                                                                                              \
    linkage void name params {                                                                     \
        enum simd_level level = simd_level();                                                      \
        if (level == SIMD_AVX512)                                                                  \
            name##_avx512 args;                                                                    \
        else if (level == SIMD_AVX2)                                                               \
            name##_avx2 args;                                                                      \
        else                                                                                       \
            name##_base args;                                                                      \
    }                                                                                              \
    static inline __attribute__((always_inline)) void name##_body params

#endif
