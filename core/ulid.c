/* ULIDs: 48 bits of time, 80 of chance, 26 characters that sort by time. */
#include "core/ulid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "core/bytes.h"
#include "core/clock.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* 128 bits as 26 digits of 5 bits, the first holds only 3 (github.com/ulid/spec). */
void ulid_make(int64_t wall_ms, uint64_t hi, uint64_t lo, char out[ULID_TEXT]) {
    uint64_t ms = wall_ms < 0 ? 0 : (uint64_t)wall_ms & ((UINT64_C(1) << 48) - 1);
    uint64_t top = ms << 16 | (hi & 0xFFFF);
    for (int i = ULID_LEN - 1; i >= 0; i--) {
        out[i] = alphabet[lo & 31];
        lo = lo >> 5 | (top & 31) << 59;
        top >>= 5;
    }
    out[ULID_LEN] = '\0';
}

enum status ulid_new(char out[ULID_TEXT], struct err *err) {
    uint8_t entropy[16];
    ssize_t got;
    do /* up to 256 bytes come whole */
        got = getrandom(entropy, sizeof entropy, 0);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof entropy)
        return err_errno(err, got < 0 ? errno : EIO, "make an id: getrandom");
    ulid_make(clock_wall_ns(&clock_system) / NS_PER_MS, bytes_get_u64(entropy),
              bytes_get_u64(entropy + 8), out);
    return STATUS_OK;
}

static bool in_alphabet(char c) {
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    return c != '\0' && strchr(alphabet, c) != NULL;
}

bool ulid_valid(const char *text, size_t len, bool whole) {
    if (len < 1 || len > ULID_LEN || (whole && len != ULID_LEN))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!in_alphabet(text[i]))
            return false;
    return text[0] <= '7'; /* more would not fit 128 bits */
}
