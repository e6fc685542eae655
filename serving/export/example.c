/* A row that shows how an input is made, with the model's own answer. */
#include "serving/export/example.h"

#include <math.h>
#include <string.h>

#include "serving/export/forward.h"

/* ---- the row ---- */

/* The mean that the data was centred by, where that comes first: a value in the middle of the column. */
static double middle(const struct handoff *h, size_t feature) {
    const struct value *first =
        h->transforms != NULL && h->transforms->kind == VALUE_LIST && h->transforms->count > 0
            ? h->transforms->items[0]
            : NULL;
    const struct value *mean = value_get(value_get(first, "normalize"), "mean");
    if (mean != NULL && mean->kind == VALUE_LIST)
        mean = feature < mean->count ? mean->items[feature] : NULL;
    double v = mean == NULL               ? 1
               : mean->kind == VALUE_REAL ? mean->real
               : mean->kind == VALUE_INT  ? (double)mean->integer
                                          : 1;
    return h->wide ? v : (double)(float)v; /* as the input holds it */
}

/* The features as the columns fill them. */
struct sample {
    double *raw;
    size_t count;
    struct value *row; /* by name; NULL: the columns are unknown */
};

/* Which of the words; the first where the example is none of them. */
static size_t place_of(const struct value *words, const struct value *example) {
    for (size_t i = 0; example != NULL && i < words->count; i++)
        if (value_equal(words->items[i], example))
            return i;
    return 0;
}

/* Columns of pixels and of numbers go on over `count` features; words are one of `count`. */
static void fill_column(struct handoff *h, struct sample *s, const struct value *column) {
    struct arena *a = &h->arena;
    const char *name = value_get_string(column, "name", NULL);
    const char *kind = value_get_string(column, "kind", "");
    int64_t first = value_get_int(column, "first", -1), count = value_get_int(column, "count", 1);
    if (name == NULL || first < 0 || count < 1 || (size_t)first >= s->count ||
        (size_t)count > s->count - (size_t)first)
        return;
    const struct value *words = value_get(column, "words"), *said = value_get(column, "example");
    if (strcmp(kind, "words") == 0 && words != NULL && words->kind == VALUE_LIST &&
        words->count > 0) {
        size_t word = place_of(words, said);
        for (int64_t i = 0; i < count; i++)
            s->raw[first + i] = i == (int64_t)word ? 1 : 0;
        value_set(a, s->row, name, value_copy(a, words->items[word]));
    } else if (strcmp(kind, "pixels") == 0) {
        for (int64_t i = 0; i < count; i++)
            s->raw[first + i] = (double)(i * 37 % 256);
    } else if (count == 1) {
        double v = value_get_real(column, "example", s->raw[first]);
        s->raw[first] = h->wide ? v : (double)(float)v;
        value_set_real(a, s->row, name, s->raw[first]);
    }
}

static enum status make_sample(struct handoff *h, struct sample *s, struct err *err) {
    s->count = (size_t)shape_size(&h->model->in);
    s->raw = arena_array(&h->arena, s->count, sizeof *s->raw);
    if (s->raw == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    for (size_t i = 0; i < s->count; i++)
        s->raw[i] = middle(h, i);
    if (h->inputs->kind != VALUE_LIST)
        return STATUS_OK;
    s->row = value_map(&h->arena);
    for (size_t i = 0; i < h->inputs->count; i++)
        fill_column(h, s, h->inputs->items[i]);
    return STATUS_OK;
}

/* ---- question and answer ---- */

static struct value *request_of(struct handoff *h, const struct sample *s) {
    struct arena *a = &h->arena;
    struct value *request = value_map(a), *inputs = value_list(a), *input = value_map(a);
    struct value *shape = value_list(a), *data = value_list(a);
    value_push(a, shape, value_int(a, 1));
    for (int i = 0; i < h->model->in.rank; i++)
        value_push(a, shape, value_int(a, h->model->in.dim[i]));
    for (size_t i = 0; i < s->count; i++)
        value_push(a, data, value_real(a, s->raw[i]));
    value_set_string(a, input, "name", "input");
    value_set_string(a, input, "datatype", h->wide ? "FP64" : "FP32");
    value_set(a, input, "shape", shape);
    value_set(a, input, "data", data);
    value_push(a, inputs, input);
    return value_set(a, request, "inputs", inputs);
}

static struct value *numbers(struct arena *a, const double *v, size_t count) {
    struct value *list = value_list(a);
    for (size_t i = 0; i < count; i++)
        value_push(a, list, isfinite(v[i]) ? value_real(a, v[i]) : value_null(a));
    return list;
}

static struct value *answer_of(struct handoff *h, double *out, size_t count) {
    struct arena *a = &h->arena;
    struct value *answer = value_map(a);
    if (!h->classify)
        return value_set(a, answer, "prediction", numbers(a, out, count));
    size_t best = 0;
    double sum = 0;
    value_set(a, answer, "logits", numbers(a, out, count));
    for (size_t i = 1; i < count; i++)
        best = out[i] > out[best] ? i : best;
    double highest = out[best];
    for (size_t i = 0; i < count; i++)
        sum += out[i] = exp(out[i] - highest);
    for (size_t i = 0; i < count; i++)
        out[i] /= sum;
    value_set(a, answer, "probabilities", numbers(a, out, count));
    value_set_int(a, answer, "class", (int64_t)best);
    const struct value *names = value_get(h->outputs, "classes");
    if (names != NULL && names->kind == VALUE_LIST && best < names->count)
        value_set(a, answer, "name", value_copy(a, names->items[best]));
    return answer;
}

enum status example_make(struct handoff *h, struct value **out, struct err *err) {
    struct arena *a = &h->arena;
    struct value *v = value_map(a), *answer = value_null(a);
    struct sample s = {.raw = NULL};
    struct err why = {.text = ""};
    double *last = NULL;
    enum status st = STATUS_OK;
    value_set_string(a, v, "about", "how an input row is built, and the model's answer to it");
    if (shape_size(&h->model->in) > EXAMPLE_FEATURES_MAX) {
        value_set_string(a, v, "reason", "a sample has too many features to be written out");
        goto out;
    }
    TRY(make_sample(h, &s, err));
    struct forward f = {.model = h->model, .tensors = &h->tensors, .transforms = h->transforms};
    if (forward_run(a, &f, s.raw, &last, &why) == STATUS_OK)
        answer = answer_of(h, last, (size_t)shape_size(&h->model->out));
    else
        value_set_string(a, v, "reason", why.text);
    if (s.row != NULL && s.row->count == 0)
        s.row = value_string(a, "pixels, or numbers without names: see the request");
    value_set(a, v, "row",
              s.row != NULL ? s.row
                            : value_string(a, "unknown: the run does not name its columns"));
    value_set(a, v, "request", request_of(h, &s));
    value_set(a, v, "answer", answer);
    value_set_real(a, v, "tolerance", EXAMPLE_TOLERANCE);
out:
    *out = v;
    return st;
}
