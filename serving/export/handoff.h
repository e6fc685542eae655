/* A handoff: everything about one run's model that leaves the tracker, read and checked once.
 *
 *     NAME[@alias or version] ──model.get──▶ run, the card's weights ─┐
 *     RUN[:best, :last or :STEP] ─────────────────────────────────────┴──run.get──▶ config.model, manifest.data
 *                                                                      └──artifact──▶ best.safetensors, …
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
#include "wire/weights.h"

#define HANDOFF_WEIGHTS_MAX ((size_t)16 << 30)
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
    const struct value *inputs, *outputs; /* the columns, as serving/export/card.h has them */
    bool classify, wide;                  /* as struct onnx_model has them */
    struct weights which;                 /* which of the run's */
    struct buf weights;                   /* the artifact's bytes */
    struct digest weights_digest;
    struct tensors tensors; /* in weights */
};

/* What is asked for: RUN (a unique prefix), RUN:best, RUN:last, RUN:STEP; NAME, NAME@alias, NAME@3. */
struct handoff_ask {
    const char *what;
    bool to_promote; /* a run, completed or stopped; else CONFLICT, whatever it has */
};
enum status handoff_load(struct session *tracker, const struct handoff_ask *ask,
                         struct handoff *out, struct err *err) MUST_USE;
void handoff_release(struct handoff *h);

/* The record of the attempt that trained these weights: the run's own, or where it carried them over from
 * an attempt before, that one's. */
const struct value *handoff_trained_by(struct session *tracker, struct handoff *h);

/* The ONNX file: made from the weights, or for a registered version the one that was promoted. */
enum status handoff_onnx(struct session *tracker, struct handoff *h, struct buf *out,
                         struct digest *digest, struct err *err) MUST_USE;

/* The weights alone, as safetensors: the artifact's own bytes, or what a checkpoint holds of them. */
enum status handoff_weights(const struct handoff *h, struct buf *out, struct err *err) MUST_USE;

#endif
