/* Loops that no compiler puts into lanes by itself: transposes, and pools that remember a place.
 * They are written once, in lanes_body.h, with vectors of WIDTH floats, and compiled for each
 * instruction set; all of them work element by element, so that the width cannot show in the bits.
 */
#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include <stdbool.h>
#include <stdint.h>

struct cpu_channel_stats;

/* A pool over (H, W, C). */
struct cpu_window {
    int64_t channels, in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w;
};

/* dst[j·ld_dst + i] = src[i·ld + j] for rows × columns. */
void cpu_transpose(const float *src, int64_t ld, int64_t rows, int64_t columns, float *dst,
                   int64_t ld_dst);

/* One sample: y = the largest of each window, `from` its index in the window (the first of equals;
 * NaN wins over everything). */
void cpu_max_sample(const float *x, const struct cpu_window *w, float *y, uint16_t *from);

/* Batch norm, relu and max pool at once, one sample; strides are the kernel's, which has at most
 * 256 elements. y = max over the window of a·x + b (and relu); `chosen` keeps the x that won,
 * `from` its index. */
void cpu_norm_pool_forward(const float *x, const struct cpu_window *w,
                           const struct cpu_channel_stats *st, bool relu, float *y, float *chosen,
                           uint8_t *from);

/* And back: dx = a·(g − S/n − (x − μ)·Q'), g = dy where x was chosen and passed the relu, else 0.
 */
void cpu_norm_pool_data(const float *x, const float *dy, const uint8_t *from,
                        const struct cpu_window *w, const struct cpu_channel_stats *st, float *dx);

#endif
