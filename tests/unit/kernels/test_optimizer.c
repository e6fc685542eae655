/* Optimizers against float64 twins (bound: 30 steps, 2e−6 of the largest weight), slices, the norm,
 * the gate, and the map in the sweep file. */
#include "kernels/cpu/optimizer.h"
#include "kernels/run/optimizer.h"
#include "tests/unit/kernels/net.h"

#define STEPS 30

static struct model *small_model(struct arena *a) {
    static const char text[] = "[{dense: {out: 40}}, batch_norm, relu, {dense: {out: 33}}]";
    struct value *layers;
    struct model *m;
    struct err err = {0};
    must(yaml_parse(a, text, strlen(text), "net", &layers, &err), &err);
    must(model_parse(a, layers, (struct shape){1, {50}}, "net", &m, &err), &err);
    return m;
}

static struct spec_optimizer parse(const char *text) {
    struct arena a;
    struct value *map;
    struct spec_optimizer o;
    struct err err = {0};
    arena_init(&a, 1 << 20);
    must(yaml_parse(&a, text, strlen(text), "opt", &map, &err), &err);
    must(spec_optimizer_read(map, SPEC_TODAY("opt"), &o, &err), &err);
    arena_release(&a);
    return o;
}

static void refused(const char *text, const char *words) {
    struct arena a;
    struct value *map;
    struct spec_optimizer o;
    struct err err = {0};
    arena_init(&a, 1 << 20);
    must(yaml_parse(&a, text, strlen(text), "opt", &map, &err), &err);
    assert_int_equal(spec_optimizer_read(map, SPEC_TODAY("opt"), &o, &err), STATUS_INVALID);
    if (!strstr(err.text, words))
        fail_msg("'%s' lacks '%s'", err.text, words);
    arena_release(&a);
}

/* One step of one element, as the papers have it. */
static void twin_step(const struct spec_optimizer *o, enum param_kind kind, double *w, double g,
                      double *s0, double *s1, int64_t t, double lr) {
    double decay = kind == PARAM_WEIGHT ? o->weight_decay : 0;
    if (o->kind == OPTIMIZER_SGD) {
        g += decay * *w;
        *s0 = o->momentum * *s0 + g;
        *w -= lr * (o->nesterov ? g + o->momentum * *s0 : *s0);
        return;
    }
    if (o->kind == OPTIMIZER_ADAM)
        g += decay * *w;
    else
        *w -= lr * decay * *w;
    *s0 = o->betas[0] * *s0 + (1 - o->betas[0]) * g;
    *s1 = o->betas[1] * *s1 + (1 - o->betas[1]) * g * g;
    double m = *s0 / (1 - pow(o->betas[0], (double)t)), v = *s1 / (1 - pow(o->betas[1], (double)t));
    *w -= lr * m / (sqrt(v) + o->eps);
}

struct vectors {
    float *w, *g, *slots[2];
    int64_t n;
};

static struct vectors make(const struct model *m) {
    struct vectors v = {.n = m->vector_count};
    v.w = calloc((size_t)v.n, 4);
    v.g = calloc((size_t)v.n, 4);
    v.slots[0] = calloc((size_t)v.n, 4);
    v.slots[1] = calloc((size_t)v.n, 4);
    model_init(m, 3, v.w);
    return v;
}

static void drop(struct vectors *v) {
    free(v->w), free(v->g), free(v->slots[0]), free(v->slots[1]);
}

/* Gradients of 256 samples, so that scale matters. */
static void draw(struct vectors *v, int step) {
    for (int64_t i = 0; i < v->n; i++)
        v->g[i] = 25.6f * noise((uint64_t)(100 + step), i);
}

static bool update(const struct spec_optimizer *o, const struct model *m, int64_t begin,
                   int64_t count, struct vectors *v, int64_t step, double lr, float scale,
                   double stat_scale) {
    struct cpu_stretch at = {.begin = begin,
                             .count = count,
                             .weights = v->w + begin,
                             .gradient = v->g + begin,
                             .slots = {v->slots[0] + begin, v->slots[1] + begin}};
    struct cpu_step how = {.scale = scale, .stat_scale = stat_scale};
    optimizer_rates(o, PARAM_WEIGHT, step, lr, &how.rates[0]);
    optimizer_rates(o, PARAM_PLAIN, step, lr, &how.rates[1]);
    return cpu_optimizer_step(o, m, &at, &how);
}

static void compare(const char *text) {
    struct arena a;
    arena_init(&a, 1 << 20);
    struct model *m = small_model(&a);
    struct spec_optimizer o = parse(text);
    struct vectors v = make(m);
    double *w = calloc((size_t)v.n, 8), *s0 = calloc((size_t)v.n, 8), *s1 = calloc((size_t)v.n, 8);
    for (int64_t i = 0; i < v.n; i++)
        w[i] = (double)v.w[i];
    for (int step = 1; step <= STEPS; step++) {
        draw(&v, step);
        double lr = o.lr / step;
        assert_true(update(&o, m, 0, v.n, &v, step, lr, 1.0f / 256, 1.0 / 8));
        for (int p = 0; p < m->param_count; p++)
            for (int64_t i = m->params[p].offset; i < m->params[p].offset + m->params[p].count; i++)
                if (m->params[p].kind == PARAM_STAT)
                    w[i] += (double)m->params[p].momentum * ((double)v.g[i] / 8 - w[i]);
                else
                    twin_step(&o, m->params[p].kind, &w[i], (double)v.g[i] / 256, &s0[i], &s1[i],
                              step, lr);
    }
    for (int64_t i = 0; i < v.n; i++)
        if (!(fabs((double)v.w[i] - w[i]) <= 2e-6 * (1 + fabs(w[i]))))
            fail_msg("%s: element %lld is %.9g, not %.9g", text, (long long)i, (double)v.w[i],
                     w[i]);
    free(w), free(s0), free(s1);
    drop(&v);
    arena_release(&a);
}

static void test_twins(void **state) {
    (void)state;
    compare("{name: sgd, lr: 0.1}");
    compare("{name: sgd, lr: 0.1, weight_decay: 0.01}");
    compare("{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.001}");
    compare("{name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}");
    compare("{name: adam, lr: 0.01, weight_decay: 0.1}");
    compare("{name: adamw, lr: 0.01, betas: [0.8, 0.95], eps: 1.0e-6}");
}

/* Any cut at norm blocks gives the bits of the whole. */
static void test_slices(void **state) {
    (void)state;
    static const char *const texts[] = {"{name: sgd, lr: 0.1}", "{name: adamw, lr: 0.01}",
                                        "{name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}"};
    struct arena a;
    arena_init(&a, 1 << 20);
    struct model *m = small_model(&a);
    for (int k = 0; k < 3; k++) {
        struct spec_optimizer o = parse(texts[k]);
        struct vectors whole = make(m), cut = make(m);
        for (int step = 1; step <= 3; step++) {
            draw(&whole, step);
            draw(&cut, step);
            update(&o, m, 0, whole.n, &whole, step, o.lr, 0.1f, 1);
            for (int64_t at = 0; at < cut.n; at += step * NORM_BLOCK) {
                int64_t n = cut.n - at < step * NORM_BLOCK ? cut.n - at : step * NORM_BLOCK;
                update(&o, m, at, n, &cut, step, o.lr, 0.1f, 1);
            }
        }
        assert_memory_equal(whole.w, cut.w, (size_t)whole.n * 4);
        assert_memory_equal(whole.slots[1], cut.slots[1], (size_t)whole.n * 4);
        for (int64_t i = m->flat_count; i < whole.n; i++) /* scalars are no parameters */
            assert_true(whole.w[i] == 0.0f);
        drop(&whole);
        drop(&cut);
    }
    arena_release(&a);
}

static void test_gate(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct arena a;
    arena_init(&a, 1 << 20);
    struct model *m = small_model(&a);
    struct spec_optimizer o = parse("{name: adamw, lr: 0.01}");
    for (int i = 0; i < 3; i++) {
        struct vectors v = make(m), before = make(m);
        double blocks[64];
        draw(&v, 1);
        assert_true(cpu_norm_blocks(v.g, v.n, blocks));
        v.g[v.n - 40 - i] = bad[i];
        assert_false(cpu_norm_blocks(v.g, v.n, blocks));
        assert_false(update(&o, m, 0, v.n, &v, 1, 0.1, 1, 1));
        assert_memory_equal(v.w, before.w, (size_t)v.n * 4);
        assert_memory_equal(v.slots[0], before.slots[0], (size_t)v.n * 4);
        drop(&v);
        drop(&before);
    }
    arena_release(&a);
}

static void test_norm(void **state) {
    (void)state;
    enum { N = 5 * NORM_BLOCK + 77 };
    static float g[N];
    double blocks[6], cut[6];
    for (int i = 0; i < N; i++)
        g[i] = 1e30f * noise(7, i); /* squares overflow a float, not the norm */
    assert_true(cpu_norm_blocks(g, N, blocks));
    for (int b = 0; b < 6; b++) {
        double want = 0;
        int end = (b + 1) * NORM_BLOCK < N ? (b + 1) * NORM_BLOCK : N;
        for (int i = b * NORM_BLOCK; i < end; i++)
            want += (double)g[i] * (double)g[i];
        assert_true(fabs(blocks[b] - want) <= 1e-13 * want);
        assert_true(cpu_norm_blocks(g + b * NORM_BLOCK, end - b * NORM_BLOCK, &cut[b]));
    }
    assert_memory_equal(blocks, cut, sizeof blocks);
}

static void test_parse(void **state) {
    (void)state;
    struct spec_optimizer o = parse("{name: adamw, lr: 0.5}");
    assert_true(o.slots == 2 && o.weight_decay == 0.01 && o.betas[0] == 0.9 && o.eps == 1e-8);
    o = parse("{name: sgd, lr: 1}");
    assert_true(o.slots == 0 && o.lr == 1.0);
    o = parse("{name: sgd, lr: 1, momentum: 0.5}");
    assert_true(o.slots == 1);
    refused("{name: sgd}", "lr");
    refused("{name: lion, lr: 1}", "sgd, adam, adamw");
    refused("{name: sgd, lr: -1}", "lr");
    refused("{name: sgd, lr: 1, nesterov: true}", "nesterov needs a momentum greater than 0");
    refused("{name: adam, lr: 1, momentum: 0.9}", "unknown key 'momentum' in training.optimizer");
    refused("{name: sgd, lr: 1, betas: [0.9, 0.99]}", "unknown key 'betas' in training.optimizer");
    refused("{name: adam, lr: 1, betas: [0.9]}", "betas");
    refused("{name: adam, lr: 1, betas: [0.9, 1.0]}", "betas");
    refused("{name: adam, lr: 1, wieght_decay: 1}", "weight_decay");
}

/* What decays: weights by default, biases and batch norm's gamma and beta where `decay` is all. */
static void test_what_decays(void **state) {
    (void)state;
    for (int kind = OPTIMIZER_SGD; kind <= OPTIMIZER_ADAMW; kind++)
        for (int all = 0; all < 2; all++) {
            struct spec_optimizer o = {.kind = (enum optimizer_kind)kind,
                                       .betas = {0.9, 0.999},
                                       .eps = 1e-8,
                                       .weight_decay = 0.25,
                                       .decay = all ? DECAY_ALL : DECAY_WEIGHTS};
            struct optimizer_rates rates;
            for (int plain = 0; plain < 2; plain++) {
                float want = plain && !all ? 0.0f : 0.25f;
                optimizer_rates(&o, plain ? PARAM_PLAIN : PARAM_WEIGHT, 1, 0.5, &rates);
                assert_true(kind == OPTIMIZER_ADAMW ? rates.lr == 0.5f * want && rates.decay == 0
                                                    : rates.decay == want);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_decays), cmocka_unit_test(test_twins),
        cmocka_unit_test(test_slices),      cmocka_unit_test(test_gate),
        cmocka_unit_test(test_norm),        cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
