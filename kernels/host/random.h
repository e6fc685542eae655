/* philox() of core/philox.h for RANDOM_BLOCK neighbouring counters at once. */
#ifndef KERNELS_HOST_RANDOM_H
#define KERNELS_HOST_RANDOM_H

#include <stdint.h>

#define RANDOM_BLOCK 16

/* word[w][j]: word w of philox(key, hi, lo + j). */
void random_block(uint64_t key, uint64_t hi, uint64_t lo, uint32_t word[4][RANDOM_BLOCK]);

#endif
