/* What trireme-export does once it is connected: write files, or make a registered version. */
#ifndef SERVING_EXPORT_EXPORT_H
#define SERVING_EXPORT_EXPORT_H

#include "serving/export/handoff.h"

struct export_request {
    const char *what;      /* as handoff.h has it */
    const char *format;    /* onnx | safetensors | triton */
    const char *directory; /* created when missing */
    const char *name; /* of the files or of Triton's model; NULL: the registered name, "model" */
};

/* *result, in `a`: {run, which, step, note, model, version, format, path, digest, size, papers,
 * example}; for triton `version` is the directory's number; `note` is to be shown: which weights were
 * chosen. Files are written whole or not at all. */
enum status export_files(struct session *tracker, const struct export_request *request,
                         struct arena *a, struct value **result, struct err *err) MUST_USE;

struct promote_request {
    const char *run;     /* RUN, RUN:best, … */
    const char *name;    /* NAME[@alias] */
    const char *actor;   /* who promotes */
    const char *comment; /* may be NULL */
};

/* Stores the ONNX file beside the weights, builds the card and makes the version; the alias moves and
 * the audit record is written in the same transaction of the tracker. CONFLICT unless the run is completed or
 * stopped. *result: {run, which, step, note, name, version, alias, audit, weights_digest (the run's), file_digest (of
 * the weights' file), onnx_digest}. */
enum status promote_run(struct session *tracker, const struct promote_request *request,
                        struct arena *a, struct value **result, struct err *err) MUST_USE;

#endif
