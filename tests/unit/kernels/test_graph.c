/* The bookkeeping of a graph made by hand: who reads what, what shares its bytes, where gradients
 * lie, and what is refused. Then the graph that a model becomes: a chain. */
#include "kernels/devices.h"
#include "kernels/graph/plan.h"
#include "tests/unit/kernels/net.h"

static struct graph g;
static const struct shape vector = {1, {8}};

static void begin(void) {
    graph_init(&g, device_traits("cpu"), PRECISION_FP32, &vector);
}

/* A node of one or two inputs; b < 0: one. Returns the tensor it writes. */
static int add(enum op_kind kind, int a, int b) {
    struct node_spec spec = {
        .kind = kind, .inputs = b < 0 ? 1 : 2, .input = {a, b < 0 ? 0 : b}, .out = vector};
    struct node *n = graph_add(&g, &spec);
    if (kind == OP_DENSE) { /* something to train */
        n->param_begin = 64 * g.node_count;
        n->param_end = n->param_begin + 64;
    }
    return n->output;
}

static void add_loss(int a, int b) {
    struct node_spec spec = {.kind = OP_MSE,
                             .inputs = b < 0 ? 1 : 2,
                             .input = {a, b < 0 ? 0 : b},
                             .out = vector,
                             .is_loss = true};
    assert_int_equal(graph_add(&g, &spec)->output, -1);
}

static void link_ok(void) {
    struct err err = {0};
    must(graph_link(&g, &err), &err);
}

/* x ─ dense ─ tanh ─ dropout ─ gelu ─ dense ─ loss */
static void test_chain(void **state) {
    (void)state;
    begin();
    int a = add(OP_DENSE, 0, -1), t = add(OP_TANH, a, -1), d = add(OP_DROPOUT, t, -1);
    int u = add(OP_GELU, d, -1), b = add(OP_DENSE, u, -1);
    add_loss(b, -1);
    link_ok();
    assert_int_equal(g.tensors[t].storage, a); /* tanh works in place */
    assert_int_equal(g.tensors[d].storage, d); /* dropout could, but tanh keeps its output */
    assert_int_equal(g.tensors[u].storage, u);
    assert_false(g.tensors[0].trains);
    assert_int_equal(g.tensors[0].gradient, -1);
    for (int i = 1; i < g.tensor_count; i++) {
        assert_int_equal(g.tensors[i].producer, i - 1);
        assert_int_equal(g.tensors[i].readers, 1);
        assert_int_equal(g.tensors[i].last, i);
        assert_true(g.tensors[i].trains);
    }
    assert_int_equal(g.tensors[b].gradient, 0); /* the loss writes the first slot */
    assert_int_equal(g.tensors[u].gradient, 1);
    assert_int_equal(g.tensors[a].gradient,
                     1); /* gelu, dropout and tanh: in place on the way back */
    assert_int_equal(g.gradients, 2);
}

/* Two readers of the input, below all parameters, and an operator of two inputs above them:
 *
 *     x ─┬─ dense ─┐
 *        └─ dense ─┴─ loss */
static void test_fork_and_join(void **state) {
    (void)state;
    begin();
    int a = add(OP_DENSE, 0, -1), b = add(OP_DENSE, 0, -1);
    add_loss(a, b);
    link_ok();
    assert_int_equal(g.tensors[0].readers, 2);
    assert_int_equal(g.tensors[0].last, 1);
    assert_int_equal(g.nodes[2].input[1], b);
    assert_int_not_equal(g.tensors[a].gradient, g.tensors[b].gradient); /* both live at once */
    assert_false(g.nodes[0].needs_dx || g.nodes[1].needs_dx);
    assert_true(g.nodes[2].needs_dx);
}

/* Two paths of different lengths: a slot is used again when its producer is done.
 *
 *     x ─┬─ dense ── tanh ── dense ─┐
 *        └─ dense ─ avg pool ───────┴─ loss */
static void test_slots(void **state) {
    (void)state;
    begin();
    int a = add(OP_DENSE, 0, -1), t = add(OP_TANH, a, -1), c = add(OP_DENSE, t, -1);
    int b = add(OP_DENSE, 0, -1), p = add(OP_AVG_POOL, b, -1);
    add_loss(c, p);
    link_ok();
    assert_int_equal(g.gradients, 3);
    assert_int_equal(g.tensors[c].gradient, 0);
    assert_int_equal(g.tensors[p].gradient, 1);
    assert_int_equal(g.tensors[b].gradient, 2);
    assert_int_equal(g.tensors[t].gradient, 1); /* p's, which is done */
    assert_int_equal(g.tensors[a].gradient, 1);
}

/* What has two readers is not overwritten; what trains below two readers is refused by number. */
static void test_two_readers(void **state) {
    (void)state;
    struct err err = {0};
    begin();
    int p = add(OP_AVG_POOL, 0, -1), t = add(OP_TANH, p, -1), d = add(OP_DROPOUT, p, -1);
    add_loss(t, d);
    link_ok();
    assert_int_equal(g.tensors[p].readers, 2);
    assert_int_equal(g.tensors[t].storage, t); /* with one reader it would be p */
    assert_int_equal(g.tensors[d].storage, d);

    begin();
    int a = add(OP_DENSE, 0, -1);
    t = add(OP_TANH, a, -1);
    d = add(OP_GELU, a, -1);
    add_loss(t, d);
    assert_int_equal(graph_link(&g, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "tensor 1 of the graph is read by 2 operators"));

    begin();
    a = add(OP_DENSE, 0, -1);
    (void)add(OP_TANH, 0, -1);
    add_loss(a, -1);
    assert_int_equal(graph_link(&g, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "tensor 2 of the graph is read by no operator"));
}

/* A model is a chain: each node reads what the one before it wrote. */
static void test_model_is_a_chain(void **state) {
    (void)state;
    static struct plan plan;
    static const size_t caches[2] = {0, 0};
    struct err err = {0};
    struct net net;
    net_open(&net, CNN, (struct shape){3, {3, 12, 12}}, LOSS_CROSS_ENTROPY, 2, 2);
    must(plan_make(&net.spec, device_traits("cuda"), caches, &plan, &err), &err);
    const struct graph *m = &plan.graph;
    assert_int_equal(m->nodes[0].kind, OP_TO_NHWC);
    assert_true(m->tensors[1].channels_last);
    assert_int_equal(m->tensors[1].shape.rank, 3);
    for (int i = 0; i < m->node_count; i++) {
        assert_int_equal(m->nodes[i].inputs, 1);
        assert_int_equal(m->nodes[i].input[0], i);
        assert_int_equal(m->nodes[i].output, i + 1 < m->node_count ? i + 1 : -1);
        assert_int_equal(m->nodes[i].in_count, m->tensors[i].count);
    }
    const struct node *loss = plan_loss(&plan);
    assert_int_equal(loss->kind, OP_CROSS_ENTROPY);
    assert_int_equal(m->tensors[loss->input[0]].shape.rank, 1);
    net_close(&net);
}

/* What cannot be planned is refused, each with its own words. */
static void test_refusals(void **state) {
    (void)state;
    static struct plan plan;
    static const size_t caches[2] = {0, 0};
    struct net net;
    net_open(&net, CNN, (struct shape){3, {3, 12, 12}}, LOSS_CROSS_ENTROPY, 2, 2);
    struct plan_spec wrong[6];
    for (int i = 0; i < 6; i++)
        wrong[i] = net.spec;
    wrong[0].shard_rows = 0;
    wrong[1].shard_count = 3;
    wrong[2].first_shard = 1;
    wrong[3].eval_rows = 0;
    wrong[4].walk = 3;
    wrong[5].walk = 2 * net.spec.shard_count;
    static const char *const words[6] = {"a shard must have", "a power of two",
                                         "a power of two",    "evaluation chunk",
                                         "the walk must be",  "the walk must be"};
    for (int i = 0; i < 6; i++) {
        struct err err = {0};
        assert_int_equal(plan_make(&wrong[i], device_traits("cpu"), caches, &plan, &err),
                         STATUS_INVALID);
        assert_non_null(strstr(err.text, words[i]));
    }
    net_close(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_fork_and_join),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_two_readers),
        cmocka_unit_test(test_model_is_a_chain),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
