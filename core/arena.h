/* A region of memory that is freed as a whole. An arena is named for its lifetime (process, run, txn,
 * tick); nothing taken from it is freed by itself.
 *
 *     ┌ block ────────────┐   ┌ block ────────────┐
 *     │ used ███████░░░░░ │──▶│ used █████████░░░ │──▶ …        bytes_max bounds the sum
 *     └───────────────────┘   └───────────────────┘
 *
 * Memory is zeroed and aligned to 16 bytes. Not thread-safe. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stddef.h>

#include "core/status.h"

struct arena_block;

struct arena {
    struct arena_block *first; /* private */
    struct arena_block *last;  /* private */
    size_t bytes_used;         /* read-only: handed out */
    size_t bytes_max;          /* read-only: the bound on bytes handed out */
};

/* An arena may also start as {0} plus arena_init. No allocation takes place until the first take.
 */
void arena_init(struct arena *arena, size_t bytes_max);

/* Frees every block; the arena may be used again, with the same bound. Idempotent. */
void arena_release(struct arena *arena);

/* Forgets everything taken but keeps the first block for reuse (a tick, a message). */
void arena_clear(struct arena *arena);

/* NULL when memory or the bound is exhausted. bytes == 0 gives a valid pointer. */
void *arena_take(struct arena *arena, size_t bytes);

/* count * size bytes, the product checked. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* A copy, followed by a NUL. */
char *arena_copy(struct arena *arena, const void *bytes, size_t len);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF(2, 3);

#endif
