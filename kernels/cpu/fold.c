/* Sums in the fixed tree, and the small reductions every operator uses. */
#include <assert.h>
#include <string.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

#define LANES     16
#define SUM_BLOCK 128
#define FOLD_TILE 1024 /* elements that pass through the tree together: levels stay in L1 */

void sum_plan(const struct fold *fold, float *scratch, int64_t stride, int s, int shards,
              int64_t offset, struct sum *out) {
    int full = __builtin_ctz(~(unsigned)s), levels = log2_of(shards);
    bool last = s == shards - 1;
    if (last)
        full = levels;
    out->adds = full;
    for (int i = 0; i < full; i++)
        out->add[i] = scratch + i * stride;
    out->dst = last ? fold->dst + offset : scratch + full * stride;
    for (int i = 0; last && i < fold->adds; i++)
        out->add[out->adds++] = fold->add[i] + offset;
}

CLONES(static, add_two, (float *dst, const float *a, const float *b, int64_t n), (dst, a, b, n)) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = a[i] + b[i];
}

void sum_apply(const struct sum *sum, const float *leaf, int64_t count) {
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

/* Chains of SUM_BLOCK rows, then a chain of those: the error grows with the sum of both lengths. */
static inline __attribute__((always_inline)) void
sum_lanes(const float *x, int64_t rows, int64_t columns, float *out, int width) {
    float total[LANES] = {0};
    for (int64_t at = 0; at < rows; at += SUM_BLOCK) {
        int64_t end = at + SUM_BLOCK < rows ? at + SUM_BLOCK : rows;
        float sum[LANES] = {0};
        for (int64_t r = at; r < end; r++)
            for (int c = 0; c < width; c++)
                sum[c] += x[r * columns + c];
        for (int c = 0; c < width; c++)
            total[c] += sum[c];
    }
    for (int c = 0; c < width; c++)
        out[c] = total[c];
}

CLONES(, column_sums, (const float *x, int64_t rows, int64_t columns, float *out),
       (x, rows, columns, out)) {
    int64_t c = 0;
    for (; c + LANES <= columns; c += LANES)
        sum_lanes(x + c, rows, columns, out + c, LANES);
    if (c < columns)
        sum_lanes(x + c, rows, columns, out + c, (int)(columns - c));
}

CLONES(, relu_mask, (float *dy, const float *y, int64_t count), (dy, y, count)) {
    for (int64_t i = 0; i < count; i++)
        dy[i] = y[i] <= 0.0f ? 0.0f : dy[i];
}
