/* What an ONNX file says, field by field: a decoder made from onnx.proto3, and graphs as the specification of opset 17
 * wants them. That a runtime computes what was trained is tests/e2e/test_export.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/version.h"
#include "serving/export/onnx.h"

/* ---- a decoder ---- */

enum message {
    MODEL,
    OPSET,
    PROPERTY,
    GRAPH,
    NODE,
    ATTRIBUTE,
    TENSOR,
    INFO,
    TYPE,
    TENSOR_TYPE,
    SHAPE,
    DIM,
    /* what is no message */
    NUMBER,
    TEXT,
    FLOAT,
    RAW
};

static const struct {
    enum message in;
    uint64_t number;
    const char *name;
    enum message is;
} fields[] = {
    {MODEL, 1, "ir", NUMBER},
    {MODEL, 2, "producer", TEXT},
    {MODEL, 3, "version", TEXT},
    {MODEL, 7, "graph", GRAPH},
    {MODEL, 8, "opset", OPSET},
    {MODEL, 14, "property", PROPERTY},
    {OPSET, 1, "domain", TEXT},
    {OPSET, 2, "version", NUMBER},
    {PROPERTY, 1, "key", TEXT},
    {PROPERTY, 2, "value", TEXT},
    {GRAPH, 1, "\nnode", NODE},
    {GRAPH, 2, "name", TEXT},
    {GRAPH, 5, "\ntensor", TENSOR},
    {GRAPH, 11, "\ninput", INFO},
    {GRAPH, 12, "\noutput", INFO},
    {NODE, 1, "in", TEXT},
    {NODE, 2, "out", TEXT},
    {NODE, 3, "name", TEXT},
    {NODE, 4, "op", TEXT},
    {NODE, 5, "with", ATTRIBUTE},
    {ATTRIBUTE, 1, "name", TEXT},
    {ATTRIBUTE, 2, "f", FLOAT},
    {ATTRIBUTE, 3, "i", NUMBER},
    {ATTRIBUTE, 8, "ints", NUMBER},
    {ATTRIBUTE, 20, "type", NUMBER},
    {TENSOR, 1, "dim", NUMBER},
    {TENSOR, 2, "type", NUMBER},
    {TENSOR, 8, "name", TEXT},
    {TENSOR, 9, "raw", RAW},
    {INFO, 1, "name", TEXT},
    {INFO, 2, "type", TYPE},
    {TYPE, 1, "tensor", TENSOR_TYPE},
    {TENSOR_TYPE, 1, "elem", NUMBER},
    {TENSOR_TYPE, 2, "shape", SHAPE},
    {SHAPE, 1, "dim", DIM},
    {DIM, 1, "value", NUMBER},
    {DIM, 2, "param", TEXT},
};

struct bytes {
    const uint8_t *at;
    size_t left;
};

static uint64_t varint(struct bytes *b) {
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(b->left > 0 && shift < 64);
        uint8_t byte = *b->at++;
        b->left--;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
}

static struct bytes take(struct bytes *b, uint64_t n) {
    assert_true(n <= b->left);
    struct bytes out = {b->at, (size_t)n};
    b->at += n;
    b->left -= (size_t)n;
    return out;
}

/* Little-endian floats (type 1) or doubles (11). */
static void say_raw(struct bytes b, uint64_t type, struct buf *out) {
    size_t width = type == 11 ? 8 : 4;
    assert_true((type == 1 || type == 11) && b.left % width == 0);
    for (size_t i = 0; i < b.left; i += width) {
        float f;
        double d;
        memcpy(&f, b.at + i, sizeof f);
        if (type == 11)
            memcpy(&d, b.at + i, sizeof d);
        else
            d = (double)f;
        buf_addf(out, type == 11 ? " %.17g" : " %.9g", d);
    }
}

static void say(enum message in, struct bytes b, struct buf *out);

static void say_field(enum message is, struct bytes *b, uint64_t wire, uint64_t type,
                      struct buf *out) {
    float f;
    assert_int_equal(wire, is == NUMBER ? 0 : is == FLOAT ? 5 : 2);
    if (is == NUMBER) {
        buf_addf(out, "=%lld", (long long)varint(b));
    } else if (is == FLOAT) {
        struct bytes four = take(b, 4);
        memcpy(&f, four.at, sizeof f);
        buf_addf(out, "=%g", (double)f);
    } else {
        struct bytes inside = take(b, varint(b));
        if (is == TEXT)
            buf_addf(out, "=%.*s", (int)inside.left, (const char *)inside.at);
        else if (is == RAW)
            say_raw(inside, type, out);
        else
            say(is, inside, out);
    }
}

static void say(enum message in, struct bytes b, struct buf *out) {
    const char *space = "";
    uint64_t type = 0;
    buf_adds(out, "{");
    while (b.left > 0) {
        uint64_t tag = varint(&b);
        size_t i = 0, n = sizeof fields / sizeof *fields;
        while (i < n && (fields[i].in != in || fields[i].number != tag >> 3))
            i++;
        if (i == n)
            fail_msg("no field %llu in message %d", (unsigned long long)(tag >> 3), (int)in);
        buf_addf(out, "%s%s", fields[i].name[0] == '\n' ? "" : space, fields[i].name);
        struct bytes before = b;
        if (in == TENSOR && fields[i].number == 2)
            type = varint(&before);
        say_field(fields[i].is, &b, tag & 7, type, out);
        space = " ";
    }
    buf_adds(out, "}");
}

/* ---- graphs ---- */

static struct arena a;

static struct value *parse(const char *text) {
    struct value *v = NULL;
    struct err err;
    if (json_parse(&a, text, strlen(text), "test", &v, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return v;
}

/* A model whose parameters count 1, 2, 3 … through all tensors. */
static void counted(struct onnx_model *m) {
    struct tensor *t = arena_array(&a, (size_t)m->model->param_count + 1, sizeof *t);
    float next = 1;
    for (int i = 0; i < m->model->param_count; i++) {
        const struct param *p = &m->model->params[i];
        float *data = arena_array(&a, (size_t)p->count, sizeof *data);
        for (int64_t k = 0; k < p->count; k++)
            data[k] = next++;
        t[i] = (struct tensor){.name = p->name, .dims = p->dims, .data = data};
        memcpy(t[i].dim, p->dim, sizeof p->dim);
        t[i].bytes = (size_t)p->count * sizeof *data;
    }
    m->tensors = t;
    m->tensor_count = (size_t)m->model->param_count;
}

struct row {
    const char *layers;
    struct shape in;
    const char *transforms, *properties;
    bool classify, wide;
    const char *graph; /* what is expected */
};

static void check(const struct row *row) {
    struct err err = {0};
    struct model *model = NULL;
    struct buf bytes = BUF_INIT(1 << 20), text = BUF_INIT(1 << 20), want = BUF_INIT(1 << 20);
    arena_init(&a, (size_t)16 << 20);
    if (model_parse(&a, parse(row->layers), row->in, NULL, &model, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    struct onnx_model m = {.model = model,
                           .transforms = row->transforms != NULL ? parse(row->transforms) : NULL,
                           .properties = row->properties != NULL ? parse(row->properties) : NULL,
                           .classify = row->classify,
                           .wide = row->wide,
                           .name = "net"};
    counted(&m);
    if (onnx_write(&m, &bytes, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    say(MODEL, (struct bytes){(const uint8_t *)bytes.data, bytes.len}, &text);
    buf_addf(&want, "{ir=8 producer=trireme version=%s opset{domain= version=17} %s}",
             TRIREME_VERSION, row->graph);
    if (strcmp(buf_text(&text), buf_text(&want)) != 0) {
        (void)fprintf(stderr, "have %s\nwant %s\n", buf_text(&text), buf_text(&want));
        fail();
    }
    buf_release(&bytes);
    buf_release(&text);
    buf_release(&want);
    arena_release(&a);
}

static const struct row rows[] = {
    /* A convolution that is not square, statistics, windows with strides of their own, every activation. */
    {.layers = "[{\"conv2d\":{\"out\":2,\"kernel\":[3,2],\"stride\":[2,1],\"padding\":[1,0]}},"
               "\"batch_norm\",\"relu\",{\"max_pool\":{\"kernel\":[1,2],\"stride\":[1,3]}},"
               "{\"conv2d\":{\"out\":1,\"kernel\":1,\"bias\":false}},{\"avg_pool\":2},\"gelu\"]",
     .in = {3, {1, 8, 8}},
     .graph =
         "graph{name=net\n"
         "node{in=input in=0.weight in=0.bias out=0.out name=0.out op=Conv with{name=kernel_shape "
         "ints=3 ints=2 type=7} with{name=strides ints=2 ints=1 type=7} with{name=pads ints=1 "
         "ints=0 "
         "ints=1 ints=0 type=7}}\n"
         "node{in=0.out in=1.weight in=1.bias in=1.running_mean in=1.running_var out=1.out "
         "name=1.out "
         "op=BatchNormalization with{name=epsilon f=1e-05 type=1}}\n"
         "node{in=1.out out=2.out name=2.out op=Relu}\n"
         "node{in=2.out out=3.out name=3.out op=MaxPool with{name=kernel_shape ints=1 ints=2 "
         "type=7} "
         "with{name=strides ints=1 ints=3 type=7}}\n"
         "node{in=3.out in=4.weight out=4.out name=4.out op=Conv with{name=kernel_shape ints=1 "
         "ints=1 "
         "type=7} with{name=strides ints=1 ints=1 type=7} with{name=pads ints=0 ints=0 ints=0 "
         "ints=0 "
         "type=7}}\n"
         "node{in=4.out out=5.out name=5.out op=AveragePool with{name=kernel_shape ints=2 ints=2 "
         "type=7} with{name=strides ints=2 ints=2 type=7}}\n"
         "tensor{type=1 name=6.root raw 0.707106769}\n"
         "tensor{type=1 name=6.one raw 1}\n"
         "tensor{type=1 name=6.half raw 0.5}\n"
         "node{in=5.out in=6.root out=6.root.out name=6.root.out op=Mul}\n"
         "node{in=6.root.out out=6.erf.out name=6.erf.out op=Erf}\n"
         "node{in=6.erf.out in=6.one out=6.one.out name=6.one.out op=Add}\n"
         "node{in=6.one.out in=5.out out=6.product.out name=6.product.out op=Mul}\n"
         "node{in=6.product.out in=6.half out=prediction name=prediction op=Mul}\n"
         "tensor{dim=2 dim=1 dim=3 dim=2 type=1 name=0.weight raw 1 2 3 4 5 6 7 8 9 10 11 12}\n"
         "tensor{dim=2 type=1 name=0.bias raw 13 14}\n"
         "tensor{dim=2 type=1 name=1.weight raw 15 16}\n"
         "tensor{dim=2 type=1 name=1.bias raw 17 18}\n"
         "tensor{dim=2 type=1 name=1.running_mean raw 19 20}\n"
         "tensor{dim=2 type=1 name=1.running_var raw 21 22}\n"
         "tensor{dim=1 dim=2 dim=1 dim=1 type=1 name=4.weight raw 23 24}\n"
         "input{name=input type{tensor{elem=1 shape{dim{param=N} dim{value=1} dim{value=8} "
         "dim{value=8}}}}}\n"
         "output{name=prediction type{tensor{elem=1 shape{dim{param=N} dim{value=1} dim{value=2} "
         "dim{value=1}}}}}}"},
    /* Flattened by itself, and nothing of what only training needs; the last node's output is the net's. */
    {.layers = "[{\"dense\":{\"out\":2}},\"flatten\",\"tanh\",{\"dropout\":0.5},{\"dense\":{"
               "\"out\":3,\"bias\":false}},\"sigmoid\",{\"dropout\":0.5}]",
     .in = {3, {1, 1, 2}},
     .transforms = "[{\"scale\":0.5},{\"shift\":[1,-2.5]},{\"normalize\":{\"mean\":3,\"std\":["
                   "0.25,7]}}]",
     .properties = "{\"run\":\"01J\",\"classes\":\"a,b\"}",
     .classify = true,
     .graph =
         "property{key=run value=01J} property{key=classes value=a,b} graph{name=net\n"
         "tensor{type=1 name=transform0.scale raw 0.5}\n"
         "node{in=input in=transform0.scale out=transform0.scale.out name=transform0.scale.out "
         "op=Mul}\n"
         "tensor{dim=1 dim=1 dim=1 dim=2 type=1 name=transform1.shift raw 1 -2.5}\n"
         "node{in=transform0.scale.out in=transform1.shift out=transform1.shift.out "
         "name=transform1.shift.out op=Add}\n"
         "tensor{type=1 name=transform2.mean raw 3}\n"
         "node{in=transform1.shift.out in=transform2.mean out=transform2.mean.out "
         "name=transform2.mean.out op=Sub}\n"
         "tensor{dim=1 dim=1 dim=1 dim=2 type=1 name=transform2.std raw 0.25 7}\n"
         "node{in=transform2.mean.out in=transform2.std out=transform2.std.out "
         "name=transform2.std.out op=Div}\n"
         "node{in=transform2.std.out out=0.flat name=0.flat op=Flatten with{name=axis i=1 "
         "type=2}}\n"
         "node{in=0.flat in=0.weight in=0.bias out=0.out name=0.out op=Gemm with{name=transB i=1 "
         "type=2}}\n"
         "node{in=0.out out=2.out name=2.out op=Tanh}\n"
         "node{in=2.out in=4.weight out=4.out name=4.out op=Gemm with{name=transB i=1 type=2}}\n"
         "node{in=4.out out=logits name=logits op=Sigmoid}\n"
         "node{in=logits out=probabilities name=probabilities op=Softmax with{name=axis i=-1 "
         "type=2}}\n"
         "tensor{dim=2 dim=2 type=1 name=0.weight raw 1 2 3 4}\n"
         "tensor{dim=2 type=1 name=0.bias raw 5 6}\n"
         "tensor{dim=3 dim=2 type=1 name=4.weight raw 7 8 9 10 11 12}\n"
         "input{name=input type{tensor{elem=1 shape{dim{param=N} dim{value=1} dim{value=1} "
         "dim{value=2}}}}}\n"
         "output{name=logits type{tensor{elem=1 shape{dim{param=N} dim{value=3}}}}}\n"
         "output{name=probabilities type{tensor{elem=1 shape{dim{param=N} dim{value=3}}}}}}"},
    {.layers = "[\"flatten\",{\"dense\":{\"out\":1}}]",
     .in = {3, {1, 1, 2}},
     .transforms = "[{\"shift\":-1700000000.5},{\"scale\":[2,1e-9]}]",
     .wide = true,
     .graph =
         "graph{name=net\n"
         "tensor{type=11 name=transform0.shift raw -1700000000.5}\n"
         "node{in=input in=transform0.shift out=transform0.shift.out name=transform0.shift.out "
         "op=Add}\n"
         "tensor{dim=1 dim=1 dim=1 dim=2 type=11 name=transform1.scale raw 2 "
         "1.0000000000000001e-09}\n"
         "node{in=transform0.shift.out in=transform1.scale out=transform1.scale.out "
         "name=transform1.scale.out op=Mul}\n"
         "node{in=transform1.scale.out out=input.cast name=input.cast op=Cast with{name=to i=1 "
         "type=2}}\n"
         "node{in=input.cast out=0.out name=0.out op=Flatten with{name=axis i=1 type=2}}\n"
         "node{in=0.out in=1.weight in=1.bias out=prediction name=prediction op=Gemm "
         "with{name=transB "
         "i=1 type=2}}\n"
         "tensor{dim=1 dim=2 type=1 name=1.weight raw 1 2}\n"
         "tensor{dim=1 type=1 name=1.bias raw 3}\n"
         "input{name=input type{tensor{elem=11 shape{dim{param=N} dim{value=1} dim{value=1} "
         "dim{value=2}}}}}\n"
         "output{name=prediction type{tensor{elem=1 shape{dim{param=N} dim{value=1}}}}}}"},
    /* No node but those of the frame. */
    {.layers = "[{\"dropout\":0.5}]",
     .in = {1, {2}},
     .graph = "graph{name=net\n"
              "node{in=input out=prediction name=prediction op=Identity}\n"
              "input{name=input type{tensor{elem=1 shape{dim{param=N} dim{value=2}}}}}\n"
              "output{name=prediction type{tensor{elem=1 shape{dim{param=N} dim{value=2}}}}}}"},
    {.layers = "[\"flatten\"]",
     .in = {1, {2}},
     .classify = true,
     .graph = "graph{name=net\n"
              "node{in=input out=logits name=logits op=Identity}\n"
              "node{in=logits out=probabilities name=probabilities op=Softmax with{name=axis i=-1 "
              "type=2}}\n"
              "input{name=input type{tensor{elem=1 shape{dim{param=N} dim{value=2}}}}}\n"
              "output{name=logits type{tensor{elem=1 shape{dim{param=N} dim{value=2}}}}}\n"
              "output{name=probabilities type{tensor{elem=1 shape{dim{param=N} dim{value=2}}}}}}"},
};

static void test_graphs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graphs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
