/* Sums in the fixed tree, and the small reductions every operator uses. */
#include <assert.h>
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/host/simd.h"

#define LANES     16
#define CHAINS    4
#define SUM_BLOCK 128
#define FOLD_TILE 1024 /* elements that pass through the tree together: levels stay in L1 */

void cpu_sum_plan(const struct cpu_tree *t, int s, struct cpu_sum *out) {
    int full = __builtin_ctz(~(unsigned)s), levels = cpu_log2(t->shards);
    bool last = s == t->shards - 1;
    if (last)
        full = levels;
    out->adds = full;
    for (int i = 0; i < full; i++)
        out->add[i] = t->scratch + i * t->stride;
    out->dst = last ? t->fold->dst + t->offset : t->scratch + full * t->stride;
    for (int i = 0; last && i < t->fold->adds; i++)
        out->add[out->adds++] = t->fold->add[i] + t->offset;
}

CLONES(static, add_two, (float *dst, const float *a, const float *b, int64_t n), (dst, a, b, n)) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = a[i] + b[i];
}

void cpu_sum_apply(const struct cpu_sum *sum, const float *leaf, int64_t count) {
    if (sum->adds == 0) {
        if (sum->dst != leaf)
            memcpy(sum->dst, leaf, (size_t)count * sizeof *leaf);
        return;
    }
    for (int64_t at = 0; at < count; at += FOLD_TILE) {
        int64_t n = count - at < FOLD_TILE ? count - at : FOLD_TILE;
        add_two(sum->dst + at, sum->add[0] + at, leaf + at, n);
        for (int i = 1; i < sum->adds; i++)
            add_two(sum->dst + at, sum->add[i] + at, sum->dst + at, n);
    }
}

static inline __attribute__((always_inline)) void
sum_lanes(const float *x, int64_t rows, int64_t columns, float *out, int width) {
    float sum[CHAINS][LANES] = {0};
    int64_t r = 0;
    for (; r + CHAINS <= rows; r += CHAINS)
        for (int k = 0; k < CHAINS; k++)
            for (int c = 0; c < width; c++)
                sum[k][c] += x[(r + k) * columns + c];
    for (; r < rows; r++)
        for (int c = 0; c < width; c++)
            sum[0][c] += x[r * columns + c];
    for (int c = 0; c < width; c++)
        out[c] += (sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c]);
}

/* Blocks of SUM_BLOCK rows in CHAINS chains, then a chain of blocks: the error grows with the sum
 * of the lengths, not with the number of rows. */
CLONES(, cpu_column_sums, (const float *x, int64_t rows, int64_t columns, float *out),
       (x, rows, columns, out)) {
    for (int64_t c = 0; c < columns; c++)
        out[c] = 0.0f;
    for (int64_t at = 0; at < rows; at += SUM_BLOCK, x += SUM_BLOCK * columns) {
        int64_t n = rows - at < SUM_BLOCK ? rows - at : SUM_BLOCK, c = 0;
        for (; c + LANES <= columns; c += LANES)
            sum_lanes(x + c, n, columns, out + c, LANES);
        if (c < columns)
            sum_lanes(x + c, n, columns, out + c, (int)(columns - c));
    }
}

CLONES(, cpu_relu_mask, (float *dy, const float *y, int64_t count), (dy, y, count)) {
    for (int64_t i = 0; i < count; i++)
        dy[i] = y[i] <= 0.0f ? 0.0f : dy[i];
}
