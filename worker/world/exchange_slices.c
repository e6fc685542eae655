/* The exchange's arithmetic, below all ways to move bytes: who owns which slice, who is whose peer,
 * what is folded with what, and how blocks of every rank become whole again. */
#include <stdlib.h>
#include <string.h>

#include "worker/world/exchange_private.h"

int64_t exchange_slice_blocks(struct slice s) {
    return (s.count + NORM_BLOCK - 1) / NORM_BLOCK;
}

struct slice exchange_slice_part(struct slice s, int index, int n) {
    int64_t blocks = exchange_slice_blocks(s);
    int64_t first = blocks * index / n * NORM_BLOCK, end = blocks * (index + 1) / n * NORM_BLOCK;
    if (end > s.count)
        end = s.count;
    if (first > end)
        first = end;
    return (struct slice){.begin = s.begin + first, .count = end - first};
}

int exchange_peer(const struct exchange *x, int level, int digit) {
    return x->rank + (digit - x->digits[level]) * x->strides[level];
}

struct slice exchange_slice(const struct exchange *x, int rank, int bucket) {
    struct slice s = x->flows[bucket].slices[0];
    for (int l = 0; l < x->level_count; l++)
        s = exchange_slice_part(s, rank / x->strides[l] % x->levels[l], x->levels[l]);
    return s;
}

int64_t exchange_owned_blocks(const struct exchange *x) {
    return x->owned_blocks;
}

int64_t exchange_blocks(const struct exchange *x) {
    return x->blocks;
}

bool exchange_owns_tail(const struct exchange *x, int bucket) {
    struct slice mine = x->flows[bucket].slices[x->level_count];
    return mine.count > 0 && mine.begin + mine.count == x->spec.vector_count;
}

void exchange_fold_level(struct exchange *x, struct flow *f) {
    struct slice mine = f->slices[f->level + 1];
    if (mine.count > 0)
        x->spec.fold(x->spec.fold_arg, x->gradient + mine.begin, x->sources, x->levels[f->level],
                     mine.count);
    f->level++;
}

/* ---- making ---- */

static enum status set_levels(struct exchange *x, const struct exchange_spec *spec,
                              struct err *err) {
    int one[] = {x->size}, product = 1;
    const int *levels = spec->levels != NULL ? spec->levels : one;
    x->level_count = spec->levels != NULL ? spec->level_count : 1;
    if (x->level_count < 1 || x->level_count > EXCHANGE_LEVELS_MAX)
        return err_set(err, STATUS_INVALID, "exchange: %d levels, at most %d", x->level_count,
                       EXCHANGE_LEVELS_MAX);
    for (int l = 0; l < x->level_count; l++) {
        if (levels[l] < 1 || levels[l] > x->size)
            return err_set(err, STATUS_INVALID, "exchange: a level of %d for %d ranks", levels[l],
                           x->size);
        x->levels[l] = levels[l];
        x->strides[l] = product;
        x->digits[l] = x->rank / product % levels[l];
        product *= levels[l];
    }
    if (product != x->size)
        return err_set(err, STATUS_INVALID, "exchange: levels make %d ranks, there are %d", product,
                       x->size);
    return STATUS_OK;
}

static enum status set_flows(struct exchange *x, struct err *err) {
    const struct exchange_spec *s = &x->spec;
    if (s->bucket_count < 1 || s->bucket_count > EXCHANGE_BUCKETS_MAX)
        return err_set(err, STATUS_INVALID, "exchange: %d buckets, at most %d", s->bucket_count,
                       EXCHANGE_BUCKETS_MAX);
    x->flows = calloc((size_t)s->bucket_count, sizeof *x->flows);
    x->sources = calloc((size_t)x->size, sizeof *x->sources);
    if (x->flows == NULL || x->sources == NULL)
        return err_set(err, STATUS_NOMEM, "exchange of %d buckets", s->bucket_count);
    for (int b = 0; b < s->bucket_count; b++) {
        int64_t begin = s->buckets[b].begin, end = s->buckets[b].end;
        if (begin % NORM_BLOCK != 0 || begin < 0 || end <= begin || end > s->vector_count)
            return err_set(err, STATUS_INVALID, "exchange: bucket %d is [%lld, %lld) of %lld", b,
                           (long long)begin, (long long)end, (long long)s->vector_count);
        struct flow *f = &x->flows[b];
        f->slices[0] = (struct slice){.begin = begin, .count = end - begin};
        for (int l = 0; l < x->level_count; l++)
            f->slices[l + 1] = exchange_slice_part(f->slices[l], x->digits[l], x->levels[l]);
    }
    return STATUS_OK;
}

static enum status reserve_gather(struct exchange *x, size_t block_bytes, struct err *err) {
    size_t need = (size_t)x->owned_blocks_max * block_bytes;
    size_t all = (need > 0 ? need : 1) * (size_t)(x->size + 1);
    if (all <= x->gathered_bytes)
        return STATUS_OK;
    char *bytes = realloc(x->gathered, all);
    if (bytes == NULL)
        return err_set(err, STATUS_NOMEM, "gather %zu bytes", all);
    x->gathered = bytes;
    x->gathered_bytes = all;
    return STATUS_OK;
}

enum status exchange_slices_open(struct exchange *x, struct err *err) {
    const struct exchange_spec *spec = &x->spec;
    enum status st = set_levels(x, spec, err);
    if (st == STATUS_OK)
        st = set_flows(x, err);
    if (st != STATUS_OK)
        return st;
    x->blocks = (spec->vector_count + NORM_BLOCK - 1) / NORM_BLOCK;
    for (int r = 0; r < x->size; r++) {
        int64_t owned = 0;
        for (int b = 0; b < spec->bucket_count; b++)
            owned += exchange_slice_blocks(exchange_slice(x, r, b));
        if (r == x->rank)
            x->owned_blocks = owned;
        if (owned > x->owned_blocks_max)
            x->owned_blocks_max = owned;
    }
    return reserve_gather(x, sizeof(double), err);
}

/* ---- blocks ---- */

enum status exchange_gather_blocks(struct exchange *x, const void *mine, size_t block_bytes,
                                   void *all, struct err *err) {
    enum status st = reserve_gather(x, block_bytes, err);
    if (st != STATUS_OK)
        return st;
    size_t part = (size_t)x->owned_blocks_max * block_bytes;
    char *packed = x->gathered + (size_t)x->size * part;
    memcpy(packed, mine, (size_t)x->owned_blocks * block_bytes);
    st = world_gather(x->world, packed, part, x->gathered, err);
    for (int r = 0; st == STATUS_OK && r < x->size; r++) {
        const char *from = x->gathered + (size_t)r * part;
        for (int b = 0; b < x->spec.bucket_count; b++) {
            struct slice s = exchange_slice(x, r, b);
            size_t bytes = (size_t)exchange_slice_blocks(s) * block_bytes;
            memcpy((char *)all + (size_t)(s.begin / NORM_BLOCK) * block_bytes, from, bytes);
            from += bytes;
        }
    }
    return st;
}
