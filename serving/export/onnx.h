/* ONNX: a trained model as a graph that any runtime executes. IR version 8, opset 17.
 *
 *     input (N, …), raw ──Mul, Add, Sub, Div──▶ layers ──▶ logits (N, K) ──Softmax──▶ probabilities
 *                       the data's transforms          └─▶ prediction, where the loss is mse
 *
 * Where values lie so far from 0 that float32 would blur them, `input` is float64 and the transforms are
 * made in it; a Cast leads to the layers. The batch size is open (dim_param "N"). Weights are initializers of the same names as in safetensors,
 * raw little-endian. Dropout is left out, batch norm uses the running statistics, gelu is written
 * out with Erf. The same model gives the same bytes. */
#ifndef SERVING_EXPORT_ONNX_H
#define SERVING_EXPORT_ONNX_H

#include "core/safetensors.h"
#include "kernels/graph/model.h"

#define ONNX_IR        8
#define ONNX_OPSET     17
#define ONNX_BYTES_MAX ((size_t)INT32_MAX) /* protobuf's own bound */

struct onnx_model {
    const struct model *model;
    const struct tensor *tensors; /* every parameter of the model, float32 */
    size_t tensor_count;
    const struct value *transforms; /* list as data_describe gives it; NULL: none */
    bool classify;                  /* cross entropy: logits and probabilities */
    bool wide;                      /* the input is float64, the transforms are made in it */
    const struct value *properties; /* map of strings for metadata_props, or NULL */
    const char *name;               /* of the graph */
};

/* Appends the file's bytes. INVALID names a tensor that is missing or of another shape, or an
 * unknown transform; TOO_LARGE over ONNX_BYTES_MAX, with what to do. */
enum status onnx_write(const struct onnx_model *m, struct buf *out, struct err *err) MUST_USE;

/* {inputs: [{name, dtype, shape}], outputs: […]}, shapes with "N" for the batch. Of `m` only model, classify
 * and wide are read. */
struct value *onnx_signature(struct arena *a, const struct onnx_model *m);

/* Whether rounding a raw value to float32 moves the transformed one by over a thousandth: seconds since
 * 1970, centred, would be off by minutes. */
bool onnx_needs_double(const struct model *model, const struct value *transforms);

#endif
