/* Whether float32 has the digits: distinct values of a feature that leave the transforms as one number
 * are said, for a net cannot tell them apart. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/data/transform.h"

#define LOOKS_MAX  INT64_C(20000000) /* values looked at, of all features */
#define PAIRS_MAX  ((size_t)65536)   /* values compared, of one feature */
#define LOOKS_PUMP 65536
#define FEW_STEPS  0x1p-20F /* a deviation of so little of the mean is some eight steps of float32 */
#define NAME_MAX_B 32

struct pair {
    double before;
    float after;
};

static int by_before(const void *a, const void *b) {
    const struct pair *x = a, *y = b;
    return (x->before > y->before) - (x->before < y->before);
}

/* Takes all the values that become one float32, or none of them: what is counted is exact for those
 * that are taken. The finalizer of MurmurHash3 (Appleby). */
static bool taken(float v, uint32_t one_in) {
    uint32_t h;
    memcpy(&h, &v, sizeof h);
    h ^= h >> 16;
    h *= 0x85ebca6bU;
    h ^= h >> 13;
    h *= 0xc2b2ae35U;
    h ^= h >> 16;
    return h % one_in == 0;
}

static int64_t sample_of(const struct transforms_fit *over, int64_t i) {
    return over->ids != NULL ? over->ids[i] : i;
}

/* Different values before and after the transforms. */
struct different {
    size_t before, after;
};

static struct different count(struct pair *p, size_t n) {
    struct different d = {0};
    qsort(p, n, sizeof *p, by_before);
    for (size_t i = 0; i < n; i++) {
        d.before += i == 0 || p[i].before != p[i - 1].before;
        d.after +=
            i == 0 || p[i].after != p[i - 1].after; /* transforms keep the order, or turn it */
    }
    return d;
}

/* Which features have a value that is not a float32 as it is. */
static void mark_wide(const struct transforms_fit *over, int64_t rows, uint8_t *wide) {
    int64_t features = over->samples->features;
    for (int64_t i = 0; i < rows; i++) {
        const double *x = (const double *)over->samples->x + sample_of(over, i) * features;
        for (int64_t k = 0; k < features; k++)
            wide[k] |= (double)(float)x[k] != x[k];
        if (i % LOOKS_PUMP == 0)
            pump_now(over->pump);
    }
}

static void doubt_feature(const struct transforms *t, const struct transforms_fit *over, int64_t k,
                          int64_t rows, struct pair *pairs, struct different *out) {
    const struct samples *s = over->samples;
    uint32_t one_in = (uint32_t)(rows / (int64_t)(PAIRS_MAX / 2)) + 1;
    size_t n = 0;
    for (; n == 0 && one_in > 0; one_in /= 2)
        for (int64_t i = 0; i < rows && n < PAIRS_MAX; i++) {
            int64_t sample = sample_of(over, i);
            float after = transforms_value(t, s, sample, k);
            if (taken(after, one_in))
                pairs[n++] = (struct pair){((const double *)s->x)[sample * s->features + k], after};
        }
    pump_now(over->pump);
    *out = count(pairs, n);
}

static const char *call(const struct transforms_names *names, int64_t k,
                        char out[NAME_MAX_B + 16]) {
    const char *name = names->name != NULL ? names->name(names->arg, k) : NULL;
    if (name != NULL)
        (void)snprintf(out, NAME_MAX_B + 16, "column %.*s", NAME_MAX_B, name);
    else
        (void)snprintf(out, NAME_MAX_B + 16, "feature %lld", (long long)k);
    return out;
}

static enum status doubt_doubles(const struct transforms *t, const struct transforms_fit *over,
                                 const struct transforms_names *names, struct notes *notes,
                                 struct err *err) {
    int64_t features = over->samples->features;
    int64_t rows = over->count < LOOKS_MAX / features ? over->count : LOOKS_MAX / features + 1;
    uint8_t *wide = calloc((size_t)features, 1);
    struct pair *pairs = malloc(PAIRS_MAX * sizeof *pairs);
    enum status st = STATUS_OK;
    char name[NAME_MAX_B + 16];
    rows = rows < over->count ? rows : over->count;
    if (wide == NULL || pairs == NULL)
        st = err_set(err, STATUS_NOMEM, "data: out of memory");
    else
        mark_wide(over, rows, wide);
    for (int64_t k = 0; k < features && st == STATUS_OK; k++) {
        struct different d;
        if (wide[k] == 0)
            continue;
        doubt_feature(t, over, k, rows, pairs, &d);
        if (d.after * 2 < d.before)
            notes_add(notes,
                      "%s: %zu different values become %zu in float32, and a net cannot tell them "
                      "apart; transforms: [{normalize: fit}] centres them first",
                      call(names, k, name), d.before, d.after);
    }
    free(wide);
    free(pairs);
    return st;
}

/* Samples that were float32 in their file have lost their digits already. */
static void doubt_floats(const struct transforms *t, const struct transforms_names *names,
                         int64_t features, struct notes *notes) {
    char name[NAME_MAX_B + 16];
    for (int i = 0; i < t->count; i++)
        for (int64_t k = 0; k < features && t->row[i].kind == TRANSFORM_NORMALIZE; k++) {
            float mean = fabsf(t->row[i].mean[k]), std = t->row[i].std[k];
            if (t->row[i].fit && std < mean * FEW_STEPS)
                notes_add(notes,
                          "%s: its deviation (%g) is a few steps of float32 at its mean (%g): "
                          "centre the values before they are written as float32",
                          call(names, k, name), (double)std, (double)t->row[i].mean[k]);
        }
}

enum status transforms_doubt(const struct transforms *t, const struct transforms_fit *over,
                             const struct transforms_names *names, struct notes *notes,
                             struct err *err) {
    if (over->samples->type == SAMPLE_F64)
        return doubt_doubles(t, over, names, notes, err);
    if (over->samples->type == SAMPLE_F32)
        doubt_floats(t, names, over->samples->features, notes);
    return STATUS_OK;
}
