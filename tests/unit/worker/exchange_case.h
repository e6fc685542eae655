/* What the tests of the exchange share: four buckets of a small vector, gradients of eight shards
 * that are computed and not kept, the fixed tree over them, and starting the test under mpirun. */
#ifndef TESTS_UNIT_WORKER_EXCHANGE_CASE_H
#define TESTS_UNIT_WORKER_EXCHANGE_CASE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/philox.h"
#include "tests/unit/cmocka_all.h"
#include "worker/world/exchange.h"

#define SHARDS 8
#define STEPS  3
#define VECTOR ((int64_t)(37 * NORM_BLOCK + 3 * 16 + SCALARS))

static struct world *world;

/* From the end to the beginning; the first has one block and the tail, the last a single block. */
static const struct bucket buckets[] = {
    {36 * NORM_BLOCK, VECTOR, 3},
    {11 * NORM_BLOCK, 36 * NORM_BLOCK, 2},
    {1 * NORM_BLOCK, 11 * NORM_BLOCK, 1},
    {0, NORM_BLOCK, 0},
};
#define BUCKETS ((int)(sizeof buckets / sizeof buckets[0]))

static inline float shard_value(int step, int shard, int64_t i) {
    struct philox4 p = philox((uint64_t)step, (uint64_t)shard, (uint64_t)i);
    return (float)(philox_double(p.v[0], p.v[1]) - 0.5) * (float)(1 << (p.v[2] % 12));
}

static inline float tree(const float *v, int n) {
    float level[SHARDS] = {0};
    memcpy(level, v, (size_t)n * sizeof *v);
    for (; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++)
            level[i] = level[2 * i] + level[2 * i + 1];
    return level[0];
}

static inline void fold_tree(float *dst, const float *const *srcs, int n, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float v[SHARDS] = {0};
        for (int s = 0; s < n; s++)
            v[s] = srcs[s][i];
        dst[i] = tree(v, n);
    }
}

/* The sum over `count` shards from `first` on. */
static inline float partial(int step, int first, int count, int64_t i) {
    float v[SHARDS] = {0};
    for (int s = 0; s < count; s++)
        v[s] = shard_value(step, first + s, i);
    return tree(v, count);
}

static inline void ok(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("rank %d: %s", world_rank(world), err->text);
}

/* Runs a program under mpirun; its exit status. */
static inline int run_ranks(const char *self, const char *ranks) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        (void)setenv("OMPI_MCA_btl", "self,vader", 0);
        (void)execlp("mpirun", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, self,
                     (char *)NULL);
        _exit(127);
    }
    int status = 0;
    return pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0;
}

#endif
