/* A part of a data set on a GPU: uploaded once as it lies on the host (uint8 stays uint8), gathered
 * by one kernel per batch. */
#include <assert.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/table_kernels.h"

#define PARTS_MAX (5 + 2 * TABLE_TRANSFORMS_MAX)

struct table {
    struct table_view view;
    void *parts[PARTS_MAX]; /* all device memory that is the table's */
    int part_count;
};

/* What is being made, for the message when it does not fit. */
struct making {
    struct device *device;
    const struct table_spec *spec;
    struct table *table;
    struct err *err;
};

void cuda_table_release(struct device *d, struct table *t) {
    if (t == NULL)
        return;
    for (int i = 0; i < t->part_count; i++)
        d->backend->memory->release(d, t->parts[i]);
    free(t);
}

/* Bytes of the whole table. */
static size_t bytes_of(const struct table_spec *s) {
    size_t sample = (size_t)s->features * (s->bytes ? 1 : sizeof(float));
    sample += s->labels != NULL ? sizeof(int32_t) : 0;
    sample += s->targets != NULL ? (size_t)s->outputs * sizeof(float) : 0;
    size_t bytes = s->twin != NULL ? 0 : (size_t)s->samples * sample;
    bytes += s->ids != NULL ? (size_t)s->count * sizeof(int32_t) : 0;
    for (int i = 0; i < s->transform_count; i++)
        if (s->transforms[i].kind == TABLE_NORMALIZE)
            bytes += 2 * (size_t)s->features * sizeof(float);
    return bytes;
}

/* A copy of host memory on the device; NULL of NULL or of nothing. */
static enum status put(const struct making *m, const void *src, size_t bytes, const void **out) {
    struct device *d = m->device;
    int64_t room = 0, total = 0;
    if (src == NULL || bytes == 0)
        return STATUS_OK;
    assert(m->table->part_count < PARTS_MAX);
    void *part = d->backend->memory->alloc(d, bytes);
    if (part == NULL) {
        d->backend->memory->room(d, &room, &total);
        return err_set(m->err, STATUS_NOMEM,
                       "the data set does not fit on the GPU: %zu bytes asked for %lld samples, "
                       "%lld of %lld free",
                       bytes_of(m->spec), (long long)m->spec->samples, (long long)room,
                       (long long)total);
    }
    m->table->parts[m->table->part_count++] = part;
    d->backend->memory->upload(d, part, src, bytes);
    *out = part;
    return STATUS_OK;
}

static enum status put_ids(const struct making *m) {
    const struct table_spec *s = m->spec;
    if (s->ids == NULL)
        return STATUS_OK;
    int32_t *ids = malloc((size_t)s->count * sizeof *ids);
    if (ids == NULL)
        return err_set(m->err, STATUS_NOMEM, "data: out of memory");
    for (int64_t i = 0; i < s->count; i++) {
        assert(s->ids[i] >= 0 && s->ids[i] < s->samples);
        ids[i] = (int32_t)s->ids[i];
    }
    enum status st =
        put(m, ids, (size_t)s->count * sizeof *ids, (const void **)&m->table->view.ids);
    free(ids);
    return st;
}

static enum status put_transforms(const struct making *m) {
    const struct table_spec *s = m->spec;
    struct table_transform steps[TABLE_TRANSFORMS_MAX];
    size_t features = (size_t)s->features * sizeof(float);
    enum status st = STATUS_OK;
    for (int i = 0; i < s->transform_count; i++) {
        steps[i] = s->transforms[i];
        if (steps[i].kind != TABLE_NORMALIZE)
            continue;
        TRY(put(m, s->transforms[i].mean, features, (const void **)&steps[i].mean));
        TRY(put(m, s->transforms[i].inverse, features, (const void **)&steps[i].inverse));
    }
    TRY(put(m, steps, (size_t)s->transform_count * sizeof *steps,
            (const void **)&m->table->view.transforms));
out:
    return st;
}

static enum status put_all(const struct making *m) {
    const struct table_spec *s = m->spec;
    struct table_view *v = &m->table->view;
    size_t samples = (size_t)s->samples, targets = (size_t)s->outputs * sizeof(float);
    size_t features = (size_t)s->features * (s->bytes ? 1 : sizeof(float));
    enum status st;
    *v = (struct table_view){.bytes = s->bytes,
                             .features = s->features,
                             .outputs = s->outputs,
                             .count = s->count,
                             .transform_count = s->transform_count};
    if (s->twin != NULL) {
        v->x = s->twin->view.x;
        v->labels = s->twin->view.labels;
        v->targets = s->twin->view.targets;
    } else {
        TRY(put(m, s->x, samples * features, &v->x));
        TRY(put(m, s->labels, samples * sizeof(int32_t), (const void **)&v->labels));
        TRY(put(m, s->targets, samples * targets, (const void **)&v->targets));
    }
    TRY(put_ids(m));
    TRY(put_transforms(m));
    TRY(m->device->backend->order->status(m->device, m->err));
out:
    return st;
}

enum status cuda_table_new(struct device *d, const struct table_spec *spec, struct table **out,
                           struct err *err) {
    *out = NULL;
    assert(spec->transform_count <= TABLE_TRANSFORMS_MAX);
    assert(spec->features <= INT32_MAX && spec->outputs <= INT32_MAX);
    if (spec->samples > INT32_MAX)
        return err_set(err, STATUS_TOO_LARGE,
                       "a data set of %lld samples on a GPU (maximum %d): cut it, or use the CPU",
                       (long long)spec->samples, INT32_MAX);
    struct table *t = calloc(1, sizeof *t);
    if (t == NULL)
        return err_set(err, STATUS_NOMEM, "data: out of memory");
    struct making m = {.device = d, .spec = spec, .table = t, .err = err};
    enum status st = put_all(&m);
    if (st != STATUS_OK) {
        cuda_table_release(d, t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

void cuda_gather_step(struct device *d, const struct table *t, int64_t rows,
                      enum precision precision, const struct batch *out) {
    if (rows == 0 || cuda_failed(d))
        return;
    table_launch_gather(cuda_stream(d), &t->view, &cuda_state(d)->terms, 0, rows,
                        precision == PRECISION_BF16, out);
    cuda_launched(d, "data: gather of a step");
}

void cuda_gather_rows(struct device *d, const struct table *t, int64_t first, int64_t rows,
                      enum precision precision, const struct batch *out) {
    assert(first >= 0 && first + rows <= t->view.count);
    if (rows == 0 || cuda_failed(d))
        return;
    table_launch_gather(cuda_stream(d), &t->view, NULL, first, rows, precision == PRECISION_BF16,
                        out);
    cuda_launched(d, "data: gather of rows");
}
