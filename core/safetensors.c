/* safetensors: tensors to bytes and back, with every bound checked. */
#include "core/safetensors.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/json.h"

#define HEADER_MAX   ((size_t)100 << 20) /* the format's own bound */
#define LENGTH_BYTES ((size_t)8)         /* of the number in front of the header */
#define DATA_ALIGN   ((size_t)64)        /* where the data begins, counted from the file's start */
#define METADATA     "__metadata__"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [TENSOR_F32] = {"F32", 4},
    [TENSOR_F64] = {"F64", 8},
    [TENSOR_I64] = {"I64", 8},
    [TENSOR_U8] = {"U8", 1},
};
#define DTYPE_COUNT (sizeof dtypes / sizeof dtypes[0])

/* shape × dtype; false where a dimension is negative or the product overflows. */
static bool tensor_size(const struct tensor *t, size_t *out) {
    size_t bytes = dtypes[t->dtype].bytes;
    for (int i = 0; i < t->dims; i++)
        if (t->dim[i] < 0 || !bytes_mul(bytes, (size_t)t->dim[i], &bytes))
            return false;
    *out = bytes;
    return true;
}

/* ---- writing ---- */

static enum status check_tensor(const struct tensor *t, struct err *err) {
    if (t->name == NULL || t->name[0] == '\0' || strcmp(t->name, METADATA) == 0 ||
        strnlen(t->name, TENSOR_NAME_MAX + 1) > TENSOR_NAME_MAX)
        return err_set(err, STATUS_INVALID, "tensor name must have 1 to %d bytes and not be %s",
                       TENSOR_NAME_MAX, METADATA);
    if ((size_t)t->dtype >= DTYPE_COUNT || t->dims < 0 || t->dims > TENSOR_DIMS_MAX)
        return err_set(err, STATUS_INVALID, "tensor %s: unknown dtype or more than %d dimensions",
                       t->name, TENSOR_DIMS_MAX);
    size_t bytes;
    if (!tensor_size(t, &bytes) || bytes != t->bytes || (bytes > 0 && t->data == NULL))
        return err_set(err, STATUS_INVALID, "tensor %s: %zu bytes do not fit its shape", t->name,
                       t->bytes);
    return STATUS_OK;
}

static struct value *describe(struct arena *a, const struct tensor *t, size_t begin, size_t end) {
    struct value *shape = value_list(a), *offsets = value_list(a), *entry = value_map(a);
    for (int i = 0; i < t->dims; i++)
        value_push(a, shape, value_int(a, t->dim[i]));
    value_push(a, offsets, value_int(a, (int64_t)begin));
    value_push(a, offsets, value_int(a, (int64_t)end));
    value_set_string(a, entry, "dtype", dtypes[t->dtype].name);
    value_set(a, entry, "shape", shape);
    return value_set(a, entry, "data_offsets", offsets);
}

static enum status add_metadata(struct arena *a, const struct value *metadata, struct value *header,
                                struct err *err) {
    if (metadata == NULL)
        return STATUS_OK;
    if (metadata->kind != VALUE_MAP)
        return err_set(err, STATUS_INVALID, "tensor metadata must be a map of strings");
    for (size_t i = 0; i < metadata->count; i++)
        if (metadata->members[i].value->kind != VALUE_STRING)
            return err_set(err, STATUS_INVALID, "tensor metadata %s must be a string",
                           metadata->members[i].key);
    value_set(a, header, METADATA, value_copy(a, metadata));
    return STATUS_OK;
}

/* Adds their entries; checks that all bytes together can be counted. */
static enum status add_tensors(struct arena *a, const struct tensor *tensors, size_t count,
                               struct value *header, struct err *err) {
    size_t at = 0, end;
    for (size_t i = 0; i < count; i++, at = end) {
        enum status st = check_tensor(&tensors[i], err);
        if (st != STATUS_OK)
            return st;
        if (value_get(header, tensors[i].name) != NULL)
            return err_set(err, STATUS_INVALID, "tensor %s is given twice", tensors[i].name);
        if (!bytes_add(at, tensors[i].bytes, &end) || end > INT64_MAX)
            return err_set(err, STATUS_TOO_LARGE, "the tensors have more than 2^63 bytes together");
        value_set(a, header, tensors[i].name, describe(a, &tensors[i], at, end));
    }
    return STATUS_OK;
}

static size_t bytes_of(const struct tensor *tensors, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += tensors[i].bytes;
    return sum;
}

enum status safetensors_write(struct buf *out, const struct tensor *tensors, size_t count,
                              const struct value *metadata, struct err *err) {
    static const char blanks[] = "                                                                ";
    struct arena a;
    arena_init(&a, HEADER_MAX * 4);
    struct buf text = BUF_INIT(HEADER_MAX);
    struct value *header = value_map(&a);
    enum status st;
    if (header == NULL) {
        st = err_set(err, STATUS_NOMEM, "tensor header: out of memory");
        goto out;
    }
    TRY(add_metadata(&a, metadata, header, err));
    TRY(add_tensors(&a, tensors, count, header, err));
    size_t data_len = bytes_of(tensors, count);
    TRY(json_dump(header, JSON_COMPACT, &text, err));
    size_t pad = (DATA_ALIGN - (LENGTH_BYTES + text.len) % DATA_ALIGN) % DATA_ALIGN;
    /* All room at once: no doubling of a large buffer, and an append that fails leaves nothing. */
    char *p = buf_grow(out, LENGTH_BYTES + text.len + pad + data_len);
    TRY(buf_status(out, "tensors", err));
    bytes_put_u64(p, text.len + pad);
    p += LENGTH_BYTES;
    memcpy(p, text.data, text.len);
    p += text.len;
    memcpy(p, blanks, pad);
    p += pad;
    for (size_t i = 0; i < count; p += tensors[i].bytes, i++)
        if (tensors[i].bytes > 0)
            memcpy(p, tensors[i].data, tensors[i].bytes);
out:
    buf_release(&text);
    arena_release(&a);
    return st;
}

/* ---- reading ---- */

static enum status read_shape(const struct value *shape, struct tensor *t, struct err *err) {
    if (shape == NULL || shape->kind != VALUE_LIST || shape->count > TENSOR_DIMS_MAX)
        return err_set(err, STATUS_CORRUPT, "tensor %s: shape must be a list of at most %d numbers",
                       t->name, TENSOR_DIMS_MAX);
    t->dims = (int)shape->count;
    for (size_t i = 0; i < shape->count; i++) {
        if (shape->items[i]->kind != VALUE_INT || shape->items[i]->integer < 0)
            return err_set(err, STATUS_CORRUPT,
                           "tensor %s: shape[%zu] must be a number of at least 0", t->name, i);
        t->dim[i] = shape->items[i]->integer;
    }
    return STATUS_OK;
}

static enum status read_entry(const struct member *m, const uint8_t *data, size_t data_len,
                              struct tensor *t, struct err *err) {
    *t = (struct tensor){.name = m->key};
    if (m->key[0] == '\0' || strnlen(m->key, TENSOR_NAME_MAX + 1) > TENSOR_NAME_MAX)
        return err_set(err, STATUS_CORRUPT, "tensor name must have 1 to %d bytes", TENSOR_NAME_MAX);
    const char *dtype = value_get_string(m->value, "dtype", "");
    size_t d = 0;
    while (d < DTYPE_COUNT && strcmp(dtypes[d].name, dtype) != 0)
        d++;
    if (d == DTYPE_COUNT)
        return err_set(err, STATUS_INVALID,
                       "tensor %s: dtype '%.16s' is not one of F32, F64, I64, U8", t->name, dtype);
    t->dtype = (enum tensor_dtype)d;
    enum status st = read_shape(value_get(m->value, "shape"), t, err);
    if (st != STATUS_OK)
        return st;
    const struct value *o = value_get(m->value, "data_offsets");
    if (o == NULL || o->kind != VALUE_LIST || o->count != 2 || o->items[0]->kind != VALUE_INT ||
        o->items[1]->kind != VALUE_INT)
        return err_set(err, STATUS_CORRUPT, "tensor %s: data_offsets must be two numbers", t->name);
    int64_t begin = o->items[0]->integer, end = o->items[1]->integer;
    if (begin < 0 || end < begin || (uint64_t)end > data_len)
        return err_set(
            err, STATUS_CORRUPT,
            "tensor %s: data_offsets [%lld, %lld] go beyond the file's %zu bytes of data", t->name,
            (long long)begin, (long long)end, data_len);
    if (!tensor_size(t, &t->bytes) || t->bytes != (uint64_t)(end - begin))
        return err_set(err, STATUS_CORRUPT, "tensor %s: %lld bytes do not fit its shape", t->name,
                       (long long)(end - begin));
    t->data = data + begin;
    return STATUS_OK;
}

/* By place; an empty tensor comes before the one that begins at the same place. */
static int by_place(const void *a, const void *b) {
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    const char *px = x->data, *py = y->data;
    if (px != py)
        return px < py ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The bytes are covered without a hole and without an overlap. */
static enum status check_packed(const struct tensor *tensors, size_t count, const uint8_t *data,
                                size_t data_len, struct err *err) {
    const struct tensor **sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return err_set(err, STATUS_NOMEM, "tensors: out of memory");
    for (size_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, by_place);
    enum status st = STATUS_OK;
    const uint8_t *at = data;
    for (size_t i = 0; i < count && st == STATUS_OK; i++) {
        const uint8_t *begin = sorted[i]->data;
        if (begin != at)
            st = err_set(err, STATUS_CORRUPT, "tensor %s: %s", sorted[i]->name,
                         begin < at ? "its bytes overlap another tensor's"
                                    : "the bytes before it belong to no tensor");
        at = begin + sorted[i]->bytes;
    }
    if (st == STATUS_OK && at != data + data_len)
        st = err_set(err, STATUS_CORRUPT, "tensors: %zu bytes at the end belong to no tensor",
                     (size_t)(data + data_len - at));
    free(sorted);
    return st;
}

static enum status read_metadata(const struct value *m, struct err *err) {
    if (m->kind != VALUE_MAP)
        return err_set(err, STATUS_CORRUPT, "tensors: %s must be a map of strings", METADATA);
    for (size_t i = 0; i < m->count; i++)
        if (m->members[i].value->kind != VALUE_STRING)
            return err_set(err, STATUS_CORRUPT, "tensors: metadata %s must be a string",
                           m->members[i].key);
    return STATUS_OK;
}

enum status safetensors_read(struct arena *a, const void *bytes, size_t len, struct tensors *out,
                             struct err *err) {
    if (len < LENGTH_BYTES)
        return err_set(err, STATUS_CORRUPT, "tensors: %zu bytes are too few for a header", len);
    uint64_t header_len = bytes_get_u64(bytes);
    if (header_len > HEADER_MAX || header_len > len - LENGTH_BYTES)
        return err_set(err, STATUS_CORRUPT,
                       "tensors: a header of %llu bytes in a file of %zu (maximum %zu)",
                       (unsigned long long)header_len, len, HEADER_MAX);
    const char *text = (const char *)bytes + LENGTH_BYTES;
    const uint8_t *data = (const uint8_t *)text + header_len;
    size_t data_len = len - LENGTH_BYTES - (size_t)header_len;
    struct value *header;
    enum status st = json_parse(a, text, (size_t)header_len, "tensor header", &header, err);
    if (st == STATUS_INVALID) { /* of JSON; of a file it is damage */
        if (err != NULL)
            err->status = STATUS_CORRUPT;
        return STATUS_CORRUPT;
    }
    if (st != STATUS_OK)
        return st;
    if (header->kind != VALUE_MAP)
        return err_set(err, STATUS_CORRUPT, "tensors: the header must be a map");
    struct tensor *list = arena_array(a, header->count, sizeof *list);
    if (list == NULL)
        return err_set(err, STATUS_NOMEM, "tensors: out of memory");
    struct value *meta = NULL;
    size_t n = 0;
    for (size_t i = 0; i < header->count && st == STATUS_OK; i++) {
        if (strcmp(header->members[i].key, METADATA) == 0) {
            meta = header->members[i].value;
            st = read_metadata(meta, err);
        } else {
            st = read_entry(&header->members[i], data, data_len, &list[n++], err);
        }
    }
    if (st == STATUS_OK)
        st = check_packed(list, n, data, data_len, err);
    if (st != STATUS_OK)
        return st;
    *out = (struct tensors){.list = list, .count = n, .metadata = meta};
    return STATUS_OK;
}

const struct tensor *safetensors_find(const struct tensor *tensors, size_t count,
                                      const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return &tensors[i];
    return NULL;
}
