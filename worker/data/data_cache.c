/* What a warm group keeps between trials, on two shelves: whole data sets, and the samples below
 * them, so that another seed or another transform costs a split, not a file. The least recently
 * used go first; bytes_max bounds both shelves together, save for what the last call handed out. */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "worker/data/data_private.h"

#define CACHE_SETS    8
#define CACHE_SAMPLES 16
#define KEY_BYTES_MAX ((size_t)1 << 20)

struct entry {
    char *key;
    struct dataset *set;
    uint64_t used; /* 0: the slot is empty */
};

struct shelved {
    struct samples *samples;
    uint64_t used;
};

struct data_cache {
    struct entry sets[CACHE_SETS];
    struct shelved samples[CACHE_SAMPLES];
    size_t bytes_max;
    uint64_t clock;
};

enum status data_cache_new(size_t bytes_max, struct data_cache **out, struct err *err) {
    struct data_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "data cache: out of memory");
    c->bytes_max = bytes_max;
    *out = c;
    return STATUS_OK;
}

static void drop_set(struct entry *e) {
    data_destroy(&e->set);
    free(e->key);
    *e = (struct entry){0};
}

static void drop_samples(struct shelved *s) {
    samples_drop(&s->samples);
    *s = (struct shelved){0};
}

void data_cache_destroy(struct data_cache **pc) {
    struct data_cache *c = *pc;
    if (c == NULL)
        return;
    for (int i = 0; i < CACHE_SETS; i++)
        drop_set(&c->sets[i]);
    for (int i = 0; i < CACHE_SAMPLES; i++)
        drop_samples(&c->samples[i]);
    free(c);
    *pc = NULL;
}

static size_t bytes_held(const struct data_cache *c) {
    size_t bytes = 0;
    for (int i = 0; i < CACHE_SETS; i++)
        bytes += c->sets[i].set != NULL ? data_bytes(c->sets[i].set) : 0;
    for (int i = 0; i < CACHE_SAMPLES; i++)
        bytes += c->samples[i].samples != NULL ? samples_bytes(c->samples[i].samples) : 0;
    return bytes;
}

/* The oldest set but the one in use, then the oldest samples that only the shelf holds. */
static bool evict(struct data_cache *c, const struct dataset *in_use) {
    struct entry *oldest = NULL;
    for (int i = 0; i < CACHE_SETS; i++) {
        struct entry *e = &c->sets[i];
        if (e->used > 0 && e->set != in_use && (oldest == NULL || e->used < oldest->used))
            oldest = e;
    }
    struct shelved *unused = NULL;
    for (int i = 0; i < CACHE_SAMPLES; i++) {
        struct shelved *s = &c->samples[i];
        if (s->used > 0 && s->samples->refs == 1 && (unused == NULL || s->used < unused->used))
            unused = s;
    }
    if (unused != NULL)
        drop_samples(unused);
    else if (oldest != NULL)
        drop_set(oldest);
    return unused != NULL || oldest != NULL;
}

static struct samples *find_samples(void *arg, const char *key) {
    struct data_cache *c = arg;
    for (int i = 0; i < CACHE_SAMPLES; i++)
        if (c->samples[i].used > 0 && strcmp(c->samples[i].samples->key, key) == 0) {
            c->samples[i].used = ++c->clock;
            return c->samples[i].samples;
        }
    return NULL;
}

static void keep_samples(void *arg, struct samples *s) {
    struct data_cache *c = arg;
    struct shelved *slot = &c->samples[0];
    for (int i = 1; i < CACHE_SAMPLES; i++)
        if (c->samples[i].used < slot->used)
            slot = &c->samples[i];
    drop_samples(slot);
    s->refs++;
    *slot = (struct shelved){s, ++c->clock};
}

static enum status make_key(const struct data_request *r, struct buf *key, struct err *err) {
    enum status st;
    TRY(json_dump(r->data->node, JSON_CANONICAL, key, err));
    buf_addf(key, "|seed %llu", (unsigned long long)r->seed);
    for (int i = 0; i < SPEC_PARTS; i++)
        if (r->data->part[i].node != NULL)
            TRY(data_source_key(&r->data->part[i], key, err));
    TRY(buf_status(key, "data key", err));
out:
    return st;
}

static struct entry *free_slot(struct data_cache *c) {
    struct entry *slot = &c->sets[0];
    for (int i = 1; i < CACHE_SETS; i++)
        if (c->sets[i].used < slot->used)
            slot = &c->sets[i];
    drop_set(slot);
    return slot;
}

enum status data_cache_get(struct data_cache *c, const struct data_request *r, struct dataset **out,
                           bool *hit, struct err *err) {
    struct buf key = BUF_INIT(KEY_BYTES_MAX);
    struct samples_shelf shelf = {find_samples, keep_samples, c};
    struct dataset *d = NULL;
    char *copy = NULL;
    enum status st;
    *hit = true;
    TRY(make_key(r, &key, err));
    for (int i = 0; i < CACHE_SETS; i++)
        if (c->sets[i].used > 0 && strcmp(c->sets[i].key, buf_text(&key)) == 0) {
            c->sets[i].used = ++c->clock;
            *out = c->sets[i].set;
            goto out;
        }
    *hit = false;
    TRY(data_load_shelf(r, &shelf, &d, err));
    copy = strdup(buf_text(&key));
    if (copy == NULL) {
        st = err_set(err, STATUS_NOMEM, "data cache: out of memory");
        goto out;
    }
    struct entry *slot = free_slot(c);
    *slot = (struct entry){copy, d, ++c->clock};
    *out = d;
    while (bytes_held(c) > c->bytes_max && evict(c, d))
        continue;
    d = NULL;
out:
    data_destroy(&d);
    buf_release(&key);
    return st;
}
