/* No allocation inside a step or an evaluation. malloc and its sisters are counted here for the
 * whole process. Of oneDNN we cannot have it: dnnl_primitive_execute puts its argument list into a
 * small map each time (a few nodes per convolution, freed at once); nets with convolutions are held
 * to that. */
#include "tests/unit/kernels/net.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTING 0
#else
#define COUNTING 1
#endif

static long calls;
static size_t largest;

#if COUNTING
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void seen(size_t n) {
    calls++;
    largest = n > largest ? n : largest;
}
void *malloc(size_t n) {
    seen(n);
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    seen(n * size);
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    seen(n);
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
    seen(n);
    return __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n) {
    seen(n);
    *p = __libc_memalign(align, n);
    return *p ? 0 : 12;
}
#endif

static void on_bucket(void *arg, int bucket) {
    *(int *)arg += bucket + 1;
}

/* Calls of malloc in a step and an evaluation after the first ones. */
static long count(const char *text, struct shape in) {
    struct net net;
    struct err err = {0};
    struct eval_result result;
    int buckets = 0;
    net_open(&net, text, in, LOSS_CROSS_ENTROPY, 4, 4);
    struct engine *e = net_engine(&net, 0, 4, 0);
    float *output = calloc((size_t)(net.rows * 10), sizeof *output);
    for (int warm = 0; warm < 2; warm++) {
        calls = 0;
        largest = 0;
        must(engine_step(e,
                         &(struct engine_batch){
                             .x = net.x, .labels = net.labels, .rows_global = net.rows_global},
                         1, &(struct engine_hook){on_bucket, &buckets}, &err),
             &err);
        must(engine_eval(
                 e, &(struct engine_batch){.rows = net.rows - 1, .x = net.x, .labels = net.labels},
                 output, &result, &err),
             &err);
    }
    long n = calls;
    free(output);
    engine_destroy(&e);
    net_close(&net);
    return n;
}

static void test_mlp(void **state) {
    (void)state;
    struct shape in = {1, {53}};
    long n = count(MLP, in);
    assert_int_equal(n, 0);
    n = count(
        "[{dense: {out: 30}}, batch_norm, relu, {dense: {out: 30}}, tanh, {dense: {out: 10}}]", in);
    assert_int_equal(n, 0);
}

static void test_cnn(void **state) {
    (void)state;
    struct shape in = {3, {3, 12, 12}};
    long n = count("[{max_pool: 2}, batch_norm, {avg_pool: 2}, {dense: {out: 10}}]", in);
    assert_int_equal(n, 0);
    n = count(CNN, in);
    /* three convolutions; each: 2 + 1 reorders, 4 shards forward, weights (and reorder), data, and
     * 4 units evaluated; 8 nodes and a table an execution */
    long executions = 3 * (3 + 4 * 4 + 4);
    if (n > 10 * executions || largest > 1024)
        fail_msg("%ld calls of malloc, up to %zu bytes", n, largest);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mlp), cmocka_unit_test(test_cnn)};
    return COUNTING ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
