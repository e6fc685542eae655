/* Ten rounds of Philox on sixteen counters side by side. */
#include "kernels/host/random.h"

#include <string.h>

#include "kernels/host/simd.h"

/* A function of its own: inlined into the loops that use the words, GCC undoes the lanes. */
CLONES(, random_block, (uint64_t key, uint64_t hi, uint64_t lo, uint32_t word[4][RANDOM_BLOCK]),
       (key, hi, lo, word)) {
    uint32_t c0[RANDOM_BLOCK], c1[RANDOM_BLOCK], c2[RANDOM_BLOCK], c3[RANDOM_BLOCK];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t j = 0; j < RANDOM_BLOCK; j++) {
        c0[j] = (uint32_t)(lo + j);
        c1[j] = (uint32_t)((lo + j) >> 32);
        c2[j] = (uint32_t)hi;
        c3[j] = (uint32_t)(hi >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int j = 0; j < RANDOM_BLOCK; j++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[j];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[j];
            c0[j] = (uint32_t)(p1 >> 32) ^ c1[j] ^ k0;
            c2[j] = (uint32_t)(p0 >> 32) ^ c3[j] ^ k1;
            c1[j] = (uint32_t)p1;
            c3[j] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(word[0], c0, sizeof c0);
    memcpy(word[1], c1, sizeof c1);
    memcpy(word[2], c2, sizeof c2);
    memcpy(word[3], c3, sizeof c3);
}
