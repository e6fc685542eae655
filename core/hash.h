/* SHA-256 (FIPS 180-4), by libcrypto: digests of data, weights, artifacts and audit records. */
#ifndef CORE_HASH_H
#define CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define DIGEST_BYTES 32
#define DIGEST_HEX   65 /* 64 lower-case hex digits and a NUL */

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};

struct hash; /* a digest being computed */

struct hash *hash_new(void); /* NULL when memory is exhausted */
void hash_destroy(struct hash **hash);
void hash_reset(struct hash *hash); /* start over; no allocation */
void hash_add(struct hash *hash, const void *bytes, size_t len);
void hash_end(struct hash *hash, struct digest *out); /* reset before the next use */

void hash_bytes(const void *bytes, size_t len, struct digest *out);

void hash_hex(const struct digest *digest, char out[DIGEST_HEX]);
enum status hash_parse(const char *hex, size_t len, struct digest *out, struct err *err) MUST_USE;

#endif
