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
        cmocka_unit_test_setup_teardown(nan_is_not_hidden, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_refuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
