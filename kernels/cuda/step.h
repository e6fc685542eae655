/* What changes from step to step in device memory, and the launchers of step.cu. For C and C++.
 *
 *     begin ─▶ terms, flags = 0, scale ─▶ forward … backward … ─▶ scalars ─▶ (exchange) ─▶ outcome
 *                    read by every kernel of a recorded step            halted ◀──┴──▶ host's ring
 *
 * Launchers queue on the stream they are given and return: errors wait for cudaGetLastError. */
#ifndef KERNELS_CUDA_STEP_H
#define KERNELS_CUDA_STEP_H

#include <cuda_runtime_api.h>

#include "kernels/run/device.h"

/* What kernels of a step read and write in device memory: one for a device. */
struct step_state {
    struct step_terms terms;
    uint32_t flags;    /* of this step and rank: enum OUTCOME_… */
    uint32_t halted;   /* not 0: some step failed; weights and state stay as they are */
    float scale;       /* of the gradient: terms.scale, or what clipping made of it */
    uint32_t found;    /* scratch of `finite` */
    double grad_norm;  /* of the step, where it clips */
    uint64_t begin_ns; /* the device's clock */
    uint64_t work_ns;  /* when computing first waited for the exchange; 0: it did not */
};

#define STEP_SOURCES 64 /* vectors that one launch of step_fold adds */

/* More vectors are added tile by tile, through tiles of partial sums. */
#define STEP_FOLD_TILE  16384 /* elements */
#define STEP_FOLD_TILES STEP_SOURCES

struct step_sources {
    const float *at[STEP_SOURCES];
};

#ifdef __cplusplus
extern "C" {
#endif

/* One thread, one word: whether the device runs the code of this library. */
void step_probe(struct step_state *state, cudaStream_t stream);

/* The terms go by value: nothing of the host's is read later. Lowers the flags, not the halt. */
void step_begin(struct step_state *state, const struct step_terms *terms, cudaStream_t stream);
void step_stamp(struct step_state *state, cudaStream_t stream); /* work_ns, the first time */
void step_resume(struct step_state *state, cudaStream_t stream);

/* dst[i] = the tree over srcs.at[0..n)[i]; n: 1, 2, 4 … STEP_SOURCES. */
void step_fold(struct step_state *state, float *dst, const struct step_sources *srcs, int n,
               int64_t count, cudaStream_t stream);

/* See cuda_fold_shards; `shards`: any power of two. */
void step_fold_shards(struct step_state *state, const struct fold *fold, int64_t offset,
                      const float *partials, int64_t stride, int shards, int64_t count,
                      cudaStream_t stream);

/* tail[0..SCALARS): the tree over shards of the loss, what is right, the rows; the stop. */
void step_scalars(struct step_state *state, const struct loss_sum *losses, int shards,
                  int64_t shard_rows, float *tail, cudaStream_t stream);

/* state->found = 1 where an element is not finite, else 0. */
void step_find(struct step_state *state, const void *x, int64_t count, bool bf16,
               cudaStream_t stream);

void step_convert_bf16(const float *src, void *dst, int64_t count, cudaStream_t stream);

/* ring: host memory that kernels can write. Flags that are up once stay up in every outcome that
 * follows, until step_resume: none of those steps changed anything. */
void step_outcome_write(struct step_state *state, const float *tail, const uint32_t *words,
                        int ranks, struct step_outcome *ring, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
