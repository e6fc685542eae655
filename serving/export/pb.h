/* Protocol Buffers' wire format, written into a buf: what an ONNX file needs and nothing else.
 * (Encoding: protobuf.dev/programming-guides/encoding.)
 *
 *     field = tag (number << 3 | wire type), then a varint, 4 bytes, or a length and bytes
 *
 * A nested message is written in place: pb_begin leaves five bytes for its length, pb_end fills
 * them with a varint padded to five bytes, which every decoder takes. Nothing is copied twice,
 * however large the weights. A failure stays in the buf (buf_status). */
#ifndef SERVING_EXPORT_PB_H
#define SERVING_EXPORT_PB_H

#include <stdint.h>

#include "core/buf.h"

void pb_uint(struct buf *out, int field, uint64_t v);
void pb_float(struct buf *out, int field, float v);
void pb_bytes(struct buf *out, int field, const void *bytes, size_t len);
void pb_string(struct buf *out, int field, const char *text);

/* Returns the place to give to pb_end. */
size_t pb_begin(struct buf *out, int field);
void pb_end(struct buf *out, size_t place);

#endif
