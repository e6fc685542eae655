/* One sample through a trained model, in double. */
#include "serving/export/forward.h"

#include <math.h>
#include <string.h>

/* A layer at work: its parameters, what it reads and what it writes. */
struct step {
    const struct layer *l;
    const struct tensor *params[4]; /* in the model's order */
    const double *in;
    double *out;
};

/* Tensors lie in a file's bytes, at any address. */
static double at(const struct tensor *t, int64_t i) {
    float f;
    memcpy(&f, (const char *)t->data + (size_t)i * sizeof f, sizeof f);
    return (double)f;
}

static bool has_bias(const struct step *s) {
    return s->params[1] != NULL;
}

/* ---- layers ---- */

static void dense(const struct step *s) {
    int64_t in = shape_size(&s->l->in), out = shape_size(&s->l->out);
    for (int64_t o = 0; o < out; o++) {
        double sum = has_bias(s) ? at(s->params[1], o) : 0;
        for (int64_t i = 0; i < in; i++)
            sum += at(s->params[0], o * in + i) * s->in[i];
        s->out[o] = sum;
    }
}

/* Where a window lies over one channel of an image. */
struct window {
    int64_t y, x; /* of its first cell; may be outside, in the padding */
};

static double window_product(const struct step *s, int64_t channel, struct window w) {
    const struct layer *l = s->l;
    int64_t height = l->in.dim[1], width = l->in.dim[2], cells = l->kernel[0] * l->kernel[1];
    double sum = 0;
    for (int64_t c = 0; c < l->in.dim[0]; c++)
        for (int64_t k = 0; k < cells; k++) {
            int64_t y = w.y + k / l->kernel[1], x = w.x + k % l->kernel[1];
            if (y < 0 || y >= height || x < 0 || x >= width)
                continue;
            sum += at(s->params[0], (channel * l->in.dim[0] + c) * cells + k) *
                   s->in[(c * height + y) * width + x];
        }
    return sum;
}

static double window_pool(const struct step *s, int64_t channel, struct window w) {
    const struct layer *l = s->l;
    int64_t height = l->in.dim[1], width = l->in.dim[2], cells = l->kernel[0] * l->kernel[1];
    bool max = l->kind == LAYER_MAX_POOL;
    double folded = max ? (double)-INFINITY : 0;
    for (int64_t k = 0; k < cells; k++) {
        int64_t y = w.y + k / l->kernel[1], x = w.x + k % l->kernel[1];
        double v = s->in[(channel * height + y) * width + x];
        folded = !max ? folded + v : v > folded ? v : folded;
    }
    return max ? folded : folded / (double)cells;
}

typedef double window_fn(const struct step *s, int64_t channel, struct window w);

static void slide(const struct step *s, window_fn *fold) {
    const struct layer *l = s->l;
    double *out = s->out;
    for (int64_t c = 0; c < l->out.dim[0]; c++)
        for (int64_t y = 0; y < l->out.dim[1]; y++)
            for (int64_t x = 0; x < l->out.dim[2]; x++)
                *out++ = fold(s, c,
                              (struct window){y * l->stride[0] - l->padding[0],
                                              x * l->stride[1] - l->padding[1]});
}

static void conv2d(const struct step *s) {
    int64_t pixels = shape_pixels(&s->l->out), n = shape_size(&s->l->out);
    slide(s, window_product);
    for (int64_t i = 0; has_bias(s) && i < n; i++)
        s->out[i] += at(s->params[1], i / pixels);
}

static void pool(const struct step *s) {
    slide(s, window_pool);
}

/* weight, bias, running_mean, running_var */
static void batch_norm(const struct step *s) {
    int64_t pixels = shape_pixels(&s->l->in), n = shape_size(&s->l->in);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = i / pixels;
        double deviation = sqrt(at(s->params[3], c) + (double)s->l->eps);
        s->out[i] = (s->in[i] - at(s->params[2], c)) / deviation * at(s->params[0], c) +
                    at(s->params[1], c);
    }
}

static double apply(enum layer_kind kind, double v) {
    return kind == LAYER_RELU      ? (v < 0 ? 0 : v) /* NaN stays */
           : kind == LAYER_GELU    ? v * 0.5 * (1 + erf(v * M_SQRT1_2))
           : kind == LAYER_TANH    ? tanh(v)
           : kind == LAYER_SIGMOID ? 1 / (1 + exp(-v))
                                   : v; /* dropout, flatten */
}

static void pointwise(const struct step *s) {
    int64_t n = shape_size(&s->l->in);
    for (int64_t i = 0; i < n; i++)
        s->out[i] = apply(s->l->kind, s->in[i]);
}

/* A kind that is not here has no example. */
static void (*const layers[LAYER_KINDS])(const struct step *s) = {
    [LAYER_DENSE] = dense,       [LAYER_CONV2D] = conv2d,     [LAYER_BATCH_NORM] = batch_norm,
    [LAYER_MAX_POOL] = pool,     [LAYER_AVG_POOL] = pool,     [LAYER_RELU] = pointwise,
    [LAYER_GELU] = pointwise,    [LAYER_TANH] = pointwise,    [LAYER_SIGMOID] = pointwise,
    [LAYER_DROPOUT] = pointwise, [LAYER_FLATTEN] = pointwise,
};

/* ---- transforms ---- */

/* A number, or one a feature. */
static bool number_at(const struct value *v, size_t i, double *out) {
    if (v != NULL && v->kind == VALUE_LIST)
        v = i < v->count ? v->items[i] : NULL;
    if (v == NULL || (v->kind != VALUE_REAL && v->kind != VALUE_INT))
        return false;
    *out = v->kind == VALUE_REAL ? v->real : (double)v->integer;
    return true;
}

static bool transform(const struct value *t, size_t count, double *x) {
    const char *key = t->kind == VALUE_MAP && t->count == 1 ? t->members[0].key : "";
    const struct value *v = t->kind == VALUE_MAP && t->count == 1 ? t->members[0].value : NULL;
    for (size_t i = 0; i < count; i++) {
        double a = 0, b = 1;
        if (strcmp(key, "scale") == 0 && number_at(v, i, &a))
            x[i] *= a;
        else if (strcmp(key, "shift") == 0 && number_at(v, i, &a))
            x[i] += a;
        else if (strcmp(key, "normalize") == 0 && number_at(value_get(v, "mean"), i, &a) &&
                 number_at(value_get(v, "std"), i, &b))
            x[i] = (x[i] - a) / b;
        else
            return false;
    }
    return true;
}

/* ---- all together ---- */

static enum status find_params(const struct forward *f, struct step *s, struct err *err) {
    for (int i = 0; i < s->l->param_count && i < 4; i++) {
        const struct param *p = &f->model->params[s->l->param_first + i];
        const struct tensor *t = safetensors_find(f->tensors->list, f->tensors->count, p->name);
        if (t == NULL || t->dtype != TENSOR_F32 || t->bytes / sizeof(float) != (size_t)p->count)
            return err_set(err, STATUS_INVALID, "tensor %s is missing or of another shape",
                           p->name);
        s->params[i] = t;
    }
    return STATUS_OK;
}

static enum status measure(const struct model *m, int64_t *widest, struct err *err) {
    int64_t flops = 0;
    *widest = shape_size(&m->in);
    for (int i = 0; i < m->layer_count; i++) {
        const struct layer *l = &m->layers[i];
        int64_t n = shape_size(&l->out);
        flops += l->flops;
        *widest = n > *widest ? n : *widest;
        if (layers[l->kind] == NULL)
            return err_set(err, STATUS_INVALID, "layer %d (%s) cannot be computed here", l->index,
                           spec_layer_name(l->kind));
    }
    if (flops > FORWARD_FLOPS_MAX)
        return err_set(err, STATUS_TOO_LARGE, "a sample takes %lld operations, over %lld",
                       (long long)flops, (long long)FORWARD_FLOPS_MAX);
    return STATUS_OK;
}

enum status forward_run(struct arena *a, const struct forward *f, const double *raw, double **out,
                        struct err *err) {
    const struct model *m = f->model;
    int64_t widest = 0;
    enum status st;
    TRY(measure(m, &widest, err));
    double *from = arena_array(a, (size_t)widest, sizeof *from);
    double *to = arena_array(a, (size_t)widest, sizeof *to);
    if (from == NULL || to == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    size_t features = (size_t)shape_size(&m->in);
    memcpy(from, raw, features * sizeof *from);
    for (size_t i = 0; f->transforms != NULL && i < f->transforms->count; i++)
        if (!transform(f->transforms->items[i], features, from))
            return err_set(err, STATUS_INVALID, "transforms[%zu] cannot be computed here", i);
    for (int i = 0; i < m->layer_count; i++) {
        struct step s = {.l = &m->layers[i], .in = from, .out = to};
        TRY(find_params(f, &s, err));
        layers[s.l->kind](&s);
        double *swap = from;
        from = to;
        to = swap;
    }
    *out = from;
out:
    return st;
}
