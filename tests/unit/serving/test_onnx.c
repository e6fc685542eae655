/* The ONNX writer: bytes of the wire format, refusals, the signature. That runtimes agree with the
 * numbers is tests/e2e/test_export.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "serving/export/onnx.h"
#include "serving/export/pb.h"
#include "tests/unit/alloc_fail.h"

static struct arena a;

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)64 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

static struct value *parse(const char *text) {
    struct value *v = NULL;
    struct err err;
    if (json_parse(&a, text, strlen(text), "test", &v, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return v;
}

static void the_wire_format_is_protobufs(void **state) {
    (void)state;
    struct buf out = BUF_INIT(1024);
    pb_uint(&out, 1, 150);
    pb_string(&out, 2, "testing");
    pb_float(&out, 16, 1.0F);
    size_t at = pb_begin(&out, 3);
    pb_uint(&out, 1, UINT64_MAX);
    pb_end(&out, at);
    static const uint8_t expected[] = {0x08, 0x96, 0x01, 0x12, 7,    't',  'e',  's',  't',
                                       'i',  'n',  'g',  0x85, 0x01, 0,    0,    0x80, 0x3f,
                                       0x1a, 0x8b, 0x80, 0x80, 0x80, 0x00, 0x08, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    assert_int_equal(out.len, sizeof expected);
    assert_memory_equal(out.data, expected, sizeof expected);
    buf_release(&out);
}

static void a_full_buffer_is_an_answer(void **state) {
    (void)state;
    struct buf out = BUF_INIT(8);
    struct err err;
    size_t at = pb_begin(&out, 3);
    pb_string(&out, 2, "longer than eight bytes");
    pb_end(&out, at);
    assert_int_equal(buf_status(&out, "test", &err), STATUS_TOO_LARGE);
    buf_release(&out);
}

static struct model *make_model(const char *layers, struct shape in) {
    struct model *m = NULL;
    struct err err;
    if (model_parse(&a, parse(layers), in, NULL, &m, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return m;
}

/* Tensors of zeros for every parameter. */
static struct tensor *make_tensors(const struct model *m) {
    static const float zeros[4096];
    struct tensor *t = arena_array(&a, (size_t)m->param_count, sizeof *t);
    assert_non_null(t);
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        t[i] = (struct tensor){.name = p->name, .dims = p->dims, .data = zeros};
        memcpy(t[i].dim, p->dim, sizeof p->dim);
        t[i].bytes = (size_t)p->count * sizeof(float);
    }
    return t;
}

static const struct shape vector = {1, {8}}, image = {3, {2, 8, 8}};

static enum status write_model(const struct model *m, const struct tensor *t, size_t count,
                               const char *transforms, struct buf *out, struct err *err) {
    struct onnx_model o = {.model = m,
                           .tensors = t,
                           .tensor_count = count,
                           .transforms = transforms != NULL ? parse(transforms) : NULL,
                           .classify = true,
                           .name = "test"};
    return onnx_write(&o, out, err);
}

static void every_layer_is_written_and_the_bytes_repeat(void **state) {
    (void)state;
    struct model *m = make_model("[{\"conv2d\":{\"out\":4,\"kernel\":3,\"padding\":\"same\"}},"
                                 "\"batch_norm\",\"relu\",{\"max_pool\":2},"
                                 "{\"avg_pool\":2},\"gelu\",\"flatten\",{\"dropout\":0.5},{"
                                 "\"dense\":{\"out\":5}},\"tanh\",\"sigmoid\"]",
                                 image);
    struct buf out = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);
    struct err err;
    const struct tensor *t = make_tensors(m);
    size_t n = (size_t)m->param_count;
    const char *transforms =
        "[{\"scale\":0.5},{\"shift\":1},{\"normalize\":{\"mean\":0,\"std\":2.5}}]";
    assert_int_equal(write_model(m, t, n, transforms, &out, &err), STATUS_OK);
    assert_int_equal(write_model(m, t, n, transforms, &again, &err), STATUS_OK);
    assert_int_equal(out.len, again.len);
    assert_memory_equal(out.data, again.data, out.len);
    static const char *const ops[] = {"Conv",        "BatchNormalization",
                                      "Relu",        "MaxPool",
                                      "AveragePool", "Erf",
                                      "Flatten",     "Gemm",
                                      "Tanh",        "Sigmoid",
                                      "Softmax",     "Mul",
                                      "Add",         "Sub",
                                      "Div",         "logits",
                                      "0.weight",    "N"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        assert_non_null(memmem(out.data, out.len, ops[i], strlen(ops[i])));
    assert_null(memmem(out.data, out.len, "Dropout", 7));
    buf_release(&out);
    buf_release(&again);
}

static void wrong_weights_are_named(void **state) {
    (void)state;
    struct model *m = make_model("[{\"dense\":{\"out\":3}}]", vector);
    struct tensor *t = make_tensors(m);
    struct buf out = BUF_INIT(1 << 20);
    struct err err;
    assert_int_equal(write_model(m, t, 1, NULL, &out, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "have no tensor 0.bias"));
    t[0].dim[1] = 9;
    assert_int_equal(write_model(m, t, 2, NULL, &out, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "0.weight"));
    t[0].dim[1] = 8;
    t[1].dtype = TENSOR_F64;
    assert_int_equal(write_model(m, t, 2, NULL, &out, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "0.bias"));
    buf_release(&out);
}

static void wrong_transforms_are_refused(void **state) {
    (void)state;
    struct model *m = make_model("[{\"dense\":{\"out\":3}}]", vector);
    static const char *const bad[] = {"[{\"crop\":1}]",
                                      "[{\"scale\":[1,2]}]",
                                      "[{\"scale\":\"x\"}]",
                                      "[{\"normalize\":{\"mean\":0}}]",
                                      "[{\"normalize\":\"fit\"}]",
                                      "[{\"scale\":1e300}]",
                                      "[7]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf out = BUF_INIT(1 << 20);
        struct err err;
        assert_int_equal(write_model(m, make_tensors(m), 2, bad[i], &out, &err), STATUS_INVALID);
        buf_release(&out);
    }
}

/* The bytes are claimed, not there: the refusal must come before they are touched. */
static void over_two_gigabytes_is_refused(void **state) {
    (void)state;
    struct model *m =
        make_model("[{\"dense\":{\"out\":1000000,\"bias\":false}}]", (struct shape){1, {1000}});
    struct buf out = BUF_INIT(ONNX_BYTES_MAX);
    struct err err;
    assert_int_equal(write_model(m, make_tensors(m), 1, NULL, &out, &err), STATUS_TOO_LARGE);
    assert_non_null(strstr(err.text, "--format safetensors"));
    buf_release(&out);
}

static void the_signature_has_an_open_batch(void **state) {
    (void)state;
    struct model *m = make_model("[\"flatten\",{\"dense\":{\"out\":3}}]", image);
    struct onnx_model ask = {.model = m, .classify = true};
    struct value *v = onnx_signature(&a, &ask);
    struct value *want =
        parse("{\"inputs\":[{\"name\":\"input\",\"dtype\":\"float32\",\"shape\":[\"N\",2,8,8]}],"
              "\"outputs\":[{\"name\":\"logits\",\"dtype\":\"float32\",\"shape\":[\"N\",3]},"
              "{\"name\":\"probabilities\",\"dtype\":\"float32\",\"shape\":[\"N\",3]}]}");
    assert_true(value_equal(v, want));
    ask = (struct onnx_model){.model = m, .wide = true};
    v = onnx_signature(&a, &ask);
    assert_string_equal(value_at(v, "outputs[0].name")->string, "prediction");
    assert_string_equal(value_at(v, "inputs[0].dtype")->string, "float64");
    assert_string_equal(value_at(v, "outputs[0].dtype")->string, "float32");
}

static void far_from_zero_is_double(void **state) {
    (void)state;
    struct shape two = {.rank = 1, .dim = {2}};
    struct model *m = make_model("[{\"dense\":{\"out\":3}}]", two);
    static const struct {
        const char *transforms;
        bool wide;
    } cases[] = {
        {"[]", false},
        {"[{\"scale\":0.00392156862745098},{\"normalize\":{\"mean\":0.5,\"std\":0.25}}]", false},
        {"[{\"normalize\":{\"mean\":[0,1.7e9],\"std\":[1,86400]}}]", true},
        {"[{\"normalize\":{\"mean\":[1.7e9,0],\"std\":[1e9,1]}}]", false},
        {"[{\"scale\":1e-9},{\"normalize\":{\"mean\":1.7,\"std\":1e-5}}]", true},
        {"[{\"shift\":-16000},{\"scale\":1}]", false},
        {"[{\"shift\":-17000},{\"scale\":1}]", true},
        {"[{\"normalize\":{\"mean\":2000,\"std\":0}}]", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (onnx_needs_double(m, parse(cases[i].transforms)) != cases[i].wide)
            fail_msg("%s", cases[i].transforms);
}

static enum status write_once(void *arg) {
    struct buf out = BUF_INIT(1 << 20);
    enum status st = onnx_write(arg, &out, NULL);
    buf_release(&out);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    struct model *m = make_model("[{\"dense\":{\"out\":3}},\"gelu\"]", vector);
    struct onnx_model o = {
        .model = m, .tensors = make_tensors(m), .tensor_count = 2, .name = "test"};
    assert_allocations_failed(alloc_fail_each(write_once, &o), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_wire_format_is_protobufs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_buffer_is_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(every_layer_is_written_and_the_bytes_repeat, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wrong_weights_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_transforms_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(over_two_gigabytes_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_failed_allocations, setup, teardown),
        cmocka_unit_test_setup_teardown(the_signature_has_an_open_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(far_from_zero_is_double, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
