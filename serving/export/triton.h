/* A Triton model repository, published so that no reader ever sees half of a version.
 *
 *     PARENT/.REPO.trireme/              ours: the same filesystem, outside what Triton reads
 *         MODEL.json                     {highest, versions: {"3": digest}}: the numbers ever used
 *         stage/…                        what is being written
 *     PARENT/REPO/MODEL/config.pbtxt     names the one version to serve; replaced by rename
 *     PARENT/REPO/MODEL/3/model.onnx     a whole directory, moved in by one rename
 *
 * Order: the number is entered in MODEL.json (fsync) → files are written and fsynced in the stage →
 * the stage's directory is renamed to the number → config.pbtxt is renamed over the old one. Until
 * the last rename, the old configuration names the old version. A crash leaves a number that is
 * skipped, or completed with the same bytes; never half of a version.
 *
 * One writer at a time holds PARENT/.REPO.trireme/lock. */
#ifndef SERVING_EXPORT_TRITON_H
#define SERVING_EXPORT_TRITON_H

#include "core/buf.h"
#include "core/hash.h"
#include "core/value.h"

#define TRITON_VERSION_MAX INT64_C(1000000000)
#define TRITON_BATCH_MAX   256 /* max_batch_size */

struct triton_version {
    const char *repository; /* created when missing; its parent must be on the same filesystem */
    const char *model;      /* as core/name.h has it */
    int64_t version;        /* 0: one above every number ever used */
    const void *onnx;
    size_t onnx_len;
    const struct value *signature; /* onnx_signature */
    /* For the configuration's parameters: the run, and as JSON the columns, the classes and an example;
     * NULL: left out. */
    const char *run;
    const struct value *inputs, *outputs, *example;
};

/* *version is the number that serves now. Publishing the same bytes under their number again is not an
 * error; other bytes under a used number are a CONFLICT. BUSY while another export writes here. */
enum status triton_publish(const struct triton_version *t, int64_t *version,
                           struct err *err) MUST_USE;

/* The text of config.pbtxt. A parameter of over TRITON_PARAMETER_MAX bytes is left out. */
#define TRITON_PARAMETER_MAX ((size_t)256 << 10)
void triton_config(const struct triton_version *t, int64_t version, struct buf *out);

#endif
