/* Owned slices on a GPU: one launch for all tensors of the buckets asked.
 *
 *     owned slices   [b: 0.weight ··· | 0.bias | pad] [b − 1: …]     whole norm blocks
 *     chunks          ████ ████ ██      █                            of one tensor each, in the
 *                     0    1    2       3        4 …                 order of buckets
 *     chunk_begin[b]──┘                          └──chunk_begin[b + 1]
 *
 * The table of chunks is made once and stays in device memory; a call takes a stretch of it. What
 * changes from step to step is read by the kernels from the device's step_state, so that a recorded
 * step can be played again. */
#include "kernels/run/update.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/update_kernels.h"

static_assert(NORM_BLOCK % MODEL_ALIGN == 0 && UPDATE_CHUNK % MODEL_ALIGN == 0, "chunks align");
static_assert(NORM_BLOCK / MODEL_ALIGN == 64, "a mask has a bit for each run of a norm block");

struct cuda_update {
    struct update base; /* first */
    enum update_rule rule;
    float *slots[2];
    double *norms;               /* (owned_blocks) */
    uint64_t *masks;             /* (owned_blocks): see update_launch_norms */
    struct update_chunk *chunks; /* (chunk_begin[bucket_count]) */
    int64_t *chunk_begin;        /* (bucket_count + 1): host memory */
};

static struct cuda_update *of(struct update *u) {
    return (struct cuda_update *)u;
}

void cuda_update_release(struct update *u) {
    struct cuda_update *c = of(u);
    void *parts[] = {c->slots[0], c->slots[1], c->norms, c->masks, c->chunks};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i] != NULL)
            u->device->backend->memory->release(u->device, parts[i]);
    free(c->chunk_begin);
    update_fini(u);
    free(c);
}

/* ---- tables ---- */

/* The part of tensor p that lies within [begin, end) of the flat vector. */
static struct slice overlap(const struct param *p, int64_t begin, int64_t end) {
    int64_t from = p->offset > begin ? p->offset : begin;
    int64_t to = p->offset + p->count < end ? p->offset + p->count : end;
    return (struct slice){from, to > from ? to - from : 0};
}

/* The chunks of one bucket, into `out` unless that is NULL; their number. */
static int64_t cut(const struct update *u, int bucket, struct update_chunk *out) {
    const struct model *m = u->spec.model;
    struct slice s = u->spec.owned[bucket];
    int64_t n = 0;
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        struct slice part = overlap(p, s.begin, s.begin + s.count);
        for (int64_t at = 0; at < part.count; at += UPDATE_CHUNK, n++) {
            int64_t left = part.count - at;
            if (out == NULL)
                continue;
            out[n] = (struct update_chunk){
                .flat = part.begin + at,
                .packed = u->packed[bucket] + (part.begin + at - s.begin),
                .count = (int32_t)(left < UPDATE_CHUNK ? left : UPDATE_CHUNK),
                .kind = (int32_t)p->kind,
                .keep = (float)(1.0 - (double)p->momentum),
                .take = (float)((double)p->momentum * (1.0 / (double)u->spec.shards)),
            };
        }
    }
    return n;
}

/* A bit for each run of MODEL_ALIGN elements of the block at `at` that is gradient. Tensors begin
 * at such runs, so that none belongs to two of them. */
static uint64_t mask_of(const struct model *m, int64_t at) {
    uint64_t mask = 0;
    for (int i = 0; i < m->param_count; i++) {
        struct slice part = overlap(&m->params[i], at, at + NORM_BLOCK);
        if (m->params[i].kind == PARAM_STAT)
            continue;
        for (int64_t e = part.begin; e < part.begin + part.count; e += MODEL_ALIGN)
            mask |= UINT64_C(1) << ((e - at) / MODEL_ALIGN);
    }
    return mask;
}

/* `count` zeroed elements of device memory. */
static enum status part(struct cuda_update *c, const char *what, int64_t count, size_t size,
                        void **out, struct err *err) {
    struct device *d = c->base.device;
    size_t bytes = (size_t)count * size;
    int64_t room = 0, total = 0;
    if (bytes == 0 || (*out = d->backend->memory->alloc(d, bytes)) != NULL)
        return STATUS_OK;
    d->backend->memory->room(d, &room, &total);
    return err_set(
        err, STATUS_NOMEM,
        "no memory on the GPU for the optimizer's %s: %zu bytes asked, %lld of %lld free; "
        "take a smaller model, more ranks, or an optimizer with less state",
        what, bytes, (long long)room, (long long)total);
}

static enum status make_chunks(struct cuda_update *c, struct err *err) {
    struct device *d = c->base.device;
    int buckets = c->base.spec.bucket_count;
    c->chunk_begin = calloc((size_t)buckets + 1, sizeof *c->chunk_begin);
    if (c->chunk_begin == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's tables");
    for (int b = 0; b < buckets; b++)
        c->chunk_begin[b + 1] = c->chunk_begin[b] + cut(&c->base, b, NULL);
    int64_t count = c->chunk_begin[buckets];
    struct update_chunk *chunks = calloc((size_t)count + 1, sizeof *chunks);
    enum status st = STATUS_OK;
    if (chunks == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's tables");
    for (int b = 0; b < buckets; b++)
        (void)cut(&c->base, b, chunks + c->chunk_begin[b]);
    TRY(part(c, "table of tensors", count, sizeof *chunks, (void **)&c->chunks, err));
    if (count > 0)
        d->backend->memory->upload(d, c->chunks, chunks, (size_t)count * sizeof *chunks);
out:
    free(chunks);
    return st;
}

static enum status make_masks(struct cuda_update *c, struct err *err) {
    struct device *d = c->base.device;
    const struct update_spec *spec = &c->base.spec;
    int64_t count = c->base.owned_blocks, k = 0;
    uint64_t *masks = calloc((size_t)count + 1, sizeof *masks);
    enum status st = STATUS_OK;
    if (masks == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's tables");
    for (int b = 0; b < spec->bucket_count; b++) {
        struct slice s = spec->owned[b];
        for (int64_t at = s.begin; at < s.begin + s.count; at += NORM_BLOCK, k++)
            masks[k] = c->base.mixed[k] ? mask_of(spec->model, at) : UINT64_MAX;
    }
    TRY(part(c, "norms", count, sizeof *c->norms, (void **)&c->norms, err));
    TRY(part(c, "masks", count, sizeof *masks, (void **)&c->masks, err));
    if (count > 0)
        d->backend->memory->upload(d, c->masks, masks, (size_t)count * sizeof *masks);
out:
    free(masks);
    return st;
}

static enum update_rule rule_of(const struct spec_optimizer *o) {
    if (o->kind != OPTIMIZER_SGD)
        return UPDATE_ADAM;
    if (o->slots == 0)
        return UPDATE_PLAIN;
    return o->nesterov ? UPDATE_NESTEROV : UPDATE_MOMENTUM;
}

static enum status make(struct cuda_update *c, struct device *d, const struct update_spec *spec,
                        struct err *err) {
    enum status st;
    TRY(update_init(&c->base, d, spec, err));
    c->rule = rule_of(spec->optimizer);
    for (int i = 0; i < spec->optimizer->slots; i++)
        TRY(part(c, "state", c->base.owned_blocks * NORM_BLOCK, sizeof(float),
                 (void **)&c->slots[i], err));
    TRY(make_chunks(c, err));
    TRY(make_masks(c, err));
    TRY(d->backend->order->status(d, err));
out:
    return st;
}

enum status cuda_update_new(struct device *d, const struct update_spec *spec, struct update **out,
                            struct err *err) {
    struct cuda_update *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the optimizer's state");
    enum status st = make(c, d, spec, err);
    if (st != STATUS_OK) {
        cuda_update_release(&c->base);
        return st;
    }
    *out = &c->base;
    return STATUS_OK;
}

/* ---- a step ---- */

float *cuda_update_slot(struct update *u, int slot) {
    return of(u)->slots[slot];
}

double *cuda_update_norms(struct update *u, int bucket) {
    struct cuda_update *c = of(u);
    struct slice s = u->spec.owned[bucket];
    int64_t first = u->packed[bucket] / NORM_BLOCK;
    if (s.count == 0 || cuda_failed(u->device))
        return c->norms;
    update_launch_norms(cuda_stream(u->device), u->spec.gradient + s.begin, c->masks + first,
                        (s.count + NORM_BLOCK - 1) / NORM_BLOCK, c->norms + first);
    cuda_launched(u->device, "update: norms of the gradient");
    return c->norms;
}

void cuda_update_clip(struct update *u, const double *norms) {
    if (cuda_failed(u->device))
        return;
    update_launch_clip(cuda_stream(u->device), norms, u->spec.blocks, u->spec.batch,
                       u->spec.clip_norm, cuda_state(u->device));
    cuda_launched(u->device, "update: clipping");
}

double cuda_grad_norm(struct update *u) {
    double norm = 0;
    u->device->backend->memory->download(u->device, &norm, &cuda_state(u->device)->grad_norm,
                                         sizeof norm);
    return norm;
}

void cuda_update_apply(struct update *u, int first, int count) {
    struct cuda_update *c = of(u);
    int64_t begin = c->chunk_begin[first], chunks = c->chunk_begin[first + count] - begin;
    struct update_vectors vectors = {.weights = u->spec.weights,
                                     .gradient = u->spec.gradient,
                                     .slots = {c->slots[0], c->slots[1]}};
    if (chunks == 0 || cuda_failed(u->device))
        return;
    update_launch_apply(cuda_stream(u->device), c->rule, c->chunks + begin, chunks, vectors,
                        cuda_state(u->device));
    cuda_launched(u->device, "update: one step");
}
