/* The order of samples: a Feistel network whose round function is Philox, on the smallest power of
 * two that holds `count`, walked along its cycle until it falls below `count` (Black and Rogaway,
 * "Ciphers with arbitrary finite domains", CT-RSA 2002). Fewer than two walks on average.
 *
 *     position p of epoch e ──▶ sample order_at(seed, e, p, count, true)
 *
 * A function of its arguments alone: O(1) to resume anywhere, the same on any rank, and the same
 * bits in host and device code. All inline: this header has no .c file and compiles as C++ too. */
#ifndef CORE_ORDER_H
#define CORE_ORDER_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/philox.h"
#include "core/shared_inline.h"

/* Keeps these numbers apart from those that weights and dropout draw from the same seed. */
#define ORDER_STREAM UINT64_C(0x6f72000000000000)

/* Small domains mix badly in few rounds; large ones are called once a sample and must be cheap.
 * Both are even, so that halves of unequal width end where they began. */
#define ORDER_ROUNDS_LARGE 4
#define ORDER_ROUNDS_SMALL 10
#define ORDER_SMALL_BITS   12

struct order_network {
    uint64_t key, stream;
    int low, high; /* bits of the halves, at most 32 */
    int rounds;
};

SHARED_INLINE uint64_t order_mask(int bits) {
    return (UINT64_C(1) << bits) - 1;
}

/* The bits that v needs: 0 → 0, 1 → 1, 2 and 3 → 2, … */
SHARED_INLINE int order_bits(uint64_t v) {
    int bits = 0;
    for (int width = 32; width > 0; width /= 2)
        if (v >> width != 0) {
            bits += width;
            v >>= width;
        }
    return bits + (v != 0 ? 1 : 0);
}

/* (L, R) → (R, L ^ F(R)): the halves' widths change places each round. */
SHARED_INLINE uint64_t order_permute(const struct order_network *n, uint64_t v) {
    uint64_t left = v >> n->low, right = v & order_mask(n->low);
    int left_bits = n->high, right_bits = n->low;
    for (int round = 0; round < n->rounds; round++) {
        struct philox4 f = philox(n->key, n->stream, (uint64_t)round << 56 | right);
        uint64_t mixed = (left ^ f.v[0]) & order_mask(left_bits);
        left = right;
        right = mixed;
        int bits = left_bits;
        left_bits = right_bits;
        right_bits = bits;
    }
    return left << n->low | right;
}

/* A permutation of 0 … count − 1 for every seed and epoch (from −1), keyed by both. shuffle false:
 * identity. 0 ≤ position < count. */
SHARED_INLINE int64_t order_at(uint64_t seed, int64_t epoch, int64_t position, int64_t count,
                               bool shuffle) {
    assert(position >= 0 && position < count);
    if (!shuffle || count == 1)
        return position;
    int bits = order_bits((uint64_t)count - 1);
    struct order_network n;
    n.key = seed;
    n.stream = ORDER_STREAM + (uint64_t)(epoch + 1);
    n.low = bits - bits / 2;
    n.high = bits / 2;
    n.rounds = bits < ORDER_SMALL_BITS ? ORDER_ROUNDS_SMALL : ORDER_ROUNDS_LARGE;
    uint64_t v = (uint64_t)position;
    do
        v = order_permute(&n, v);
    while (v >= (uint64_t)count);
    return (int64_t)v;
}

#endif
