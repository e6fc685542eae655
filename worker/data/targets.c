/* Whether float32 has the digits of what is to be predicted. */
#include "worker/data/targets.h"

#include <stdlib.h>

#define NAME_BYTES 32

enum status targets_open(struct targets_seen *t, const char *path, struct err *err) {
    *t = (struct targets_seen){.v = malloc(TARGETS_LOOKS * sizeof *t->v)};
    if (t->v == NULL)
        return err_set(err, STATUS_NOMEM, "%s: out of memory", path);
    return STATUS_OK;
}

void targets_release(struct targets_seen *t) {
    free(t->v);
    *t = (struct targets_seen){0};
}

void targets_see(struct targets_seen *t, double v) {
    if (t->n < TARGETS_LOOKS)
        t->v[t->n++] = v;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Only numbers that change count: an output of zeros and large numbers has lost the large ones. */
static void doubt_output(double *v, size_t n, const char *name, int64_t output,
                         struct notes *notes) {
    size_t before = 0, after = 0;
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < n; i++) {
        before += i == 0 || v[i] != v[i - 1];
        after += i == 0 || (float)v[i] != (float)v[i - 1];
    }
    if (after * 2 >= before)
        return;
    if (name != NULL)
        notes_add(notes,
                  "label column %.*s: %zu different targets become %zu in float32, and no net can "
                  "predict what lies between; subtract a constant from the column beforehand",
                  NAME_BYTES, name, before, after);
    else
        notes_add(
            notes,
            "output %lld: %zu different targets become %zu in float32, and no net can predict "
            "what lies between; subtract a constant from the targets beforehand",
            (long long)output, before, after);
}

void targets_doubt(struct targets_seen *t, const char *name, int64_t outputs, struct notes *notes) {
    double *column = outputs > 0 ? malloc((t->n / (size_t)outputs + 1) * sizeof *column) : NULL;
    for (size_t k = 0; column != NULL && k < (size_t)outputs; k++) {
        size_t n = 0;
        for (size_t i = k; i < t->n; i += (size_t)outputs)
            if ((double)(float)t->v[i] != t->v[i])
                column[n++] = t->v[i];
        if (n > 0)
            doubt_output(column, n, name, (int64_t)k, notes);
    }
    free(column);
}
