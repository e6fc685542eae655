/* A row that shows how an input is made, with the model's own answer to it.
 *
 *     {about, row: {colour: "blue", a: 4.3125}, request: {inputs: [{name, datatype, shape, data}]},
 *      answer: {logits, probabilities, class, name} or {prediction}, tolerance}
 *
 * `row` names the columns; `request` is the same row as the graph takes it, in the form of the Open
 * Inference Protocol (POST /v2/models/MODEL/infer). The row is the first of the training data where the
 * manifest has it (`example` of each column), else made up of means and first words: the same run gives the same row. `answer` is computed in double (serving/export/forward.h). */
#ifndef SERVING_EXPORT_EXAMPLE_H
#define SERVING_EXPORT_EXAMPLE_H

#include "serving/export/handoff.h"

#define EXAMPLE_FEATURES_MAX 200000 /* a few MB of text */
#define EXAMPLE_TOLERANCE    1e-4

/* In the handoff's arena. Where no answer can be computed `answer` is null and `reason` says why; a
 * sample with too many features has neither row nor request. */
enum status example_make(struct handoff *h, struct value **out, struct err *err) MUST_USE;

#endif
