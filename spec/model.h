/* The `model:` list of a trial, read: a chain of layers as they are written, without shapes (those
 * come from the data: kernels/graph/model.h).
 *
 *     model: [{dense: {out: 128}}, relu, {dropout: 0.2}, {dense: 10}]
 *
 * A layer is a word, {word: {its keys}}, or {word: value} for the one key that a layer is mostly
 * given. Lives in the caller's arena; strings and nodes in the tree that was read. */
#ifndef SPEC_MODEL_H
#define SPEC_MODEL_H

#include "spec/language.h"

#define SPEC_LAYERS_MAX   256
#define SPEC_FEATURES_MAX (1 << 20) /* features or channels of a layer */
#define SPEC_KERNEL_MAX   64

enum layer_kind {
    LAYER_DENSE,
    LAYER_CONV2D,
    LAYER_BATCH_NORM, /* per shard; per channel or feature */
    LAYER_MAX_POOL,
    LAYER_AVG_POOL,
    LAYER_RELU,
    LAYER_GELU, /* the erf form */
    LAYER_TANH,
    LAYER_SIGMOID,
    LAYER_DROPOUT,
    LAYER_FLATTEN,
    LAYER_KINDS
};

struct spec_layer {
    enum layer_kind kind;
    const struct value *node;                 /* for its place in the file */
    int64_t out;                              /* dense: features; conv2d: channels */
    int64_t kernel[2], stride[2], padding[2]; /* H, W; 1, 1 and 0 where a layer has none */
    bool bias;
    float rate;          /* dropout */
    float eps, momentum; /* batch norm */
};

struct spec_model {
    const char *file; /* for messages; may be NULL */
    const struct value *node;
    int count; /* from 1 */
    struct spec_layer *layers;
};

/* INVALID with the place and the layer: "net.yaml:9:5: model[3].dense.out must be …". */
enum status spec_model_read(struct arena *a, const struct value *list, struct schema_source source,
                            struct spec_model *out, struct err *err) MUST_USE;

const char *spec_layer_name(enum layer_kind kind); /* "dense" … */

#endif
