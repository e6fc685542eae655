/* NumPy arrays, .npy of version 1 and 2: "\x93NUMPY", version, header length (u16 or u32), a Python
 * dict {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 784), } and the elements. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "worker/data/format.h"
#include "worker/data/targets.h"

#define NPY_DIMS_MAX   4
#define NPY_HEADER_MAX 65536

enum npy_type { NPY_U8, NPY_I32, NPY_I64, NPY_F32, NPY_F64 };

static const struct {
    const char *descr;
    size_t width;
} types[] = {
    [NPY_U8] = {"|u1", 1},  [NPY_I32] = {"<i4", 4}, [NPY_I64] = {"<i8", 8},
    [NPY_F32] = {"<f4", 4}, [NPY_F64] = {"<f8", 8},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

struct npy_header {
    enum npy_type type;
    int dims;
    int64_t dim[NPY_DIMS_MAX];
    size_t elements;
};

/* The text behind 'key': or NULL. */
static const char *after_key(const char *text, const char *key) {
    char quoted[32];
    (void)snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(text, quoted);
    if (p == NULL)
        return NULL;
    p += strlen(quoted);
    p += strspn(p, " ");
    if (*p != ':')
        return NULL;
    p++;
    return p + strspn(p, " ");
}

/* "(60000, 28, 28)" and "(5,)". */
static bool parse_shape(const char *p, struct npy_header *h) {
    if (*p++ != '(')
        return false;
    for (;;) {
        p += strspn(p, " ");
        if (*p == ')')
            return h->dims > 0;
        char *end;
        if (h->dims == NPY_DIMS_MAX || !isdigit((unsigned char)*p))
            return false;
        long long n = strtoll(p, &end, 10);
        if (n < 0 || n > INT64_C(1) << 48)
            return false;
        h->dim[h->dims++] = n;
        p = end + strspn(end, " ");
        if (*p == ',')
            p++;
        else if (*p != ')')
            return false;
    }
}

static enum status parse_dict(const char *path, const char *text, struct npy_header *h,
                              struct err *err) {
    const char *descr = after_key(text, "descr"), *order = after_key(text, "fortran_order");
    const char *shape = after_key(text, "shape");
    *h = (struct npy_header){.elements = 1};
    if (descr == NULL || order == NULL || shape == NULL || !parse_shape(shape, h))
        return err_set(err, STATUS_INVALID,
                       "%s: npy header must give descr, fortran_order and a shape of 1 to %d sizes",
                       path, NPY_DIMS_MAX);
    size_t t = 0;
    while (t < TYPE_COUNT && strncmp(descr + 1, types[t].descr, 3) != 0)
        t++;
    if (t == TYPE_COUNT || (descr[0] != '\'' && descr[0] != '"') || descr[4] != descr[0])
        return err_set(err, STATUS_INVALID,
                       "%s: npy type %.12s is not one of uint8, int32, int64, float32, float64 "
                       "(little-endian)",
                       path, descr);
    h->type = (enum npy_type)t;
    if (strncmp(order, "False", 5) != 0)
        return err_set(err, STATUS_INVALID,
                       "%s: the array is in Fortran order; save it with numpy.ascontiguousarray",
                       path);
    for (int i = 0; i < h->dims; i++) {
        if (h->dim[i] == 0)
            return err_set(err, STATUS_INVALID, "%s: dimension %d of the array is 0", path, i + 1);
        if (!bytes_mul(h->elements, (size_t)h->dim[i], &h->elements))
            return err_set(err, STATUS_INVALID, "%s: the sizes in its header overflow", path);
    }
    return STATUS_OK;
}

static enum status read_header(struct source *s, struct npy_header *h, struct err *err) {
    uint8_t b[12];
    char *text = NULL;
    enum status st;
    TRY(source_read(s, b, 8, err));
    if (memcmp(b, "\x93NUMPY", 6) != 0) {
        st = err_set(err, STATUS_INVALID, "%s: wrong magic at offset 0: not an npy file",
                     source_path(s));
        goto out;
    }
    if (b[6] != 1 && b[6] != 2) {
        st = err_set(err, STATUS_INVALID, "%s: npy version %d; 1 and 2 are known", source_path(s),
                     b[6]);
        goto out;
    }
    size_t wide = b[6] == 1 ? 2 : 4;
    TRY(source_read(s, b, wide, err));
    size_t len = wide == 2 ? bytes_get_u16(b) : bytes_get_u32(b);
    if (len > NPY_HEADER_MAX) {
        st = err_set(err, STATUS_INVALID, "%s: an npy header of %zu bytes (maximum %d)",
                     source_path(s), len, NPY_HEADER_MAX);
        goto out;
    }
    text = calloc(1, len + 1);
    if (text == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", source_path(s));
        goto out;
    }
    TRY(source_read(s, text, len, err));
    TRY(parse_dict(source_path(s), text, h, err));
    size_t bytes;
    if (!bytes_mul(h->elements, types[h->type].width, &bytes) || bytes > source_bound(s))
        st = err_set(err, STATUS_CORRUPT,
                     "%s: truncated: the header announces %zu elements, the file cannot hold them",
                     source_path(s), h->elements);
out:
    free(text);
    return st;
}

/* Integers of at most 53 bits and all floats pass through a double unharmed. */
static double element(enum npy_type type, const uint8_t *p) {
    switch (type) {
    case NPY_U8:
        return p[0];
    case NPY_I32:
        return (int32_t)bytes_get_u32(p);
    case NPY_I64:
        return (double)(int64_t)bytes_get_u64(p);
    case NPY_F64:
        return bytes_get_f64(p);
    case NPY_F32:
        break;
    }
    uint32_t u = bytes_get_u32(p);
    float f;
    memcpy(&f, &u, 4);
    return (double)f;
}

/* Calls `take` for every element in order. */
typedef enum status take_fn(void *to, const char *path, size_t i, double v, struct err *err);

static enum status each(struct source *s, const struct npy_header *h, take_fn *take, void *to,
                        struct err *err) {
    uint8_t block[4096];
    size_t width = types[h->type].width;
    for (size_t done = 0; done < h->elements;) {
        size_t n = sizeof block / width;
        n = n < h->elements - done ? n : h->elements - done;
        enum status st = source_read(s, block, n * width, err);
        for (size_t i = 0; i < n && st == STATUS_OK; i++, done++)
            st = take(to, source_path(s), done, element(h->type, block + i * width), err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status take_float(void *to, const char *path, size_t i, double v, struct err *err) {
    (void)path;
    (void)err;
    ((float *)to)[i] = (float)v;
    return STATUS_OK;
}

/* What is to be predicted, and a look at its digits. */
struct predicted {
    float *targets;
    struct targets_seen seen;
};

static enum status take_target(void *to, const char *path, size_t i, double v, struct err *err) {
    struct predicted *p = to;
    targets_see(&p->seen, v);
    return take_float(p->targets, path, i, v, err);
}

static enum status take_double(void *to, const char *path, size_t i, double v, struct err *err) {
    (void)path;
    (void)err;
    ((double *)to)[i] = v;
    return STATUS_OK;
}

static enum status take_label(void *to, const char *path, size_t i, double v, struct err *err) {
    if (!(v >= 0 && v < DATA_CLASSES_MAX))
        return err_set(err, STATUS_INVALID,
                       "%s: label %.17g of sample %zu is out of range (0 to %d)", path, v, i,
                       DATA_CLASSES_MAX - 1);
    ((int32_t *)to)[i] = (int32_t)v;
    return STATUS_OK;
}

static enum status read_images(const struct samples_request *r, struct samples **out,
                               struct err *err) {
    const char *path = r->source->images;
    struct source *s = NULL;
    struct samples *made = NULL;
    struct npy_header h = {0};
    struct samples_layout layout;
    enum status st;
    TRY(source_open(path, r->pump, &s, err));
    TRY(read_header(s, &h, err));
    TRY(samples_layout_of(path, h.dim, h.dims, &layout, err));
    if (h.type == NPY_U8)
        layout.type = SAMPLE_U8;
    else if (h.type != NPY_F32)
        layout.type = samples_wide(r);
    TRY(samples_new(path, &layout, &made, err));
    if (h.type == NPY_U8)
        TRY(source_read(s, made->x, h.elements, err));
    else
        TRY(each(s, &h, made->type == SAMPLE_F64 ? take_double : take_float, made->x, err));
    TRY(source_end(s, err));
    if (r->known == NULL)
        TRY(samples_narrow(made, err));
    samples_file(made, s);
    *out = made;
    made = NULL;
out:
    samples_drop(&made);
    source_close(&s);
    return st;
}

static enum status read_targets(struct source *s, const struct npy_header *h, struct samples *to,
                                struct err *err) {
    struct predicted p = {.targets = NULL};
    enum status st;
    TRY(targets_open(&p.seen, source_path(s), err));
    p.targets = to->targets = malloc(h->elements * sizeof *to->targets);
    if (p.targets == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", source_path(s));
        goto out;
    }
    TRY(each(s, h, take_target, &p, err));
    targets_doubt(&p.seen, NULL, to->outputs, &to->notes);
out:
    targets_release(&p.seen);
    return st;
}

static enum status read_labels(const struct samples_request *r, const char *path,
                               struct samples *to, struct err *err) {
    bool regress = r->source->task == SPEC_REGRESS;
    struct source *s = NULL;
    struct npy_header h = {0};
    enum status st;
    TRY(source_open(path, r->pump, &s, err));
    TRY(read_header(s, &h, err));
    bool real = h.type == NPY_F32 || h.type == NPY_F64;
    if (h.dim[0] != to->count) {
        st = err_set(err, STATUS_INVALID, "%s: %lld labels, but %s has %lld images", path,
                     (long long)h.dim[0], to->files[0].path, (long long)to->count);
        goto out;
    }
    if (h.dims > 2 || (h.dims == 2 && !real && !regress)) {
        st = err_set(err, STATUS_INVALID, "%s: class labels must have one dimension, not %d", path,
                     h.dims);
        goto out;
    }
    if (real || regress) {
        to->outputs = h.dims == 2 ? h.dim[1] : 1;
        TRY(read_targets(s, &h, to, err));
    } else {
        to->labels = malloc(h.elements * sizeof *to->labels);
        TRY(to->labels != NULL ? each(s, &h, take_label, to->labels, err)
                               : err_set(err, STATUS_NOMEM, "%s: out of memory", path));
    }
    TRY(source_end(s, err));
    samples_file(to, s);
out:
    source_close(&s);
    return st;
}

static enum status npy_read(const struct samples_request *r, struct samples **out,
                            struct err *err) {
    struct samples *s = NULL;
    enum status st;
    TRY(read_images(r, &s, err));
    TRY(read_labels(r, r->source->labels, s, err));
    *out = s;
    s = NULL;
out:
    samples_drop(&s);
    return st;
}

const struct data_format npy_format = {.name = "npy", .read = npy_read};
