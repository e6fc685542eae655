/* Samples as a format's reader leaves them: decoded, in file order, not yet transformed.
 *
 *     x        (count, features) of u8, f32, f64          labels   (count), or NULL in regression
 *     leaves   digests of x, then of labels/targets    targets  (count, outputs), or NULL
 *
 * Immutable once loaded, and counted: several data sets (other seeds, other transforms) share one.
 * Threading: one thread. */
#ifndef WORKER_DATA_SAMPLES_H
#define WORKER_DATA_SAMPLES_H

#include "core/hash.h"
#include "core/path.h"
#include "core/value.h"
#include "worker/data/data.h"
#include "worker/data/notes.h"
#include "worker/data/source.h"

#define SAMPLES_CHUNK ((size_t)1 << 20) /* bytes of one leaf of the digest */

struct data_format;

/* F64: where float32 would lose digits before the transforms have centred them (since version 3). */
enum sample_type { SAMPLE_U8, SAMPLE_F32, SAMPLE_F64 };

struct samples {
    int refs;  /* samples_drop at 0 frees */
    char *key; /* what the cache finds it by; may be NULL */
    enum sample_type type;
    int64_t count, features;
    struct shape shape;
    void *x;
    int32_t *labels;
    int64_t classes; /* largest label + 1, or the number of words */
    float *targets;
    int64_t outputs;
    const struct data_format *format; /* that read them */
    void *learnt;          /* the format's own, for files read after this one; may be NULL */
    struct digest *leaves; /* one for each SAMPLES_CHUNK */
    size_t leaf_count;
    struct {
        char path[PATH_TEXT_MAX];
        int64_t bytes;
    } files[2];
    int file_count;
    struct notes notes;
};

struct samples_layout {
    enum sample_type type;
    int64_t count, features;
    struct shape shape;
};

/* The layout of an array (N), (N, F), (N, H, W) or (N, C, H, W); dim[0] is N. */
enum status samples_layout_of(const char *path, const int64_t *dim, int dims,
                              struct samples_layout *out, struct err *err) MUST_USE;

/* With room for x, without values. INVALID where there is no sample or no feature. */
enum status samples_new(const char *path, const struct samples_layout *layout, struct samples **out,
                        struct err *err) MUST_USE;
void samples_drop(struct samples **s);

/* F64 whose every value is a float32 becomes F32. */
enum status samples_narrow(struct samples *s, struct err *err) MUST_USE;

/* Notes that `from` was read. */
void samples_file(struct samples *s, const struct source *from);

const char *samples_type_name(enum sample_type type); /* u8, f32, f64 */
size_t samples_x_bytes(const struct samples *s);
size_t samples_y_bytes(const struct samples *s); /* of labels or targets */
size_t samples_bytes(const struct samples *s);   /* of all */

/* The value of a feature, as the file has it. */
static inline double samples_value(const struct samples *s, int64_t at) {
    return s->type == SAMPLE_U8    ? ((const uint8_t *)s->x)[at]
           : s->type == SAMPLE_F32 ? (double)((const float *)s->x)[at]
                                   : ((const double *)s->x)[at];
}

/* What is to be read. */
struct samples_request {
    const struct spec_source *source; /* data.train and the like */
    const struct samples *known;      /* the training part; NULL when this is it */
    const struct pump *pump;          /* may be NULL */
};

/* Wide numbers of a file: kept as they are, where the language and the training part do so. */
static inline enum sample_type samples_wide(const struct samples_request *r) {
    bool wide = r->source->language >= 3 && (r->known == NULL || r->known->type == SAMPLE_F64);
    return wide ? SAMPLE_F64 : SAMPLE_F32;
}

/* Reads by the source's format and checks (samples_load.c). */
enum status samples_load(const struct samples_request *r, struct samples **out,
                         struct err *err) MUST_USE;

#endif
