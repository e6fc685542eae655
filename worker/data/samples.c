#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/bytes.h"
#include "worker/data/data_private.h"

#define LARGE_PAGE ((size_t)2 << 20)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the digest takes memory as it lies");

/* Rows are read in random order: large pages spare a walk of the page table for each. */
static void *take_memory(size_t bytes) {
    if (bytes < LARGE_PAGE * 2)
        return malloc(bytes);
    size_t whole = (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *p = aligned_alloc(LARGE_PAGE, whole);
    if (p != NULL)
        (void)madvise(p, whole, MADV_HUGEPAGE); /* where it is refused, small pages do */
    return p;
}

enum status samples_new(const char *path, enum sample_type type, int64_t count, int64_t features,
                        struct samples **out, struct err *err) {
    if (count < 1 || features < 1)
        return err_set(err, STATUS_INVALID, "%s: no samples, or samples without features", path);
    if (count > DATA_SAMPLES_MAX || features > DATA_FEATURES_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "%s: %lld samples of %lld features; the maxima are %lld and %lld", path,
                       (long long)count, (long long)features, (long long)DATA_SAMPLES_MAX,
                       (long long)DATA_FEATURES_MAX);
    size_t bytes;
    if (!bytes_mul((size_t)count * (size_t)features, type == SAMPLE_U8 ? 1 : sizeof(float),
                   &bytes) ||
        bytes > DATA_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s: more than %zu bytes decoded", path,
                       DATA_BYTES_MAX);
    struct samples *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->x = take_memory(bytes);
    if (s == NULL || s->x == NULL) {
        free(s);
        return err_set(err, STATUS_NOMEM, "%s: no memory for %zu bytes of samples", path, bytes);
    }
    s->refs = 1;
    s->type = type;
    s->count = count;
    s->features = features;
    s->shape = (struct shape){.count = 1, .dim = {features}};
    *out = s;
    return STATUS_OK;
}

void samples_drop(struct samples **ps) {
    struct samples *s = *ps;
    *ps = NULL;
    if (s == NULL || --s->refs > 0)
        return;
    csv_codes_destroy(&s->codes);
    free(s->key);
    free(s->x);
    free(s->labels);
    free(s->targets);
    free(s->leaves);
    free(s);
}

void samples_file(struct samples *s, const struct source *from) {
    memcpy(s->files[s->file_count].path, source_path(from), strlen(source_path(from)) + 1);
    s->files[s->file_count++].bytes = source_size(from);
}

static size_t x_bytes(const struct samples *s) {
    return (size_t)s->count * (size_t)s->features * (s->type == SAMPLE_U8 ? 1 : sizeof(float));
}

static size_t y_bytes(const struct samples *s) {
    return s->labels != NULL ? (size_t)s->count * sizeof *s->labels
                             : (size_t)s->count * (size_t)s->outputs * sizeof *s->targets;
}

size_t samples_bytes(const struct samples *s) {
    return x_bytes(s) + y_bytes(s) + s->leaf_count * sizeof *s->leaves + sizeof *s;
}

enum status samples_shape(const char *path, const int64_t *dims, int count, struct shape *shape,
                          int64_t *features, struct err *err) {
    *features = 1;
    for (int i = 1; i < count; i++) {
        if (dims[i] > DATA_FEATURES_MAX || *features * dims[i] > DATA_FEATURES_MAX)
            return err_set(err, STATUS_TOO_LARGE, "%s: a sample of more than %lld features", path,
                           (long long)DATA_FEATURES_MAX);
        *features *= dims[i];
    }
    *shape = (struct shape){.count = 1, .dim = {*features}};
    if (count == 3)
        *shape = (struct shape){.count = 3, .dim = {1, dims[1], dims[2]}};
    if (count == 4)
        *shape = (struct shape){.count = 3, .dim = {dims[1], dims[2], dims[3]}};
    return STATUS_OK;
}

/* `shape: [C, H, W]` or `[F]`: another view of the same features. */
static enum status override_shape(struct samples *s, const struct value *list, struct err *err) {
    if (list == NULL)
        return STATUS_OK;
    struct shape shape = {.count = (int)list->count};
    if (list->kind != VALUE_LIST || (list->count != 1 && list->count != 3))
        return err_set(err, STATUS_INVALID, "data: shape must be [C, H, W] or [F]");
    int64_t features = 1;
    for (size_t i = 0; i < list->count; i++) {
        const struct value *v = list->items[i];
        if (v->kind != VALUE_INT || v->integer < 1 || v->integer > DATA_FEATURES_MAX)
            return err_set(err, STATUS_INVALID,
                           "data: shape[%zu] must be an integer from 1 to %lld", i,
                           (long long)DATA_FEATURES_MAX);
        shape.dim[i] = v->integer;
        if (features > DATA_FEATURES_MAX / v->integer)
            features = -1; /* cannot be what the file has */
        else
            features *= v->integer;
    }
    if (features != s->features)
        return err_set(err, STATUS_INVALID, "%s: samples have %lld features, shape asks for %lld",
                       s->files[0].path, (long long)s->features, (long long)features);
    s->shape = shape;
    return STATUS_OK;
}

static enum status check_finite(const struct samples *s, const float *v, int64_t count,
                                int64_t width, const char *what, const struct pump *pump,
                                struct err *err) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < width; k++)
            if (!isfinite(v[i * width + k]))
                return err_set(err, STATUS_INVALID, "%s: %s %lld of sample %lld is not finite",
                               s->files[s->file_count - 1].path, what, (long long)k, (long long)i);
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
    for (size_t at = 0; at < len; at += DATA_CHUNK) {
        size_t n = len - at < DATA_CHUNK ? len - at : DATA_CHUNK;
        hash_reset(h);
        hash_add(h, "\0", 1);
        hash_add(h, p + at, n);
        hash_end(h, &s->leaves[s->leaf_count++]);
        pump_now(pump);
    }
}

static enum status digest_leaves(struct samples *s, const struct pump *pump, struct err *err) {
    size_t chunks = (x_bytes(s) + DATA_CHUNK - 1) / DATA_CHUNK + y_bytes(s) / DATA_CHUNK + 1;
    struct hash *h = hash_new();
    s->leaves = malloc(chunks * sizeof *s->leaves);
    enum status st = STATUS_OK;
    if (h == NULL || s->leaves == NULL) {
        st = err_set(err, STATUS_NOMEM, "data digest: out of memory");
    } else {
        take_leaves(s, h, s->x, x_bytes(s), pump);
        if (s->labels != NULL)
            take_leaves(s, h, s->labels, y_bytes(s), pump);
        else
            take_leaves(s, h, s->targets, y_bytes(s), pump);
    }
    hash_destroy(&h);
    return st;
}

static enum status need(const struct value *source, const char *key, const char *format,
                        const char **out, struct err *err) {
    *out = value_get_string(source, key, NULL);
    if (*out == NULL || (*out)[0] == '\0')
        return err_set(err, STATUS_INVALID, "data: format %s needs `%s: FILE`", format, key);
    return STATUS_OK;
}

static enum status parse(const struct value *source, const struct samples *known,
                         const struct pump *pump, struct samples **out, struct err *err) {
    const char *format = value_get_string(source, "format", "");
    bool regress = strcmp(value_get_string(source, "task", ""), "regress") == 0;
    const char *images, *labels, *file;
    enum status st;
    if (strcmp(format, "csv") == 0) {
        struct csv_options options = {.header = value_get_bool(source, "header", true),
                                      .label = value_get(source, "label"),
                                      .regress = regress};
        TRY(need(source, "file", format, &file, err));
        TRY(csv_load(file, &options, known, pump, out, err));
        goto out;
    }
    if (strcmp(format, "idx") != 0 && strcmp(format, "npy") != 0) {
        st = err_set(err, STATUS_INVALID, "data: unknown format '%.32s'; it is idx, csv or npy",
                     format);
        goto out;
    }
    TRY(need(source, "images", format, &images, err));
    TRY(need(source, "labels", format, &labels, err));
    if (format[0] == 'i')
        TRY(idx_load(images, labels, pump, out, err));
    else
        TRY(npy_load(images, labels, regress, pump, out, err));
out:
    return st;
}

enum status samples_load(const struct value *source, const struct samples *known,
                         const struct pump *pump, struct samples **out, struct err *err) {
    struct samples *s = NULL;
    enum status st;
    TRY(parse(source, known, pump, &s, err));
    TRY(override_shape(s, value_get(source, "shape"), err));
    TRY(check_alike(s, known, err));
    if (s->type == SAMPLE_F32)
        TRY(check_finite(s, s->x, s->count, s->features, "feature", pump, err));
    if (s->targets != NULL)
        TRY(check_finite(s, s->targets, s->count, s->outputs, "target", pump, err));
    else
        TRY(check_labels(s, known, err));
    TRY(digest_leaves(s, pump, err));
    *out = s;
    s = NULL;
out:
    samples_drop(&s);
    return st;
}
