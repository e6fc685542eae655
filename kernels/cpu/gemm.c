/* Packing, the loop over tiles, and the choice of the tile for this machine. */
#include "kernels/cpu/gemm.h"
#include "core/clock.h"

#include <string.h>

#include "kernels/cpu/lanes.h"
#include "kernels/host/simd.h"

#define DEPTH 64

#if defined(__x86_64__)
#include <immintrin.h>

#define TILE_ROWS       8
#define VECTORS         3
#define WIDTH           16
#define VEC             __m512
#define TARGET          TARGET_AVX512
#define LOAD(p)         _mm512_loadu_ps(p)
#define STORE(p, v)     _mm512_storeu_ps(p, v)
#define MASK(n)         (__mmask16)((1u << (n)) - 1u)
#define LOADT(p, n)     _mm512_maskz_loadu_ps(MASK(n), p)
#define STORET(p, n, v) _mm512_mask_storeu_ps(p, MASK(n), v)
#define SPLAT(x)        _mm512_set1_ps(x)
#define ZERO()          _mm512_setzero_ps()
#define FMA(a, b, c)    _mm512_fmadd_ps(a, b, c)
#define ADD(a, b)       _mm512_add_ps(a, b)
#define RELU(v)         _mm512_max_ps(_mm512_setzero_ps(), v) /* the second operand where one is NaN */
#define TILE(name)      avx512_##name
#define avx512_run      cpu_gemm_tile_avx512
#include "kernels/cpu/gemm_tile.h"
#undef TILE_ROWS
#undef WIDTH
#undef VEC
#undef TARGET
#undef LOAD
#undef STORE
#undef MASK
#undef LOADT
#undef STORET
#undef SPLAT
#undef ZERO
#undef FMA
#undef ADD
#undef RELU
#undef TILE

static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

#define TILE_ROWS       4
#define WIDTH           8
#define VEC             __m256
#define TARGET          TARGET_AVX2
#define LOAD(p)         _mm256_loadu_ps(p)
#define STORE(p, v)     _mm256_storeu_ps(p, v)
#define MASK(n)         _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - (n)))
#define LOADT(p, n)     _mm256_maskload_ps(p, MASK(n))
#define STORET(p, n, v) _mm256_maskstore_ps(p, MASK(n), v)
#define SPLAT(x)        _mm256_set1_ps(x)
#define ZERO()          _mm256_setzero_ps()
#define FMA(a, b, c)    _mm256_fmadd_ps(a, b, c)
#define ADD(a, b)       _mm256_add_ps(a, b)
#define RELU(v)         _mm256_max_ps(_mm256_setzero_ps(), v)
#define TILE(name)      avx2_##name
#define avx2_run        cpu_gemm_tile_avx2
#include "kernels/cpu/gemm_tile.h"
#else
void cpu_gemm_tile_avx512(const struct cpu_tile *t) {
    cpu_gemm_tile_plain(t);
}
void cpu_gemm_tile_avx2(const struct cpu_tile *t) {
    cpu_gemm_tile_plain(t);
}
#endif

/* The twin: what the kernels above are compared with, bit by bit. */
void cpu_gemm_tile_plain(const struct cpu_tile *t) {
    for (int i = 0; i < t->rows; i++)
        for (int j = 0; j < t->columns; j++) {
            float v = 0.0f;
            for (int64_t k = 0; k < t->k; k++)
                v = __builtin_fmaf(t->a[i * t->a_row + k * t->a_k], t->b[k * GEMM_PANEL + j], v);
            for (int s = 0; s < t->adds; s++)
                v = t->add[s][i * t->add_row[s] + j] + v;
            if (t->bias != NULL)
                v = v + t->bias[j];
            t->c[i * t->c_row + j] = t->relu && v < 0.0f ? 0.0f : v;
        }
}

cpu_tile_fn *cpu_gemm_tile(void) {
    switch (simd_level()) {
    case SIMD_AVX512:
        return cpu_gemm_tile_avx512;
    case SIMD_AVX2:
        return cpu_gemm_tile_avx2;
    case SIMD_BASE:
        break;
    }
    return cpu_gemm_tile_plain;
}

void cpu_pack_rows(const float *src, int64_t ld, int64_t k, int64_t columns, float *b) {
    if (columns == GEMM_PANEL) { /* a constant size: no call */
        for (int64_t r = 0; r < k; r++)
            memcpy(b + r * GEMM_PANEL, src + r * ld, GEMM_PANEL * sizeof *b);
        return;
    }
    for (int64_t r = 0; r < k; r++, b += GEMM_PANEL) {
        memcpy(b, src + r * ld, (size_t)columns * sizeof *b);
        for (int64_t j = columns; j < GEMM_PANEL; j++)
            b[j] = 0.0f;
    }
}

/* DEPTH k at a time, so that a stretch of the panel stays in L1 while it is filled column by
 * column. */
void cpu_pack_columns(const float *src, int64_t ld, int64_t k, int64_t columns, float *b) {
    for (int64_t at = 0; at < k; at += DEPTH, b += DEPTH * GEMM_PANEL) {
        int64_t depth = k - at < DEPTH ? k - at : DEPTH;
        cpu_transpose(src + at, ld, columns, depth, b, GEMM_PANEL);
        for (int64_t i = 0; columns < GEMM_PANEL && i < depth; i++)
            for (int64_t j = columns; j < GEMM_PANEL; j++)
                b[i * GEMM_PANEL + j] = 0.0f;
    }
}

void cpu_gemm_rows(const struct cpu_product *p) {
    cpu_tile_fn *run = cpu_gemm_tile();
    for (int64_t j = 0; j < p->n; j += GEMM_PANEL) {
        struct cpu_tile t;
        t.a_row = p->a_row;
        t.a_k = 1;
        t.b = p->b + j * p->k;
        t.k = p->k;
        t.c_row = p->c_row;
        t.columns = p->n - j < GEMM_PANEL ? (int)(p->n - j) : GEMM_PANEL;
        t.bias = p->bias != NULL ? p->bias + j : NULL;
        t.relu = p->relu;
        t.adds = 0;
        for (int64_t i = 0; i < p->m; i += GEMM_ROWS) {
            t.a = p->a + i * p->a_row;
            t.c = p->c + i * p->c_row + j;
            t.rows = p->m - i < GEMM_ROWS ? (int)(p->m - i) : GEMM_ROWS;
            run(&t);
        }
    }
}

double cpu_gemm_peak(void) {
    enum { M = 96, N = 2 * GEMM_PANEL, K = 256, ROUNDS = 8, TRIES = 5 };
    float *a = cpu_alloc((size_t)M * K * sizeof(float)),
          *c = cpu_alloc((size_t)M * N * sizeof(float));
    float *b = cpu_alloc((size_t)cpu_gemm_packed(K, N) * sizeof(float));
    struct cpu_product product = {
        .a = a, .a_row = K, .b = b, .m = M, .n = N, .k = K, .c = c, .c_row = N};
    double best = 0;
    for (int t = 0; a != NULL && b != NULL && c != NULL && t < TRIES; t++) {
        int64_t begin = clock_mono_ns(&clock_system);
        for (int i = 0; i < ROUNDS; i++)
            cpu_gemm_rows(&product);
        double seconds = (double)(clock_mono_ns(&clock_system) - begin) / 1e9;
        double flops = 2.0 * M * N * K * ROUNDS / (seconds > 0 ? seconds : 1e-9);
        best = flops > best ? flops : best;
    }
    cpu_free(a);
    cpu_free(b);
    cpu_free(c);
    return best;
}
