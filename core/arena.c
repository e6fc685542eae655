/* An arena: blocks that are freed together. */
#include "core/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define ALIGNMENT       ((size_t)16)
#define BLOCK_BYTES_MIN ((size_t)4 << 10)
#define BLOCK_BYTES_MAX ((size_t)1 << 20) /* a larger take gets a block of its own size */

struct arena_block {
    struct arena_block *next;
    size_t used, cap; /* bytes behind this header */
    alignas(16) unsigned char data[];
};

static_assert(sizeof(struct arena_block) % 16 == 0, "data follows the header aligned");

void arena_init(struct arena *arena, size_t bytes_max) {
    *arena = (struct arena){.bytes_max = bytes_max};
}

void arena_release(struct arena *arena) {
    for (struct arena_block *b = arena->first; b != NULL;) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    arena_init(arena, arena->bytes_max);
}

void arena_clear(struct arena *arena) {
    struct arena_block *keep = arena->first;
    if (keep == NULL)
        return;
    arena->first = keep->next;
    arena_release(arena);
    keep->next = NULL;
    keep->used = 0;
    arena->first = arena->last = keep;
}

/* Blocks double, so that an arena of n bytes has O(log n) of them. */
static struct arena_block *add_block(struct arena *arena, size_t bytes) {
    size_t cap = arena->last == NULL ? BLOCK_BYTES_MIN : arena->last->cap * 2;
    if (cap > BLOCK_BYTES_MAX)
        cap = BLOCK_BYTES_MAX;
    if (cap < bytes)
        cap = bytes;
    size_t total;
    if (!bytes_add(cap, sizeof(struct arena_block), &total))
        return NULL;
    struct arena_block *b = malloc(total);
    if (b == NULL)
        return NULL;
    *b = (struct arena_block){.cap = cap};
    if (arena->last == NULL)
        arena->first = b;
    else
        arena->last->next = b;
    arena->last = b;
    return b;
}

void *arena_take(struct arena *arena, size_t bytes) {
    if (bytes == 0)
        bytes = 1;
    size_t rounded;
    if (!bytes_add(bytes, ALIGNMENT - 1, &rounded))
        return NULL;
    rounded &= ~(ALIGNMENT - 1);
    if (rounded > arena->bytes_max - arena->bytes_used)
        return NULL;
    struct arena_block *b = arena->last;
    if (b == NULL || rounded > b->cap - b->used)
        b = add_block(arena, rounded);
    if (b == NULL)
        return NULL;
    void *p = b->data + b->used;
    b->used += rounded;
    arena->bytes_used += rounded;
    return memset(p, 0, rounded);
}

void *arena_array(struct arena *arena, size_t count, size_t size) {
    size_t bytes;
    return bytes_mul(count, size, &bytes) ? arena_take(arena, bytes) : NULL;
}

char *arena_copy(struct arena *arena, const void *bytes, size_t len) {
    size_t total;
    char *copy = bytes_add(len, 1, &total) ? arena_take(arena, total) : NULL;
    if (copy != NULL && len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text) {
    return arena_copy(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_take(arena, (size_t)len + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}
