/* The heads of records. */
#include "tracker/map/seal.h"

#include <ctype.h>

#include "tracker/map/sum.h"

#define FORMAT_SEALED 2 /* the formats with these heads: one, so far */

enum { AT_TYPE = 0, AT_VERSION = 1, AT_KEY_SUM = 2, AT_SUM = 4 };

static uint8_t type_of(struct kv_bytes key) {
    return *(const uint8_t *)key.data;
}

bool seal_covers(struct kv_bytes key) {
    return key.len > 0 && type_of(key) != 'c' && type_of(key) != 'F';
}

static uint64_t key_sum(struct kv_bytes key) {
    return sum_add(sum_begin(key.len), key.data, key.len);
}

static uint32_t whole_sum(uint64_t h, const uint8_t *head, struct kv_bytes value) {
    h = sum_add(h + value.len, head, AT_SUM);
    return sum_end(sum_add(h, value.data, value.len));
}

void seal_make(struct kv_bytes key, struct kv_bytes value, uint8_t out[SEAL_BYTES]) {
    uint64_t h = key_sum(key);
    out[AT_TYPE] = type_of(key);
    out[AT_VERSION] = SEAL_VERSION;
    bytes_put_u16(out + AT_KEY_SUM, (uint16_t)sum_end(h));
    bytes_put_u32(out + AT_SUM, whole_sum(h, out, value));
}

bool seal_is_key(struct kv_bytes key, const uint8_t head[SEAL_BYTES]) {
    return head[AT_TYPE] == type_of(key) &&
           bytes_get_u16(head + AT_KEY_SUM) == (uint16_t)sum_end(key_sum(key));
}

/* "TRIREME\0" │ u32 version │ … │ role at 50 */
bool seal_is_in(struct kv_bytes key, struct kv_bytes value) {
    const uint8_t *b = value.data;
    return key.len == 1 && type_of(key) == 'F' && value.len > 50 && memcmp(b, "TRIREME", 8) == 0 &&
           bytes_get_u32(b + 8) == FORMAT_SEALED && b[50] == 'm';
}

enum status seal_open(struct kv_bytes key, struct kv_bytes *value, struct err *err) {
    const uint8_t *head = value->data;
    struct kv_bytes rest = {NULL, 0};
    uint64_t h = key_sum(key);
    if (value->len >= SEAL_BYTES)
        rest = (struct kv_bytes){head + SEAL_BYTES, value->len - SEAL_BYTES};
    if (rest.data == NULL || head[AT_TYPE] != type_of(key) ||
        bytes_get_u32(head + AT_SUM) != whole_sum(h, head, rest))
        return err_set(err, STATUS_CORRUPT,
                       "a stored record of type '%c' does not match its sum; restore a backup",
                       isprint(type_of(key)) ? type_of(key) : '?');
    if (head[AT_VERSION] > SEAL_VERSION)
        return err_set(err, STATUS_TOO_NEW,
                       "a stored record has layout %u, but this program reads up to %d; use a "
                       "newer program",
                       head[AT_VERSION], SEAL_VERSION);
    *value = rest;
    return STATUS_OK;
}
