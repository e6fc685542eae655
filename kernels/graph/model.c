/* From layers as they are written to layers with shapes and a parameter layout. */
#include "kernels/graph/model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define DIM_MAX  SPEC_FEATURES_MAX  /* channels, features, pixels along one side */
#define FLAT_MAX (INT64_C(1) << 33) /* elements of one sample or of all parameters */

struct build {
    struct arena *arena;
    const char *file;
    struct err *err;
    struct model *model;
    const struct value *node; /* the layer's node, for its place in the file */
    char where[96];           /* "model[3].dense" */
};

typedef enum status build_fn(struct build *p, struct layer *layer);

static build_fn build_dense, build_conv2d, build_batch_norm, build_pool, build_flatten;

/* NULL: the shape stays as it is, and there is nothing to train. */
static build_fn *const builders[LAYER_KINDS] = {
    [LAYER_DENSE] = build_dense,           [LAYER_CONV2D] = build_conv2d,
    [LAYER_BATCH_NORM] = build_batch_norm, [LAYER_MAX_POOL] = build_pool,
    [LAYER_AVG_POOL] = build_pool,         [LAYER_FLATTEN] = build_flatten,
};

/* "file:line:column: model[3].dense: " + text */
static enum status fail(struct build *p, const char *text) {
    char place[SCHEMA_PLACE_MAX];
    return err_set(p->err, STATUS_INVALID, "%s%s: %s", schema_place(p->file, p->node, place),
                   p->where, text);
}

static void shape_text(const struct shape *s, char out[80]) {
    if (s->rank == 3)
        (void)snprintf(out, 80, "(%lld, %lld, %lld)", (long long)s->dim[0], (long long)s->dim[1],
                       (long long)s->dim[2]);
    else
        (void)snprintf(out, 80, "(%lld)", (long long)s->dim[0]);
}

static struct shape flat_shape(const struct shape *s) {
    return (struct shape){.rank = 1, .dim = {shape_size(s), 1, 1}};
}

static enum status too_many(struct build *p) {
    char text[128];
    (void)snprintf(text, sizeof text,
                   "with it the model has more than %lld parameters (%lld GiB), which is the most",
                   (long long)FLAT_MAX, (long long)(FLAT_MAX * 4) >> 30);
    return fail(p, text);
}

static enum status add_param(struct build *p, struct layer *layer, const char *name,
                             enum param_kind kind, int dims, const int64_t *dim) {
    struct model *m = p->model;
    struct param *param = &m->params[m->param_count];
    *param = (struct param){.layer = layer->index, .kind = kind, .dims = dims, .count = 1};
    for (int i = 0; i < dims; i++) {
        param->dim[i] = dim[i];
        if (__builtin_mul_overflow(param->count, dim[i], &param->count) || param->count > FLAT_MAX)
            return too_many(p);
    }
    param->name = arena_printf(p->arena, "%d.%s", layer->index, name);
    if (param->name == NULL)
        return err_set(p->err, STATUS_NOMEM, "out of memory for the model");
    param->offset = m->flat_count;
    param->momentum = layer->momentum;
    if (kind != PARAM_STAT)
        m->trainable += param->count;
    m->flat_count += (param->count + MODEL_ALIGN - 1) / MODEL_ALIGN * MODEL_ALIGN;
    if (m->flat_count > FLAT_MAX)
        return too_many(p);
    m->param_count++;
    layer->param_count++;
    return STATUS_OK;
}

static enum status build_dense(struct build *p, struct layer *layer) {
    int64_t in = shape_size(&layer->in), out = layer->spec->out;
    enum status st = STATUS_OK;
    layer->out = (struct shape){.rank = 1, .dim = {out, 1, 1}};
    layer->flops = 2 * in * out;
    TRY(add_param(p, layer, "weight", PARAM_WEIGHT, 2, (int64_t[]){out, in}));
    if (layer->bias)
        TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &out));
out:
    return st;
}

/* The output size of a window, or fail() where nothing is left. */
static enum status slide(struct build *p, struct layer *layer, int64_t channels) {
    layer->out = (struct shape){.rank = 3, .dim = {channels, 0, 0}};
    for (int i = 0; i < 2; i++) {
        int64_t room = layer->in.dim[1 + i] + 2 * layer->padding[i] - layer->kernel[i];
        if (room < 0) {
            char shape[80], text[192];
            shape_text(&layer->in, shape);
            (void)snprintf(
                text, sizeof text,
                "a kernel of %lld by %lld does not fit its input %s: the output would be empty",
                (long long)layer->kernel[0], (long long)layer->kernel[1], shape);
            return fail(p, text);
        }
        layer->out.dim[1 + i] = room / layer->stride[i] + 1;
    }
    return STATUS_OK;
}

static enum status need_image(struct build *p, const struct layer *layer) {
    if (layer->in.rank == 3)
        return STATUS_OK;
    char shape[80], text[160];
    shape_text(&layer->in, shape);
    (void)snprintf(text, sizeof text, "needs an input (channels, height, width), but it gets %s",
                   shape);
    return fail(p, text);
}

static enum status build_conv2d(struct build *p, struct layer *layer) {
    enum status st = STATUS_OK;
    int64_t out = layer->spec->out;
    TRY(need_image(p, layer));
    TRY(slide(p, layer, out));
    int64_t dim[4] = {out, layer->in.dim[0], layer->kernel[0], layer->kernel[1]};
    layer->flops = 2 * shape_size(&layer->out) * dim[1] * dim[2] * dim[3];
    TRY(add_param(p, layer, "weight", PARAM_WEIGHT, 4, dim));
    if (layer->bias)
        TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &out));
out:
    return st;
}

static enum status build_batch_norm(struct build *p, struct layer *layer) {
    enum status st = STATUS_OK;
    int64_t channels = layer->in.dim[0];
    TRY(add_param(p, layer, "weight", PARAM_PLAIN, 1, &channels));
    TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &channels));
    TRY(add_param(p, layer, "running_mean", PARAM_STAT, 1, &channels));
    TRY(add_param(p, layer, "running_var", PARAM_STAT, 1, &channels));
out:
    return st;
}

static enum status build_pool(struct build *p, struct layer *layer) {
    enum status st = STATUS_OK;
    TRY(need_image(p, layer));
    TRY(slide(p, layer, layer->in.dim[0]));
out:
    return st;
}

static enum status build_flatten(struct build *p, struct layer *layer) {
    (void)p;
    layer->out = flat_shape(&layer->in);
    return STATUS_OK;
}

static enum status build_layer(struct build *p, const struct spec_layer *spec, int index,
                               struct shape in) {
    struct layer *layer = &p->model->layers[index];
    (void)snprintf(p->where, sizeof p->where, "model[%d].%s", index, spec_layer_name(spec->kind));
    p->node = spec->node;
    *layer = (struct layer){
        .kind = spec->kind,
        .index = index,
        .spec = spec,
        .in = in,
        .kernel = {spec->kernel[0], spec->kernel[1]},
        .stride = {spec->stride[0], spec->stride[1]},
        .padding = {spec->padding[0], spec->padding[1]},
        .bias = spec->bias,
        .rate = spec->rate,
        .eps = spec->eps,
        .momentum = spec->momentum,
        .param_first = p->model->param_count,
    };
    enum status st = STATUS_OK;
    layer->out = in;
    if (builders[spec->kind] != NULL)
        st = builders[spec->kind](p, layer);
    if (st == STATUS_OK && shape_size(&layer->out) > FLAT_MAX / 4)
        return fail(p, "the output is too large");
    return st;
}

enum status model_build(struct arena *a, const struct spec_model *spec, struct shape in,
                        struct model **out, struct err *err) {
    enum status st = STATUS_OK;
    struct build p = {
        .arena = a, .file = spec->file, .err = err, .node = spec->node, .where = "model"};
    if ((in.rank != 1 && in.rank != 3) || in.dim[0] < 1 || in.dim[0] > FLAT_MAX / 4 ||
        (in.rank == 3 && (in.dim[0] > DIM_MAX || in.dim[1] < 1 || in.dim[1] > DIM_MAX / 64 ||
                          in.dim[2] < 1 || in.dim[2] > DIM_MAX / 64)))
        return fail(&p, "the input's shape has a zero or an immense dimension");

    struct model *m = arena_take(a, sizeof *m);
    if (m == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    p.model = m;
    m->file = spec->file;
    m->in = in;
    m->layers = arena_array(a, (size_t)spec->count, sizeof *m->layers);
    m->params = arena_array(a, (size_t)spec->count * 4, sizeof *m->params);
    if (m->layers == NULL || m->params == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    struct shape shape = in;
    for (int i = 0; i < spec->count; i++) {
        TRY(build_layer(&p, &spec->layers[i], i, shape));
        shape = m->layers[i].out;
        m->layer_count++;
    }
    m->out = shape;
    m->vector_count = m->flat_count + SCALARS;
    static_assert(SCALARS % MODEL_ALIGN == 0, "the vector's length is a multiple of MODEL_ALIGN");
    *out = m;
out:
    return st;
}

enum status model_parse(struct arena *a, const struct value *layers, struct shape in,
                        const char *file, struct model **out, struct err *err) {
    struct spec_model *spec = arena_take(a, sizeof *spec); /* the layers keep pointing at it */
    if (spec == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    enum status st = spec_model_read(a, layers, SPEC_TODAY(file), spec, err);
    return st == STATUS_OK ? model_build(a, spec, in, out, err) : st;
}
