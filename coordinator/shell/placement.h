/* Which GPUs of this machine a worker group gets.
 *
 *     slots = GPUs · slots_per_gpu          ranks on each   gpu 0  ▓▓
 *     a rank takes one                                      gpu 1  ▓
 *                                                           gpu 2       ◀── the next rank
 *
 * A group of P ranks gets the P least used GPUs, one for each rank where there are enough: ranks
 * with a card each can talk by NCCL, ranks on one card cannot. Where there are fewer GPUs than
 * ranks, ranks share them. Without GPUs every group fits, and CUDA_VISIBLE_DEVICES is not set.
 *
 * Pure. GPUs are known by their number in CUDA's order, as `trireme-worker --devices` counts. */
#ifndef COORDINATOR_SHELL_PLACEMENT_H
#define COORDINATOR_SHELL_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLACEMENT_GPUS_MAX 64
#define PLACEMENT_NAME_MAX 96 /* "MIG-" and a UUID, for one */
#define PLACEMENT_TEXT_MAX (PLACEMENT_GPUS_MAX * (PLACEMENT_NAME_MAX + 1))

struct placement {
    int count; /* GPUs; 0: none */
    int64_t slots_per_gpu;
    char names[PLACEMENT_GPUS_MAX][PLACEMENT_NAME_MAX]; /* as CUDA_VISIBLE_DEVICES names them */
    int64_t ranks[PLACEMENT_GPUS_MAX];                  /* on each now */
};

/* What one group has: rank r sits on gpus[r % count]. */
struct placed {
    int64_t ranks;
    int count; /* 0: no GPU */
    uint8_t gpus[PLACEMENT_GPUS_MAX];
};

/* `gpus`: numbers in CUDA's order; `visible`: the CUDA_VISIBLE_DEVICES under which they were
 * counted, or NULL. GPUs beyond PLACEMENT_GPUS_MAX are left out. */
void placement_init(struct placement *p, const int *gpus, size_t count, const char *visible,
                    int64_t slots_per_gpu);

int64_t placement_slots(const struct placement *p); /* of all GPUs; 0 without */

/* False: the group must wait until another one has ended. A group of more ranks than there are
 * slots gets in when it is alone. */
bool placement_take(struct placement *p, int64_t ranks, struct placed *out);
void placement_give(struct placement *p, const struct placed *placed);

/* "0,2,GPU-3fa…": the value of CUDA_VISIBLE_DEVICES for the group; "" without GPUs. */
void placement_text(const struct placement *p, const struct placed *placed,
                    char out[PLACEMENT_TEXT_MAX]);

#endif
