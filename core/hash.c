/* The plain SHA256_* functions, not the EVP ones: they cannot fail and never allocate, so that
 * hash_bytes and hash_reset need no status. OpenSSL 3 marks them deprecated but keeps them for
 * callers that ask for the 1.1 interface, and they run the same assembly. */
#define OPENSSL_API_COMPAT 10101

#include "core/hash.h"

#include <stdlib.h>

#include <openssl/sha.h>

struct hash {
    SHA256_CTX ctx;
};

struct hash *hash_new(void) {
    struct hash *h = malloc(sizeof *h);
    if (h != NULL)
        hash_reset(h);
    return h;
}

void hash_destroy(struct hash **hash) {
    free(*hash);
    *hash = NULL;
}

void hash_reset(struct hash *hash) {
    SHA256_Init(&hash->ctx);
}

void hash_add(struct hash *hash, const void *bytes, size_t len) {
    SHA256_Update(&hash->ctx, bytes, len);
}

void hash_end(struct hash *hash, struct digest *out) {
    SHA256_Final(out->bytes, &hash->ctx);
}

void hash_bytes(const void *bytes, size_t len, struct digest *out) {
    struct hash h;
    hash_reset(&h);
    hash_add(&h, bytes, len);
    hash_end(&h, out);
}

void hash_hex(const struct digest *digest, char out[DIGEST_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[2 * DIGEST_BYTES] = '\0';
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum status hash_parse(const char *hex, size_t len, struct digest *out, struct err *err) {
    struct digest d;
    if (len != 2 * DIGEST_BYTES)
        return err_set(err, STATUS_INVALID, "a digest must have %d hex digits, not %zu",
                       2 * DIGEST_BYTES, len);
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return err_set(err, STATUS_INVALID, "a digest must have hex digits only (byte %zu)", i);
        d.bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    *out = d;
    return STATUS_OK;
}
