/* Models from YAML: shapes, layout, initial weights, and the words of each refusal. */
#include "tests/unit/kernels/net.h"

static enum status parse(struct arena *a, const char *text, struct shape in, struct model **out,
                         struct err *err) {
    struct value *layers = NULL;
    must(yaml_parse(a, text, strlen(text), "net.yaml", &layers, err), err);
    return model_parse(a, layers, in, "net.yaml", out, err);
}

static const struct shape image = {3, {1, 28, 28}};

static void test_shapes(void **state) {
    (void)state;
    struct arena a;
    struct err err = {0};
    struct model *m;
    arena_init(&a, 1 << 20);
    must(parse(&a,
               "[{conv2d: {out: 32, kernel: 3, padding: same}}, batch_norm, relu, {max_pool: 2},"
               " {conv2d: {out: 8, kernel: [3, 5], stride: [2, 1], padding: [0, 1]}}, {avg_pool: "
               "{kernel: 2, stride: 1}}, flatten, {dropout: 0.1}, {dense: {out: 10, bias: false}}]",
               image, &m, &err),
         &err);
    static const int64_t want[][3] = {{32, 28, 28}, {32, 28, 28}, {32, 28, 28},
                                      {32, 14, 14}, {8, 6, 12},   {8, 5, 11},
                                      {440},        {440},        {10}};
    assert_int_equal(m->layer_count, 9);
    for (int i = 0; i < m->layer_count; i++)
        for (int d = 0; d < m->layers[i].out.rank; d++)
            assert_int_equal(m->layers[i].out.dim[d], want[i][d]);
    static const char *const names[] = {"0.weight", "0.bias",         "1.weight",
                                        "1.bias",   "1.running_mean", "1.running_var",
                                        "4.weight", "4.bias",         "8.weight"};
    assert_int_equal(m->param_count, 9);
    int64_t end = 0;
    for (int i = 0; i < m->param_count; i++) {
        assert_string_equal(m->params[i].name, names[i]);
        assert_int_equal(m->params[i].offset % MODEL_ALIGN, 0);
        assert_true(m->params[i].offset >= end);
        end = m->params[i].offset + m->params[i].count;
    }
    assert_int_equal(m->params[6].count, 8 * 32 * 3 * 5);
    assert_int_equal(m->trainable, 32 * 9 + 32 + 64 + 8 * 32 * 15 + 8 + 4400);
    assert_int_equal(m->vector_count, m->flat_count + SCALARS);
    assert_int_equal(m->layers[0].flops, 2 * 28 * 28 * 32 * 9);
    struct value *about = model_describe(&a, m);
    assert_false(about->broken);
    assert_int_equal(value_get_int(about, "trainable", 0), m->trainable);
    assert_string_equal(value_at(about, "layers[3].name")->string, "max_pool");
    arena_release(&a);
}

static void test_init(void **state) {
    (void)state;
    struct arena a;
    struct err err = {0};
    struct model *m;
    arena_init(&a, 1 << 20);
    must(parse(&a, "[{conv2d: {out: 40}}, batch_norm, {dense: {out: 33}}]", image, &m, &err), &err);
    size_t n = (size_t)m->vector_count;
    float *w = calloc(n, 4), *again = calloc(n, 4), *other = calloc(n, 4);
    model_init(m, 5, w);
    memset(again, 0x7f, n * 4);
    model_init(m, 5, again);
    model_init(m, 6, other);
    for (int64_t i = 0; i < m->params[0].count; i++) { /* as documented, from Philox itself */
        struct philox4 r = philox(5, UINT64_C(1) << 56, (uint64_t)i / 2);
        double u = i % 2 ? philox_double(r.v[2], r.v[3]) : philox_double(r.v[0], r.v[1]);
        assert_true(w[i] == (float)((2.0 * u - 1.0) * (double)(float)(1.0 / 3.0)));
    }
    assert_memory_equal(w, again, n * 4); /* padding and scalars too */
    assert_memory_not_equal(w, other, n * 4);
    for (int i = 0; i < m->param_count; i++) {
        const struct param *p = &m->params[i];
        double sum = 0, largest = 0;
        for (int64_t j = p->offset; j < p->offset + p->count; j++) {
            sum += (double)w[j];
            largest = fmax(largest, fabs((double)w[j]));
        }
        if (strstr(p->name, "1.")) {
            bool one = strstr(p->name, "weight") || strstr(p->name, "var");
            assert_true(sum == (one ? (double)p->count : 0.0));
        } else {
            double bound = 1 / sqrt(p->layer == 0 ? 9.0 : 40.0 * 26 * 26);
            assert_true(largest <= bound && largest >= 0.8 * bound);
            assert_true(fabs(sum) <= 4 * bound * sqrt((double)p->count / 3));
        }
    }
    free(w), free(again), free(other);
    arena_release(&a);
}

static void refused(const char *text, struct shape in, const char *words) {
    struct arena a;
    struct err err = {0};
    struct model *m;
    arena_init(&a, 1 << 20);
    assert_int_equal(parse(&a, text, in, &m, &err), STATUS_INVALID);
    if (!strstr(err.text, words))
        fail_msg("%s: '%s' lacks '%s'", text, err.text, words);
    arena_release(&a);
}

static void test_refusals(void **state) {
    (void)state;
    const struct shape flat = {1, {20}};
    refused("[]", flat, "at least one layer");
    refused("{dense: 3}", flat, "must be a list");
    refused("[3]", flat, "model[0] must be a layer's name or");
    refused("[{dense: {out: 3}, relu: {}}]", flat, "with one name");
    refused("[rleu]", flat, "nearest is 'relu'");
    refused("[{dense: {}}]", flat, "out");
    refused("[{dense: {out: 0}}]", flat, "model[0].dense.out must be");
    refused("[relu, {dense: {out: 3, bais: true}}]", flat, "bias");
    refused("[{dense: {out: 5}}, {conv2d: {out: 3}}]", flat, "model[1].conv2d: needs an input");
    refused("[{max_pool: 2}]", flat, "model[0].max_pool: needs an input");
    refused("[{conv2d: {out: 4, kernel: 29}}]", image, "the output would be empty");
    refused("[{conv2d: {out: 4, kernel: 0}}]", image, "kernel must be");
    refused("[{conv2d: {out: 4, kernel: [1, 2, 3]}}]", image, "kernel must be");
    refused("[{conv2d: {out: 4, kernel: 2, padding: same}}]", image,
            "padding: same needs an odd kernel, not 2 by 2");
    refused("[{conv2d: {out: 4, padding: full}}]", image, "padding must be");
    refused("[{dropout: 1.5}]", flat, "rate");
    refused("[dropout]", flat, "rate");
    refused("[{relu: 3}]", flat, "model[0].relu takes nothing");
    refused("[{batch_norm: {eps: 0}}]", flat, "eps");
    refused("[relu]", (struct shape){1, {0}}, "zero or an immense dimension");
    refused("[relu]", (struct shape){3, {1, 0, 4}}, "zero or an immense dimension");
    refused("[{dense: {out: 1000000}}, {dense: {out: 1000000}}]", flat,
            "1:27: model[1].dense: with it the model has more than 8589934592 parameters");
    refused("[{dense: {out: 3}}, {dense: {out: -1}}]", flat, "net.yaml:1:");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_init),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
