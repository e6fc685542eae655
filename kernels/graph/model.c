/* From the `model:` list to layers with shapes and a parameter layout. One row of `kinds` per layer
 * kind: its word, its keys, and the function that turns them into a struct layer. */
#include "kernels/graph/model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/schema.h"

#define DIM_MAX    (1 << 20) /* channels, features, pixels along one side */
#define KERNEL_MAX 64
#define FLAT_MAX   (INT64_C(1) << 33) /* elements of one sample or of all parameters */
#define NAMES      "dense|conv2d|batch_norm|max_pool|avg_pool|relu|gelu|tanh|sigmoid|dropout|flatten"

struct parse {
    struct arena *arena;
    const char *file;
    struct err *err;
    struct model *model;
    const struct value *node; /* the layer's node, for its place in the file */
    char where[96];           /* "model[3] dense" */
};

typedef enum status build_fn(struct parse *p, const struct value *keys, struct layer *layer);

static build_fn build_dense, build_conv2d, build_batch_norm, build_pool, build_dropout, build_same,
    build_flatten;

static const struct field dense_fields[] = {
    F_INT("out", REQUIRED, 1, DIM_MAX, "features it gives"),
    F_BOOL("bias", 0, "add a bias (default true)"),
    FIELD_END,
};
static const struct field conv2d_fields[] = {
    F_INT("out", REQUIRED, 1, DIM_MAX, "channels it gives"),
    F_ANY("kernel", 0, "N or [H, W] (default 3)"),
    F_ANY("stride", 0, "N or [H, W] (default 1)"),
    F_ANY("padding", 0, "same, valid, N or [H, W] (default valid)"),
    F_BOOL("bias", 0, "add a bias (default true)"),
    FIELD_END,
};
static const struct field batch_norm_fields[] = {
    F_REAL("eps", 0, 1e-12, 1, "added to the variance (default 1e-5)"),
    F_REAL("momentum", 0, 0, 1, "share of the new statistics (default 0.1)"),
    FIELD_END,
};
static const struct field pool_fields[] = {
    F_ANY("kernel", 0, "N or [H, W] (default 2)"),
    F_ANY("stride", 0, "N or [H, W] (default: the kernel)"),
    FIELD_END,
};
static const struct field dropout_fields[] = {
    F_REAL("rate", REQUIRED, 0, 0.999, "probability to drop an element"),
    FIELD_END,
};
static const struct field no_fields[] = {FIELD_END};

static const struct {
    const char *name;
    const struct field *fields;
    build_fn *build;
    const char *shorthand; /* {max_pool: 2} stands for {max_pool: {kernel: 2}} */
} kinds[LAYER_KINDS] = {
    [LAYER_DENSE] = {"dense", dense_fields, build_dense, "out"},
    [LAYER_CONV2D] = {"conv2d", conv2d_fields, build_conv2d, "out"},
    [LAYER_BATCH_NORM] = {"batch_norm", batch_norm_fields, build_batch_norm, NULL},
    [LAYER_MAX_POOL] = {"max_pool", pool_fields, build_pool, "kernel"},
    [LAYER_AVG_POOL] = {"avg_pool", pool_fields, build_pool, "kernel"},
    [LAYER_RELU] = {"relu", no_fields, build_same, NULL},
    [LAYER_GELU] = {"gelu", no_fields, build_same, NULL},
    [LAYER_TANH] = {"tanh", no_fields, build_same, NULL},
    [LAYER_SIGMOID] = {"sigmoid", no_fields, build_same, NULL},
    [LAYER_DROPOUT] = {"dropout", dropout_fields, build_dropout, "rate"},
    [LAYER_FLATTEN] = {"flatten", no_fields, build_flatten, NULL},
};

const char *layer_name(enum layer_kind kind) {
    return kind >= 0 && kind < LAYER_KINDS ? kinds[kind].name : "?";
}

/* "file:line:column: model[3] dense: " + text */
static enum status fail(struct parse *p, const char *text) {
    char place[SCHEMA_PLACE_MAX];
    return err_set(p->err, STATUS_INVALID, "%s%s: %s", schema_place(p->file, p->node, place),
                   p->where, text);
}

static int64_t shape_size(const struct shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->count; i++)
        n *= s->dim[i];
    return n;
}

static void shape_text(const struct shape *s, char out[80]) {
    if (s->count == 3)
        snprintf(out, 80, "(%lld, %lld, %lld)", (long long)s->dim[0], (long long)s->dim[1],
                 (long long)s->dim[2]);
    else
        snprintf(out, 80, "(%lld)", (long long)s->dim[0]);
}

static struct shape flat_shape(const struct shape *s) {
    return (struct shape){.count = 1, .dim = {shape_size(s), 1, 1}};
}

/* N or [H, W] in [min, max]; the fallback where the key is missing. */
static enum status read_pair(struct parse *p, const struct value *keys, const char *key,
                             int64_t min, int64_t max, const int64_t fallback[2], int64_t out[2]) {
    const struct value *v = value_get(keys, key);
    if (!v) {
        out[0] = fallback[0];
        out[1] = fallback[1];
        return STATUS_OK;
    }
    bool good = true;
    if (v->kind == VALUE_INT) {
        out[0] = out[1] = v->integer;
    } else if (v->kind == VALUE_LIST && v->count == 2 && v->items[0]->kind == VALUE_INT &&
               v->items[1]->kind == VALUE_INT) {
        out[0] = v->items[0]->integer;
        out[1] = v->items[1]->integer;
    } else {
        good = false;
    }
    if (good && out[0] >= min && out[0] <= max && out[1] >= min && out[1] <= max)
        return STATUS_OK;
    char text[128];
    snprintf(text, sizeof text, "%s must be an integer or two of them, each from %lld to %lld", key,
             (long long)min, (long long)max);
    return fail(p, text);
}

static enum status add_param(struct parse *p, struct layer *layer, const char *name,
                             enum param_kind kind, int dims, const int64_t *dim) {
    struct model *m = p->model;
    struct param *param = &m->params[m->param_count];
    *param = (struct param){.layer = layer->index, .kind = kind, .dims = dims, .count = 1};
    for (int i = 0; i < dims; i++) {
        param->dim[i] = dim[i];
        if (__builtin_mul_overflow(param->count, dim[i], &param->count) || param->count > FLAT_MAX)
            return fail(p, "too many parameters");
    }
    param->name = arena_printf(p->arena, "%d.%s", layer->index, name);
    if (!param->name)
        return err_set(p->err, STATUS_NOMEM, "out of memory for the model");
    param->offset = m->flat_count;
    param->momentum = layer->momentum;
    if (kind != PARAM_STAT)
        m->trainable += param->count;
    m->flat_count += (param->count + MODEL_ALIGN - 1) / MODEL_ALIGN * MODEL_ALIGN;
    if (m->flat_count > FLAT_MAX)
        return fail(p, "too many parameters");
    m->param_count++;
    layer->param_count++;
    return STATUS_OK;
}

static enum status build_dense(struct parse *p, const struct value *keys, struct layer *layer) {
    int64_t in = shape_size(&layer->in), out = value_get_int(keys, "out", 0);
    enum status st = STATUS_OK;
    layer->bias = value_get_bool(keys, "bias", true);
    layer->out = (struct shape){.count = 1, .dim = {out, 1, 1}};
    layer->flops = 2 * in * out;
    TRY(add_param(p, layer, "weight", PARAM_WEIGHT, 2, (int64_t[]){out, in}));
    if (layer->bias)
        TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &out));
out:
    return st;
}

/* The output size of a window, or fail() where nothing is left. */
static enum status slide(struct parse *p, struct layer *layer, int64_t channels) {
    layer->out = (struct shape){.count = 3, .dim = {channels, 0, 0}};
    for (int i = 0; i < 2; i++) {
        int64_t room = layer->in.dim[1 + i] + 2 * layer->padding[i] - layer->kernel[i];
        if (room < 0) {
            char shape[80], text[192];
            shape_text(&layer->in, shape);
            snprintf(
                text, sizeof text,
                "a kernel of %lld by %lld does not fit its input %s: the output would be empty",
                (long long)layer->kernel[0], (long long)layer->kernel[1], shape);
            return fail(p, text);
        }
        layer->out.dim[1 + i] = room / layer->stride[i] + 1;
    }
    return STATUS_OK;
}

static enum status need_image(struct parse *p, const struct layer *layer) {
    if (layer->in.count == 3)
        return STATUS_OK;
    char shape[80], text[160];
    shape_text(&layer->in, shape);
    snprintf(text, sizeof text, "needs an input (channels, height, width), but it gets %s", shape);
    return fail(p, text);
}

static enum status read_padding(struct parse *p, const struct value *keys, struct layer *layer) {
    const struct value *v = value_get(keys, "padding");
    if (!v || v->kind != VALUE_STRING)
        return read_pair(p, keys, "padding", 0, KERNEL_MAX, (int64_t[]){0, 0}, layer->padding);
    if (!strcmp(v->string, "valid"))
        return STATUS_OK;
    if (strcmp(v->string, "same") != 0)
        return fail(p, "padding must be same, valid, an integer or [H, W]");
    if (layer->kernel[0] % 2 == 0 || layer->kernel[1] % 2 == 0)
        return fail(p, "padding same needs an odd kernel");
    layer->padding[0] = layer->kernel[0] / 2;
    layer->padding[1] = layer->kernel[1] / 2;
    return STATUS_OK;
}

static enum status build_conv2d(struct parse *p, const struct value *keys, struct layer *layer) {
    enum status st = STATUS_OK;
    int64_t out = value_get_int(keys, "out", 0);
    TRY(need_image(p, layer));
    layer->bias = value_get_bool(keys, "bias", true);
    TRY(read_pair(p, keys, "kernel", 1, KERNEL_MAX, (int64_t[]){3, 3}, layer->kernel));
    TRY(read_pair(p, keys, "stride", 1, KERNEL_MAX, (int64_t[]){1, 1}, layer->stride));
    TRY(read_padding(p, keys, layer));
    TRY(slide(p, layer, out));
    int64_t dim[4] = {out, layer->in.dim[0], layer->kernel[0], layer->kernel[1]};
    layer->flops = 2 * shape_size(&layer->out) * dim[1] * dim[2] * dim[3];
    TRY(add_param(p, layer, "weight", PARAM_WEIGHT, 4, dim));
    if (layer->bias)
        TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &out));
out:
    return st;
}

static enum status build_batch_norm(struct parse *p, const struct value *keys,
                                    struct layer *layer) {
    enum status st = STATUS_OK;
    int64_t channels = layer->in.dim[0];
    layer->eps = (float)value_get_real(keys, "eps", 1e-5);
    layer->momentum = (float)value_get_real(keys, "momentum", 0.1);
    layer->out = layer->in;
    TRY(add_param(p, layer, "weight", PARAM_PLAIN, 1, &channels));
    TRY(add_param(p, layer, "bias", PARAM_PLAIN, 1, &channels));
    TRY(add_param(p, layer, "running_mean", PARAM_STAT, 1, &channels));
    TRY(add_param(p, layer, "running_var", PARAM_STAT, 1, &channels));
out:
    return st;
}

static enum status build_pool(struct parse *p, const struct value *keys, struct layer *layer) {
    enum status st = STATUS_OK;
    TRY(need_image(p, layer));
    TRY(read_pair(p, keys, "kernel", 1, KERNEL_MAX, (int64_t[]){2, 2}, layer->kernel));
    TRY(read_pair(p, keys, "stride", 1, KERNEL_MAX, layer->kernel, layer->stride));
    TRY(slide(p, layer, layer->in.dim[0]));
out:
    return st;
}

static enum status build_dropout(struct parse *p, const struct value *keys, struct layer *layer) {
    (void)p;
    layer->rate = (float)value_get_real(keys, "rate", 0.0);
    layer->out = layer->in;
    return STATUS_OK;
}

static enum status build_same(struct parse *p, const struct value *keys, struct layer *layer) {
    (void)p, (void)keys;
    layer->out = layer->in;
    return STATUS_OK;
}

static enum status build_flatten(struct parse *p, const struct value *keys, struct layer *layer) {
    (void)p, (void)keys;
    layer->out = flat_shape(&layer->in);
    return STATUS_OK;
}

/* A word ("relu"), or a map of one key whose value is a map, nothing, or the shorthand's value. */
static enum status read_kind(struct parse *p, enum layer_kind *kind, const struct value **keys) {
    const struct value *node = p->node, *inner = NULL;
    const char *word = NULL;
    if (node->kind == VALUE_STRING) {
        word = node->string;
    } else if (node->kind == VALUE_MAP && node->count == 1) {
        word = node->members[0].key;
        inner = node->members[0].value;
    } else {
        return fail(p,
                    "must be a word such as relu, or a map of one key such as {dense: {out: 10}}");
    }
    for (int k = 0; k < LAYER_KINDS; k++) {
        if (strcmp(kinds[k].name, word) != 0)
            continue;
        snprintf(p->where, sizeof p->where, "model[%d] %s", p->model->layer_count, word);
        *kind = (enum layer_kind)k;
        struct value *map = value_map(p->arena);
        if (inner && inner->kind != VALUE_MAP && inner->kind != VALUE_NULL) {
            if (!kinds[k].shorthand)
                return fail(p, "takes a map of its keys, or stands alone");
            value_set(p->arena, map, kinds[k].shorthand, value_copy(p->arena, inner));
        } else if (inner && inner->kind == VALUE_MAP) {
            *keys = inner;
            return STATUS_OK;
        }
        if (!map || map->broken)
            return err_set(p->err, STATUS_NOMEM, "out of memory for the model");
        *keys = map;
        return STATUS_OK;
    }
    char near[64], text[200];
    if (schema_nearest(NAMES, word, near))
        snprintf(text, sizeof text, "unknown layer '%.60s'; nearest known layer is '%s'", word,
                 near);
    else
        snprintf(text, sizeof text, "unknown layer '%.60s'; known are %s", word, NAMES);
    return fail(p, text);
}

static enum status parse_layer(struct parse *p, int index, struct shape in) {
    enum status st = STATUS_OK;
    enum layer_kind kind = LAYER_FLATTEN;
    const struct value *keys = NULL;
    struct layer *layer = &p->model->layers[index];
    snprintf(p->where, sizeof p->where, "model[%d]", index);
    TRY(read_kind(p, &kind, &keys));
    TRY(schema_check(kinds[kind].fields, keys, p->file, p->where, p->err));
    *layer = (struct layer){.kind = kind,
                            .index = index,
                            .in = in,
                            .kernel = {1, 1},
                            .stride = {1, 1},
                            .param_first = p->model->param_count};
    TRY(kinds[kind].build(p, keys, layer));
    if (shape_size(&layer->out) > FLAT_MAX / 4)
        TRY(fail(p, "the output is too large"));
out:
    return st;
}

enum status model_parse(struct arena *a, const struct value *layers, struct shape in,
                        const char *file, struct model **out, struct err *err) {
    enum status st = STATUS_OK;
    struct parse p = {.arena = a, .file = file, .err = err, .node = layers};
    snprintf(p.where, sizeof p.where, "model");
    if (!layers || layers->kind != VALUE_LIST || layers->count == 0)
        return fail(&p, "must be a list of at least one layer");
    if (layers->count > MODEL_LAYERS_MAX)
        return fail(&p, "too many layers; at most 256");
    if ((in.count != 1 && in.count != 3) || in.dim[0] < 1 || in.dim[0] > FLAT_MAX / 4 ||
        (in.count == 3 && (in.dim[0] > DIM_MAX || in.dim[1] < 1 || in.dim[1] > DIM_MAX / 64 ||
                           in.dim[2] < 1 || in.dim[2] > DIM_MAX / 64)))
        return fail(&p, "the input's shape has a zero or an immense dimension");

    struct model *m = arena_take(a, sizeof *m);
    if (!m)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    p.model = m;
    m->in = in;
    m->layers = arena_array(a, layers->count, sizeof *m->layers);
    m->params = arena_array(a, layers->count * 4, sizeof *m->params);
    if (!m->layers || !m->params)
        return err_set(err, STATUS_NOMEM, "out of memory for the model");
    struct shape shape = in;
    for (size_t i = 0; i < layers->count; i++) {
        p.node = layers->items[i];
        TRY(parse_layer(&p, (int)i, shape));
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
