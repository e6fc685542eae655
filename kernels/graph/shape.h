/* The shape of one sample: its rank and its dimensions, without B.
 *
 *     (F)          rank 1    a vector of features
 *     (C, H, W)    rank 3    an image: the user's order, however it lies in memory */
#ifndef KERNELS_GRAPH_SHAPE_H
#define KERNELS_GRAPH_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#define SHAPE_RANK_MAX 4

struct shape {
    int rank;
    int64_t dim[SHAPE_RANK_MAX];
};

/* Elements. */
static inline int64_t shape_size(const struct shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

static inline bool shape_is_image(const struct shape *s) {
    return s->rank == 3;
}

/* Positions of one channel: H · W of an image, 1 of a vector. */
static inline int64_t shape_pixels(const struct shape *s) {
    return shape_is_image(s) ? s->dim[1] * s->dim[2] : 1;
}

#endif
