/* The wire format of Protocol Buffers, as far as ONNX needs it. */
#include "serving/export/pb.h"

#include <string.h>

#include "core/bytes.h"

#define LENGTH_BYTES 5 /* of a padded varint: 35 bits */

enum { WIRE_VARINT = 0, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };

static void varint(struct buf *out, uint64_t v) {
    uint8_t b[10];
    size_t n = 0;
    do {
        b[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    } while (v != 0);
    b[n - 1] &= 0x7f;
    buf_add(out, b, n);
}

static void tag(struct buf *out, int field, int wire) {
    varint(out, (uint64_t)field << 3 | (uint64_t)wire);
}

void pb_uint(struct buf *out, int field, uint64_t v) {
    tag(out, field, WIRE_VARINT);
    varint(out, v);
}

void pb_float(struct buf *out, int field, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    tag(out, field, WIRE_FIXED32);
    buf_add_u32(out, bits);
}

void pb_bytes(struct buf *out, int field, const void *bytes, size_t len) {
    tag(out, field, WIRE_LENGTH);
    varint(out, len);
    buf_add(out, bytes, len);
}

void pb_string(struct buf *out, int field, const char *text) {
    pb_bytes(out, field, text, strlen(text));
}

size_t pb_begin(struct buf *out, int field) {
    tag(out, field, WIRE_LENGTH);
    (void)buf_grow(out, LENGTH_BYTES);
    return out->len;
}

void pb_end(struct buf *out, size_t place) {
    if (out->failed != STATUS_OK)
        return;
    uint64_t len = out->len - place;
    uint8_t *b = (uint8_t *)out->data + place - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++)
        b[i] = (uint8_t)(len >> (7 * i) & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0);
}
