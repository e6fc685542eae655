/* The forward pass beside an export: small nets worked out by hand, and what it refuses. That it agrees with ONNX is
 * tests/e2e/test_export.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "serving/export/forward.h"

static struct arena a;

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)256 << 20);
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

static struct model *make_model(const char *layers, struct shape in) {
    struct model *m = NULL;
    struct err err;
    if (model_parse(&a, parse(layers), in, NULL, &m, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return m;
}

/* Weights 1, 2, 3 … and biases 10, 20, … of a net of one layer with both. */
static const float weights[] = {1, 2, 3, 4, 5, 6}, biases[] = {10, 20};

static enum status run(const struct model *m, const char *transforms, const double *raw,
                       double **out) {
    struct tensor list[] = {
        {.name = "0.weight", .dtype = TENSOR_F32, .data = weights, .bytes = sizeof weights},
        {.name = "0.bias", .dtype = TENSOR_F32, .data = biases, .bytes = sizeof biases}};
    struct tensors tensors = {.list = list, .count = 2};
    struct forward f = {.model = m, .tensors = &tensors, .transforms = parse(transforms)};
    struct err err;
    return forward_run(&a, &f, raw, out, &err);
}

static void by_hand(void **state) {
    (void)state;
    struct model *m =
        make_model("[{\"dense\":{\"out\":2}}]", (struct shape){.rank = 1, .dim = {3}});
    double *out = NULL, raw[] = {1, 10, 100};
    assert_int_equal(run(m, "[]", raw, &out), STATUS_OK);
    assert_true(out[0] == 321 + 10 && out[1] == 654 + 20);
    assert_int_equal(run(m, "[{\"scale\":2},{\"shift\":1}]", raw, &out), STATUS_OK);
    assert_true(out[0] == 2 * 321 + 6 + 10 && out[1] == 2 * 654 + 15 + 20);
    assert_int_equal(run(m, "[{\"normalize\":{\"mean\":[1,10,98],\"std\":[1,1,2]}}]", raw, &out),
                     STATUS_OK);
    assert_true(out[0] == 3 + 10 && out[1] == 6 + 20);
    assert_true(raw[0] == 1 && raw[1] == 10 && raw[2] == 100);
}

/* Every layer on numbers of its own. Parameters count 1, 2, 3 … within each tensor. */
static const struct {
    const char *layers;
    struct shape in;
    double raw[18];
    int count;
    double want[8];
} rows[] = {
    /* Two channels in, two out, a window that is not square, padding above and below. */
    {"[{\"conv2d\":{\"out\":2,\"kernel\":[2,1],\"padding\":[1,0],\"stride\":[2,1]}}]",
     {3, {2, 2, 2}},
     {1, 2, 3, 4, 5, 6, 7, 8},
     8,
     {2 * 1 + 4 * 5 + 1, 2 * 2 + 4 * 6 + 1, 1 * 3 + 3 * 7 + 1, 1 * 4 + 3 * 8 + 1, 6 * 1 + 8 * 5 + 2,
      6 * 2 + 8 * 6 + 2, 5 * 3 + 7 * 7 + 2, 5 * 4 + 7 * 8 + 2}},
    /* Padding to the left and the right, no bias. */
    {"[{\"conv2d\":{\"out\":1,\"kernel\":[1,3],\"padding\":[0,1],\"bias\":false}}]",
     {3, {1, 2, 3}},
     {1, 10, 100, 2, 20, 200},
     6,
     {2 + 30, 1 + 20 + 300, 10 + 200, 4 + 60, 2 + 40 + 600, 20 + 400}},
    {"[{\"max_pool\":{\"kernel\":[1,2],\"stride\":[2,1]}}]",
     {3, {2, 3, 3}},
     {-9, -8, -7, 99, 99, 99, -1, -2, -3, 4, 6, 5, 99, 99, 99, 1, 3, 2},
     8,
     {-8, -7, -1, -2, 6, 6, 3, 3}},
    {"[{\"avg_pool\":{\"kernel\":[2,1],\"stride\":1}}]",
     {3, {1, 3, 2}},
     {1, 2, 3, 6, 7, 14},
     4,
     {2, 4, 5, 10}},
    /* weight, bias, mean, variance: 1 and 2 each, so (x − c) / √(c + eps) · c + c. */
    {"[{\"batch_norm\":{\"eps\":0.25}}]",
     {3, {2, 1, 2}},
     {1, 3, 2, 5},
     4,
     {1, 2 / 1.118033988749895 + 1, 2, 3 / 1.5 * 2 + 2}},
    {"[\"gelu\"]", {1, {3}}, {-1, 0, 2}, 3, {-0.15865525393145707, 0, 1.9544997361036416}},
    {"[\"tanh\"]", {1, {2}}, {-1, 0.5}, 2, {-0.7615941559557649, 0.46211715726000973}},
    {"[\"sigmoid\"]", {1, {2}}, {-1, 2}, 2, {0.2689414213699951, 0.8807970779778823}},
    {"[\"relu\",{\"dropout\":0.5}]", {1, {3}}, {-1, 0, 2}, 3, {0, 0, 2}},
    {"[\"flatten\",{\"dense\":{\"out\":3,\"bias\":false}},{\"dense\":{\"out\":1}}]",
     {3, {1, 1, 2}},
     {1, 10},
     1,
     {21 + 2 * 43 + 3 * 65 + 1}},
};

static void every_layer(void **state) {
    (void)state;
    static const float counted[] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct model *m = make_model(rows[r].layers, rows[r].in);
        struct tensor list[4];
        struct err err = {0};
        double *out = NULL;
        for (int i = 0; i < m->param_count; i++)
            list[i] = (struct tensor){.name = m->params[i].name,
                                      .dtype = TENSOR_F32,
                                      .data = counted,
                                      .bytes = (size_t)m->params[i].count * sizeof *counted};
        struct tensors tensors = {.list = list, .count = (size_t)m->param_count};
        struct forward f = {.model = m, .tensors = &tensors};
        if (forward_run(&a, &f, rows[r].raw, &out, &err) != STATUS_OK)
            fail_msg("%s: %s", rows[r].layers, err.text);
        assert_int_equal(shape_size(&m->out), rows[r].count);
        for (int i = 0; i < rows[r].count; i++)
            if (!(fabs(out[i] - rows[r].want[i]) <= 1e-7))
                fail_msg("%s: [%d] is %.9g, not %.9g", rows[r].layers, i, out[i], rows[r].want[i]);
    }
}

static void nan_is_not_hidden(void **state) {
    (void)state;
    struct model *m =
        make_model("[{\"dense\":{\"out\":2}},\"relu\"]", (struct shape){.rank = 1, .dim = {3}});
    double *out = NULL, raw[] = {(double)NAN, 0, 0};
    assert_int_equal(run(m, "[]", raw, &out), STATUS_OK);
    assert_true(isnan(out[0]));
    raw[0] = -1000;
    assert_int_equal(run(m, "[]", raw, &out), STATUS_OK);
    assert_true(out[0] == 0 && out[1] == 0);
}

static void what_it_refuses(void **state) {
    (void)state;
    struct shape three = {.rank = 1, .dim = {3}}, image = {.rank = 3, .dim = {64, 512, 512}};
    struct model *m = make_model("[{\"dense\":{\"out\":2}}]", three);
    double *out = NULL, raw[] = {1, 2, 3};
    static const char *const bad[] = {"[{\"scale\":[1,2]}]", "[{\"scale\":\"x\"}]",
                                      "[{\"turn\":1}]", "[3]", "[{\"normalize\":{\"mean\":1}}]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(run(m, bad[i], raw, &out), STATUS_INVALID);
    m = make_model("[{\"dense\":{\"out\":3}}]", three); /* other shapes than the weights' */
    assert_int_equal(run(m, "[]", raw, &out), STATUS_INVALID);
    m = make_model("[{\"dense\":{\"out\":2}},{\"dense\":{\"out\":2}}]", three); /* no 1.weight */
    assert_int_equal(run(m, "[]", raw, &out), STATUS_INVALID);
    m = make_model("[{\"conv2d\":{\"out\":64,\"kernel\":3}}]", image);
    assert_true(m->layers[0].flops > FORWARD_FLOPS_MAX);
    assert_int_equal(run(m, "[]", raw, &out), STATUS_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(every_layer, setup, teardown),
        cmocka_unit_test_setup_teardown(nan_is_not_hidden, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_refuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
