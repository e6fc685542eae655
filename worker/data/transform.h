/* Transforms: scale, shift and normalize, fitted to the training part and applied to every sample.
 *
 *     raw sample ──▶ row[0] ──▶ row[1] … ──▶ (features) float32
 *
 * Threading: applying is reading; any thread. */
#ifndef WORKER_DATA_TRANSFORM_H
#define WORKER_DATA_TRANSFORM_H

#include "worker/data/samples.h"

#define FIT_FEATURES_MAX 65536 /* mean and deviation are in the manifest */

struct transform {
    enum transform_kind kind;
    float by;          /* SCALE: x · by; SHIFT: x + by */
    bool fit;          /* NORMALIZE: fitted, else given */
    float *mean, *std; /* (features): as they go into the manifest */
    float *inverse;    /* (features): 1/std; x becomes (x − mean) · inverse */
};

struct transforms {
    struct transform row[SPEC_TRANSFORMS_MAX];
    int count;
};

/* As data->transforms says, for data as `info` says. INVALID, with the place in the file, where a
 * list is as long as neither the features nor the channels. */
enum status transforms_make(const struct spec_data *data, const struct data_info *info,
                            struct transforms *out, struct err *err) MUST_USE;

/* What to fit to: samples ids[0..count) in that order; ids NULL: 0..count. */
struct transforms_fit {
    const struct samples *samples;
    const int64_t *ids;
    int64_t count;
    const struct pump *pump;
};

/* Fits every {normalize: fit}. */
enum status transforms_fit(struct transforms *t, const struct transforms_fit *over,
                           struct err *err) MUST_USE;
void transforms_release(struct transforms *t);

/* One sample, (features) → (features) float. The same bits for the same bytes, always. */
void transforms_apply(const struct transforms *t, const struct samples *s, int64_t sample,
                      float *x);

/* [{scale: s}, {normalize: {mean, std}}], with what was fitted. */
struct value *transforms_describe(struct arena *a, const struct transforms *t, int64_t features);

#endif
