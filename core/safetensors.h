/* safetensors: u64 little-endian header length, JSON {name: {dtype, shape, data_offsets}} with
 * "__metadata__" (strings), then the bytes, packed; the header is padded with blanks so that the
 * data starts at a multiple of 64. Checkpoints (worker) and exports (serving) are written with it.
 *
 * Reading refuses: a header over 100 MB or longer than the file, offsets out of order, overlapping
 * or beyond the end, a size that is not shape × dtype, duplicate names. */
#ifndef CORE_SAFETENSORS_H
#define CORE_SAFETENSORS_H

#include "core/buf.h"
#include "core/value.h"

#define TENSOR_NAME_MAX 200
#define TENSOR_DIMS_MAX 8

enum tensor_dtype { TENSOR_F32, TENSOR_F64, TENSOR_I64, TENSOR_U8 };

struct tensor {
    const char *name;
    enum tensor_dtype dtype;
    int dims;
    int64_t dim[TENSOR_DIMS_MAX];
    const void *data; /* little-endian; after reading it points into the text that was read */
    size_t bytes;
};

/* `metadata`: a map of strings, or NULL. Tensors are written in the given order. */
enum status safetensors_write(struct buf *out, const struct tensor *tensors, size_t count,
                              const struct value *metadata, struct err *err) MUST_USE;

/* The tensors of a file: the list lives in the arena, their data is in the bytes that were read. */
struct tensors {
    struct tensor *list;
    size_t count;
    struct value *metadata; /* a map of strings; NULL: none */
};
enum status safetensors_read(struct arena *a, const void *bytes, size_t len, struct tensors *out,
                             struct err *err) MUST_USE;

const struct tensor *safetensors_find(const struct tensor *tensors, size_t count, const char *name);

#endif
