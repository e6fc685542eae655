/* The register tiles against their plain C twin, bit by bit; the twin against float64 with the
 * bound of a chain of k fused multiply-adds: k · 2^−24 · Σ |a·b|. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/lanes.h"
#include "kernels/host/simd.h"
#include "tests/unit/kernels/net.h"

#define EDGE 0x7fc12345u /* a NaN nobody may touch */

static void fill(float *x, int64_t n, uint64_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = noise(stream, i);
}

/* One tile with everything on; C is surrounded by sentinels. */
static void run_tile(cpu_tile_fn *run, int rows, int columns, int64_t k, bool across, int adds,
                     bool relu, float *c) {
    static float a[8 * 64], b[64 * GEMM_PANEL], add[3][8 * 60], bias[GEMM_PANEL];
    struct cpu_tile t = {.a = a,
                         .a_row = across ? 1 : 64,
                         .a_k = across ? 8 : 1,
                         .b = b,
                         .k = k,
                         .c = c + 60,
                         .c_row = 60,
                         .rows = rows,
                         .columns = columns,
                         .bias = adds ? bias : NULL,
                         .relu = relu,
                         .adds = adds};
    fill(a, 8 * 64, 1);
    fill(b, 64 * GEMM_PANEL, 2);
    fill(bias, GEMM_PANEL, 3);
    for (int i = 0; i < adds; i++) {
        fill(add[i], 8 * 60, (uint64_t)(4 + i));
        t.add[i] = add[i];
        t.add_row[i] = 60;
    }
    for (int i = 0; i < 10 * 60; i++) {
        uint32_t sentinel = EDGE;
        memcpy(&c[i], &sentinel, sizeof sentinel);
    }
    run(&t);
}

static void test_tiles(void **state) {
    (void)state;
    static float want[600], got[600];
    enum simd_level level = simd_level();
    for (int rows = 1; rows <= GEMM_ROWS; rows++)
        for (int columns = 1; columns <= GEMM_PANEL; columns++)
            for (int kind = 0; kind < 8; kind++) {
                int64_t k = kind % 2 ? 7 : 33;
                int adds = kind & 2 ? 3 : 0;
                run_tile(cpu_gemm_tile_plain, rows, columns, k, kind & 4, adds, kind & 1, want);
                if (level >= SIMD_AVX2) {
                    run_tile(cpu_gemm_tile_avx2, rows, columns, k, kind & 4, adds, kind & 1, got);
                    assert_memory_equal(want, got, sizeof want);
                }
                if (level >= SIMD_AVX512) {
                    run_tile(cpu_gemm_tile_avx512, rows, columns, k, kind & 4, adds, kind & 1, got);
                    assert_memory_equal(want, got, sizeof want);
                }
            }
}

static void product(int64_t m, int64_t n, int64_t k) {
    float *a = malloc((size_t)(m * k) * 4), *b = malloc((size_t)(n * k) * 4);
    float *c = malloc((size_t)(m * n) * 4), *one = malloc((size_t)n * 4);
    float *packed = malloc((size_t)cpu_gemm_packed(k, n) * 4), *bias = malloc((size_t)n * 4);
    float *bt = malloc((size_t)(n * k) * 4), *other = malloc((size_t)cpu_gemm_packed(k, n) * 4);
    fill(a, m * k, 11);
    fill(b, n * k, 12);
    fill(bias, n, 13);
    cpu_transpose(b, k, n, k, bt, n);
    for (int64_t j = 0; j < n; j += GEMM_PANEL) {
        int64_t width = n - j < GEMM_PANEL ? n - j : GEMM_PANEL;
        cpu_pack_columns(b + j * k, k, k, width, packed + j * k);
        cpu_pack_rows(bt + j, n, k, width, other + j * k);
    }
    assert_memory_equal(packed, other, (size_t)cpu_gemm_packed(k, n) * 4);
    struct cpu_product all = {
        .a = a, .a_row = k, .b = packed, .m = m, .n = n, .k = k, .bias = bias, .c = c, .c_row = n};
    cpu_gemm_rows(&all);
    for (int64_t i = 0; i < m; i++) {
        struct cpu_product alone = all; /* the same bits */
        alone.a = a + i * k;
        alone.m = 1;
        alone.c = one;
        cpu_gemm_rows(&alone);
        assert_memory_equal(one, c + i * n, (size_t)n * 4);
        for (int64_t j = 0; j < n; j++) {
            double sum = (double)bias[j], size = fabs(sum);
            for (int64_t l = 0; l < k; l++) {
                double v = (double)a[i * k + l] * (double)b[j * k + l];
                sum += v;
                size += fabs(v);
            }
            assert_true(fabs((double)c[i * n + j] - sum) <= (double)(k + 1) * 0x1p-24 * size);
        }
    }
    free(a), free(b), free(c), free(one), free(packed), free(bias), free(bt), free(other);
}

static void test_products(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},     {7, 5, 3},     {8, 48, 64},  {9, 49, 65},
                                        {33, 10, 784}, {16, 130, 77}, {3, 96, 200}, {40, 31, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        product(shapes[i][0], shapes[i][1], shapes[i][2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiles),
                                       cmocka_unit_test(test_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
