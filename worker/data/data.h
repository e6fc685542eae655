/* Data sets: read, checked, split, shuffled, normalised, digested.
 *
 *     files ──parse──▶ raw samples, in file order ──▶ split ids ──▶ transforms ──▶ batches
 *
 * A sample is `features` float32 after the transforms, a label (int32) or targets (float32).
 * Samples keep their bytes (uint8) as long as they can; gather converts.
 *
 * Loading checks everything: magic, truncation, label count = image count, labels in range, zero
 * sizes; messages name file and offset or line.
 *
 * The digest is what replay compares before it trains: the Merkle root (SHA-256, shaped as in RFC
 * 6962: leaf 0x00 ‖ chunk, node 0x01 ‖ left ‖ right) over chunks of 1 MiB of the decoded samples,
 * then of the labels (int32) or targets (float32), of train, validation and test in turn, each
 * beginning a chunk of its own; the last leaf is the canonical JSON of formats, shapes, types,
 * counts and transforms. Paths, compression, seed and split do not enter.
 *
 * Position p of epoch e of training is sample order_at(…) of the training part (core/order.h).
 *
 * A loaded dataset is immutable and is shared by all trials of a warm group (data_cache).
 * Threading: one thread. */
#ifndef WORKER_DATA_DATA_H
#define WORKER_DATA_DATA_H

#include <stdint.h>

#include "core/hash.h"
#include "core/order.h"
#include "core/value.h"
#include "kernels/graph/model.h"
#include "spec/data.h"
#include "worker/data/pump.h"

#define DATA_SAMPLES_MAX  INT64_C(1000000000)
#define DATA_FEATURES_MAX ((int64_t)SPEC_SAMPLE_MAX)
#define DATA_CLASSES_MAX  65536

struct dataset;

struct data_info {
    int64_t train, validation, test; /* samples */
    struct shape shape;              /* of one sample */
    int64_t features;
    int64_t classes; /* 0: regression */
    int64_t outputs; /* targets per sample in regression */
    char digest[DIGEST_HEX];
};

/* The split holds back the last part of a permutation or, with shuffle: false, of the file. Within
 * a part samples keep the file's order. */
struct data_request {
    const struct spec_data *data; /* of a trial, paths absolute */
    uint64_t seed;                /* keys the split */
    struct pump pump;
};
enum status data_load(const struct data_request *r, struct dataset **out, struct err *err) MUST_USE;
void data_destroy(struct dataset **d);
const struct data_info *data_info(const struct dataset *d);

/* The last few data sets, by the canonical JSON of `data` and the seed, with size and mtime of the
 * files: a warm group loads once. *hit says that nothing was read. Where only the seed or the
 * transforms changed, the decoded samples are still there and only the split is made anew. Entries
 * are owned by the cache; the one handed out last stays until the next call. */
struct data_cache;
enum status data_cache_new(size_t bytes_max, struct data_cache **out, struct err *err) MUST_USE;
void data_cache_destroy(struct data_cache **c);
enum status data_cache_get(struct data_cache *c, const struct data_request *r, struct dataset **out,
                           bool *hit, struct err *err) MUST_USE;

enum data_part {
    DATA_TRAIN = SPEC_TRAIN,
    DATA_VALIDATION = SPEC_VALIDATION,
    DATA_TEST = SPEC_TEST
};

/* Where rows go; labels and targets may be NULL. */
struct data_rows {
    float *x;        /* (n, features) */
    int32_t *labels; /* (n) */
    float *targets;  /* (n, outputs) */
};

/* Copies samples ids[0..n) of a part, transformed. The same bits whatever n and the order. */
void data_gather(const struct dataset *d, enum data_part part, const int64_t *ids, int64_t n,
                 const struct data_rows *to);

/* A part in the memory of a device that queues (kernels/run/device.h), made at the first call and
 * kept as long as the data set; NULL for a part without samples. The device must outlive it. NOMEM
 * where it does not fit. */
struct device;
struct table;
enum status data_table(struct dataset *d, enum data_part part, struct device *device,
                       const struct table **out, struct err *err) MUST_USE;

/* Bytes that the tables of all parts would still take on a device. */
int64_t data_table_bytes(const struct dataset *d);

/* {train, validation, test, shape, type: u8|f32|f64, classes, digest, files: [{path, size}],
 * transforms, inputs, outputs, class_names, warnings} — for the manifest.
 *
 * `transforms` as they must be repeated in an export: [{scale: s}, {normalize: {mean, std}}]; with type
 * f64 in double, before anything is rounded.
 * `inputs` in the order of features: [{name, kind: number|words|pixels, first: index of its first
 * feature, count, words: […], min, max, missing: what takes the place of nothing, example}].
 * `outputs`: {name, kind: classes|numbers, count, classes: […]}. */
struct value *data_describe(struct arena *a, const struct dataset *d);

/* What should be said before it is trained on: a list of sentences. */
struct value *data_warnings(struct arena *a, const struct dataset *d);

#endif
