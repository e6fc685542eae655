/* Every operator of the GPU backend, on random shapes, against the float64 twin and the CPU engine,
 * which test_operators checks against the twin's differences.
 *
 * Bounds. Outputs and losses: against the twin, as a part of (1 + the largest output). Gradients:
 * root mean square of the differences from the CPU engine's, over a parameter, as a part of the
 * root mean square of that gradient and a twentieth of all gradients'.
 *     fp32   sums in another order: 5e−6 and 1e−4
 *     tf32   operands lose 2^−11: 1e−3 and 4e−2
 *     bf16   operands and what lies between lose 2^−9, weights up to 2^−8: 1e−2 and 3e−1
 * The gradients' are wider because relu and max pools decide on such numbers: a unit that flips
 * changes its gradient wholly. */
#include "tests/unit/kernels/gpu.h"

static const double value_bound[] = {5e-6, 1e-3, 1e-2};
static const double gradient_bound[] = {1e-4, 4e-2, 3e-1};

static uint32_t dice_state;

static int dice(int from, int to) {
    return from + (int)(philox(6, 6, dice_state++).v[0] % (uint32_t)(to - from + 1));
}

static double rms(const float *x, const float *minus, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += pow((double)x[i] - (minus ? (double)minus[i] : 0), 2);
    return sqrt(sum / (double)count);
}

static void check_gradient(struct rig *r, const char *text, struct engine *e) {
    struct net *net = &r->net;
    float *got = calloc((size_t)net->model->vector_count, sizeof *got);
    struct engine *cpu = net_engine(net, 0, net->spec.shard_count, 0);
    net_step(net, cpu, 0, 3);
    const float *want = engine_gradient(cpu);
    gradient_of(r, e, got);
    double all = rms(want, NULL, net->model->flat_count), bound = gradient_bound[r->precision];
    for (int i = 0; i < net->model->param_count; i++) {
        const struct param *p = &net->model->params[i];
        double part = rms(want + p->offset, NULL, p->count);
        double off = rms(got + p->offset, want + p->offset, p->count);
        if (!(off <= bound * (part + all / 20)))
            fail_msg("%s, %s: gradient of %s is off by %g of %g", text,
                     precision_name(r->precision), p->name, off, part);
    }
    engine_destroy(&cpu);
    free(got);
}

static double output_at(const struct rig *r, const void *output, int64_t i) {
    if (r->precision != PRECISION_BF16)
        return (double)((const float *)output)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)output)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static void check_eval(struct rig *r, const char *text, struct engine *e) {
    struct net *net = &r->net;
    struct twin t = twin_open(net, 1);
    struct eval_result result;
    struct err err = {0};
    int64_t out = volume(&net->model->out), n = net->rows;
    n -= n > 1; /* not a whole number of units */
    void *got = calloc((size_t)(net->rows * out), sizeof(float));
    double *want, largest = 0, bound = value_bound[r->precision];
    t.training = false;
    double loss = twin_forward(&t, net->x, net->labels, net->targets, net->rows_global, n, &want);
    bool mse = net->spec.loss == LOSS_MSE;
    must(engine_eval(e,
                     &(struct engine_batch){.rows = n,
                                            .x = r->x,
                                            .labels = mse ? NULL : r->labels,
                                            .targets = mse ? r->targets : NULL},
                     got, &result, &err),
         &err);
    for (int64_t i = 0; i < n * out; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n * out; i++)
        if (!(fabs(output_at(r, got, i) - want[i]) <= bound * (1 + largest)))
            fail_msg("%s, %s: output %lld is %g, not %g", text, precision_name(r->precision),
                     (long long)i, output_at(r, got, i), want[i]);
    if (!(fabs(result.loss_sum - loss) <= bound * (1 + largest) * (double)n))
        fail_msg("%s: evaluated loss is %g, not %g", text, result.loss_sum, loss);
    assert_int_equal(result.rows, n);
    free(got);
    free(want);
    twin_close(&t);
}

static void check_net(const char *text, struct shape in, enum loss_kind loss_kind, int shards,
                      int64_t shard_rows) {
    for (enum precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
        struct rig r;
        float scalars[SCALARS];
        rig_open(&r, text, in, loss_kind, shards, shard_rows, p);
        struct engine *e = rig_engine(&r, 0, shards, 0);
        struct twin t = twin_open(&r.net, 3);
        double loss = twin_loss(&t, &r.net), rows = (double)r.net.rows;
        rig_step(&r, e, 0, 3);
        b->memory->download(gpu, scalars, engine_gradient(e) + r.net.model->flat_count,
                            sizeof scalars);
        if (!(fabs((double)scalars[SCALAR_LOSS] - loss) <= value_bound[p] * (rows + fabs(loss))))
            fail_msg("%s, %s: loss is %g, not %g", text, precision_name(p),
                     (double)scalars[SCALAR_LOSS], loss);
        assert_true((double)scalars[SCALAR_ROWS] == rows);
        check_gradient(&r, text, e);
        check_eval(&r, text, e);
        twin_close(&t);
        engine_destroy(&e);
        rig_close(&r);
    }
}

static struct shape random_image(void) {
    return (struct shape){3, {dice(1, 20), dice(5, 9), dice(5, 9)}};
}

static void test_dense(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        char text[160];
        struct shape in = {1, {dice(1, 120)}};
        snprintf(text, sizeof text, "[{dense: {out: %d, bias: %s}}, %s {dense: {out: %d}}]",
                 dice(1, 110), dice(0, 1) ? "true" : "false", dice(0, 1) ? "relu," : "",
                 dice(2, 20));
        check_net(text, in, dice(0, 1) ? LOSS_MSE : LOSS_CROSS_ENTROPY, 1 << dice(0, 2),
                  dice(1, 9));
    }
}

static void test_conv2d(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "[{conv2d: {out: %d, kernel: [%d, %d], stride: %d, padding: [%d, %d], bias: %s}},"
                 " %s {conv2d: {out: %d, kernel: %d, padding: 1}}, flatten, {dense: {out: 3}}]",
                 dice(1, 33), dice(1, 4), dice(1, 4), dice(1, 2), dice(0, 1), dice(0, 1),
                 dice(0, 1) ? "true" : "false", dice(0, 1) ? "relu," : "", dice(1, 20), dice(1, 3));
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(1, 3));
    }
    check_net("[{conv2d: {out: 7, padding: same}}, relu, {conv2d: {out: 3}}]", random_image(),
              LOSS_MSE, 2, 2);
}

static void test_norms_and_pools(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        char text[256];
        int k = dice(2, 3);
        snprintf(text, sizeof text,
                 "[{conv2d: {out: %d, kernel: 2}}, {batch_norm: {eps: 0.01}}, %s"
                 " {%s_pool: {kernel: [%d, 2], stride: [%d, %d]}}, %s"
                 " {conv2d: {out: 5, padding: 1, kernel: 2}}, flatten, {dense: {out: 3}}]",
                 dice(1, 35), dice(0, 1) ? "relu," : "", i % 2 ? "max" : "avg", k,
                 i % 3 ? k : dice(1, 3), i % 3 ? 2 : dice(1, 3), dice(0, 1) ? "relu," : "");
        check_net(text, random_image(), LOSS_CROSS_ENTROPY, 1 << dice(0, 1), dice(2, 4));
    }
    check_net("[{batch_norm: {eps: 0.1}}, {dense: {out: 4}}]", (struct shape){1, {37}}, LOSS_MSE, 2,
              16);
}

static void test_points(void **state) {
    (void)state;
    static const char *const names[] = {"relu", "gelu", "tanh", "sigmoid"};
    enum { NAMES = sizeof names / sizeof names[0] };
    for (int i = 0; i < NAMES; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "[{dropout: 0.2}, {dense: {out: %d}}, %s, {dropout: 0.4}, %s, {dense: {out: 7}},"
                 " %s]",
                 dice(1, 70), names[i % NAMES], names[dice(0, NAMES - 1)],
                 names[dice(0, NAMES - 1)]);
        check_net(text, (struct shape){1, {dice(1, 30)}}, LOSS_MSE, 2, dice(1, 5));
    }
    check_net("[{dropout: 0.2}, {conv2d: {out: 9}}, {dropout: 0.4}, relu, flatten, {dense: {out: "
              "4}}]",
              random_image(), LOSS_CROSS_ENTROPY, 2, 3);
}

static void test_whole_nets(void **state) {
    (void)state;
    check_net(MLP, (struct shape){1, {60}}, LOSS_CROSS_ENTROPY, 4, 4);
    check_net(CNN, (struct shape){3, {2, 13, 14}}, LOSS_CROSS_ENTROPY, 2, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),           cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_norms_and_pools), cmocka_unit_test(test_points),
        cmocka_unit_test(test_whole_nets),
    };
    return run_on_gpu(tests, sizeof tests / sizeof *tests);
}
