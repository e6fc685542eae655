/* What the files of the CPU backend share: the rows of operators, their memory, the fold of shards. */
#ifndef KERNELS_CPU_OPS_H
#define KERNELS_CPU_OPS_H

#include "kernels/run/device.h"

#define OP_ROW(kind, name, layer, images, promises) extern const struct operation cpu_##name;
OPERATORS(OP_ROW)
#undef OP_ROW

/* The backend's tables. */
extern const struct traits cpu_traits;
extern const struct device_memory cpu_memory_table;
extern const struct device_update cpu_update_table;

/* The CPU computes in float32 only. */
static inline const float *pass_x(const struct pass *p) {
    return p->x[0];
}
static inline float *pass_y(const struct pass *p) {
    return p->y;
}
static inline float *pass_dx(const struct pass *p) {
    return p->dx[0];
}
static inline float *pass_dy(const struct pass *p) {
    return p->dy;
}

/* 64-byte aligned, zeroed; NULL when memory is exhausted. */
void *cpu_alloc(size_t bytes);
void cpu_free(void *p);

/* Zeroed state of `bytes` for a node, counted in state_bytes. */
enum status cpu_state(struct node *n, size_t bytes, void **out, struct err *err) MUST_USE;

/* A part of a node's state; counted too. Freed by cpu_free. */
enum status cpu_part(struct node *n, int64_t count, size_t size, void **out,
                     struct err *err) MUST_USE;

/* Where the gradient of shard s of a group goes:  dst = add[n−1] + (… + (add[0] + leaf)).
 *
 *     s:  0    1      2    3           scratch levels inside the group, then the fold's
 *         S0   S0+·   S0   S0+·, S1+·
 *              → S1         → dst      */
struct cpu_sum {
    float *dst;
    int adds;
    const float *add[FOLD_MAX];
};

/* The shards of a call, on their way to where its fold says. */
struct cpu_tree {
    const struct fold *fold;
    float *scratch;         /* (log2(shards), stride) */
    int64_t stride, offset; /* offset: of the tensor in the flat vector */
    int shards;
};
void cpu_sum_plan(const struct cpu_tree *t, int s, struct cpu_sum *out);

/* dst = the sum of `leaf` and what the plan adds. dst may be leaf or one of the addends. */
void cpu_sum_apply(const struct cpu_sum *sum, const float *leaf, int64_t count);

/* log2 of a power of two. */
static inline int cpu_log2(int n) {
    return __builtin_ctz((unsigned)n);
}

/* out[c] = sum over rows of x[row][c], in a fixed order of rows. */
void cpu_column_sums(const float *x, int64_t rows, int64_t columns, float *out);

/* dy = 0 where y ≤ 0 (y is a relu's output). NaN in y lets dy pass. */
void cpu_relu_mask(float *dy, const float *y, int64_t count);

#endif
