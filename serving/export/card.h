/* A model's papers: the card that goes with every export and every registered version.
 *
 *     {format, run, experiment, model, which, step, weights, weights_digest, onnx, signature, inputs,
 *      outputs, transforms, classes, class_names, metrics, data_digest, replay, trireme}
 *
 * `inputs` are the columns behind the features, in the features' order: [{name, kind: number | words |
 * pixels, first, count, words}]; `outputs` what the answers mean: {name, kind: classes | numbers,
 * classes}. Both are the run's manifest's; a run of before they were recorded has "unknown". */
#ifndef SERVING_EXPORT_CARD_H
#define SERVING_EXPORT_CARD_H

#include "serving/export/handoff.h"

/* A file beside the papers. */
struct card_file {
    const char *path;
    size_t len;
    struct digest digest;
};

/* {path, digest, size}, as card and answers have it. */
struct value *card_describe(struct arena *a, const struct card_file *file);

/* The whole card, in the handoff's arena. onnx may be NULL. Metrics are those that the run measured
 * at the step of the chosen weights. */
enum status card_make(struct session *tracker, struct handoff *h, const struct card_file *onnx,
                      struct value **card, struct err *err) MUST_USE;

#endif
