/* Keys, put together. */
#include "tracker/map/keys.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "core/bytes.h"
#include "core/utf8.h"

void key_add(struct key *k, const void *bytes, size_t len) {
    if (len > KV_KEY_MAX - k->len) {
        k->over = true;
        return;
    }
    memcpy(k->bytes + k->len, bytes, len);
    k->len += len;
}

struct key key_of(enum key_kind kind) {
    struct key k;
    k.len = 1;
    k.over = false;
    k.bytes[0] = (uint8_t)kind;
    return k;
}

struct key key_id(enum key_kind kind, const char *id) {
    struct key k = key_of(kind);
    key_add_id(&k, id);
    return k;
}

struct key key_name(enum key_kind kind, const char *name) {
    struct key k = key_of(kind);
    key_add_name(&k, name);
    return k;
}

struct key key_digest(enum key_kind kind, const struct digest *d) {
    struct key k = key_of(kind);
    key_add(&k, d->bytes, DIGEST_BYTES);
    return k;
}

void key_add_id(struct key *k, const char *id) {
    char folded[ULID_TEXT];
    key_fold_id(id, folded);
    key_add(k, folded, ULID_LEN);
}

void key_add_name(struct key *k, const char *name) {
    key_add(k, name, strlen(name) + 1);
}

void key_add_be16(struct key *k, uint16_t v) {
    uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    key_add(k, b, sizeof b);
}

void key_add_be32(struct key *k, uint32_t v) {
    uint8_t b[4];
    bytes_put_be32(b, v);
    key_add(k, b, sizeof b);
}

void key_add_be64(struct key *k, uint64_t v) {
    uint8_t b[8];
    bytes_put_be64(b, v);
    key_add(k, b, sizeof b);
}

struct kv_bytes key_bytes(const struct key *k) {
    assert(!k->over);
    return (struct kv_bytes){k->bytes, k->len};
}

struct key key_after(const struct key *k) {
    struct key n = *k;
    while (n.len > 0 && n.bytes[n.len - 1] == 0xff)
        n.len--;
    assert(n.len > 0);
    n.bytes[n.len - 1]++;
    return n;
}

void key_fold_id(const char *id, char out[ULID_TEXT]) {
    size_t i = 0;
    for (; i < ULID_LEN && id[i] != '\0'; i++)
        out[i] = (char)toupper((unsigned char)id[i]);
    memset(out + i, '\0', ULID_TEXT - i);
}

enum status key_check_name(const char *name, size_t max, const char *what, struct err *err) {
    size_t len = strnlen(name, max + 1);
    if (len == 0)
        return err_set(err, STATUS_INVALID, "%s must not be empty", what);
    if (len > max)
        return err_set(err, STATUS_TOO_LARGE, "%s is longer than %zu bytes: '%.40s…'", what, max,
                       name);
    return STATUS_OK;
}

enum status key_check_new_name(const char *name, size_t max, const char *what, struct err *err) {
    enum status st = key_check_name(name, max, what, err);
    size_t len = strlen(name), at = st == STATUS_OK ? utf8_printable(name, len) : len;
    if (at < len)
        st = err_set(err, STATUS_INVALID,
                     "%s must not contain control characters: byte %zu is 0x%02x", what, at + 1,
                     (unsigned char)name[at]);
    return st;
}
