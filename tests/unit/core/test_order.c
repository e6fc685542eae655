/* order_at is a permutation for every count, another one for every seed and epoch, and uniform
 * enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/order.h"

#define COUNT_MAX INT64_C(1000000000) /* the most that a data set may have */

static void check_bijective(uint64_t seed, int64_t epoch, int64_t n) {
    uint8_t *seen = calloc((size_t)n, 1);
    assert_non_null(seen);
    for (int64_t p = 0; p < n; p++) {
        int64_t v = order_at(seed, epoch, p, n, true);
        assert_true(v >= 0 && v < n);
        assert_int_equal(seen[v], 0);
        seen[v] = 1;
    }
    free(seen);
}

static void every_small_count_is_permuted(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 600; n++)
        for (int64_t epoch = -1; epoch < 3; epoch++)
            check_bijective(7 + (uint64_t)n, epoch, n);
}

static void larger_counts_are_permuted(void **state) {
    (void)state;
    static const int64_t counts[] = {1023, 1024,  1025,  4095,  4096,
                                     4097, 60000, 65536, 65537, 131073};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        check_bijective(UINT64_MAX - i, (int64_t)i, counts[i]);
}

static void the_largest_count_stays_in_bounds(void **state) {
    (void)state;
    for (int64_t p = 0; p < COUNT_MAX; p += COUNT_MAX / 1000) {
        int64_t v = order_at(3, 9, p, COUNT_MAX, true);
        assert_true(v >= 0 && v < COUNT_MAX);
    }
}

static void seeds_and_epochs_differ(void **state) {
    (void)state;
    int same_seed = 0, same_epoch = 0, again = 0, fixed = 0;
    for (int64_t p = 0; p < 1000; p++) {
        int64_t v = order_at(1, 0, p, 1000, true);
        same_seed += v == order_at(2, 0, p, 1000, true);
        same_epoch += v == order_at(1, 1, p, 1000, true);
        again += v == order_at(1, 0, p, 1000, true);
        fixed += v == p;
    }
    assert_int_equal(again, 1000);
    assert_true(same_seed < 20 && same_epoch < 20 && fixed < 20);
}

static void without_shuffle_it_is_the_identity(void **state) {
    (void)state;
    for (int64_t p = 0; p < 100; p++)
        assert_int_equal(order_at(1, 0, p, 100, false), p);
}

/* Where position 0 and the last one land, over many epochs: chi-square over 10 values with 9
 * degrees of freedom stays below 33.7 (p = 0.0001). */
static void positions_land_everywhere(void **state) {
    (void)state;
    static const int64_t counts[] = {10, 1000, 60000};
    for (size_t c = 0; c < 3; c++)
        for (int end = 0; end < 2; end++) {
            double hits[10] = {0}, chi = 0;
            int64_t n = counts[c];
            for (int64_t epoch = 0; epoch < 10000; epoch++)
                hits[order_at(42, epoch, end == 0 ? 0 : n - 1, n, true) * 10 / n]++;
            for (int i = 0; i < 10; i++)
                chi += (hits[i] - 1000) * (hits[i] - 1000) / 1000;
            assert_true(chi < 33.7);
        }
}

/* All 24 orders of 4 samples turn up, about equally often (23 degrees of freedom: 57). */
static void small_sets_take_every_order(void **state) {
    (void)state;
    double hits[256] = {0}, chi = 0;
    int orders = 0;
    for (int64_t epoch = 0; epoch < 24000; epoch++) {
        unsigned code = 0;
        for (int64_t p = 0; p < 4; p++)
            code = code << 2 | (unsigned)order_at(5, epoch, p, 4, true);
        hits[code]++;
    }
    for (int i = 0; i < 256; i++)
        if (hits[i] > 0) {
            orders++;
            chi += (hits[i] - 1000) * (hits[i] - 1000) / 1000;
        }
    assert_int_equal(orders, 24);
    assert_true(chi < 57);
}

/* The bits are part of every manifest: a change here breaks replay of old runs. */
static void known_values_stay(void **state) {
    (void)state;
    static const int64_t expected[] = {23071, 30556, 26948, 37378, 44951, 41145, 31866, 56317};
    for (int64_t p = 0; p < 8; p++)
        assert_int_equal(order_at(1, 0, p, 60000, true), expected[p]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_count_is_permuted),
        cmocka_unit_test(larger_counts_are_permuted),
        cmocka_unit_test(the_largest_count_stays_in_bounds),
        cmocka_unit_test(seeds_and_epochs_differ),
        cmocka_unit_test(without_shuffle_it_is_the_identity),
        cmocka_unit_test(positions_land_everywhere),
        cmocka_unit_test(small_sets_take_every_order),
        cmocka_unit_test(known_values_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
