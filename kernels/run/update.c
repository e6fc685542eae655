/* What all optimizers share: which blocks a rank owns; the calls into the backend. */
#include "kernels/run/update.h"

#include <stdlib.h>
#include <string.h>

/* Whether block [at, at + NORM_BLOCK) holds running statistics or the scalars. */
static bool is_mixed(const struct model *m, int64_t at) {
    if (at + NORM_BLOCK > m->flat_count)
        return true;
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        if (p->kind == PARAM_STAT && p->offset < at + NORM_BLOCK && p->offset + p->count > at)
            return true;
    }
    return false;
}

enum status update_init(struct update *u, struct device *d, const struct update_spec *spec,
                        struct err *err) {
    int64_t block = 0, n = spec->bucket_count;
    u->device = d;
    u->spec = *spec;
    struct slice *owned = calloc((size_t)n, sizeof *owned);
    u->spec.owned = owned;
    u->packed = calloc((size_t)n, sizeof *u->packed);
    if (owned == NULL || u->packed == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    memcpy(owned, spec->owned, (size_t)n * sizeof *owned);
    for (int64_t b = 0; b < n; b++) {
        u->packed[b] = u->owned_blocks * NORM_BLOCK;
        u->owned_blocks += (owned[b].count + NORM_BLOCK - 1) / NORM_BLOCK;
    }
    u->mixed = calloc((size_t)u->owned_blocks + 1, sizeof *u->mixed);
    if (u->mixed == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    for (int64_t b = 0; b < n; b++)
        for (int64_t at = owned[b].begin; at < owned[b].begin + owned[b].count; at += NORM_BLOCK)
            u->mixed[block++] = is_mixed(spec->model, at);
    return STATUS_OK;
}

void update_fini(struct update *u) {
    free((void *)(uintptr_t)u->spec.owned);
    free(u->packed);
    free(u->mixed);
}

enum status update_new(struct device *d, const struct update_spec *spec, struct update **out,
                       struct err *err) {
    *out = NULL;
    return d->backend->update->create(d, spec, out, err);
}

void update_destroy(struct update **u) {
    if (*u != NULL)
        (*u)->device->backend->update->release(*u);
    *u = NULL;
}

float *update_slot(struct update *u, int slot) {
    return u->device->backend->update->slot(u, slot);
}

double *update_norms(struct update *u, int bucket) {
    return u->device->backend->update->norms(u, bucket);
}

void update_clip(struct update *u, const double *norms) {
    u->device->backend->update->clip(u, norms);
}

double update_norm(struct update *u) {
    return u->device->backend->update->norm(u);
}

void update_apply(struct update *u, int first, int count) {
    u->device->backend->update->apply(u, first, count);
}
