/* From a source of the configuration to samples that can be trained on: its format's reader, then
 * the checks that all formats share, then the leaves of the digest. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "worker/data/format.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the digest reads memory as it is");

/* `shape: [C, H, W]` or `[F]`: another view of the same features. */
static enum status override_shape(struct samples *s, const struct spec_source *source,
                                  struct err *err) {
    int64_t features = 1;
    struct shape shape = {.rank = source->shape_count};
    if (source->shape_count == 0)
        return STATUS_OK;
    for (int i = 0; i < source->shape_count; i++) {
        shape.dim[i] = source->shape[i];
        if (features > DATA_FEATURES_MAX / shape.dim[i])
            features = -1; /* cannot be what the file has */
        else
            features *= shape.dim[i];
    }
    if (features != s->features)
        return err_set(err, STATUS_INVALID, "%s: samples have %lld features, shape asks for %lld",
                       s->files[0].path, (long long)s->features, (long long)features);
    s->shape = shape;
    return STATUS_OK;
}

/* Numbers of every sample: (count, width). */
struct column {
    const char *what;
    const float *v;
    int64_t width;
};

static enum status check_finite(const struct samples *s, const struct column *c,
                                const struct pump *pump, struct err *err) {
    for (int64_t i = 0; i < s->count; i++) {
        for (int64_t k = 0; k < c->width; k++)
            if (!isfinite(c->v[i * c->width + k]))
                return err_set(err, STATUS_INVALID, "%s: %s %lld of sample %lld is not finite",
                               s->files[s->file_count - 1].path, c->what, (long long)k,
                               (long long)i);
        if (i % 4096 == 0)
            pump_now(pump);
    }
    return STATUS_OK;
}

/* Labels against what the training part has; the training part says how many classes there are. */
static enum status check_labels(struct samples *s, const struct samples *known, struct err *err) {
    int32_t largest = 0;
    for (int64_t i = 0; i < s->count; i++) {
        if (s->labels[i] > largest)
            largest = s->labels[i];
        if (known != NULL && s->labels[i] >= known->classes)
            return err_set(err, STATUS_INVALID,
                           "%s: label %d of sample %lld is out of range: the training data has "
                           "classes 0 to %lld",
                           s->files[s->file_count - 1].path, s->labels[i], (long long)i,
                           (long long)known->classes - 1);
    }
    if (known != NULL)
        s->classes = known->classes;
    else if (s->classes == 0)
        s->classes = largest + 1;
    return STATUS_OK;
}

static enum status check_alike(const struct samples *s, const struct samples *train,
                               struct err *err) {
    if (train == NULL)
        return STATUS_OK;
    if (s->features != train->features)
        return err_set(err, STATUS_INVALID,
                       "%s: samples of %lld features; the training data has %lld", s->files[0].path,
                       (long long)s->features, (long long)train->features);
    if ((s->labels == NULL) != (train->labels == NULL) || s->outputs != train->outputs)
        return err_set(err, STATUS_INVALID,
                       "%s: labels of another kind or number than the training data's",
                       s->files[s->file_count - 1].path);
    return STATUS_OK;
}

static void take_leaves(struct samples *s, struct hash *h, const void *bytes, size_t len,
                        const struct pump *pump) {
    const uint8_t *p = bytes;
    for (size_t at = 0; at < len; at += SAMPLES_CHUNK) {
        size_t n = len - at < SAMPLES_CHUNK ? len - at : SAMPLES_CHUNK;
        hash_reset(h);
        hash_add(h, "\0", 1);
        hash_add(h, p + at, n);
        hash_end(h, &s->leaves[s->leaf_count++]);
        pump_now(pump);
    }
}

static enum status digest_leaves(struct samples *s, const struct pump *pump, struct err *err) {
    size_t chunks = (samples_x_bytes(s) + SAMPLES_CHUNK - 1) / SAMPLES_CHUNK +
                    samples_y_bytes(s) / SAMPLES_CHUNK + 1;
    struct hash *h = hash_new();
    s->leaves = malloc(chunks * sizeof *s->leaves);
    enum status st = STATUS_OK;
    if (h == NULL || s->leaves == NULL) {
        st = err_set(err, STATUS_NOMEM, "data digest: out of memory");
    } else {
        take_leaves(s, h, s->x, samples_x_bytes(s), pump);
        if (s->labels != NULL)
            take_leaves(s, h, s->labels, samples_y_bytes(s), pump);
        else
            take_leaves(s, h, s->targets, samples_y_bytes(s), pump);
    }
    hash_destroy(&h);
    return st;
}

enum status samples_load(const struct samples_request *r, struct samples **out, struct err *err) {
    const struct data_format *format = data_format_find(r->source->format);
    struct samples *s = NULL;
    enum status st;
    if (format == NULL) {
        st = err_set(err, STATUS_INVALID, "data: no reader for the format '%.32s'",
                     r->source->format);
        goto out;
    }
    TRY(format->read(r, &s, err));
    s->format = format;
    TRY(override_shape(s, r->source, err));
    TRY(check_alike(s, r->known, err));
    if (s->type == SAMPLE_F32)
        TRY(check_finite(s, &(struct column){"feature", s->x, s->features}, r->pump, err));
    if (s->targets != NULL)
        TRY(check_finite(s, &(struct column){"target", s->targets, s->outputs}, r->pump, err));
    else
        TRY(check_labels(s, r->known, err));
    TRY(digest_leaves(s, r->pump, err));
    *out = s;
    s = NULL;
out:
    samples_drop(&s);
    return st;
}
