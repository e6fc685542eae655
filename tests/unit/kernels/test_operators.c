/* Every operator, on random shapes, against the float64 twin: outputs, loss, and gradients by
 * central differences of the twin (h = 1e−6: truncation and rounding about 1e−8).
 *
 * Bounds, for sums of up to ~600 terms of magnitude ~1, float32 chains:
 *     outputs, loss   2e−5 · (1 + the largest output)     (600 · 2^−24 ≈ 3.6e−5 at worst, √ of it
 * usual) gradients       2e−4 · (0.05 + the largest gradient of the tensor) A difference of the
 * twin that crosses a kink (relu, max pool) is no derivative: there the two one-sided differences
 * disagree, and the element is skipped. */
#include "tests/unit/kernels/twin.h"

#define SAMPLES 6 /* gradient elements per tensor */

static uint32_t dice_state;

static int dice(int from, int to) {
    return from + (int)(philox(5, 5, dice_state++).v[0] % (uint32_t)(to - from + 1));
}

static void check_eval(struct net *net, struct engine *e) {
    struct twin t = twin_open(net, 1);
    struct eval_result result;
    struct err err = {0};
    int64_t out = volume(&net->model->out), n = net->rows;
    n -= n > 1; /* not a whole number of units */
    float *got = calloc((size_t)(net->rows * out), sizeof(float));
    double *want, largest = 0;
    t.training = false;
    double loss = twin_forward(&t, net->x, net->labels, net->targets, net->rows_global, n, &want);
    bool mse = net->spec.loss == LOSS_MSE;
    must(engine_eval(e,
                     &(struct engine_batch){.rows = n,
                                            .x = net->x,
                                            .labels = mse ? NULL : net->labels,
                                            .targets = mse ? net->targets : NULL},
                     got, &result, &err),
         &err);
    for (int64_t i = 0; i < n * out; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n * out; i++)
        if (!(fabs((double)got[i] - want[i]) <= 2e-5 * (1 + largest)))
            fail_msg("output %lld is %g, not %g", (long long)i, (double)got[i], want[i]);
    if (!(fabs(result.loss_sum - loss) <= 2e-5 * (1 + largest) * (double)n))
        fail_msg("evaluated loss is %g, not %g", result.loss_sum, loss);
    free(got);
    free(want);
    twin_close(&t);
}

static void check_tensor(struct net *net, struct twin *t, const struct param *p, const float *grad,
                         double loss) {
    const double h = 1e-6;
    double largest = 0;
    for (int64_t i = 0; i < p->count; i++)
        largest = fmax(largest, fabs((double)grad[p->offset + i]));
    for (int k = 0; k < SAMPLES && k < p->count; k++) {
        int64_t i = p->offset + (p->count <= SAMPLES ? k : dice(0, (int)p->count - 1));
        double w = t->w[i], got = (double)grad[i];
        t->w[i] = w + h;
        double up = (twin_loss(t, net) - loss) / h;
        t->w[i] = w - h;
        double down = (loss - twin_loss(t, net)) / h;
        t->w[i] = w;
        double want = (up + down) / 2, bound = 2e-4 * (0.05 + largest);
        if (fabs(up - down) > bound / 2)
            continue;
        if (!(fabs(got - want) <= bound))
            fail_msg("gradient of %s[%lld] is %g, not %g (bound %g)", p->name,
                     (long long)(i - p->offset), got, want, bound);
    }
}

static void check_net(const char *text, struct shape in, enum loss_kind loss_kind, int shards,
                      int64_t shard_rows) {
    struct net net;
    net_open(&net, text, in, loss_kind, shards, shard_rows);
    for (int i = 0; i < net.model->param_count; i++) { /* away from the start's zeros and ones */
        const struct param *p = &net.model->params[i];
        for (int64_t j = 0; p->kind != PARAM_WEIGHT && j < p->count; j++)
            net.weights[p->offset + j] += 0.1f * (noise(8, p->offset + j) + 1.0f);
    }
    struct engine *e = net_engine(&net, 0, shards, 0);
    struct twin t = twin_open(&net, 3);
    net_step(&net, e, 0, 3);
    const float *grad = engine_gradient(e);
    double loss = twin_loss(&t, &net), got = (double)grad[net.model->flat_count + SCALAR_LOSS];
    if (!(fabs(got - loss) <= 2e-5 * (double)net.rows * (1 + fabs(loss) / (double)net.rows)))
        fail_msg("%s: loss is %g, not %g", text, got, loss);
    for (int i = 0; i < net.model->param_count; i++) {
        const struct param *p = &net.model->params[i];
        if (p->kind != PARAM_STAT) {
            check_tensor(&net, &t, p, grad, loss);
            continue;
        }
        for (int64_t j = p->offset; j < p->offset + p->count; j++)
            if (!(fabs((double)grad[j] - t.stats[j]) <= 1e-5 * (1 + fabs(t.stats[j]))))
                fail_msg("%s: %s is %g, not %g", text, p->name, (double)grad[j], t.stats[j]);
        (void)twin_loss(&t, &net);
    }
    check_eval(&net, e);
    twin_close(&t);
    engine_destroy(&e);
    net_close(&net);
}

static struct shape random_image(void) {
    return (struct shape){3, {dice(1, 20), dice(5, 9), dice(5, 9)}};
}

static void test_dense(void **state) {
    (void)state;
    for (int i = 0; i < 12; i++) {
        char text[160];
        struct shape in = {1, {dice(1, 120)}};
        snprintf(text, sizeof text, "[{dense: {out: %d, bias: %s}}, {dense: {out: %d}}]",
                 dice(1, 110), dice(0, 1) ? "true" : "false", dice(2, 20));
        check_net(text, in, dice(0, 1) ? LOSS_MSE : LOSS_CROSS_ENTROPY, 1 << dice(0, 2),
                  dice(1, 9));
    }
}

static void test_conv2d(void **state) {
    (void)state;
    for (int i = 0; i < 12; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "[{conv2d: {out: %d, kernel: [%d, %d], stride: %d, padding: [%d, %d], bias: %s}},"
                 " {conv2d: {out: %d, kernel: %d, padding: 1}}, flatten, {dense: {out: 3}}]",
                 dice(1, 33), dice(1, 4), dice(1, 4), dice(1, 2), dice(0, 1), dice(0, 1),
                 dice(0, 1) ? "true" : "false", dice(1, 20), dice(1, 3));
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(1, 3));
    }
}

static void test_conv2d_output(void **state) {
    (void)state;
    check_net("[{conv2d: {out: 7, padding: same}}, relu, {conv2d: {out: 3}}]", random_image(),
              LOSS_MSE, 2, 2);
}

static void test_batch_norm(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        char text[256];
        const char *relu = dice(0, 1) ? "relu," : "";
        snprintf(
            text, sizeof text,
            "[{conv2d: {out: %d, kernel: 2}}, {batch_norm: {eps: 0.01}}, %s {conv2d: {out: 3}},"
            " flatten, {dense: {out: 9}}, batch_norm, %s {dense: {out: 3}}]",
            dice(1, 35), relu, relu);
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(4, 7));
    }
    struct shape in = {1, {37}};
    check_net("[batch_norm, {dense: {out: 4}}]", in, LOSS_MSE, 2, 6);
}

static void test_norm_and_pool(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        char text[256];
        int k = dice(2, 3);
        snprintf(text, sizeof text,
                 "[{conv2d: {out: %d, kernel: 2}}, batch_norm, %s {max_pool: [%d, 2]}, %s"
                 " {conv2d: {out: 5, padding: 1, kernel: 2}}, flatten, {dense: {out: 3}}]",
                 dice(1, 35), dice(0, 1) ? "relu," : "", k, dice(0, 1) ? "relu," : "");
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(2, 4));
    }
}

static void test_pools(void **state) {
    (void)state;
    for (int i = 0; i < 12; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "[{conv2d: {out: %d, kernel: 2}}, {%s_pool: {kernel: [%d, %d], stride: [%d, %d]}},"
                 " flatten, {dense: {out: 3}}]",
                 dice(1, 35), dice(0, 1) ? "max" : "avg", dice(1, 3), dice(1, 3), dice(1, 3),
                 dice(1, 3));
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(1, 3));
    }
}

static void test_activations(void **state) {
    (void)state;
    static const char *const names[] = {"relu", "gelu", "tanh", "sigmoid"};
    enum { NAMES = sizeof names / sizeof names[0] };
    for (int i = 0; i < 3 * NAMES; i++) {
        char text[256];
        snprintf(text, sizeof text, "[{dense: {out: %d}}, %s, %s, {dense: {out: 7}}, %s]",
                 dice(1, 70), names[i % NAMES], names[dice(0, NAMES - 1)],
                 names[dice(0, NAMES - 1)]);
        check_net(text, (struct shape){1, {dice(1, 30)}}, LOSS_MSE, 2, dice(1, 5));
    }
}

static void test_dropout(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "[{dropout: 0.2}, {conv2d: {out: %d}}, {dropout: 0.4}, relu, flatten,"
                 " {dense: {out: %d}}, gelu, {dropout: {rate: 0.6}}, {dense: {out: 4}}]",
                 dice(1, 20), dice(1, 90));
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 2, dice(1, 3));
    }
}

static void test_whole_nets(void **state) {
    (void)state;
    check_net(MLP, (struct shape){1, {60}}, LOSS_CROSS_ENTROPY, 4, 4);
    check_net(CNN, (struct shape){3, {2, 13, 14}}, LOSS_CROSS_ENTROPY, 2, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),         cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_conv2d_output), cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_norm_and_pool), cmocka_unit_test(test_pools),
        cmocka_unit_test(test_activations),   cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_whole_nets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
