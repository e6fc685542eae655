/* A model: the layers of a trial (spec/model.h), their shapes inferred, their parameters laid out.
 *
 * Data lies row-major as (B, C, H, W) for images and (B, F) for vectors; B is left open here.
 *
 * All parameters and running statistics of a model are in one flat vector of float32, layer after
 * layer in forward order, each tensor starting at a multiple of MODEL_ALIGN elements (padding is
 * zero and stays zero):
 *
 *     ┌ 0.weight ──────┬ 0.bias ┬ 2.weight ──┬ 2.bias ┬ …  ┬ scalars ┐
 *     │ (512, 784)     │ (512)  │ (10, 512)  │ (10)   │    │ (16)    │
 *     └────────────────┴────────┴────────────┴────────┴────┴─────────┘
 *       gradients use the same layout; the tail `scalars` carries loss, correct count and the stop
 *       flag through the same exchange (they are no parameters).
 *
 * Tensor names are "<layer index>.<weight, bias, running_mean, running_var>" (gamma is weight, beta
 * is bias), the same in checkpoints, exports and `initial_weights`. A struct model is immutable
 * after parsing, lives in the caller's arena, and may be shared between threads. */
#ifndef KERNELS_GRAPH_MODEL_H
#define KERNELS_GRAPH_MODEL_H

#include <stdint.h>

#include "kernels/graph/shape.h"
#include "spec/model.h"

#define MODEL_ALIGN 16
#define SCALARS     16 /* the tail: see enum scalar */

/* Norm blocks: fixed stretches from the start of the flat vector. Buckets are cut at them, and so
 * are the slices that ranks own. */
#define NORM_BLOCK 1024

enum scalar { SCALAR_LOSS, SCALAR_CORRECT, SCALAR_ROWS, SCALAR_STOP };

enum param_kind {
    PARAM_WEIGHT, /* weight decay applies */
    PARAM_PLAIN,  /* bias, gamma, beta: trained, weight decay only where it is of all */
    PARAM_STAT, /* running statistics: w ← (1 − momentum)·w + momentum·(tree mean over shards) */
};

/* A stretch of the flat vector. */
struct slice {
    int64_t begin, count; /* elements */
};

struct param {
    const char *name; /* "3.weight" */
    int layer;
    enum param_kind kind;
    int dims;
    int64_t dim[4];
    int64_t offset, count; /* elements, in the flat vector */
    float momentum;        /* STAT */
};

struct layer {
    enum layer_kind kind;
    const struct spec_layer *spec; /* as it is written; outlives the model */
    int index;                     /* position in the `model:` list */
    struct shape in, out;
    int64_t kernel[2], stride[2], padding[2]; /* H, W */
    bool bias;
    float rate;          /* dropout */
    float eps, momentum; /* batch norm */
    int param_first, param_count;
    int64_t flops; /* multiply-adds × 2 of one sample, forward */
};

struct model {
    const char *file; /* for messages about layers; NULL: none */
    struct shape in, out;
    struct layer *layers;
    int layer_count;
    struct param *params;
    int param_count;
    int64_t trainable;    /* elements of WEIGHT and PLAIN */
    int64_t flat_count;   /* elements of the flat vector without the scalars */
    int64_t vector_count; /* flat_count + SCALARS, a multiple of MODEL_ALIGN */
};

/* Shapes and layout of the layers that `spec` names (it must outlive the model), for samples of
 * shape `in`. A convolution after a dense layer, an empty output, too many parameters and the like
 * are INVALID, with the layer's place: "net.yaml:9:5: model[3].conv2d: …". A (C, H, W) input to
 * dense is flattened by itself. */
enum status model_build(struct arena *a, const struct spec_model *spec, struct shape in,
                        struct model **out, struct err *err) MUST_USE;

/* spec_model_read, then model_build: for a list that comes from elsewhere than a trial. */
enum status model_parse(struct arena *a, const struct value *layers, struct shape in,
                        const char *file, struct model **out, struct err *err) MUST_USE;

/* Fills a flat vector with the initial weights: dense and conv2d uniform in ±1/sqrt(fan_in) for
 * weight and bias (PyTorch's default: He et al. 2015 with a = sqrt 5), gamma and running_var 1, the
 * rest 0. Philox keyed by (seed, parameter index, element): the same on every rank and machine. */
void model_init(const struct model *model, uint64_t seed, float *flat);

/* {layers: [{name, in, out, params, flops}], trainable, bytes, flops_per_sample}: for `preview`. */
struct value *model_describe(struct arena *a, const struct model *model);

#endif
