/* What the files of the CPU backend share: the operator rows and the fold of shards. */
#ifndef KERNELS_CPU_OPS_H
#define KERNELS_CPU_OPS_H

#include "kernels/run/device.h"

extern const struct operation cpu_dense, cpu_conv2d, cpu_batch_norm, cpu_max_pool, cpu_avg_pool,
    cpu_relu, cpu_gelu, cpu_tanh, cpu_sigmoid, cpu_dropout, cpu_to_nhwc, cpu_to_nchw,
    cpu_cross_entropy, cpu_mse;

/* The CPU computes in float32 only. */
static inline const float *pass_x(const struct pass *p) {
    return p->x;
}
static inline float *pass_y(const struct pass *p) {
    return p->y;
}
static inline float *pass_dx(const struct pass *p) {
    return p->dx;
}
static inline float *pass_dy(const struct pass *p) {
    return p->dy;
}

/* The terms of the step under way, and its flag word. */
const struct step_terms *cpu_terms(const struct device *d);
uint32_t *cpu_flags(struct device *d);

/* update.c: rows of the backend's table. */
enum status cpu_update_new(struct device *d, const struct update_spec *spec, struct update **out,
                           struct err *err) MUST_USE;
void cpu_update_release(struct update *u);
float *cpu_update_slot(struct update *u, int slot);
double *cpu_update_norms(struct update *u, int bucket);
void cpu_update_clip(struct update *u, const double *norms);
double cpu_grad_norm(struct update *u);
void cpu_update_apply(struct update *u, int first, int count);

/* 64-byte aligned, zeroed; NULL when memory is exhausted. */
void *cpu_alloc(size_t bytes);
void cpu_free(void *p);

/* Zeroed state of `bytes` for a node, counted in state_bytes. */
enum status cpu_state(struct node *n, size_t bytes, void **out, struct err *err) MUST_USE;

/* A part of a node's state; counted too. Freed by cpu_free. */
enum status cpu_part(struct node *n, int64_t count, size_t size, void **out,
                     struct err *err) MUST_USE;

/* oneDNN's engine and stream of this process's CPU device (conv.c); void * keeps dnnl.h in cpu/. */
void *cpu_dnnl_engine(struct device *d);
void *cpu_dnnl_stream(struct device *d);

/* Where the gradient of shard s of a group goes:  dst = add[n−1] + (… + (add[0] + leaf)).
 *
 *     s:  0    1      2    3           scratch levels inside the group, then the fold's
 *         S0   S0+·   S0   S0+·, S1+·
 *              → S1         → dst      */
struct sum {
    float *dst;
    int adds;
    const float *add[FOLD_MAX];
};

/* `scratch`: (log2(shards), stride) floats. `offset`: of the tensor in the flat vector. */
void sum_plan(const struct fold *fold, float *scratch, int64_t stride, int s, int shards,
              int64_t offset, struct sum *out);

/* dst = the sum of `leaf` and what the plan adds. dst may be leaf or one of the addends. */
void sum_apply(const struct sum *sum, const float *leaf, int64_t count);

/* log2 of a power of two. */
static inline int log2_of(int n) {
    return __builtin_ctz((unsigned)n);
}

/* out[c] = sum over rows of x[row][c], in a fixed order of rows. */
void column_sums(const float *x, int64_t rows, int64_t columns, float *out);

/* dy = 0 where y ≤ 0 (y is a relu's output). NaN in y lets dy pass. */
void relu_mask(float *dy, const float *y, int64_t count);

#endif
