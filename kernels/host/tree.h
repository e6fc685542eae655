/* The fixed tree over vectors in host memory: neighbours first, then sums of neighbours.
 *
 *     v0  v1  v2  v3
 *      └┬─┘    └┬─┘       each sum is left + right, element by element, in float
 *       └───┬───┘
 *          dst
 *
 * The bits depend on nothing but the vectors: not on the machine, not on how a caller cuts them. */
#ifndef KERNELS_HOST_TREE_H
#define KERNELS_HOST_TREE_H

#include <stdint.h>

#define TREE_LEVELS_MAX 32

/* dst[i] = the tree sum of vectors[0..n)[i], n a power of two. */
void tree_sum(float *dst, const float *const *vectors, int n, int64_t count);

#endif
