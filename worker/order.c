/* The order of samples: a Feistel network whose round function is Philox, on the smallest power of
 * two that holds `count`, walked along its cycle until it falls below `count` (Black and Rogaway,
 * "Ciphers with arbitrary finite domains", CT-RSA 2002). Fewer than two walks on average. */
#include <assert.h>

#include "core/philox.h"
#include "worker/data.h"

/* Keeps these numbers apart from those that the same seed gives to weights and dropout. */
#define ORDER_STREAM UINT64_C(0x6f72000000000000)

/* Small domains mix badly in few rounds; large ones are called once a sample and must be cheap.
 * Both even, so that halves of unequal width are back in place at the end. */
#define ROUNDS_LARGE 4
#define ROUNDS_SMALL 10
#define SMALL_BITS   12

struct network {
    uint64_t key, stream;
    int low, high; /* bits of the halves */
    int rounds;
};

static uint64_t mask(int bits) {
    return (UINT64_C(1) << bits) - 1;
}

/* (L, R) → (R, L ^ F(R)): the halves' widths change places each round. */
static uint64_t permute(const struct network *n, uint64_t v) {
    uint64_t left = v >> n->low, right = v & mask(n->low);
    int left_bits = n->high, right_bits = n->low;
    for (int round = 0; round < n->rounds; round++) {
        struct philox4 f = philox(n->key, n->stream, (uint64_t)round << 56 | right);
        uint64_t mixed = (left ^ f.v[0]) & mask(left_bits);
        left = right;
        right = mixed;
        int bits = left_bits;
        left_bits = right_bits;
        right_bits = bits;
    }
    return left << n->low | right;
}

int64_t order_at(uint64_t seed, int64_t epoch, int64_t position, int64_t count, bool shuffle) {
    assert(count > 0 && count <= DATA_SAMPLES_MAX && position >= 0 && position < count);
    if (!shuffle || count == 1)
        return position;
    int bits = 64 - __builtin_clzll((unsigned long long)count - 1);
    struct network n = {
        .key = seed,
        .stream = ORDER_STREAM + (uint64_t)(epoch + 1),
        .low = bits - bits / 2,
        .high = bits / 2,
        .rounds = bits < SMALL_BITS ? ROUNDS_SMALL : ROUNDS_LARGE,
    };
    uint64_t v = (uint64_t)position;
    do
        v = permute(&n, v);
    while (v >= (uint64_t)count);
    return (int64_t)v;
}
