/* Growing bytes with a maximum; a failure stays in the buffer. */
#include "core/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define CAP_MIN ((size_t)64)

void buf_init(struct buf *buf, size_t bytes_max) {
    *buf = BUF_INIT(bytes_max);
}

void buf_release(struct buf *buf) {
    free(buf->data);
    buf_init(buf, buf->bytes_max);
}

void buf_clear(struct buf *buf) {
    buf->len = 0;
    buf->failed = STATUS_OK;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

/* Room for `len` more bytes and the NUL behind them. */
static bool reserve(struct buf *buf, size_t len) {
    if (buf->failed != STATUS_OK)
        return false; /* what follows a failed append would be in the wrong place */
    size_t need;
    if (len > buf->bytes_max - buf->len || !bytes_add(buf->len + len, 1, &need)) {
        buf->failed = STATUS_TOO_LARGE;
        return false;
    }
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap < CAP_MIN ? CAP_MIN : buf->cap;
    while (cap < need)
        cap = cap <= SIZE_MAX / 2 ? cap * 2 : need;
    if (cap - 1 > buf->bytes_max)
        cap = buf->bytes_max + 1;
    char *data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->failed = STATUS_NOMEM;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void *buf_grow(struct buf *buf, size_t len) {
    if (!reserve(buf, len))
        return NULL;
    char *p = buf->data + buf->len;
    buf->len += len;
    buf->data[buf->len] = '\0';
    return p;
}

void buf_add(struct buf *buf, const void *bytes, size_t len) {
    void *p = buf_grow(buf, len);
    if (p != NULL && len > 0)
        memcpy(p, bytes, len);
}

void buf_adds(struct buf *buf, const char *text) {
    buf_add(buf, text, strlen(text));
}

void buf_addc(struct buf *buf, char c) {
    buf_add(buf, &c, 1);
}

void buf_addf(struct buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0 && buf->failed == STATUS_OK)
        buf->failed = STATUS_TOO_LARGE; /* the text passes INT_MAX */
    if (len >= 0 && reserve(buf, (size_t)len)) {
        vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void buf_add_u32(struct buf *buf, uint32_t v) {
    uint8_t bytes[4];
    bytes_put_u32(bytes, v);
    buf_add(buf, bytes, sizeof bytes);
}

void buf_add_u64(struct buf *buf, uint64_t v) {
    uint8_t bytes[8];
    bytes_put_u64(bytes, v);
    buf_add(buf, bytes, sizeof bytes);
}

void buf_add_f64(struct buf *buf, double v) {
    uint8_t bytes[8];
    bytes_put_f64(bytes, v);
    buf_add(buf, bytes, sizeof bytes);
}

const char *buf_text(const struct buf *buf) {
    return buf->data != NULL ? buf->data : "";
}

enum status buf_status(const struct buf *buf, const char *what, struct err *err) {
    if (buf->failed == STATUS_OK)
        return STATUS_OK;
    if (buf->failed == STATUS_TOO_LARGE)
        return err_set(err, STATUS_TOO_LARGE, "%s is larger than %zu bytes", what, buf->bytes_max);
    return err_set(err, buf->failed, "%s: out of memory at %zu bytes", what, buf->len);
}
