/* Transforms, element by element in float32 (or in double, where samples are), in the order of the list. A loop here may be cut
 * anywhere and compiled for any vector width: multiplication, addition and subtraction of single
 * elements give the same bits. Multiplication and addition are never fused (-std=c17 forbids it).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/data/transform.h"

#define FIT_ROWS    1024  /* between two calls of pump */
#define EXACT_BLOCK 256   /* features on the stack */
#define STD_LEAST   1e-30 /* the least deviation that may be given, too */

/* ---- loops ---- */

#define INLINE static inline __attribute__((always_inline))

/* gcc 12 leaves loops of unknown length alone at -O2. */
#if defined(__GNUC__) && !defined(__clang__)
#define VECTORISE __attribute__((optimize("O3")))
#else
#define VECTORISE
#endif

INLINE void scale_bytes(const uint8_t *restrict from, float by, float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)from[i] * by;
}

INLINE void scale(float by, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] * by;
}

INLINE void shift(float by, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] + by;
}

INLINE void normalize(const float *restrict mean, const float *restrict inverse, float *restrict x,
                      int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float d = x[i] - mean[i];
        x[i] = d * inverse[i];
    }
}

/* The first `count` transforms of one sample. */
INLINE void apply_body(const struct transforms *t, int count, const struct samples *s,
                       int64_t sample, float *x) {
    int64_t n = s->features;
    int done = 0;
    if (s->type == SAMPLE_U8) {
        bool scaled = count > 0 && t->row[0].kind == TRANSFORM_SCALE;
        scale_bytes((const uint8_t *)s->x + sample * n, scaled ? t->row[0].by : 1.0F, x, n);
        done = scaled;
    } else {
        memcpy(x, (const float *)s->x + sample * n, (size_t)n * sizeof *x);
    }
    for (; done < count; done++) {
        const struct transform *row = &t->row[done];
        switch (row->kind) {
        case TRANSFORM_SCALE:
            scale(row->by, x, n);
            break;
        case TRANSFORM_SHIFT:
            shift(row->by, x, n);
            break;
        case TRANSFORM_NORMALIZE:
            normalize(row->mean, row->inverse, x, n);
            break;
        }
    }
}

VECTORISE static void apply_plain(const struct transforms *t, int count, const struct samples *s,
                                  int64_t sample, float *x) {
    apply_body(t, count, s, sample, x);
}

#if defined(__x86_64__)
/* The same C, compiled for wider vectors where the machine has them. */
__attribute__((target("avx2"))) VECTORISE static void apply_wide(const struct transforms *t,
                                                                 int count, const struct samples *s,
                                                                 int64_t sample, float *x) {
    apply_body(t, count, s, sample, x);
}
static bool have_wide(void) {
    return __builtin_cpu_supports("avx2");
}
#else
#define apply_wide apply_plain
static bool have_wide(void) {
    return false;
}
#endif

static void apply_some(const struct transforms *t, int count, const struct samples *s,
                       int64_t sample, float *x) {
    if (have_wide())
        apply_wide(t, count, s, sample, x);
    else
        apply_plain(t, count, s, sample, x);
}

/* Features [at, at + n) of one sample through the first `count` transforms, in double. */
static void apply_exact(const struct transforms *t, int count, const double *from, int64_t at,
                        int64_t n, double *x) {
    memcpy(x, from + at, (size_t)n * sizeof *x);
    for (int r = 0; r < count; r++) {
        const struct transform *row = &t->row[r];
        for (int64_t i = 0; i < n; i++)
            x[i] = row->kind == TRANSFORM_SCALE ? x[i] * row->by64
                   : row->kind == TRANSFORM_SHIFT
                       ? x[i] + row->by64
                       : (x[i] - row->mean64[at + i]) / row->std64[at + i];
    }
}

void transforms_apply(const struct transforms *t, const struct samples *s, int64_t sample,
                      float *x) {
    double block[EXACT_BLOCK];
    if (s->type != SAMPLE_F64) {
        apply_some(t, t->count, s, sample, x);
        return;
    }
    const double *from = (const double *)s->x + sample * s->features;
    for (int64_t at = 0; at < s->features; at += EXACT_BLOCK) {
        int64_t n = s->features - at < EXACT_BLOCK ? s->features - at : EXACT_BLOCK;
        apply_exact(t, t->count, from, at, n, block);
        for (int64_t i = 0; i < n; i++)
            x[at + i] = (float)block[i];
    }
}

float transforms_value(const struct transforms *t, const struct samples *s, int64_t sample,
                       int64_t feature) {
    double x;
    apply_exact(t, t->count, (const double *)s->x + sample * s->features, feature, 1, &x);
    return (float)x;
}

/* ---- making ---- */

/* A number for all features, a list with one for each channel, or one for each feature. */
static enum status spread(const struct value *v, const char *file, const struct data_info *info,
                          double *out, struct err *err) {
    char place[SCHEMA_PLACE_MAX];
    int64_t features = info->features;
    int64_t items = v->kind == VALUE_LIST ? (int64_t)v->count : 1;
    bool channels = info->shape.rank == 3 && items == info->shape.dim[0];
    if (items != 1 && items != features && !channels)
        return err_set(err, STATUS_INVALID,
                       "%sdata.transforms: normalize has %lld numbers; give one, or as many as the "
                       "data has features (%lld) or channels",
                       schema_place(file, v, place), (long long)items, (long long)features);
    for (int64_t i = 0; i < features; i++) {
        const struct value *item = v;
        if (v->kind == VALUE_LIST)
            item = v->items[items == 1 ? 0 : items == features ? i : i / (features / items)];
        out[i] = item->kind == VALUE_INT ? (double)item->integer : item->real;
    }
    return STATUS_OK;
}

static void invert(struct transform *t, int64_t features) {
    for (int64_t i = 0; i < features; i++)
        t->inverse[i] = (float)(1.0 / (double)t->std[i]);
}

static void round_both(struct transform *t, int64_t features) {
    for (int64_t i = 0; i < features; i++) {
        t->mean[i] = (float)t->mean64[i];
        t->std[i] = (float)t->std64[i];
    }
    invert(t, features);
}

static enum status make_normalize(const struct spec_transform *spec, const char *file,
                                  const struct data_info *info, struct transform *t,
                                  struct err *err) {
    int64_t features = info->features;
    size_t bytes = (size_t)features * sizeof(float);
    t->mean = malloc(bytes);
    t->std = malloc(bytes);
    t->inverse = malloc(bytes);
    t->mean64 = malloc(bytes * 2);
    t->std64 = malloc(bytes * 2);
    t->fit = spec->fit;
    if (t->mean == NULL || t->std == NULL || t->inverse == NULL || t->mean64 == NULL ||
        t->std64 == NULL)
        return err_set(err, STATUS_NOMEM, "data: out of memory");
    if (t->fit && features > FIT_FEATURES_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "data: normalize: fit with %lld features (maximum %d); give mean and std",
                       (long long)features, FIT_FEATURES_MAX);
    if (t->fit)
        return STATUS_OK;
    enum status st = spread(spec->mean, file, info, t->mean64, err);
    if (st == STATUS_OK)
        st = spread(spec->std, file, info, t->std64, err);
    if (st == STATUS_OK)
        round_both(t, features);
    return st;
}

enum status transforms_make(const struct spec_data *data, const struct data_info *info,
                            enum sample_type type, struct transforms *out, struct err *err) {
    enum status st = STATUS_OK;
    *out = (struct transforms){.language = data->part[SPEC_TRAIN].language,
                               .exact = type == SAMPLE_F64};
    for (int i = 0; i < data->transform_count && st == STATUS_OK; i++) {
        const struct spec_transform *spec = &data->transforms[i];
        struct transform *t = &out->row[out->count++];
        *t = (struct transform){.kind = spec->kind, .by = (float)spec->by, .by64 = spec->by};
        if (spec->kind == TRANSFORM_NORMALIZE)
            st = make_normalize(spec, data->file, info, t, err);
    }
    return st;
}

void transforms_release(struct transforms *t) {
    for (int i = 0; i < t->count; i++) {
        free(t->row[i].mean);
        free(t->row[i].std);
        free(t->row[i].inverse);
        free(t->row[i].mean64);
        free(t->row[i].std64);
    }
    *t = (struct transforms){0};
}

/* ---- fitting ---- */

/* Mean, then deviation around it: two passes in the same order, in double. sum, x: (features). */
static void fit_one(struct transforms *t, int which, const struct transforms_fit *over, double *sum,
                    float *x) {
    struct transform *row = &t->row[which];
    int64_t features = over->samples->features, n = over->count;
    float least = t->language >= 3 ? (float)STD_LEAST : 0; /* 1/std must be a float32 */
    for (int pass = 0; pass < 2; pass++) {
        memset(sum, 0, (size_t)features * sizeof *sum);
        for (int64_t i = 0; i < n; i++) {
            apply_some(t, which, over->samples, over->ids != NULL ? over->ids[i] : i, x);
            for (int64_t k = 0; k < features; k++) {
                double d = pass == 0 ? (double)x[k] : (double)x[k] - (double)row->mean[k];
                sum[k] += pass == 0 ? d : d * d;
            }
            if (i % FIT_ROWS == 0)
                pump_now(over->pump);
        }
        for (int64_t k = 0; k < features; k++) {
            double mean = sum[k] / (double)n;
            if (pass == 0)
                row->mean[k] = (float)mean;
            else /* a feature that never changes becomes 0, not NaN */
                row->std[k] = (float)sqrt(mean) > least ? (float)sqrt(mean) : 1.0F;
        }
    }
    invert(row, features);
    for (int64_t k = 0; k < features; k++) {
        row->mean64[k] = (double)row->mean[k];
        row->std64[k] = (double)row->std[k];
    }
}

/* The same of doubles. What is summed are distances from the first sample, so that the sum of a
 * million seconds since 1970 has digits left for their differences. sum, x, zero: (features). */
static void fit_exact(struct transforms *t, int which, const struct transforms_fit *over,
                      double *sum, double *x) {
    struct transform *row = &t->row[which];
    const struct samples *s = over->samples;
    int64_t features = s->features, n = over->count;
    double *zero = row->std64; /* until the deviation is known */
    for (int pass = 0; pass < 2; pass++) {
        memset(sum, 0, (size_t)features * sizeof *sum);
        for (int64_t i = 0; i < n; i++) {
            int64_t sample = over->ids != NULL ? over->ids[i] : i;
            apply_exact(t, which, (const double *)s->x + sample * features, 0, features, x);
            if (pass == 0 && i == 0)
                memcpy(zero, x, (size_t)features * sizeof *x);
            for (int64_t k = 0; k < features; k++) {
                double d = x[k] - (pass == 0 ? zero[k] : row->mean64[k]);
                sum[k] += pass == 0 ? d : d * d;
            }
            if (i % FIT_ROWS == 0)
                pump_now(over->pump);
        }
        for (int64_t k = 0; k < features && pass == 0; k++)
            row->mean64[k] = zero[k] + sum[k] / (double)n;
    }
    for (int64_t k = 0; k < features; k++) {
        double std = sqrt(sum[k] / (double)n);
        row->std64[k] = std > STD_LEAST ? std : 1.0;
    }
    round_both(row, features);
}

enum status transforms_fit(struct transforms *t, const struct transforms_fit *over,
                           struct err *err) {
    size_t features = (size_t)over->samples->features;
    double *sum = malloc(features * sizeof *sum);
    void *x = malloc(features * sizeof(double));
    enum status st = STATUS_OK;
    if (sum == NULL || x == NULL)
        st = err_set(err, STATUS_NOMEM, "data: out of memory");
    for (int i = 0; i < t->count && st == STATUS_OK; i++)
        if (t->row[i].kind == TRANSFORM_NORMALIZE && t->row[i].fit)
            (over->samples->type == SAMPLE_F64 ? fit_exact(t, i, over, sum, x)
                                               : fit_one(t, i, over, sum, x));
    free(sum);
    free(x);
    return st;
}

/* ---- describing ---- */

/* What was applied: `exact` where it is not NULL. One number where all features have the same, a list
 * otherwise. */
static struct value *numbers(struct arena *a, const double *exact, const float *v, int64_t n) {
    bool same = true;
    for (int64_t i = 1; i < n; i++)
        same &= exact != NULL ? exact[i] == exact[0] : v[i] == v[0];
    if (same)
        return value_real(a, exact != NULL ? exact[0] : (double)v[0]);
    struct value *list = value_list(a);
    for (int64_t i = 0; i < n; i++)
        value_push(a, list, value_real(a, exact != NULL ? exact[i] : (double)v[i]));
    return list;
}

struct value *transforms_describe(struct arena *a, const struct transforms *t, int64_t features) {
    struct value *list = value_list(a);
    for (int i = 0; i < t->count; i++) {
        const struct transform *row = &t->row[i];
        struct value *m = value_map(a);
        if (row->kind == TRANSFORM_NORMALIZE) {
            struct value *both = value_map(a);
            value_set(a, both, "mean",
                      numbers(a, t->exact ? row->mean64 : NULL, row->mean, features));
            value_set(a, both, "std", numbers(a, t->exact ? row->std64 : NULL, row->std, features));
            value_set(a, m, "normalize", both);
        } else {
            value_set_real(a, m, row->kind == TRANSFORM_SCALE ? "scale" : "shift",
                           t->exact ? row->by64 : (double)row->by);
        }
        value_push(a, list, m);
    }
    return list;
}
