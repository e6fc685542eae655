/* The copies of a loop for AVX-512, AVX2 and the baseline give the same bits, also behind the last
 * whole vector and with NaN, infinities and negative zeros among the data. The sources are
 * included, because the copies are static. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* as the room's flags say; gcc does so with -std=c17 */
#endif
#include "kernels/cpu/activation.c"
#include "kernels/cpu/fold.c"
#include "kernels/cpu/lanes.c"
#include "tests/unit/kernels/net.h"

#define N 1003

/* Calls name_base, name_avx2 and name_avx512 where this machine has them, each time with its own
 * output (`out`, zeroed), and compares. */
#define SAME(out, name, ...)                                                                       \
    do {                                                                                           \
        static unsigned char first_[sizeof out];                                                   \
        memset(out, 0, sizeof out);                                                                \
        name##_base(__VA_ARGS__);                                                                  \
        memcpy(first_, out, sizeof out);                                                           \
        if (simd_level() >= SIMD_AVX2) {                                                           \
            memset(out, 0, sizeof out);                                                            \
            name##_avx2(__VA_ARGS__);                                                              \
            same_floats((const float *)(const void *)first_, out, sizeof out / 4, #name);          \
        }                                                                                          \
        if (simd_level() >= SIMD_AVX512) {                                                         \
            memset(out, 0, sizeof out);                                                            \
            name##_avx512(__VA_ARGS__);                                                            \
            same_floats((const float *)(const void *)first_, out, sizeof out / 4, #name);          \
        }                                                                                          \
    } while (0)

/* Bits, except that one NaN is as good as another. */
static void same_floats(const float *a, const void *b, size_t n, const char *name) {
    const float *other = b;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &other[i], 4) != 0 && !(a[i] != a[i] && other[i] != other[i]))
            fail_msg("%s: element %zu is %a or %a", name, i, (double)a[i], (double)other[i]);
}

static void fill(float *x, int64_t n, uint64_t stream, bool odd) {
    static const float strange[] = {NAN, INFINITY, -INFINITY, -0.0f, 1e-40f, 3e38f};
    for (int64_t i = 0; i < n; i++)
        x[i] = odd && i % 37 == 5 ? strange[i / 37 % 6] : 6.0f * noise(stream, i);
}

static float x[N], dy[N], out[N];

static void test_activations(void **state) {
    (void)state;
    for (int odd = 0; odd < 2; odd++) {
        fill(x, N, 1, odd);
        fill(dy, N, 2, odd);
        SAME(out, relu_apply, x, out, N);
        SAME(out, tanh_apply, x, out, N);
        SAME(out, sigmoid_apply, x, out, N);
        SAME(out, gelu_apply, x, out, N);
        SAME(out, tanh_slope, x, dy, out, N);
        SAME(out, sigmoid_slope, x, dy, out, N);
        SAME(out, gelu_slope, x, dy, out, N);
        SAME(out, add_two, out, x, dy, N);
        SAME(out, cpu_relu_mask, out, x, N);
    }
}

static void test_sums(void **state) {
    (void)state;
    for (int64_t columns = 1; columns < 70; columns++) {
        fill(x, N, 3, false);
        SAME(out, cpu_column_sums, x, N / columns, columns, out);
    }
}

static void test_transpose(void **state) {
    (void)state;
    fill(x, N, 4, true);
    for (int64_t rows = 1; rows < 30; rows++) {
        int64_t columns = N / rows;
        SAME(out, cpu_transpose, x, columns, rows, columns, out, rows);
        for (int64_t i = 0; i < rows * columns; i++)
            assert_memory_equal(&out[i % columns * rows + i / columns], &x[i], 4);
    }
}

/* Pools over every number of channels; places are floats' bytes to SAME. */
static void test_pools(void **state) {
    (void)state;
    enum { SIDE = 5, CHANNELS = 37, FULL = SIDE * SIDE * CHANNELS };
    static float in[FULL], y[FULL], chosen[FULL], stats[7 * CHANNELS], dx[FULL], grad[FULL];
    static uint16_t wide[FULL + 1];
    static uint8_t from[FULL + 3];
    struct cpu_channel_stats st = {stats,
                                   stats + CHANNELS,
                                   stats + 2 * CHANNELS,
                                   stats + 3 * CHANNELS,
                                   stats + 4 * CHANNELS,
                                   stats + 5 * CHANNELS,
                                   stats + 6 * CHANNELS};
    fill(stats, 7 * CHANNELS, 5, false);
    fill(grad, FULL, 6, false);
    for (int64_t c = 1; c <= CHANNELS; c++)
        for (int odd = 0; odd < 2; odd++) {
            struct cpu_window w = {c, SIDE, SIDE, 2, 2, 2, 2, 2, 2};
            bool relu = c % 2;
            fill(in, FULL, 7, odd);
            SAME(y, cpu_max_sample, in, &w, y, wide);
            SAME(wide, cpu_max_sample, in, &w, y, wide);
            SAME(y, cpu_norm_pool_forward, in, &w, &st, relu, y, chosen, from);
            SAME(chosen, cpu_norm_pool_forward, in, &w, &st, relu, y, chosen, from);
            SAME(from, cpu_norm_pool_forward, in, &w, &st, relu, y, chosen, from);
            SAME(dx, cpu_norm_pool_data, in, grad, from, &w, &st, dx);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
