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

static enum status check_features(const struct samples *s, const struct pump *pump,
                                  struct err *err) {
    for (int64_t i = 0; i < s->count && s->type != SAMPLE_U8; i++) {
        for (int64_t k = 0; k < s->features; k++) {
            double v = samples_value(s, i * s->features + k);
            if (!isfinite(v))
                return err_set(err, STATUS_INVALID,
                               "%s: feature %lld of sample %lld is not finite (%g); both count "
                               "from 0",
                               s->files[0].path, (long long)k, (long long)i, v);
            if (!isfinite((float)v))
                return err_set(err, STATUS_INVALID,
                               "%s: feature %lld of sample %lld is %g, more than a float32 holds; "
                               "both count from 0",
                               s->files[0].path, (long long)k, (long long)i, v);
        }
        if (i % 4096 == 0)
            pump_now(pump);
    }
    return STATUS_OK;
}

/* Targets are in the last of the files. */
static enum status check_targets(const struct samples *s, struct err *err) {
    for (int64_t i = 0; i < s->count * s->outputs; i++)
        if (!isfinite(s->targets[i]))
            return err_set(err, STATUS_INVALID,
                           "%s: target %lld of sample %lld is not finite; both count from 0",
                           s->files[s->file_count - 1].path, (long long)(i % s->outputs),
                           (long long)(i / s->outputs));
    return STATUS_OK;
}

/* Classes that no label of the training part has cost an output each, and show a mistake more often
 * than not. */
static void doubt_classes(struct samples *s, struct notes *notes) {
    static const char *const csv = "; data.train.types: {label: words} makes the labels names";
    uint8_t seen[DATA_CLASSES_MAX / 8] = {0};
    int64_t present = 0, least = s->classes;
    for (int64_t i = 0; i < s->count; i++) {
        int32_t l = s->labels[i];
        present += (seen[l / 8] >> l % 8 & 1) == 0;
        seen[l / 8] |= (uint8_t)(1 << l % 8);
        least = l < least ? l : least;
    }
    const char *path = s->files[s->file_count - 1].path, *out = s->learnt != NULL ? csv : "";
    if (present == 1)
        notes_add(notes, "%s: every label is %lld: there is nothing to tell apart", path,
                  (long long)least);
    else if (least == 1 && present == s->classes - 1)
        notes_add(notes,
                  "%s: the labels are 1 to %lld; classes count from 0, and the model needs %lld "
                  "outputs, of which the first is never right: subtract 1%s",
                  path, (long long)s->classes - 1, (long long)s->classes, out);
    else if (present < s->classes)
        notes_add(
            notes,
            "%s: %lld of the classes 0 to %lld never occur, and the model needs an output for "
            "each%s",
            path, (long long)(s->classes - present), (long long)s->classes - 1, out);
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
    if (known == NULL)
        doubt_classes(s, &s->notes);
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
    TRY(check_features(s, r->pump, err));
    if (s->targets != NULL)
        TRY(check_targets(s, err));
    else
        TRY(check_labels(s, r->known, err));
    TRY(digest_leaves(s, r->pump, err));
    *out = s;
    s = NULL;
out:
    samples_drop(&s);
    return st;
}
