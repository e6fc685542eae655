/* What every format's reader fills: samples made, counted, measured and let go. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/bytes.h"
#include "worker/data/format.h"

#define LARGE_PAGE ((size_t)2 << 20)

static size_t type_bytes(enum sample_type type) {
    return type == SAMPLE_U8 ? 1 : type == SAMPLE_F32 ? sizeof(float) : sizeof(double);
}

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

enum status samples_new(const char *path, const struct samples_layout *layout, struct samples **out,
                        struct err *err) {
    if (layout->count < 1 || layout->features < 1)
        return err_set(err, STATUS_INVALID, "%s: no samples, or samples without features", path);
    if (layout->count > DATA_SAMPLES_MAX || layout->features > DATA_FEATURES_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "%s: %lld samples of %lld features; the maxima are %lld and %lld", path,
                       (long long)layout->count, (long long)layout->features,
                       (long long)DATA_SAMPLES_MAX, (long long)DATA_FEATURES_MAX);
    size_t bytes;
    if (!bytes_mul((size_t)layout->count * (size_t)layout->features, type_bytes(layout->type),
                   &bytes) ||
        bytes > SOURCE_BYTES_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s: more than %zu bytes decoded", path,
                       SOURCE_BYTES_MAX);
    struct samples *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->x = take_memory(bytes);
    if (s == NULL || s->x == NULL) {
        free(s);
        return err_set(err, STATUS_NOMEM, "%s: no memory for %zu bytes of samples", path, bytes);
    }
    s->refs = 1;
    s->type = layout->type;
    s->count = layout->count;
    s->features = layout->features;
    s->shape = layout->shape;
    *out = s;
    return STATUS_OK;
}

void samples_drop(struct samples **ps) {
    struct samples *s = *ps;
    *ps = NULL;
    if (s == NULL || --s->refs > 0)
        return;
    if (s->learnt != NULL)
        s->format->forget(s->learnt);
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

const char *samples_type_name(enum sample_type type) {
    static const char *const names[] = {
        [SAMPLE_U8] = "u8", [SAMPLE_F32] = "f32", [SAMPLE_F64] = "f64"};
    return names[type];
}

enum status samples_narrow(struct samples *s, struct err *err) {
    const double *from = s->x;
    size_t n = (size_t)s->count * (size_t)s->features;
    for (size_t i = 0; s->type == SAMPLE_F64 && i < n; i++)
        if ((double)(float)from[i] != from[i])
            return STATUS_OK;
    if (s->type != SAMPLE_F64)
        return STATUS_OK;
    float *x = take_memory(n * sizeof *x);
    if (x == NULL)
        return err_set(err, STATUS_NOMEM, "data: no memory for %zu bytes of samples",
                       n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)from[i];
    free(s->x);
    s->x = x;
    s->type = SAMPLE_F32;
    return STATUS_OK;
}

size_t samples_x_bytes(const struct samples *s) {
    return (size_t)s->count * (size_t)s->features * type_bytes(s->type);
}

size_t samples_y_bytes(const struct samples *s) {
    return s->labels != NULL ? (size_t)s->count * sizeof *s->labels
                             : (size_t)s->count * (size_t)s->outputs * sizeof *s->targets;
}

size_t samples_bytes(const struct samples *s) {
    return samples_x_bytes(s) + samples_y_bytes(s) + s->leaf_count * sizeof *s->leaves + sizeof *s;
}

enum status samples_layout_of(const char *path, const int64_t *dim, int dims,
                              struct samples_layout *out, struct err *err) {
    int64_t features = 1;
    for (int i = 1; i < dims; i++) {
        if (dim[i] > DATA_FEATURES_MAX || features * dim[i] > DATA_FEATURES_MAX)
            return err_set(err, STATUS_TOO_LARGE, "%s: a sample of more than %lld features", path,
                           (long long)DATA_FEATURES_MAX);
        features *= dim[i];
    }
    *out = (struct samples_layout){.type = SAMPLE_F32,
                                   .count = dim[0],
                                   .features = features,
                                   .shape = {.rank = 1, .dim = {features}}};
    if (dims == 3)
        out->shape = (struct shape){.rank = 3, .dim = {1, dim[1], dim[2]}};
    if (dims == 4)
        out->shape = (struct shape){.rank = 3, .dim = {dim[1], dim[2], dim[3]}};
    return STATUS_OK;
}
