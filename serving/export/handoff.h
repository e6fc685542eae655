/* A handoff: everything about one run's model that leaves the tracker, read and checked once.
 *
 *     RUN, or NAME[@alias or version] ──model.get──▶ run ──run.get──▶ config.model, manifest.data
 *                                                     └──artifact──▶ model.safetensors
 *
 * What was promoted is what is exported: the weights must have the digest in the model's card.
 *
 * Lifetime: handoff_release frees all; values live in the handoff's arena. One thread. */
#ifndef SERVING_EXPORT_HANDOFF_H
#define SERVING_EXPORT_HANDOFF_H

#include "core/hash.h"
#include "core/safetensors.h"
#include "kernels/graph/model.h"
#include "wire/session.h"

#define HANDOFF_WEIGHTS_MAX ((size_t)16 << 30)
#define HANDOFF_WEIGHTS     "model.safetensors"
#define HANDOFF_ONNX        "model.onnx"

struct handoff {
    struct arena arena;
    const char *run;            /* whole id */
    const struct value *record; /* run.get's `run` */
    const struct value *card;   /* of the registered version; NULL for a run */
    const char *name;           /* of the registered model; NULL for a run */
    int64_t version;            /* of it; 0 for a run */
    const struct model *model;
    const struct value *transforms;
    bool classify;
    struct buf weights; /* the bytes of model.safetensors */
    struct digest weights_digest;
    struct tensors tensors; /* in weights */
};

/* `what` is RUN (a unique prefix) or NAME, NAME@alias, NAME@3. */
enum status handoff_load(struct session *tracker, const char *what, struct handoff *out,
                         struct err *err) MUST_USE;
void handoff_release(struct handoff *h);

/* The ONNX file: made from the weights, or for a registered version the one that was promoted. */
enum status handoff_onnx(struct session *tracker, const struct handoff *h, struct buf *out,
                         struct digest *digest, struct err *err) MUST_USE;

/* A file beside the papers. */
struct handoff_file {
    const char *path;
    size_t len;
    struct digest digest;
};

/* {path, digest, size}, as card and answers have it. */
struct value *handoff_describe(struct arena *a, const struct handoff_file *file);

/* The papers that go with a model: {format, run, experiment, config, weights, weights_digest, onnx,
 * signature, shape, classes, transforms, metrics, data_digest, replay, trireme}. onnx may be NULL.
 */
struct value *handoff_card(struct handoff *h, const struct handoff_file *onnx);

/* The id of the run that `prefix` names. */
enum status handoff_resolve(struct session *tracker, struct arena *a, const char *prefix,
                            const char **run, struct err *err) MUST_USE;

#endif
