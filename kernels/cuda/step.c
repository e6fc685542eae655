/* A step from the host's side: its terms, folds, what is not finite, its outcome. */
#include <assert.h>

#include "kernels/cuda/cuda.h"

/* The step before may still read its terms on the exchange queue. */
void cuda_begin_step(struct device *d, const struct step_terms *terms) {
    struct cuda_device *c = cuda_of(d);
    assert(terms->slot >= 0 && terms->slot < OUTCOME_SLOTS);
    c->stamped = false;
    cuda_order(c, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    if (cuda_failed(d))
        return;
    step_begin(c->state, terms, c->stream[QUEUE_COMPUTE]);
    cuda_launched(d, "launch of the step's beginning");
}

static void fold_once(struct cuda_device *c, enum queue q, float *dst, const float *const *srcs,
                      int64_t at, int n, int64_t count) {
    struct step_sources from = {0};
    for (int i = 0; i < n; i++)
        from.at[i] = srcs[i] + at;
    step_fold(c->state, dst, &from, n, count, c->stream[q]);
}

/* More vectors than a launch takes: tile by tile, subtrees first. */
static void fold_tiles(struct cuda_device *c, enum queue q, float *dst, const float *const *srcs,
                       int n, int64_t count) {
    const float *tiles[STEP_FOLD_TILES];
    int parts = n / STEP_SOURCES;
    for (int64_t at = 0; at < count; at += STEP_FOLD_TILE) {
        int64_t len = count - at < STEP_FOLD_TILE ? count - at : STEP_FOLD_TILE;
        for (int i = 0; i < parts; i++) {
            float *tile = c->fold_tiles[q] + (ptrdiff_t)i * STEP_FOLD_TILE;
            fold_once(c, q, tile, srcs + i * STEP_SOURCES, at, STEP_SOURCES, len);
            tiles[i] = tile;
        }
        fold_once(c, q, dst + at, tiles, 0, parts, len);
    }
}

void cuda_fold(struct device *d, enum queue q, float *dst, const float *const *srcs, int n,
               int64_t count) {
    struct cuda_device *c = cuda_of(d);
    assert(n > 0 && (n & (n - 1)) == 0 && n <= STEP_SOURCES * STEP_FOLD_TILES);
    if (count == 0 || cuda_failed(d))
        return;
    if (n <= STEP_SOURCES)
        fold_once(c, q, dst, srcs, 0, n, count);
    else
        fold_tiles(c, q, dst, srcs, n, count);
    cuda_launched(d, "launch of the fold");
}

void cuda_fold_shards(struct device *d, const struct fold *fold, int64_t offset,
                      const float *partials, int64_t stride, int shards, int64_t count) {
    assert(shards > 0 && (shards & (shards - 1)) == 0);
    if (count == 0 || cuda_failed(d))
        return;
    step_fold_shards(cuda_state(d), fold, offset, partials, stride, shards, count, cuda_stream(d));
    cuda_launched(d, "launch of the fold of shards");
}

void cuda_scalars(struct device *d, const struct loss_sum *losses, int shards, int64_t shard_rows,
                  float *tail) {
    assert(shards > 0 && (shards & (shards - 1)) == 0);
    if (cuda_failed(d))
        return;
    step_scalars(cuda_state(d), losses, shards, shard_rows, tail, cuda_stream(d));
    cuda_launched(d, "launch of the scalars");
}

bool cuda_finite(struct device *d, const void *x, int64_t count, enum precision precision) {
    uint32_t found = 0;
    if (count == 0 || cuda_failed(d))
        return true;
    step_find(cuda_state(d), x, count, precision == PRECISION_BF16, cuda_stream(d));
    cuda_launched(d, "launch of the search for what is not finite");
    cuda_move(d, &found, &cuda_state(d)->found, sizeof found);
    return found == 0;
}

uint32_t *cuda_flags(struct device *d) {
    return &cuda_state(d)->flags;
}

void cuda_outcome(struct device *d, const float *tail, const uint32_t *words, int ranks,
                  struct step_outcome *ring) {
    if (cuda_failed(d))
        return;
    step_outcome_write(cuda_state(d), tail, words, ranks, ring, cuda_stream(d));
    cuda_launched(d, "launch of the outcome");
}

void cuda_resume(struct device *d) {
    cuda_order(cuda_of(d), QUEUE_COMPUTE, QUEUE_EXCHANGE);
    if (cuda_failed(d))
        return;
    step_resume(cuda_state(d), cuda_stream(d));
    cuda_launched(d, "launch of the reset");
}
