/* What the files of the data module share: samples as a parser leaves them, and the transforms.
 *
 *     source.c   bytes of a plain or gzip file, in order (the only file that includes zlib.h)
 *     idx.c npy.c csv.c            bytes ──▶ struct samples
 *     samples.c  picks the parser, gives shapes, checks, takes leaf digests
 *     transform.c                  scale, shift, normalize: fitted and applied
 *     data.c     parts, split, digest, gather        data_cache.c  what a warm group keeps
 *
 * Samples are immutable and counted: several data sets (other seeds, other transforms) share one.
 */
#ifndef WORKER_DATA_DATA_PRIVATE_H
#define WORKER_DATA_DATA_PRIVATE_H

#include "core/path.h"
#include "worker/data/data.h"

#define DATA_BYTES_MAX   ((size_t)256 << 30) /* decoded bytes of one file */
#define DATA_CHUNK       ((size_t)1 << 20)   /* of the digest, and between two calls of pump */
#define TRANSFORMS_MAX   64
#define FIT_FEATURES_MAX 65536 /* mean and deviation stand in the manifest */

struct pump {
    void (*fn)(void *); /* may be NULL */
    void *arg;
};
void pump_now(const struct pump *p);

/* ---- source.c ---- */

struct source;
enum status source_open(const char *path, const struct pump *pump, struct source **out,
                        struct err *err) MUST_USE;
void source_close(struct source **s);

/* Fills all of `bytes`, or fails: CORRUPT names the offset where the file ended. */
enum status source_read(struct source *s, void *bytes, size_t len, struct err *err) MUST_USE;

/* Checks that nothing follows (and with gzip that length and CRC are right). */
enum status source_end(struct source *s, struct err *err) MUST_USE;

/* All that is left, NUL-terminated; free it. */
enum status source_rest(struct source *s, char **text, size_t *len, struct err *err) MUST_USE;

/* No more decoded bytes than this can follow: a lying header must not make us allocate. */
size_t source_bound(const struct source *s);
const char *source_path(const struct source *s);
int64_t source_size(const struct source *s); /* of the file as it lies on disk */

/* ---- samples ---- */

enum sample_type { SAMPLE_U8, SAMPLE_F32 };

struct samples {
    int refs;  /* samples_drop at 0 frees */
    char *key; /* what the cache finds it by; may be NULL */
    enum sample_type type;
    int64_t count, features;
    struct shape shape;
    void *x;         /* (count, features) */
    int32_t *labels; /* (count), or NULL in regression */
    int64_t classes; /* largest label + 1, or the number of words */
    float *targets;  /* (count, outputs), or NULL */
    int64_t outputs;
    struct csv_codes *codes; /* CSV: what words became, for the files that come after */
    struct digest *leaves;   /* one a DATA_CHUNK of x, then of labels or targets */
    size_t leaf_count;
    struct {
        char path[PATH_TEXT_MAX];
        int64_t bytes;
    } files[2];
    int file_count;
};

/* `source` is data.train and the like; `known` the samples of the training part, NULL when this is
 * it. */
enum status samples_load(const struct value *source, const struct samples *known,
                         const struct pump *pump, struct samples **out, struct err *err) MUST_USE;
void samples_drop(struct samples **s);
size_t samples_bytes(const struct samples *s);

/* An empty one with room for x; takes count, features > 0. */
enum status samples_new(const char *path, enum sample_type type, int64_t count, int64_t features,
                        struct samples **out, struct err *err) MUST_USE;
void samples_file(struct samples *s, const struct source *from);

/* (N), (N, F), (N, H, W), (N, C, H, W) → the shape of one sample. dims[0] is N. */
enum status samples_shape(const char *path, const int64_t *dims, int count, struct shape *shape,
                          int64_t *features, struct err *err) MUST_USE;

enum status idx_load(const char *images, const char *labels, const struct pump *pump,
                     struct samples **out, struct err *err) MUST_USE;
enum status npy_load(const char *images, const char *labels, bool regress, const struct pump *pump,
                     struct samples **out, struct err *err) MUST_USE;

struct csv_options {
    bool header;
    const struct value *label; /* a column's name, or its number from 0 */
    bool regress;
};
enum status csv_load(const char *path, const struct csv_options *options,
                     const struct samples *known, const struct pump *pump, struct samples **out,
                     struct err *err) MUST_USE;
void csv_codes_destroy(struct csv_codes **codes);
/* The words of the classes in order, or NULL where labels were numbers. */
struct value *csv_class_names(struct arena *a, const struct csv_codes *codes);

/* ---- transforms ---- */

enum transform_kind { TRANSFORM_SCALE, TRANSFORM_SHIFT, TRANSFORM_NORMALIZE };

struct transform {
    enum transform_kind kind;
    float by;          /* SCALE: x · by; SHIFT: x + by */
    bool fit;          /* NORMALIZE: fitted, else given */
    float *mean, *std; /* (features): as they go into the manifest */
    float *inverse;    /* (features): 1/std; x becomes (x − mean) · inverse */
};

struct transforms {
    struct transform row[TRANSFORMS_MAX];
    int count;
};

enum status transforms_parse(const struct value *list, struct shape shape, int64_t features,
                             struct transforms *out, struct err *err) MUST_USE;

/* Fits every {normalize: fit} over the samples ids[0..n) (NULL: all of 0..n) in that order. */
enum status transforms_fit(struct transforms *t, const struct samples *s, const int64_t *ids,
                           int64_t n, const struct pump *pump, struct err *err) MUST_USE;
void transforms_release(struct transforms *t);

/* One sample, (features) → (features) float. The same bits for the same bytes, always. */
void transforms_apply(const struct transforms *t, const struct samples *s, int64_t sample,
                      float *x);
struct value *transforms_describe(struct arena *a, const struct transforms *t, int64_t features);

/* ---- data.c, for the cache ---- */

/* Finds samples that are there already, or NULL; offers those that were loaded. */
struct samples_shelf {
    struct samples *(*find)(void *arg, const char *key);
    void (*keep)(void *arg, struct samples *s);
    void *arg;
};
enum status data_load_shelf(const struct value *data, uint64_t seed, const struct pump *pump,
                            const struct samples_shelf *shelf, struct dataset **out,
                            struct err *err) MUST_USE;

/* Canonical text of a source with size and mtime of its files; into `out`. */
enum status data_source_key(const struct value *source, struct buf *out, struct err *err) MUST_USE;
size_t data_bytes(const struct dataset *d); /* beside the samples */

#endif
