/* Digests in the making. */
#include "tracker/blobs/uploads.h"

#include <string.h>

void uploads_release(struct uploads *u) {
    for (size_t i = 0; i < UPLOADS_MAX; i++)
        hash_destroy(&u->items[i].hash);
}

static struct upload *find(struct uploads *u, const struct digest *d) {
    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        struct upload *at = &u->items[i];
        if (at->hash != NULL && at->bytes > 0 && memcmp(&at->digest, d, sizeof *d) == 0)
            return at;
    }
    return NULL;
}

/* A free place, or that of the least recently used. */
static struct upload *make_room(struct uploads *u) {
    struct upload *oldest = &u->items[0];
    for (size_t i = 0; i < UPLOADS_MAX; i++) {
        if (u->items[i].bytes == 0)
            return &u->items[i];
        if (u->items[i].used < oldest->used)
            oldest = &u->items[i];
    }
    return oldest;
}

void uploads_add(struct uploads *u, const struct digest *d, uint64_t offset, const void *bytes,
                 size_t len) {
    struct upload *at = find(u, d);
    if (at != NULL && at->bytes != offset && offset != 0) {
        at->bytes = 0; /* a transaction was aborted, or somebody else sent a part */
        return;
    }
    if (at == NULL && offset != 0)
        return;
    if (offset == 0) {
        if (at == NULL)
            at = make_room(u);
        if (at->hash == NULL)
            at->hash = hash_new();
        if (at->hash == NULL)
            return;
        hash_reset(at->hash);
        at->digest = *d;
        at->bytes = 0;
    }
    hash_add(at->hash, bytes, len);
    at->bytes += len;
    at->used = ++u->uses;
}

bool uploads_take(struct uploads *u, const struct digest *d, uint64_t size, struct digest *out) {
    struct upload *at = find(u, d);
    if (at == NULL || at->bytes != size)
        return false;
    hash_end(at->hash, out);
    at->bytes = 0;
    return true;
}

void uploads_forget(struct uploads *u, const struct digest *d) {
    struct upload *at = find(u, d);
    if (at != NULL)
        at->bytes = 0;
}
