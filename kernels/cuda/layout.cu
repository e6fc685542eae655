/* Transposes by tiles of 1024 elements, read and written along the lines of memory:
 *
 *     x (rows, columns)          tile in shared memory            y (columns, rows)
 *       ┌──────────┐   reads go    ┌────────┬───┐    writes go     ┌────────┐
 *       │   ░░░    │  ──────────▶  │ ░░░░░░ │pad│  ───────────▶    │   ░    │
 *       └──────────┘   by row      └────────┴───┘    by column     │   ░    │
 *                                                                  └────────┘
 * The tile is 32 × 32, or flat or steep where one side is short: an image's three channels. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layout_kernels.h"

#define TILE_BITS     10
#define TILE          (1 << TILE_BITS)
#define SIDE_BITS     5
#define SIDE_BITS_MIN 2
#define SHARED        (TILE + (TILE >> SIDE_BITS_MIN)) /* at most: 256 rows of 4 and a pad of 1 */

struct tiling {
    int row_bits, column_bits; /* a tile has 2^row_bits rows; together TILE_BITS */
    int pad; /* elements after a row, so that its columns lie in different banks */
    int64_t down, across, all; /* tiles of a sample, of everything */
};

template <class T>
__global__ void layout_tiles(const T *x, T *y, int64_t rows, int64_t columns, struct tiling t) {
    __shared__ T tile[SHARED];
    const int row_mask = (1 << t.row_bits) - 1, column_mask = (1 << t.column_bits) - 1;
    const int pitch = column_mask + 1 + t.pad;
    for (int64_t i = blockIdx.x; i < t.all; i += gridDim.x) {
        int64_t sample = i / (t.down * t.across), rest = i - sample * (t.down * t.across);
        int64_t row = rest / t.across << t.row_bits, column = rest % t.across << t.column_bits;
        const T *from = x + sample * rows * columns;
        T *to = y + sample * rows * columns;
        for (int e = (int)threadIdx.x; e < TILE; e += BLOCK) {
            int r = e >> t.column_bits, c = e & column_mask;
            if (row + r < rows && column + c < columns)
                tile[r * pitch + c] = from[(row + r) * columns + column + c];
        }
        __syncthreads();
        for (int e = (int)threadIdx.x; e < TILE; e += BLOCK) {
            int r = e & row_mask, c = e >> t.row_bits;
            if (row + r < rows && column + c < columns)
                to[(column + c) * rows + row + r] = tile[r * pitch + c];
        }
        __syncthreads();
    }
}

/* The power of two that covers a short side. */
static int side_bits(int64_t count) {
    int bits = SIDE_BITS_MIN;
    while (bits < SIDE_BITS && (INT64_C(1) << bits) < count)
        bits++;
    return bits;
}

static struct tiling tiling_for(int64_t samples, int64_t rows, int64_t columns) {
    struct tiling t = {};
    bool flat = rows <= columns;
    int bits = side_bits(flat ? rows : columns);
    t.row_bits = flat ? bits : TILE_BITS - bits;
    t.column_bits = TILE_BITS - t.row_bits;
    t.pad = flat ? 1 << (SIDE_BITS - bits) : 1;
    t.down = (rows + (INT64_C(1) << t.row_bits) - 1) >> t.row_bits;
    t.across = (columns + (INT64_C(1) << t.column_bits) - 1) >> t.column_bits;
    t.all = samples * t.down * t.across;
    return t;
}

template <class T>
static void launch(const void *x, void *y, int64_t rows, int64_t columns, struct tiling t,
                   cudaStream_t stream) {
    unsigned blocks = blocks_for(t.all * BLOCK);
    LAUNCH(layout_tiles<T>, blocks, BLOCK, stream)((const T *)x, (T *)y, rows, columns, t);
}

/* Elements are only moved: half words and words. */
void layout_transpose(bool bf16, const void *x, void *y, int64_t samples, int64_t rows,
                      int64_t columns, cudaStream_t stream) {
    struct tiling t = tiling_for(samples, rows, columns);
    if (bf16)
        launch<uint16_t>(x, y, rows, columns, t, stream);
    else
        launch<uint32_t>(x, y, rows, columns, t, stream);
}
