/* Transforms: scale, shift and normalize, fitted to the training part and applied to every sample.
 *
 *     raw sample ──▶ row[0] ──▶ row[1] … ──▶ (features) float32
 *
 * Bytes and float32 go through in float32. Samples that are doubles, because float32 would lose digits
 * before a mean is taken off (seconds since 1970), go through in double and are rounded at the end.
 *
 * Threading: applying is reading; any thread. */
#ifndef WORKER_DATA_TRANSFORM_H
#define WORKER_DATA_TRANSFORM_H

#include "worker/data/samples.h"

#define FIT_FEATURES_MAX 65536 /* mean and deviation are in the manifest */

struct transform {
    enum transform_kind kind;
    float by; /* SCALE: x · by; SHIFT: x + by */
    double by64;
    bool fit;               /* NORMALIZE: fitted, else given */
    float *mean, *std;      /* (features): as they go into the manifest */
    float *inverse;         /* (features): 1/std; x becomes (x − mean) · inverse */
    double *mean64, *std64; /* (features): what samples in double are normalised by */
};

struct transforms {
    struct transform row[SPEC_TRANSFORMS_MAX];
    int count;
    int language; /* of the trial */
    bool exact;   /* the training samples are doubles: fitted and applied in double, rounded once */
};

/* As data->transforms says, for data as `info` says. INVALID, with the place in the file, where a
 * list is as long as neither the features nor the channels. `type`: of the training samples. */
enum status transforms_make(const struct spec_data *data, const struct data_info *info,
                            enum sample_type type, struct transforms *out,
                            struct err *err) MUST_USE;

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

/* Notes the features whose values float32 cannot tell apart, as they come out of the transforms.
 * `name` says what a feature is called; it may answer NULL. */
struct transforms_names {
    const char *(*name)(const void *arg, int64_t feature);
    const void *arg;
};
enum status transforms_doubt(const struct transforms *t, const struct transforms_fit *over,
                             const struct transforms_names *names, struct notes *notes,
                             struct err *err) MUST_USE;
void transforms_release(struct transforms *t);

/* One sample, (features) → (features) float. The same bits for the same bytes, always. */
void transforms_apply(const struct transforms *t, const struct samples *s, int64_t sample,
                      float *x);

/* One feature of a sample of doubles. */
float transforms_value(const struct transforms *t, const struct samples *s, int64_t sample,
                       int64_t feature);

/* [{scale: s}, {normalize: {mean, std}}], with what was fitted. */
struct value *transforms_describe(struct arena *a, const struct transforms *t, int64_t features);

#endif
