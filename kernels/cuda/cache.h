/* What a device's libraries were asked and answered, kept from one engine to the next: algorithms
 * of products, plans of convolutions, and what their self-checks found. An engine of shapes that
 * were seen before asks nothing again and waits for nothing.
 *
 *     key: numbers, all that the answer depends on   ─▶   value, with the number of its holders
 *
 * Since the key holds all of it, an answer is the same whether it was kept or not: no bits depend
 * on what ran before. What belongs to one engine (pointers, buffers) is not part of a value.
 *
 * Bounds: of the values that nobody holds the ones used last stay, CUDA_CACHE_MAX with those that
 * are held. Threading: the device's thread. No CUDA header is needed here. */
#ifndef KERNELS_CUDA_CACHE_H
#define KERNELS_CUDA_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define CUDA_CACHE_MAX 512

/* The first number of each key: whose it is. */
enum cuda_cache_owner { CUDA_CACHE_MATMUL = 1, CUDA_CACHE_DNN };

struct cuda_cache {
    struct cuda_cache_entry *entries;
    int count, room;
    uint64_t clock;
};

/* The value of these `count` numbers, held for the caller; NULL: there is none. */
void *cuda_cache_take(struct cuda_cache *cache, const int64_t *key, size_t count);

/* A new value, held for the caller; the key is copied and must not be there yet. On NOMEM the
 * value stays the caller's. `destroy` is called when it leaves. */
enum status cuda_cache_put(struct cuda_cache *cache, const int64_t *key, size_t count, void *value,
                           void (*destroy)(void *value), struct err *err) MUST_USE;

/* The caller holds it no longer. */
void cuda_cache_give(struct cuda_cache *cache, const void *value);

/* At close: nothing may be held. */
void cuda_cache_clear(struct cuda_cache *cache);

#endif
