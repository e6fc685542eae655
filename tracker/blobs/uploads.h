/* Digests of uploads, computed while their chunks come in, so that a commit need not read all of it
 * again. A few uploads have a place; the least recently used gives up its own, and what has no
 * place is read again when it is committed.
 *
 * Threading: the writer's thread. */
#ifndef TRACKER_BLOBS_UPLOADS_H
#define TRACKER_BLOBS_UPLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/hash.h"

#define UPLOADS_MAX 8

/* The digest of the first `bytes` bytes of an upload, in the making. */
struct upload {
    struct digest digest; /* of the whole, as announced */
    struct hash *hash;
    uint64_t bytes; /* 0: a free place */
    uint64_t used;
};

struct uploads {
    struct upload items[UPLOADS_MAX]; /* private */
    uint64_t uses;                    /* private */
};
void uploads_release(struct uploads *u);

/* `len` bytes of d's upload came, from `offset` on. Those from its first byte on get a place. */
void uploads_add(struct uploads *u, const struct digest *d, uint64_t offset, const void *bytes,
                 size_t len);

/* Takes the digest of d's first `size` bytes, and the place; false where it is not known. */
bool uploads_take(struct uploads *u, const struct digest *d, uint64_t size, struct digest *out);

void uploads_forget(struct uploads *u, const struct digest *d);

#endif
