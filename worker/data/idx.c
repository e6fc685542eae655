/* IDX, the format of MNIST: two zero bytes, an element type, the number of dimensions, the sizes as
 * 32-bit big-endian numbers, then the elements, big-endian.
 *
 *     00 00 08 03 | 00 00 ea 60 | 00 00 00 1c | 00 00 00 1c | pixels …
 *          u8  3d       60,000        28            28 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "worker/data/format.h"

#define IDX_DIMS_MAX 4

enum { IDX_U8 = 0x08, IDX_I32 = 0x0C, IDX_F32 = 0x0D, IDX_F64 = 0x0E };

struct idx_header {
    int type;
    size_t width; /* bytes an element */
    int dims;
    int64_t dim[IDX_DIMS_MAX];
    size_t elements;
};

static enum status read_header(struct source *s, const char *what, struct idx_header *h,
                               struct err *err) {
    uint8_t b[4];
    enum status st = source_read(s, b, 4, err);
    if (st != STATUS_OK)
        return st;
    *h = (struct idx_header){.type = b[2], .dims = b[3], .elements = 1};
    h->width = h->type == IDX_U8 ? 1 : h->type == IDX_F64 ? 8 : 4;
    bool known =
        h->type == IDX_U8 || h->type == IDX_I32 || h->type == IDX_F32 || h->type == IDX_F64;
    if (b[0] != 0 || b[1] != 0 || !known || h->dims < 1 || h->dims > IDX_DIMS_MAX)
        return err_set(err, STATUS_INVALID,
                       "%s: wrong magic %02x%02x%02x%02x at offset 0: not an IDX file of %s",
                       source_path(s), b[0], b[1], b[2], b[3], what);
    for (int i = 0; i < h->dims; i++) {
        st = source_read(s, b, 4, err);
        if (st != STATUS_OK)
            return st;
        h->dim[i] = bytes_get_be32(b);
        if (h->dim[i] == 0)
            return err_set(err, STATUS_INVALID, "%s: dimension %d of %s is 0 (offset %d)",
                           source_path(s), i + 1, what, 4 + 4 * i);
        if (!bytes_mul(h->elements, (size_t)h->dim[i], &h->elements))
            return err_set(err, STATUS_INVALID, "%s: the sizes in its header overflow",
                           source_path(s));
    }
    size_t bytes;
    if (!bytes_mul(h->elements, h->width, &bytes) || bytes > source_bound(s))
        return err_set(err, STATUS_CORRUPT,
                       "%s: truncated: the header announces %zu elements of %s, the file cannot "
                       "hold them",
                       source_path(s), h->elements, what);
    return STATUS_OK;
}

static double element(int type, const uint8_t *p) {
    if (type == IDX_U8)
        return p[0];
    if (type == IDX_I32)
        return (int32_t)bytes_get_be32(p);
    if (type == IDX_F64) {
        uint64_t u = bytes_get_be64(p);
        double d;
        memcpy(&d, &u, 8);
        return d;
    }
    uint32_t u = bytes_get_be32(p);
    float f;
    memcpy(&f, &u, 4);
    return (double)f;
}

/* Elements that are not bytes become numbers, a stretch at a time. */
static enum status read_numbers(struct source *s, const struct idx_header *h, struct samples *to,
                                struct err *err) {
    uint8_t block[4096];
    for (size_t done = 0; done < h->elements;) {
        size_t n = sizeof block / h->width;
        n = n < h->elements - done ? n : h->elements - done;
        enum status st = source_read(s, block, n * h->width, err);
        if (st != STATUS_OK)
            return st;
        for (size_t i = 0; i < n; i++, done++) {
            double v = element(h->type, block + i * h->width);
            if (to->type == SAMPLE_F64)
                ((double *)to->x)[done] = v;
            else
                ((float *)to->x)[done] = (float)v;
        }
    }
    return STATUS_OK;
}

static enum status read_images(const struct samples_request *r, struct samples **out,
                               struct err *err) {
    const char *path = r->source->images;
    struct source *s = NULL;
    struct samples *made = NULL;
    struct idx_header h;
    struct samples_layout layout;
    enum status st;
    TRY(source_open(path, r->pump, &s, err));
    TRY(read_header(s, "images", &h, err));
    TRY(samples_layout_of(path, h.dim, h.dims, &layout, err));
    if (h.type == IDX_U8)
        layout.type = SAMPLE_U8;
    else if (h.type != IDX_F32)
        layout.type = samples_wide(r);
    TRY(samples_new(path, &layout, &made, err));
    if (h.type == IDX_U8)
        TRY(source_read(s, made->x, h.elements, err));
    else
        TRY(read_numbers(s, &h, made, err));
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

static enum status fill_labels(struct source *s, const struct idx_header *h, int32_t *labels,
                               struct err *err) {
    uint8_t block[4096];
    for (size_t done = 0; done < h->elements;) {
        size_t n = sizeof block / h->width;
        n = n < h->elements - done ? n : h->elements - done;
        enum status st = source_read(s, block, n * h->width, err);
        if (st != STATUS_OK)
            return st;
        for (size_t i = 0; i < n; i++, done++) {
            double v = element(h->type, block + i * h->width);
            if (v < 0 || v >= DATA_CLASSES_MAX)
                return err_set(err, STATUS_INVALID,
                               "%s: label %.0f of sample %zu is out of range (0 to %d)",
                               source_path(s), v, done, DATA_CLASSES_MAX - 1);
            labels[done] = (int32_t)v;
        }
    }
    return STATUS_OK;
}

static enum status read_labels(const struct samples_request *r, const char *path,
                               struct samples *to, struct err *err) {
    struct source *s = NULL;
    struct idx_header h;
    enum status st;
    TRY(source_open(path, r->pump, &s, err));
    TRY(read_header(s, "labels", &h, err));
    if (h.dims != 1 || (h.type != IDX_U8 && h.type != IDX_I32)) {
        st = err_set(err, STATUS_INVALID,
                     "%s: labels must have one dimension and be bytes or int32, not %d dimensions "
                     "of type %02x (are images and labels swapped?)",
                     path, h.dims, (unsigned)h.type);
        goto out;
    }
    if (h.dim[0] != to->count) {
        st = err_set(err, STATUS_INVALID, "%s: %lld labels, but %s has %lld images", path,
                     (long long)h.dim[0], to->files[0].path, (long long)to->count);
        goto out;
    }
    to->labels = malloc((size_t)to->count * sizeof *to->labels);
    if (to->labels == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", path);
        goto out;
    }
    TRY(fill_labels(s, &h, to->labels, err));
    TRY(source_end(s, err));
    samples_file(to, s);
out:
    source_close(&s);
    return st;
}

static enum status idx_read(const struct samples_request *r, struct samples **out,
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

const struct data_format idx_format = {.name = "idx", .read = idx_read};
