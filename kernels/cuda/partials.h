/* Weight gradients of single shards on their way to a fold: arithmetic on sizes only, so that the
 * planner can count them without a device.
 *
 *     call of 8 shards, room for 2 at a time:   [s0 s1] [s2 s3] [s4 s5] [s6 s7]
 *     folds, by a binary counter:                →L0    +L0→L1   →L0    +L0 +L1 → gradient
 *
 * The tree over all shards is the same whatever the room: so are the bits. */
#ifndef KERNELS_CUDA_PARTIALS_H
#define KERNELS_CUDA_PARTIALS_H

#include <stdint.h>

#define PARTIALS_MAX ((int64_t)256 << 20) /* bytes, unless one shard alone needs more */

/* How many shards' gradients of `count` floats lie side by side; `shards`: a power of two. */
static inline int partials_side_by_side(int64_t count, int shards) {
    while (shards > 1 && shards * count * (int64_t)sizeof(float) > PARTIALS_MAX)
        shards /= 2;
    return shards;
}

/* Sums of complete parts of a call that wait for their neighbour. */
static inline int partials_levels(int64_t count, int shards) {
    int levels = 0;
    for (int n = partials_side_by_side(count, shards); n < shards; n *= 2)
        levels++;
    return levels;
}

#endif
