/* A list, searched from its beginning: a device holds some hundred answers. */
#include "kernels/cuda/cache.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Looking through all hashes takes less time than one call of a library. */
struct cuda_cache_entry {
    uint64_t hash;
    uint64_t used; /* the cache's clock when it was last taken or given */
    int64_t *key;
    size_t count;
    int holders;
    void *value;
    void (*destroy)(void *value);
};

/* FNV-1a (Fowler, Noll, Vo), a number at a time: it only saves comparisons. */
static uint64_t hash_of(const int64_t *key, size_t count) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ (uint64_t)key[i]) * UINT64_C(0x100000001b3);
    return hash;
}

void *cuda_cache_take(struct cuda_cache *cache, const int64_t *key, size_t count) {
    uint64_t hash = hash_of(key, count);
    for (int i = 0; i < cache->count; i++) {
        struct cuda_cache_entry *e = &cache->entries[i];
        if (e->hash != hash || e->count != count || memcmp(e->key, key, count * sizeof *key) != 0)
            continue;
        e->holders++;
        e->used = ++cache->clock;
        return e->value;
    }
    return NULL;
}

static void drop(struct cuda_cache *cache, int i) {
    struct cuda_cache_entry *e = &cache->entries[i];
    e->destroy(e->value);
    free(e->key);
    *e = cache->entries[--cache->count];
}

/* False where all are held. */
static bool drop_oldest(struct cuda_cache *cache) {
    int oldest = -1;
    for (int i = 0; i < cache->count; i++)
        if (cache->entries[i].holders == 0 &&
            (oldest < 0 || cache->entries[i].used < cache->entries[oldest].used))
            oldest = i;
    if (oldest < 0)
        return false;
    drop(cache, oldest);
    return true;
}

static bool grow(struct cuda_cache *cache) {
    int room = cache->room ? 2 * cache->room : 64;
    if (cache->count < cache->room)
        return true;
    struct cuda_cache_entry *more = realloc(cache->entries, (size_t)room * sizeof *more);
    if (more == NULL)
        return false;
    cache->entries = more;
    cache->room = room;
    return true;
}

enum status cuda_cache_put(struct cuda_cache *cache, const int64_t *key, size_t count, void *value,
                           void (*destroy)(void *value), struct err *err) {
    while (cache->count >= CUDA_CACHE_MAX && drop_oldest(cache)) {
    }
    int64_t *copy = malloc(count * sizeof *copy);
    if (copy == NULL || !grow(cache)) {
        free(copy);
        return err_set(err, STATUS_NOMEM, "no memory for what the GPU's libraries answered");
    }
    memcpy(copy, key, count * sizeof *copy);
    cache->entries[cache->count++] = (struct cuda_cache_entry){.hash = hash_of(key, count),
                                                               .used = ++cache->clock,
                                                               .key = copy,
                                                               .count = count,
                                                               .holders = 1,
                                                               .value = value,
                                                               .destroy = destroy};
    return STATUS_OK;
}

/* More than the bound can be held at once; the surplus leaves when it is given back. */
void cuda_cache_give(struct cuda_cache *cache, const void *value) {
    for (int i = 0; i < cache->count; i++) {
        struct cuda_cache_entry *e = &cache->entries[i];
        if (e->value != value)
            continue;
        assert(e->holders > 0);
        e->holders--;
        e->used = ++cache->clock;
        break;
    }
    while (cache->count > CUDA_CACHE_MAX && drop_oldest(cache)) {
    }
}

void cuda_cache_clear(struct cuda_cache *cache) {
    while (cache->count > 0) {
        assert(cache->entries[cache->count - 1].holders == 0);
        drop(cache, cache->count - 1);
    }
    free(cache->entries);
    *cache = (struct cuda_cache){0};
}
