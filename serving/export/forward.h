/* One sample through a trained model, in double precision: what the exported graph must answer.
 *
 *     raw values ──transforms──▶ layers, as at inference ──▶ logits or prediction
 *
 * It shares no code with the kernels nor with the ONNX writer, and is no faster than it reads: it
 * serves the example row beside an export, and nothing else. Runtimes that compute in float32 agree
 * to about one part in 100,000. */
#ifndef SERVING_EXPORT_FORWARD_H
#define SERVING_EXPORT_FORWARD_H

#include "core/safetensors.h"
#include "kernels/graph/model.h"

/* More would keep an export waiting: some seconds. */
#define FORWARD_FLOPS_MAX INT64_C(4000000000)

struct forward {
    const struct model *model;
    const struct tensors *tensors;
    const struct value *transforms; /* list as data_describe gives it; NULL: none */
};

/* `raw` are the sample's features; *out the shape_size(&model->out) values of the last layer, in `a`.
 * INVALID names a layer or a transform that cannot be computed here; TOO_LARGE over the maximum. */
enum status forward_run(struct arena *a, const struct forward *f, const double *raw, double **out,
                        struct err *err) MUST_USE;

#endif
