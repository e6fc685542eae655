/* Searchers: determinism, counts, the order of points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/search/registry.h"
#include "core/yaml.h"
#include "spec/space.h"

#define REST                                                                                       \
    "data: {train: {format: npy, images: a, labels: b}, validation_split: 0.2}, model: "           \
    "['${act}', {dropout: '${d}'}, {dense: '${n}'}], training: {loss: cross_entropy, optimizer: "  \
    "{name: sgd, lr: 0.1}, "                                                                       \
    "global_batch_size: 8}}"
#define SPACE                                                                                      \
    "hyperparameters: {act: {type: categorical, vals: [relu, gelu]}, d: {type: double, minval: "   \
    "0.1, maxval: 0.5, count: 9, when: {act: relu}}, n: {type: int, minval: 1, maxval: 3}}, "

static struct arena arena;
static struct err err;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)64 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct sweep *sweep_of(const char *searcher) {
    struct value *root = NULL;
    struct sweep *s = NULL;
    char text[2048];
    (void)snprintf(text, sizeof text, "{name: t, " SPACE "searcher: {%s, max_time: 4}, " REST,
                   searcher);
    if (yaml_parse(&arena, text, strlen(text), "t", &root, &err) != STATUS_OK ||
        sweep_parse(&arena, root, SPEC_TODAY("t"), &s, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return s;
}

static void finds_by_name(void **state) {
    (void)state;
    assert_ptr_equal(searcher_find("grid"), &searcher_grid);
    assert_ptr_equal(searcher_find("random"), &searcher_random);
    assert_ptr_equal(searcher_find("single"), &searcher_single);
    assert_null(searcher_find("asha"));
}

/* What a sweep file may name is there, and nothing else. */
static void spec_and_registry_agree(void **state) {
    (void)state;
    int built = 0;
    for (const struct spec_searcher *row = spec_searchers; row->name != NULL; row++) {
        const struct searcher_class *class = searcher_find(row->name);
        assert_int_equal(class != NULL, row->built);
        if (class != NULL)
            assert_string_equal(class->name, row->name);
        built += row->built;
    }
    assert_true(built >= 3);
}

/* Two searchers that are asked the same things answer the same, and both end. */
static void same_calls_same_answers(void **state) {
    (void)state;
    static const char *const kinds[] = {"name: grid", "name: random, max_trials: 40",
                                        "name: single"};
    static const int64_t counts[] = {30, 40, 1};
    for (size_t k = 0; k < 3; k++) {
        const struct sweep *spec = sweep_of(kinds[k]);
        const struct searcher_class *class = searcher_find(spec->searcher);
        struct searcher *a = NULL, *b = NULL;
        assert_int_equal(class->create(spec, &a, &err), STATUS_OK);
        assert_int_equal(class->create(spec, &b, &err), STATUS_OK);
        assert_int_equal(class->planned(a), counts[k]);
        for (int64_t n = 1; n <= counts[k]; n++) {
            assert_int_equal(class->ready(a), SEARCH_READY);
            assert_int_equal(class->next(a), n);
            assert_int_equal(class->next(b), n);
            struct value *p = class->point(a, &arena, n);
            assert_true(value_equal(p, class->point(b, &arena, n)));
            assert_true(value_equal(p, sweep_point(&arena, spec, n)));
            assert_true(class->until(a, n) == 4.0);
            struct search_verdict v = class->report(a, n, 1.0, 0.5);
            assert_false(v.stop);
            assert_true(v.until == 4.0);
            assert_non_null(v.reason);
            class->exited(a, &(struct search_exit){.trial = n});
        }
        assert_int_equal(class->ready(a), SEARCH_DONE);
        assert_true(class->progress(a) == 1.0);
        assert_true(class->progress(b) == 0.0);
        class->destroy(a);
        class->destroy(b);
    }
}

/* Retries ask for earlier points: the grid's cursor goes back. */
static void grid_points_in_any_order(void **state) {
    (void)state;
    const struct sweep *spec = sweep_of("name: grid");
    struct searcher *s = NULL;
    assert_int_equal(searcher_grid.create(spec, &s, &err), STATUS_OK);
    static const int64_t order[] = {30, 1, 15, 14, 16, 30, 2};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        assert_true(value_equal(searcher_grid.point(s, &arena, order[i]),
                                sweep_point(&arena, spec, order[i])));
    searcher_grid.destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(spec_and_registry_agree, setup, teardown),
        cmocka_unit_test_setup_teardown(same_calls_same_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(grid_points_in_any_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
