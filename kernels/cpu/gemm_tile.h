/* The register tile, written once for any vector. Include with these set:
 *     TILE(name)    the function's name           VEC      the vector type    WIDTH    its floats
 *     LOAD STORE SPLAT ZERO FMA ADD               on vectors
 *     LOADT STORET  (p, tail[, v]): the first `tail` floats
 *     RELU(v)       v < 0 becomes 0               TARGET   the attribute      VECTORS  of a row
 *
 * ROWS × VECTORS accumulators stay in registers for the whole of k. */

/* A (rows, vectors) instance; `tail` lanes of the last vector are stored. The row pointers are
 * named so that the compiler keeps them in registers and shares one index. */
static inline __attribute__((always_inline)) TARGET void
TILE(body)(const struct cpu_tile *t, int64_t row, int64_t column, const int rows, const int vectors,
           const int tail) {
    VEC acc[TILE_ROWS][VECTORS];
    const float *a[TILE_ROWS];
    const float *b = t->b + column;
    const int64_t step = t->a_k;
    _Pragma("GCC unroll 8") for (int i = 0; i < rows; i++) {
        a[i] = t->a + (row + i) * t->a_row;
        _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) acc[i][j] = ZERO();
    }
    int64_t at = 0;
    for (int64_t k = 0; k < t->k; k++, at += step, b += GEMM_PANEL) {
        VEC bv[VECTORS];
        _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) bv[j] = LOAD(b + j * WIDTH);
        _Pragma("GCC unroll 8") for (int i = 0; i < rows; i++) {
            VEC av = SPLAT(a[i][at]);
            _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) acc[i][j] =
                FMA(av, bv[j], acc[i][j]);
        }
    }
    for (int s = 0; s < t->adds; s++) {
        const float *add = t->add[s] + row * t->add_row[s] + column;
        _Pragma("GCC unroll 8") for (int i = 0; i < rows; i++, add += t->add_row[s])
            _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) acc[i][j] =
                ADD(j == vectors - 1 && tail < WIDTH ? LOADT(add + j * WIDTH, tail)
                                                     : LOAD(add + j * WIDTH),
                    acc[i][j]);
    }
    float *c = t->c + row * t->c_row + column;
    _Pragma("GCC unroll 8") for (int i = 0; i < rows; i++, c += t->c_row)
        _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) {
        VEC v = acc[i][j];
        const bool cut = j == vectors - 1 && tail < WIDTH;
        if (t->bias != NULL)
            v = ADD(v, cut ? LOADT(t->bias + column + j * WIDTH, tail)
                           : LOAD(t->bias + column + j * WIDTH));
        if (t->relu)
            v = RELU(v);
        if (cut)
            STORET(c + j * WIDTH, tail, v);
        else
            STORE(c + j * WIDTH, v);
    }
}

#define INSTANCE(rows, vectors)                                                                    \
    TARGET static void TILE(r##rows##v##vectors)(const struct cpu_tile *t, int64_t row,            \
                                                 int64_t column) {                                 \
        TILE(body)(t, row, column, rows, vectors, WIDTH);                                          \
    }                                                                                              \
    TARGET static void TILE(r##rows##v##vectors##t)(const struct cpu_tile *t, int64_t row,         \
                                                    int64_t column) {                              \
        TILE(body)(t, row, column, rows, vectors, (int)((t->columns - column - 1) % WIDTH) + 1);   \
    }

INSTANCE(1, 1)
INSTANCE(1, 2)
INSTANCE(1, 3)
INSTANCE(2, 1)
INSTANCE(2, 2)
INSTANCE(2, 3)
INSTANCE(4, 1)
INSTANCE(4, 2)
INSTANCE(4, 3)
#if TILE_ROWS == 8
INSTANCE(8, 1)
INSTANCE(8, 2)
INSTANCE(8, 3)
#endif

typedef void TILE(instance)(const struct cpu_tile *t, int64_t row, int64_t column);

#define ROW_OF(rows)                                                                               \
    {                                                                                              \
        {TILE(r##rows##v1), TILE(r##rows##v1t)}, {TILE(r##rows##v2), TILE(r##rows##v2t)}, {        \
            TILE(r##rows##v3), TILE(r##rows##v3t)                                                  \
        }                                                                                          \
    }

static TILE(instance) *const TILE(table)[][3][2] = {
    ROW_OF(1),
    ROW_OF(2),
    ROW_OF(4),
#if TILE_ROWS == 8
    ROW_OF(8),
#endif
};

void TILE(run)(const struct cpu_tile *t) {
    for (int64_t column = 0; column < t->columns; column += VECTORS * WIDTH) {
        int64_t left = t->columns - column;
        int vectors = left >= VECTORS * WIDTH ? VECTORS : (int)((left + WIDTH - 1) / WIDTH);
        int cut = left < VECTORS * WIDTH && left % WIDTH != 0;
        for (int64_t row = 0; row < t->rows;) {
            int shift = t->rows - row >= TILE_ROWS ? (TILE_ROWS == 8 ? 3 : 2)
                                                   : 31 - __builtin_clz((unsigned)(t->rows - row));
            TILE(table)[shift][vectors - 1][cut](t, row, column);
            row += INT64_C(1) << shift;
        }
    }
}

#undef INSTANCE
#undef ROW_OF
