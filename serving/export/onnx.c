/* A trained model as an ONNX graph. */
#include "serving/export/onnx.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/version.h"
#include "serving/export/pb.h"

/* Field numbers of onnx.proto3 (github.com/onnx/onnx, IR version 8). */
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER_NAME = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_GRAPH = 7,
    MODEL_OPSET_IMPORT = 8,
    MODEL_METADATA_PROPS = 14,
    OPSET_DOMAIN = 1,
    OPSET_VERSION = 2,
    PROP_KEY = 1,
    PROP_VALUE = 2,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP_TYPE = 4,
    NODE_ATTRIBUTE = 5,
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F = 2,
    ATTRIBUTE_I = 3,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_DATA_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW_DATA = 9,
    INFO_NAME = 1,
    INFO_TYPE = 2,
    TYPE_TENSOR = 1,
    TYPE_ELEM = 1,
    TYPE_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_PARAM = 2,
};
enum { KIND_FLOAT = 1, KIND_INT = 2, KIND_INTS = 7, ELEM_FLOAT = 1, ELEM_DOUBLE = 11 };

#define NAME_MAX_BYTES (TENSOR_NAME_MAX + 24)
#define SLACK          ((size_t)1 << 20) /* room for everything but the weights */

/* The graph as it grows: `value` names what the next node reads. */
struct graph {
    const struct onnx_model *m;
    struct buf *out;
    struct err *err;
    char value[NAME_MAX_BYTES];
    char final[32]; /* what the last layer's output is called */
};

/* ---- small parts ---- */

static void attribute_int(struct buf *out, const char *name, int64_t v) {
    size_t at = pb_begin(out, NODE_ATTRIBUTE);
    pb_string(out, ATTRIBUTE_NAME, name);
    pb_uint(out, ATTRIBUTE_I, (uint64_t)v);
    pb_uint(out, ATTRIBUTE_TYPE, KIND_INT);
    pb_end(out, at);
}

static void attribute_float(struct buf *out, const char *name, float v) {
    size_t at = pb_begin(out, NODE_ATTRIBUTE);
    pb_string(out, ATTRIBUTE_NAME, name);
    pb_float(out, ATTRIBUTE_F, v);
    pb_uint(out, ATTRIBUTE_TYPE, KIND_FLOAT);
    pb_end(out, at);
}

static void attribute_ints(struct buf *out, const char *name, const int64_t *v, int count) {
    size_t at = pb_begin(out, NODE_ATTRIBUTE);
    pb_string(out, ATTRIBUTE_NAME, name);
    for (int i = 0; i < count; i++)
        pb_uint(out, ATTRIBUTE_INTS, (uint64_t)v[i]);
    pb_uint(out, ATTRIBUTE_TYPE, KIND_INTS);
    pb_end(out, at);
}

static void initializer(struct buf *out, const char *name, const int64_t *dim, int dims,
                        const void *data, size_t bytes) {
    size_t at = pb_begin(out, GRAPH_INITIALIZER);
    for (int i = 0; i < dims; i++)
        pb_uint(out, TENSOR_DIMS, (uint64_t)dim[i]);
    pb_uint(out, TENSOR_DATA_TYPE, ELEM_FLOAT);
    pb_string(out, TENSOR_NAME, name);
    pb_bytes(out, TENSOR_RAW_DATA, data, bytes);
    pb_end(out, at);
}

static void value_info(struct buf *out, int field, const char *name, const struct shape *shape,
                       uint64_t elem) {
    size_t info = pb_begin(out, field);
    pb_string(out, INFO_NAME, name);
    size_t type = pb_begin(out, INFO_TYPE), tensor = pb_begin(out, TYPE_TENSOR);
    pb_uint(out, TYPE_ELEM, elem);
    size_t dims = pb_begin(out, TYPE_SHAPE), dim = pb_begin(out, SHAPE_DIM);
    pb_string(out, DIM_PARAM, "N");
    pb_end(out, dim);
    for (int i = 0; i < shape->rank; i++) {
        dim = pb_begin(out, SHAPE_DIM);
        pb_uint(out, DIM_VALUE, (uint64_t)shape->dim[i]);
        pb_end(out, dim);
    }
    pb_end(out, dims);
    pb_end(out, tensor);
    pb_end(out, type);
    pb_end(out, info);
}

/* Opens a node that reads g->value and up to two constants (NULL: none) and writes `output`, which
 * becomes g->value. The caller adds attributes and ends it with pb_end. */
static size_t node(struct graph *g, const char *op, const char *second, const char *third,
                   const char *output) {
    size_t at = pb_begin(g->out, GRAPH_NODE);
    pb_string(g->out, NODE_INPUT, g->value);
    if (second != NULL)
        pb_string(g->out, NODE_INPUT, second);
    if (third != NULL)
        pb_string(g->out, NODE_INPUT, third);
    pb_string(g->out, NODE_OUTPUT, output);
    pb_string(g->out, NODE_NAME, output);
    pb_string(g->out, NODE_OP_TYPE, op);
    (void)snprintf(g->value, sizeof g->value, "%s", output);
    return at;
}

static void plain_node(struct graph *g, const char *op, const char *second, const char *output) {
    pb_end(g->out, node(g, op, second, NULL, output));
}

/* ---- transforms ---- */

/* In the type of the input. */
static void add_number(struct graph *g, double d) {
    float f = (float)d;
    uint32_t bits;
    uint64_t wide;
    memcpy(&bits, &f, sizeof bits);
    memcpy(&wide, &d, sizeof wide);
    if (g->m->wide)
        buf_add_u64(g->out, wide);
    else
        buf_add_u32(g->out, bits);
}

/* A constant: one number for all, or one a feature in the shape of a sample with a batch of 1. */
static enum status constant(struct graph *g, const char *name, const struct value *v) {
    const struct shape *in = &g->m->model->in;
    int64_t features = 1, dim[4] = {1};
    for (int i = 0; i < in->rank; i++) {
        dim[i + 1] = in->dim[i];
        features *= in->dim[i];
    }
    bool list = v != NULL && v->kind == VALUE_LIST;
    if (v == NULL || (list && (int64_t)v->count != features))
        return err_set(g->err, STATUS_INVALID, "transform %s: a number or %lld numbers are needed",
                       name, (long long)features);
    size_t at = pb_begin(g->out, GRAPH_INITIALIZER);
    for (int i = 0; list && i <= in->rank; i++)
        pb_uint(g->out, TENSOR_DIMS, (uint64_t)dim[i]);
    pb_uint(g->out, TENSOR_DATA_TYPE, g->m->wide ? ELEM_DOUBLE : ELEM_FLOAT);
    pb_string(g->out, TENSOR_NAME, name);
    size_t raw = pb_begin(g->out, TENSOR_RAW_DATA);
    for (int64_t i = 0; i < (list ? features : 1); i++) {
        const struct value *item = list ? v->items[i] : v;
        double d = item->kind == VALUE_REAL  ? item->real
                   : item->kind == VALUE_INT ? (double)item->integer
                                             : (double)NAN;
        if (!isfinite((float)d))
            return err_set(g->err, STATUS_INVALID, "transform %s: a finite number is needed", name);
        add_number(g, d);
    }
    pb_end(g->out, raw);
    pb_end(g->out, at);
    return STATUS_OK;
}

/* A number, or the f-th of a list of one a feature. */
static double number_of(const struct value *v, int64_t f, double absent) {
    if (v != NULL && v->kind == VALUE_LIST)
        v = f < (int64_t)v->count ? v->items[f] : NULL;
    return v == NULL               ? absent
           : v->kind == VALUE_REAL ? v->real
           : v->kind == VALUE_INT  ? (double)v->integer
                                   : absent;
}

static enum status arithmetic(struct graph *g, size_t i, const char *op, const char *word,
                              const struct value *v) {
    char name[64], output[64];
    (void)snprintf(name, sizeof name, "transform%zu.%s", i, word);
    (void)snprintf(output, sizeof output, "transform%zu.%s.out", i, word);
    enum status st = constant(g, name, v);
    if (st == STATUS_OK)
        plain_node(g, op, name, output);
    return st;
}

static enum status write_transforms(struct graph *g) {
    const struct value *list = g->m->transforms;
    enum status st = STATUS_OK;
    for (size_t i = 0; list != NULL && list->kind == VALUE_LIST && i < list->count; i++) {
        const struct value *m = list->items[i];
        const char *key = m->kind == VALUE_MAP && m->count == 1 ? m->members[0].key : "";
        const struct value *v = m->kind == VALUE_MAP && m->count == 1 ? m->members[0].value : NULL;
        if (strcmp(key, "scale") == 0) {
            TRY(arithmetic(g, i, "Mul", key, v));
        } else if (strcmp(key, "shift") == 0) {
            TRY(arithmetic(g, i, "Add", key, v));
        } else if (strcmp(key, "normalize") == 0) {
            TRY(arithmetic(g, i, "Sub", "mean", value_get(v, "mean")));
            TRY(arithmetic(g, i, "Div", "std", value_get(v, "std")));
        } else {
            st = err_set(g->err, STATUS_INVALID, "transforms[%zu] cannot be exported", i);
            goto out;
        }
    }
    if (g->m->wide) {
        size_t cast = node(g, "Cast", NULL, NULL, "input.cast");
        attribute_int(g->out, "to", ELEM_FLOAT);
        pb_end(g->out, cast);
    }
out:
    return st;
}

bool onnx_needs_double(const struct model *model, const struct value *transforms) {
    const double worst = 1e-3, half_ulp = ldexp(1, -24);
    bool list = transforms != NULL && transforms->kind == VALUE_LIST;
    for (int64_t f = 0; list && f < shape_size(&model->in); f++) {
        double c = 0; /* what 0 becomes: the transformed distance of the data from it */
        for (size_t i = 0; i < transforms->count; i++) {
            const struct value *t = transforms->items[i], *n = value_get(t, "normalize");
            double std = number_of(value_get(n, "std"), f, 1);
            c = (c * number_of(value_get(t, "scale"), f, 1) +
                 number_of(value_get(t, "shift"), f, 0) - number_of(value_get(n, "mean"), f, 0)) /
                (std != 0 ? std : 1);
        }
        if (fabs(c) * half_ulp > worst)
            return true;
    }
    return false;
}

/* ---- layers ---- */

static enum status write_weights(struct graph *g) {
    const struct model *model = g->m->model;
    size_t total = 0;
    for (int i = 0; i < model->param_count; i++) {
        const struct param *p = &model->params[i];
        const struct tensor *t = safetensors_find(g->m->tensors, g->m->tensor_count, p->name);
        if (t == NULL)
            return err_set(g->err, STATUS_INVALID, "the weights have no tensor %s", p->name);
        if (t->dtype != TENSOR_F32 || t->dims != p->dims ||
            memcmp(t->dim, p->dim, (size_t)p->dims * sizeof p->dim[0]) != 0)
            return err_set(g->err, STATUS_INVALID,
                           "tensor %s of the weights differs in type or shape from the model's",
                           p->name);
        total += t->bytes;
        if (total > ONNX_BYTES_MAX - SLACK)
            return err_set(g->err, STATUS_TOO_LARGE,
                           "the weights are over 2 GB, more than one ONNX file can hold; "
                           "export them with --format safetensors");
        initializer(g->out, p->name, t->dim, t->dims, t->data, t->bytes);
    }
    return STATUS_OK;
}

static void window(struct graph *g, const struct layer *l, bool pads) {
    attribute_ints(g->out, "kernel_shape", l->kernel, 2);
    attribute_ints(g->out, "strides", l->stride, 2);
    if (pads)
        attribute_ints(g->out, "pads",
                       (int64_t[]){l->padding[0], l->padding[1], l->padding[0], l->padding[1]}, 4);
}

/* x · (1 + erf(x / √2)) / 2 */
static void gelu(struct graph *g, const char *prefix, const char *output) {
    char x[NAME_MAX_BYTES], c[3][64], v[3][64];
    static const char *const words[] = {"root", "one", "half"};
    static const float numbers[] = {0.70710678118654752F, 1.0F, 0.5F};
    (void)snprintf(x, sizeof x, "%s", g->value);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(c[i], sizeof c[i], "%s.%s", prefix, words[i]);
        (void)snprintf(v[i], sizeof v[i], "%s.%s.out", prefix, words[i]);
        initializer(g->out, c[i], NULL, 0, &numbers[i], sizeof numbers[i]);
    }
    char erf[64], product[64];
    (void)snprintf(erf, sizeof erf, "%s.erf.out", prefix);
    (void)snprintf(product, sizeof product, "%s.product.out", prefix);
    plain_node(g, "Mul", c[0], v[0]);
    plain_node(g, "Erf", NULL, erf);
    plain_node(g, "Add", c[1], v[1]);
    plain_node(g, "Mul", x, product);
    plain_node(g, "Mul", c[2], output);
}

static const char *name_of(const struct graph *g, const struct layer *l, int which) {
    return which < l->param_count ? g->m->model->params[l->param_first + which].name : NULL;
}

static void flatten(struct graph *g, const char *output) {
    size_t at = node(g, "Flatten", NULL, NULL, output);
    attribute_int(g->out, "axis", 1);
    pb_end(g->out, at);
}

static void dense(struct graph *g, const struct layer *l, const char *prefix, const char *output) {
    char flat[64];
    (void)snprintf(flat, sizeof flat, "%s.flat", prefix);
    if (l->in.rank == 3)
        flatten(g, flat);
    size_t at = node(g, "Gemm", name_of(g, l, 0), name_of(g, l, 1), output);
    attribute_int(g->out, "transB", 1);
    pb_end(g->out, at);
}

static void batch_norm(struct graph *g, const struct layer *l, const char *output) {
    size_t at = pb_begin(g->out, GRAPH_NODE);
    pb_string(g->out, NODE_INPUT, g->value);
    for (int i = 0; i < l->param_count; i++) /* weight, bias, running_mean, running_var */
        pb_string(g->out, NODE_INPUT, name_of(g, l, i));
    pb_string(g->out, NODE_OUTPUT, output);
    pb_string(g->out, NODE_NAME, output);
    pb_string(g->out, NODE_OP_TYPE, "BatchNormalization");
    attribute_float(g->out, "epsilon", l->eps);
    pb_end(g->out, at);
    (void)snprintf(g->value, sizeof g->value, "%s", output);
}

/* Whether the layer is a node at all. */
static bool leaves_a_node(const struct layer *l) {
    return l->kind != LAYER_DROPOUT && !(l->kind == LAYER_FLATTEN && l->in.rank == 1);
}

static void write_layer(struct graph *g, const struct layer *l, const char *output) {
    char prefix[32];
    size_t at;
    (void)snprintf(prefix, sizeof prefix, "%d", l->index);
    switch (l->kind) {
    case LAYER_DENSE:
        dense(g, l, prefix, output);
        break;
    case LAYER_CONV2D:
        at = node(g, "Conv", name_of(g, l, 0), name_of(g, l, 1), output);
        window(g, l, true);
        pb_end(g->out, at);
        break;
    case LAYER_BATCH_NORM:
        batch_norm(g, l, output);
        break;
    case LAYER_MAX_POOL:
    case LAYER_AVG_POOL:
        at = node(g, l->kind == LAYER_MAX_POOL ? "MaxPool" : "AveragePool", NULL, NULL, output);
        window(g, l, false);
        pb_end(g->out, at);
        break;
    case LAYER_RELU:
        plain_node(g, "Relu", NULL, output);
        break;
    case LAYER_GELU:
        gelu(g, prefix, output);
        break;
    case LAYER_TANH:
        plain_node(g, "Tanh", NULL, output);
        break;
    case LAYER_SIGMOID:
        plain_node(g, "Sigmoid", NULL, output);
        break;
    case LAYER_FLATTEN:
        flatten(g, output);
        break;
    case LAYER_DROPOUT: /* of training only */
    case LAYER_KINDS:
        break;
    }
}

static void write_layers(struct graph *g) {
    const struct model *model = g->m->model;
    int last = -1;
    for (int i = 0; i < model->layer_count; i++)
        if (leaves_a_node(&model->layers[i]))
            last = i;
    for (int i = 0; i <= last; i++) {
        char output[32];
        (void)snprintf(output, sizeof output, "%d.out", model->layers[i].index);
        if (leaves_a_node(&model->layers[i]))
            write_layer(g, &model->layers[i], i == last ? g->final : output);
    }
    if (last < 0)
        plain_node(g, "Identity", NULL, g->final);
}

/* ---- the file ---- */

static enum status write_graph(struct graph *g) {
    const struct model *model = g->m->model;
    size_t at = pb_begin(g->out, MODEL_GRAPH);
    pb_string(g->out, GRAPH_NAME, g->m->name);
    enum status st;
    TRY(write_transforms(g));
    write_layers(g);
    if (g->m->classify) {
        size_t softmax = node(g, "Softmax", NULL, NULL, "probabilities");
        attribute_int(g->out, "axis", -1);
        pb_end(g->out, softmax);
    }
    TRY(write_weights(g));
    value_info(g->out, GRAPH_INPUT, "input", &model->in, g->m->wide ? ELEM_DOUBLE : ELEM_FLOAT);
    value_info(g->out, GRAPH_OUTPUT, g->final, &model->out, ELEM_FLOAT);
    if (g->m->classify)
        value_info(g->out, GRAPH_OUTPUT, "probabilities", &model->out, ELEM_FLOAT);
    pb_end(g->out, at);
out:
    return st;
}

static const char *final_name(bool classify) {
    return classify ? "logits" : "prediction";
}

enum status onnx_write(const struct onnx_model *m, struct buf *out, struct err *err) {
    struct graph g = {.m = m, .out = out, .err = err, .value = "input"};
    (void)snprintf(g.final, sizeof g.final, "%s", final_name(m->classify));
    pb_uint(out, MODEL_IR_VERSION, ONNX_IR);
    pb_string(out, MODEL_PRODUCER_NAME, "trireme");
    pb_string(out, MODEL_PRODUCER_VERSION, TRIREME_VERSION);
    size_t at = pb_begin(out, MODEL_OPSET_IMPORT);
    pb_string(out, OPSET_DOMAIN, "");
    pb_uint(out, OPSET_VERSION, ONNX_OPSET);
    pb_end(out, at);
    for (size_t i = 0; m->properties != NULL && i < m->properties->count; i++) {
        at = pb_begin(out, MODEL_METADATA_PROPS);
        pb_string(out, PROP_KEY, m->properties->members[i].key);
        pb_string(out, PROP_VALUE, m->properties->members[i].value->string);
        pb_end(out, at);
    }
    enum status st = write_graph(&g);
    return st == STATUS_OK ? buf_status(out, "ONNX file", err) : st;
}

static struct value *port(struct arena *a, const char *name, const char *dtype,
                          const struct shape *shape) {
    struct value *m = value_map(a), *dims = value_list(a);
    value_push(a, dims, value_string(a, "N"));
    for (int i = 0; i < shape->rank; i++)
        value_push(a, dims, value_int(a, shape->dim[i]));
    value_set_string(a, m, "name", name);
    value_set_string(a, m, "dtype", dtype);
    return value_set(a, m, "shape", dims);
}

struct value *onnx_signature(struct arena *a, const struct onnx_model *m) {
    struct value *v = value_map(a), *in = value_list(a), *out = value_list(a);
    value_push(a, in, port(a, "input", m->wide ? "float64" : "float32", &m->model->in));
    value_push(a, out, port(a, final_name(m->classify), "float32", &m->model->out));
    if (m->classify)
        value_push(a, out, port(a, "probabilities", "float32", &m->model->out));
    value_set(a, v, "inputs", in);
    return value_set(a, v, "outputs", out);
}
