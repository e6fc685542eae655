/* Matrix products whose bits depend on nothing: every element of C is one chain of fused
 * multiply-adds over k in order, starting from 0, whatever the tile it falls into, the number of
 * rows beside it, or the instruction set (AVX-512, AVX2 and the plain C twin give the same bits).
 *
 *     C (M, N) = A (M, K) · B (K, N)
 *
 *     B is packed into panels of GEMM_PANEL columns, the last one filled up with zeros:
 *       ┌ panel 0: K rows of 48 ┐┌ panel 1 ┐ …         a panel's row is contiguous
 *     A may lie either way: element (m, k) at a[m·a_row + k·a_k], one of the strides being 1.
 *
 * Source of the blocking: Goto & van de Geijn, "Anatomy of high-performance matrix multiplication",
 * TOMS 2008; here the register tile runs over all of K because chains may not be cut. */
#ifndef KERNELS_CPU_GEMM_H
#define KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/ops.h"

#define GEMM_PANEL 48 /* columns */
#define GEMM_ROWS  8  /* of the register tile */

/* One register tile: rows ≤ GEMM_ROWS, columns ≤ GEMM_PANEL. What happens to the sum, in order:
 * add[0], add[1], …; bias; relu. All are optional. */
struct cpu_tile {
    const float *a;
    int64_t a_row, a_k;
    const float *b; /* (k, GEMM_PANEL) */
    int64_t k;
    float *c;
    int64_t c_row;
    int rows, columns;
    const float *bias; /* (columns) */
    bool relu;         /* v < 0 becomes 0; NaN stays */
    int adds;
    const float *add[FOLD_MAX];
    int64_t add_row[FOLD_MAX];
};

typedef void cpu_tile_fn(const struct cpu_tile *t);

/* The kernel for this machine, and the one for a given level (tests). */
cpu_tile_fn *cpu_gemm_tile(void);
cpu_tile_fn cpu_gemm_tile_plain, cpu_gemm_tile_avx2, cpu_gemm_tile_avx512;

static inline int64_t cpu_gemm_panels(int64_t columns) {
    return (columns + GEMM_PANEL - 1) / GEMM_PANEL;
}

/* Floats of a packed B. */
static inline int64_t cpu_gemm_packed(int64_t k, int64_t columns) {
    return cpu_gemm_panels(columns) * GEMM_PANEL * k;
}

/* b[k][j] = src[k·ld + j], one panel (j < columns ≤ GEMM_PANEL). */
void cpu_pack_rows(const float *src, int64_t ld, int64_t k, int64_t columns, float *b);

/* b[k][j] = src[j·ld + k]: the transpose, one panel. */
void cpu_pack_columns(const float *src, int64_t ld, int64_t k, int64_t columns, float *b);

/* C (m, n) = A (m, k) · B (k, n), B packed, A's rows contiguous; then the bias, then relu. */
struct cpu_product {
    const float *a;
    int64_t a_row;
    const float *b; /* packed */
    int64_t m, n, k;
    const float *bias; /* (n); NULL: none */
    bool relu;
    float *c;
    int64_t c_row;
};
void cpu_gemm_rows(const struct cpu_product *p);

/* FLOP/s of a product that stays in cache, the best of a few: some milliseconds. */
double cpu_gemm_peak(void);

#endif
