/* Sixteen floats side by side, for loops that the compiler does not put into lanes by itself. Use
 * inside CLONES bodies only: each copy then becomes its own instruction set. Vectors are passed by
 * pointer, because their calling convention depends on the target. */
#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include <stdint.h>
#include <string.h>

#define LANES 16

typedef float lanes __attribute__((vector_size(64)));
typedef int32_t lanes_mask __attribute__((vector_size(64))); /* −1: yes, 0: no */
typedef float eight __attribute__((vector_size(32)));

#define LANES_INLINE static inline __attribute__((always_inline))

LANES_INLINE void lanes_load(lanes *v, const float *p) {
    memcpy(v, p, sizeof *v);
}

LANES_INLINE void lanes_store(float *p, const lanes *v) {
    memcpy(p, v, sizeof *v);
}

/* *v = mask ? *yes : *v */
LANES_INLINE void lanes_select(lanes *v, const lanes_mask *mask, const lanes *yes) {
    *v = (lanes)((*mask & (lanes_mask)*yes) | (~*mask & (lanes_mask)*v));
}

/* dst[j][i] = src[i][j] for 8 × 8. */
LANES_INLINE void transpose_eight(const float *src, int64_t ld, float *dst, int64_t ld_dst) {
    eight r[8], t[8];
    for (int i = 0; i < 8; i++)
        memcpy(&r[i], src + i * ld, sizeof r[i]);
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] =
                __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[i + 2 * j + 1] =
                __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 8; i++)
        memcpy(dst + i * ld_dst, &t[i], sizeof t[i]);
}

/* dst[j·ld_dst + i] = src[i·ld + j] for rows × columns. */
LANES_INLINE void transpose_block(const float *src, int64_t ld, int64_t rows, int64_t columns,
                                  float *dst, int64_t ld_dst) {
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8) {
            if (i + 8 <= rows && j + 8 <= columns) {
                transpose_eight(src + i * ld + j, ld, dst + j * ld_dst + i, ld_dst);
                continue;
            }
            for (int64_t a = i; a < rows && a < i + 8; a++)
                for (int64_t b = j; b < columns && b < j + 8; b++)
                    dst[b * ld_dst + a] = src[a * ld + b];
        }
}

#endif
