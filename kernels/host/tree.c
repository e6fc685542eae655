/* Tile by tile with a binary counter: sum[l] holds the sum of 2^l neighbours. */
#include "kernels/host/tree.h"

#include <string.h>

#include "kernels/host/simd.h"

#define TILE 512

CLONES(static, add_to, (float *dst, const float *a, int64_t n), (dst, a, n)) {
    for (int64_t i = 0; i < n; i++)
        dst[i] += a[i];
}

void tree_sum(float *dst, const float *const *vectors, int n, int64_t count) {
    float sum[TREE_LEVELS_MAX][TILE];
    for (int64_t at = 0; at < count; at += TILE) {
        int64_t len = count - at < TILE ? count - at : TILE;
        for (int i = 0; i < n; i++) {
            int level = 0;
            float *acc = sum[__builtin_ctz(~(unsigned)i)];
            memcpy(acc, vectors[i] + at, (size_t)len * sizeof(float));
            for (; i >> level & 1; level++)
                add_to(acc, sum[level], len);
        }
        memcpy(dst + at, sum[__builtin_ctz((unsigned)n)], (size_t)len * sizeof(float));
    }
}
