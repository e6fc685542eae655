/* Plans: what cuDNN makes of a graph. Only dnn.c and dnn_plan.c see this.
 *
 *     struct dnn_recipe (plain numbers)  ──descriptors, heuristics──▶  struct dnn_plan
 *              └── the key under which the device keeps the plan (cache.h)
 *
 * A recipe holds all that a plan depends on, beside the device, because the descriptors are made
 * from nothing else. Which tensors are meant is said anew at each run: layers and engines of the
 * same shapes share a plan. */
#ifndef KERNELS_CUDA_DNN_PLAN_H
#define KERNELS_CUDA_DNN_PLAN_H

#include "kernels/cuda/dnn.h"

#define DNN_TENSORS_MAX 8
#define DNN_STEPS_MAX   4  /* operations */
#define DNN_PARTS_MAX   32 /* descriptors of a plan */

/* Numbers of one type, so that there is nothing between them. What is not used is 0. */
struct dnn_recipe {
    int64_t owner; /* CUDA_CACHE_DNN */
    int64_t precision, tensor_count, step_count;
    struct {
        int64_t type, dim[4], stride[4], alignment, inside;
    } tensors[DNN_TENSORS_MAX];
    struct {
        int64_t pointwise; /* else a convolution */
        int64_t mode;      /* cudnnPointwiseMode_t, or enum dnn_direction */
        int64_t x, w, y;   /* tensors; of a sum w is what is added; −1: none */
        int64_t stride[2], padding[2];
    } steps[DNN_STEPS_MAX];
};

struct dnn_knob {
    int type;
    int64_t value;
};

struct dnn_plan {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t parts[DNN_PARTS_MAX];
    int part_count;
    cudnnBackendDescriptor_t config, plan; /* NULL: the library has none, see `code` */
    cudnnStatus_t code;                    /* the library's last refusal */
    bool starved;                          /* it had no memory to answer with: ask again */
    bool doubtful;                         /* or possibly none */
    bool described;                        /* it took the descriptors */
    int64_t ids[DNN_TENSORS_MAX];          /* of the tensors in memory, in order */
    int id_count;
    int64_t engine, workspace;
    struct dnn_knob knobs[CUDNN_KNOB_TYPE_COUNTS];
    int knob_count;
    enum dnn_proof proof;
    enum dnn_nan nan;
};

/* The plan of a recipe, kept or new: cuda_cache_give takes it back. NOMEM where memory is short,
 * which is not kept; that the library has no engine is kept, in `code`. */
enum status dnn_plan_take(struct device *d, const struct dnn_recipe *recipe, struct dnn_plan **out,
                          struct err *err) MUST_USE;

void dnn_destroy(cudnnBackendDescriptor_t d); /* NULL is fine */

#endif
