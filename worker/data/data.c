/* A data set: its parts, the split, the digest, and gathering rows from it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/json.h"
#include "kernels/run/device.h"
#include "worker/data/data_private.h"

#define DIGEST_VERSION  1
#define KEY_BYTES_MAX   ((size_t)1 << 20)
#define SPLIT_EPOCH     INT64_C(-1) /* no epoch of training has this number */
#define SPLIT_PUMP      65536       /* samples between two calls of pump */
#define DESCRIPTION_MAX ((size_t)64 << 20)

/* ---- split ---- */

/* The last part of a permutation goes to validation; within a part the file's order is kept. */
static enum status split(struct dataset *d, double share, const struct data_request *r,
                         struct err *err) {
    bool shuffle = r->data->shuffle;
    int64_t n = d->from[DATA_TRAIN]->count;
    int64_t held = (int64_t)((double)n * share + 0.5);
    char place[SCHEMA_PLACE_MAX];
    if (held < 1 || held >= n)
        return err_set(
            err, STATUS_INVALID,
            "%sdata.validation_split %g of %lld samples leaves %s without a sample",
            schema_place(r->data->file, value_get(r->data->node, "validation_split"), place), share,
            (long long)n, held < 1 ? "validation" : "training");
    uint8_t *mark = calloc((size_t)n, 1); /* 1: held back */
    int64_t *train = malloc((size_t)(n - held) * sizeof *train);
    int64_t *validation = malloc((size_t)held * sizeof *validation);
    d->ids[DATA_TRAIN] = train;
    d->ids[DATA_VALIDATION] = validation;
    if (mark == NULL || train == NULL || validation == NULL) {
        free(mark);
        return err_set(err, STATUS_NOMEM, "data: out of memory");
    }
    for (int64_t at = n - held; at < n; at++) {
        mark[order_at(r->seed, SPLIT_EPOCH, at, n, shuffle)] = 1;
        if (at % SPLIT_PUMP == 0)
            pump_now(&r->pump);
    }
    for (int64_t i = 0; i < n; i++)
        *(mark[i] != 0 ? validation++ : train++) = i;
    free(mark);
    d->count[DATA_TRAIN] = n - held;
    d->count[DATA_VALIDATION] = held;
    d->from[DATA_VALIDATION] = d->from[DATA_TRAIN];
    d->from[DATA_TRAIN]->refs++;
    return STATUS_OK;
}

/* ---- digest ---- */

/* A Merkle tree as RFC 6962 shapes it, grown leaf by leaf: stack[k] is a whole subtree of 2^k
 * leaves where bit k of `leaves` is set. */
struct merkle {
    struct hash *hash;
    struct digest stack[64];
    uint64_t leaves;
};

static void join(struct merkle *m, const struct digest *left, struct digest *right) {
    hash_reset(m->hash);
    hash_add(m->hash, "\1", 1);
    hash_add(m->hash, left->bytes, DIGEST_BYTES);
    hash_add(m->hash, right->bytes, DIGEST_BYTES);
    hash_end(m->hash, right);
}

static void merkle_add(struct merkle *m, struct digest leaf) {
    int k = 0;
    for (; m->leaves >> k & 1; k++)
        join(m, &m->stack[k], &leaf);
    m->stack[k] = leaf;
    m->leaves++;
}

static struct digest merkle_root(struct merkle *m) {
    struct digest root = {0};
    bool any = false;
    for (int k = 0; k < 64; k++) {
        if (!(m->leaves >> k & 1))
            continue;
        if (any)
            join(m, &m->stack[k], &root);
        else
            root = m->stack[k];
        any = true;
    }
    return root;
}

/* The last leaf: how the bytes are to be read, never where they came from. */
static enum status describe_reading(const struct spec_data *data, const struct dataset *d,
                                    struct arena *a, struct buf *out, struct err *err) {
    struct value *root = value_map(a), *parts = value_list(a);
    for (int part = 0; part < PARTS; part++) {
        const struct samples *s = d->from[part];
        const struct spec_source *source = &data->part[part];
        if (s == NULL || source->node == NULL)
            continue;
        struct value *m = value_map(a), *shape = value_list(a);
        for (int i = 0; i < s->shape.rank; i++)
            value_push(a, shape, value_int(a, s->shape.dim[i]));
        value_set_string(a, m, "part", spec_part_names[part]);
        value_set_string(a, m, "format", source->format);
        value_set_string(a, m, "type", samples_type_name(s->type));
        value_set_int(a, m, "samples", s->count);
        value_set(a, m, "shape", shape);
        value_set_int(a, m, "classes", s->classes);
        value_set_int(a, m, "outputs", s->outputs);
        value_push(a, parts, m);
    }
    const struct value *transforms = value_get(data->node, "transforms");
    value_set_int(a, root, "version", DIGEST_VERSION);
    value_set(a, root, "parts", parts);
    value_set(a, root, "transforms",
              transforms != NULL ? value_copy(a, transforms) : value_list(a));
    return json_dump(root, JSON_CANONICAL, out, err);
}

static enum status digest(const struct spec_data *data, struct dataset *d, struct err *err) {
    struct arena a;
    arena_init(&a, DESCRIPTION_MAX);
    struct buf text = BUF_INIT(DESCRIPTION_MAX);
    struct merkle m = {.hash = hash_new()};
    enum status st;
    if (m.hash == NULL) {
        st = err_set(err, STATUS_NOMEM, "data digest: out of memory");
        goto out;
    }
    TRY(describe_reading(data, d, &a, &text, err));
    for (int part = 0; part < PARTS; part++)
        if (d->from[part] != NULL && data->part[part].node != NULL)
            for (size_t i = 0; i < d->from[part]->leaf_count; i++)
                merkle_add(&m, d->from[part]->leaves[i]);
    struct digest last;
    hash_reset(m.hash);
    hash_add(m.hash, "\0", 1);
    hash_add(m.hash, text.data, text.len);
    hash_end(m.hash, &last);
    merkle_add(&m, last);
    struct digest root = merkle_root(&m);
    hash_hex(&root, d->info.digest);
out:
    hash_destroy(&m.hash);
    buf_release(&text);
    arena_release(&a);
    return st;
}

/* ---- loading ---- */

static enum status add_stamp(const char *path, struct buf *out, struct err *err) {
    struct stat about;
    if (path == NULL)
        return STATUS_OK;
    if (stat(path, &about) != 0)
        return err_set(err, STATUS_NOT_FOUND, "data file %s cannot be read: %s", path,
                       strerror(errno));
    buf_addf(out, "|%lld.%09ld+%lld#%llu", (long long)about.st_mtim.tv_sec, about.st_mtim.tv_nsec,
             (long long)about.st_size, (unsigned long long)about.st_ino);
    return STATUS_OK;
}

enum status data_source_key(const struct spec_source *source, struct buf *out, struct err *err) {
    enum status st;
    TRY(json_dump(source->node, JSON_CANONICAL, out, err));
    buf_addf(out, "|language %d|%c%c", source->language, source->between, source->point);
    TRY(add_stamp(source->images, out, err));
    TRY(add_stamp(source->labels, out, err));
    TRY(add_stamp(source->file, out, err));
    TRY(buf_status(out, "data key", err));
out:
    return st;
}

/* One part's samples, from the shelf where they are there already. */
static enum status take(const struct samples_request *r, const struct samples_shelf *shelf,
                        struct samples **out, struct err *err) {
    struct buf key = BUF_INIT(KEY_BYTES_MAX);
    enum status st;
    if (shelf == NULL)
        return samples_load(r, out, err);
    if (r->known != NULL)
        buf_addf(&key, "%s&", r->known->key);
    TRY(data_source_key(r->source, &key, err));
    *out = shelf->find(shelf->arg, buf_text(&key));
    if (*out != NULL) {
        (*out)->refs++;
        goto out;
    }
    TRY(samples_load(r, out, err));
    (*out)->key = strdup(buf_text(&key));
    if ((*out)->key == NULL) {
        samples_drop(out);
        st = err_set(err, STATUS_NOMEM, "data: out of memory");
        goto out;
    }
    shelf->keep(shelf->arg, *out);
out:
    buf_release(&key);
    return st;
}

static enum status load_parts(const struct data_request *r, const struct samples_shelf *shelf,
                              struct dataset *d, struct err *err) {
    for (int part = 0; part < PARTS; part++) {
        struct samples_request request = {
            .source = &r->data->part[part], .known = d->from[DATA_TRAIN], .pump = &r->pump};
        if (request.source->node == NULL)
            continue;
        enum status st = take(&request, shelf, &d->from[part], err);
        const char *sweep = request.source->sweep; /* a place in it says which part it is about */
        bool placed = st != STATUS_OK && err != NULL && sweep != NULL &&
                      strncmp(err->text, sweep, strlen(sweep)) == 0;
        if (st != STATUS_OK)
            return placed ? st : err_wrap(err, st, "%s data", spec_part_names[part]);
        d->count[part] = d->from[part]->count;
    }
    if (r->data->validation_split > 0)
        return split(d, r->data->validation_split, r, err);
    return STATUS_OK;
}

static void fill_info(struct dataset *d) {
    const struct samples *s = d->from[DATA_TRAIN];
    d->info.train = d->count[DATA_TRAIN];
    d->info.validation = d->count[DATA_VALIDATION];
    d->info.test = d->count[DATA_TEST];
    d->info.shape = s->shape;
    d->info.features = s->features;
    d->info.classes = s->labels != NULL ? s->classes : 0;
    d->info.outputs = s->outputs;
}

static enum status doubt(struct dataset *d, const struct transforms_fit *over, struct err *err) {
    const struct samples *s = d->from[DATA_TRAIN];
    const struct transforms_names names = {
        .name = s->learnt != NULL ? s->format->feature_name : NULL, .arg = s->learnt};
    return transforms_doubt(&d->transforms, over, &names, &d->notes, err);
}

enum status data_load_shelf(const struct data_request *r, const struct samples_shelf *shelf,
                            struct dataset **out, struct err *err) {
    struct dataset *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, STATUS_NOMEM, "data: out of memory");
    enum status st;
    TRY(load_parts(r, shelf, d, err));
    fill_info(d);
    TRY(transforms_make(r->data, &d->info, d->from[DATA_TRAIN]->type, &d->transforms, err));
    const struct transforms_fit over = {.samples = d->from[DATA_TRAIN],
                                        .ids = d->ids[DATA_TRAIN],
                                        .count = d->count[DATA_TRAIN],
                                        .pump = &r->pump};
    TRY(transforms_fit(&d->transforms, &over, err));
    TRY(doubt(d, &over, err));
    TRY(digest(r->data, d, err));
    *out = d;
    d = NULL;
out:
    data_destroy(&d);
    return st;
}

enum status data_load(const struct data_request *r, struct dataset **out, struct err *err) {
    return data_load_shelf(r, NULL, out, err);
}

void data_destroy(struct dataset **pd) {
    struct dataset *d = *pd;
    if (d == NULL)
        return;
    for (int part = PARTS - 1; part >= 0; part--) { /* a twin goes before the first */
        if (d->tables[part] != NULL)
            d->device->backend->memory->table_release(d->device, d->tables[part]);
        samples_drop(&d->from[part]);
        free(d->ids[part]);
    }
    transforms_release(&d->transforms);
    free(d);
    *pd = NULL;
}

const struct data_info *data_info(const struct dataset *d) {
    return &d->info;
}

size_t data_bytes(const struct dataset *d) {
    size_t bytes = sizeof *d;
    for (int part = 0; part < PARTS; part++)
        if (d->ids[part] != NULL)
            bytes += (size_t)d->count[part] * sizeof(int64_t);
    for (int i = 0; i < d->transforms.count; i++)
        if (d->transforms.row[i].kind == TRANSFORM_NORMALIZE)
            bytes += (size_t)d->info.features * (sizeof(float) * 3 + sizeof(double) * 2);
    return bytes;
}

/* ---- use ---- */

void data_gather(const struct dataset *d, enum data_part part, const int64_t *ids, int64_t n,
                 const struct data_rows *to) {
    const struct samples *s = d->from[part];
    const int64_t *of = d->ids[part];
    for (int64_t i = 0; i < n; i++) {
        assert(ids[i] >= 0 && ids[i] < d->count[part]);
        int64_t sample = of != NULL ? of[ids[i]] : ids[i];
        transforms_apply(&d->transforms, s, sample, to->x + i * s->features);
        if (to->labels != NULL && s->labels != NULL)
            to->labels[i] = s->labels[sample];
        if (to->targets != NULL && s->targets != NULL)
            memcpy(to->targets + i * s->outputs, s->targets + sample * s->outputs,
                   (size_t)s->outputs * sizeof *to->targets);
    }
}

int64_t data_table_bytes(const struct dataset *d) {
    size_t bytes = 0;
    for (int part = 0; part < PARTS; part++) {
        const struct samples *s = d->from[part];
        if (s == NULL || d->count[part] == 0 || d->tables[part] != NULL)
            continue;
        size_t x = (size_t)s->features * (s->type == SAMPLE_U8 ? 1 : sizeof(float));
        size_t y = s->labels != NULL ? sizeof(int32_t) : (size_t)s->outputs * sizeof(float);
        size_t transforms = (size_t)d->transforms.count * (size_t)s->features * 2 * sizeof(float);
        bool twin = part != DATA_TRAIN && s == d->from[DATA_TRAIN];
        bytes += (twin ? 0 : (size_t)s->count * (x + y)) +
                 (size_t)d->count[part] * sizeof(int64_t) + transforms;
    }
    return (int64_t)bytes;
}

/* Samples of doubles go to a device as they come out of the transforms: it knows float32 alone. */
static enum status transform_all(const struct dataset *d, const struct samples *s, float **out,
                                 struct err *err) {
    *out = malloc((size_t)s->count * (size_t)s->features * sizeof **out);
    if (*out == NULL)
        return err_set(err, STATUS_NOMEM, "data: no memory for %lld samples of %lld features",
                       (long long)s->count, (long long)s->features);
    for (int64_t i = 0; i < s->count; i++)
        transforms_apply(&d->transforms, s, i, *out + i * s->features);
    return STATUS_OK;
}

static enum status make_table(struct dataset *d, enum data_part part, struct err *err) {
    static const enum table_transform_kind kinds[] = {[TRANSFORM_SCALE] = TABLE_SCALE,
                                                      [TRANSFORM_SHIFT] = TABLE_SHIFT,
                                                      [TRANSFORM_NORMALIZE] = TABLE_NORMALIZE};
    static_assert(SPEC_TRANSFORMS_MAX <= TABLE_TRANSFORMS_MAX, "a table takes all transforms");
    const struct samples *s = d->from[part];
    struct table *twin =
        part != DATA_TRAIN && s == d->from[DATA_TRAIN] ? d->tables[DATA_TRAIN] : NULL;
    struct table_transform steps[SPEC_TRANSFORMS_MAX];
    bool done = s->type == SAMPLE_F64;
    float *x = NULL;
    enum status st = STATUS_OK;
    if (done && twin == NULL)
        TRY(transform_all(d, s, &x, err));
    for (int i = 0; i < d->transforms.count; i++) {
        const struct transform *t = &d->transforms.row[i];
        steps[i] = (struct table_transform){
            .kind = kinds[t->kind], .by = t->by, .mean = t->mean, .inverse = t->inverse};
    }
    struct table_spec spec = {
        .bytes = s->type == SAMPLE_U8,
        .samples = s->count,
        .features = s->features,
        .outputs = s->outputs,
        .x = done ? x : s->x,
        .labels = s->labels,
        .targets = s->targets,
        .ids = d->ids[part],
        .count = d->count[part],
        .twin = twin,
        .transforms = steps,
        .transform_count = done ? 0 : d->transforms.count,
    };
    st = d->device->backend->memory->table_new(d->device, &spec, &d->tables[part], err);
out:
    free(x);
    return st;
}

enum status data_table(struct dataset *d, enum data_part part, struct device *device,
                       const struct table **out, struct err *err) {
    enum status st = STATUS_OK;
    assert(d->device == NULL || d->device == device);
    d->device = device;
    if (d->from[part] != NULL && d->count[part] > 0 && d->tables[part] == NULL)
        st = make_table(d, part, err);
    *out = d->tables[part];
    return st;
}
