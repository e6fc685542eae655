/* One copy of lanes_body.h for each instruction set, and the choice among them. */
#include "kernels/cpu/lanes.h"

#include <string.h>

#include "kernels/cpu/norm.h"
#include "kernels/host/simd.h"

#define NOBODY 255 /* `from` where the relu stopped them all */

/* One channel each, behind the last whole vector. */
static void max_one(const float *x, const struct cpu_window *w, float *y, uint16_t *from) {
    float best = x[0];
    int32_t index = 0, at = 0;
    for (int64_t i = 0; i < w->kernel_h; i++)
        for (int64_t j = 0; j < w->kernel_w; j++, index++) {
            float v = x[(i * w->in_w + j) * w->channels];
            if (v > best || v != v) {
                best = v;
                at = index;
            }
        }
    *y = best;
    *from = (uint16_t)at;
}

static void pool_one(const float *x, const struct cpu_window *w, float a, float b, bool relu,
                     float *y, float *chosen, uint8_t *from) {
    float winner = x[0], best = winner * a + b;
    int32_t index = 0, at = 0;
    for (int64_t i = 0; i < w->kernel_h; i++)
        for (int64_t j = 0; j < w->kernel_w; j++, index++) {
            float v = x[(i * w->in_w + j) * w->channels], z = v * a + b;
            if (z > best || z != z) {
                best = z;
                winner = v;
                at = index;
            }
        }
    *y = relu && best < 0.0f ? 0.0f : best;
    *chosen = winner;
    *from = relu && best <= 0.0f ? NOBODY : (uint8_t)at;
}

#define WIDTH   4
#define NAME(x) x##_base
#include "kernels/cpu/lanes_body.h"

SIMD_AVX2_BEGIN
#define WIDTH   8
#define NAME(x) x##_avx2
#include "kernels/cpu/lanes_body.h"
SIMD_END

SIMD_AVX512_BEGIN
#define WIDTH   16
#define NAME(x) x##_avx512
#include "kernels/cpu/lanes_body.h"
SIMD_END

/* void name(params): the copy for this machine. */
#define DISPATCH(name, params, args)                                                               \
    void name params {                                                                             \
        enum simd_level level = simd_level();                                                      \
        if (level == SIMD_AVX512)                                                                  \
            name##_avx512 args;                                                                    \
        else if (level == SIMD_AVX2)                                                               \
            name##_avx2 args;                                                                      \
        else                                                                                       \
            name##_base args;                                                                      \
    }

DISPATCH(cpu_transpose,
         (const float *src, int64_t ld, int64_t rows, int64_t columns, float *dst, int64_t ld_dst),
         (src, ld, rows, columns, dst, ld_dst))

DISPATCH(cpu_max_sample, (const float *x, const struct cpu_window *w, float *y, uint16_t *from),
         (x, w, y, from))

DISPATCH(cpu_norm_pool_forward,
         (const float *x, const struct cpu_window *w, const struct cpu_channel_stats *st, bool relu,
          float *y, float *chosen, uint8_t *from),
         (x, w, st, relu, y, chosen, from))

DISPATCH(cpu_norm_pool_data,
         (const float *x, const float *dy, const uint8_t *from, const struct cpu_window *w,
          const struct cpu_channel_stats *st, float *dx),
         (x, dy, from, w, st, dx))
