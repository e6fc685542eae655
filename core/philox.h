/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random
 * numbers by counter. The same (key, counter) gives the same four words on any machine, in any
 * order, on any rank: rank never enters a key.
 *
 *     key     = 64 bits: the seed
 *     counter = 128 bits: (stream << 64) | index, as the caller divides them
 *
 * All inline, no state: this header has no .c file, and compiles as C++ and as device code too. */
#ifndef CORE_PHILOX_H
#define CORE_PHILOX_H

#include <stdint.h>

#include "core/shared_inline.h"

struct philox4 {
    uint32_t v[4];
};

SHARED_INLINE struct philox4 philox(uint64_t key, uint64_t hi, uint64_t lo) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)lo, c1 = (uint32_t)(lo >> 32);
    uint32_t c2 = (uint32_t)hi, c3 = (uint32_t)(hi >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    struct philox4 out = {{c0, c1, c2, c3}};
    return out;
}

/* A double in [0, 1) with 53 bits, from two words. */
SHARED_INLINE double philox_double(uint32_t a, uint32_t b) {
    return (double)(((uint64_t)a << 21) ^ (b >> 11)) * (1.0 / 9007199254740992.0);
}

#endif
