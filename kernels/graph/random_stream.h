/* What random numbers are drawn for: the high word of a Philox counter (core/philox.h). Streams of
 * different tags never meet; one file holds them all, so that no tag is given twice.
 *
 *     tag (8 bits) │ layer (16) │ step (40)          weights: tag │ parameter
 *
 * C, C++ and device code. */
#ifndef KERNELS_GRAPH_RANDOM_STREAM_H
#define KERNELS_GRAPH_RANDOM_STREAM_H

#include <stdint.h>

#define STREAM_INIT    (UINT64_C(1) << 56) /* first weights; low word: pairs of elements */
#define STREAM_DROPOUT (UINT64_C(2) << 56) /* low word: fours of features of a global row */
#define STREAM_ROUND   (UINT64_C(3) << 56) /* weights to bfloat16; low word: fours of elements */

#define STREAM_STEP_BITS 40
#define STREAM_STEP_MASK ((UINT64_C(1) << STREAM_STEP_BITS) - 1)

#endif
