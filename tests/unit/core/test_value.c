/* Trees: building, reading, paths, equality, copies. */
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/value.h"
#include "tests/unit/alloc_fail.h"

#define BYTES ((size_t)1 << 20)

static int setup(void **state) {
    static struct arena a;
    arena_init(&a, BYTES);
    *state = &a;
    return 0;
}

static int teardown(void **state) {
    arena_release(*state);
    return 0;
}

static void builders_and_readers(void **state) {
    struct arena *a = *state;
    struct value *m = value_map(a);
    value_set_string(a, m, "s", "text");
    value_set_int(a, m, "i", -7);
    value_set_real(a, m, "r", 2.5);
    value_set_bool(a, m, "b", true);
    value_set(a, m, "n", value_null(a));
    value_set_string(a, m, "missing", NULL);
    assert_int_equal(m->count, 5);
    assert_string_equal(value_get_string(m, "s", "no"), "text");
    assert_string_equal(value_get_string(m, "i", "no"), "no");
    assert_int_equal(value_get_int(m, "i", 1), -7);
    assert_int_equal(value_get_int(m, "r", 1), 1);
    assert_true(fabs(value_get_real(m, "r", 0.0) - 2.5) <= 0.0);
    assert_true(fabs(value_get_real(m, "i", 0.0) + 7.0) <= 0.0);
    assert_true(fabs(value_get_real(m, "s", 3.0) - 3.0) <= 0.0);
    assert_true(value_get_bool(m, "b", false));
    assert_true(value_get_bool(m, "i", true));
    assert_int_equal(value_get(m, "n")->kind, VALUE_NULL);
    assert_null(value_get(m, "missing"));
    assert_null(value_get(NULL, "s"));
    assert_null(value_get(value_list(a), "s"));
    assert_false(m->broken);
    assert_int_equal(value_bytes(a, "a\0b", 3)->count, 3);
    assert_null(value_string(a, NULL));
}

static void order_and_uniqueness(void **state) {
    struct arena *a = *state;
    struct value *m = value_map(a);
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%d", i);
        value_set_int(a, m, key, i);
    }
    memset(key, 0, sizeof key); /* keys were copied */
    value_set_int(a, m, "k50", 5000);
    assert_int_equal(m->count, 100);
    assert_string_equal(m->members[50].key, "k50");
    assert_int_equal(m->members[50].value->integer, 5000);
    assert_true(value_remove(m, "k0"));
    assert_false(value_remove(m, "k0"));
    assert_true(value_remove(m, "k99"));
    assert_int_equal(m->count, 98);
    assert_string_equal(m->members[0].key, "k1");
    assert_string_equal(m->members[97].key, "k98");
}

static void null_input_breaks_the_tree(void **state) {
    struct arena *a = *state;
    struct value *m = value_map(a);
    assert_ptr_equal(value_set(a, m, "k", NULL), m);
    assert_true(m->broken);
    struct value *list = value_list(a);
    value_push(a, list, m);
    assert_true(list->broken);
    struct value *root = value_map(a);
    value_set(a, root, "x", list);
    assert_true(root->broken);
    assert_null(value_set(a, NULL, "k", m));
    assert_null(value_push(a, NULL, m));
    value_set_int(a, NULL, "k", 1);
    struct value *replaced = value_map(a);
    value_set_int(a, replaced, "k", 1);
    value_set(a, replaced, "k", NULL);
    assert_true(replaced->broken);
}

static void a_full_arena_breaks_the_tree(void **state) {
    (void)state;
    struct arena small;
    arena_init(&small, 1000);
    struct value *m = value_map(&small);
    char key[16];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "k%d", i);
        value_set_int(&small, m, key, i);
    }
    assert_true(m->broken);
    for (size_t i = 0; i < m->count; i++) /* what is there is whole */
        assert_int_equal(m->members[i].value->kind, VALUE_INT);
    arena_release(&small);
}

static struct value *sample(struct arena *a) {
    struct value *root = value_map(a);
    struct value *list = value_list(a);
    struct value *inner = value_map(a);
    value_set_string(a, inner, "name", "x");
    value_set_real(a, inner, "rate", 0.5);
    value_push(a, list, value_int(a, 1));
    value_push(a, list, inner);
    value_push(a, list, value_bool(a, false));
    value_set(a, root, "list", list);
    value_set(a, root, "none", value_null(a));
    return root;
}

static void copies_are_equal_and_apart(void **state) {
    struct arena *a = *state;
    struct arena other;
    arena_init(&other, BYTES);
    struct value *v = sample(a);
    v->line = 3;
    struct value *copy = value_copy(&other, v);
    assert_true(value_equal(v, copy));
    assert_int_equal(copy->line, 3);
    value_set_int(&other, value_at(copy, "list[1]"), "rate", 7);
    assert_false(value_equal(v, copy));
    assert_null(value_copy(&other, NULL));
    arena_release(&other);
    arena_init(&other, 300);
    assert_null(value_copy(&other, v));
    arena_release(&other);
}

static void equality(void **state) {
    struct arena *a = *state;
    struct value *x = value_map(a), *y = value_map(a);
    value_set_int(a, x, "a", 1);
    value_set_int(a, x, "b", 2);
    value_set_int(a, y, "b", 2);
    assert_false(value_equal(x, y));
    value_set_int(a, y, "a", 1);
    assert_true(value_equal(x, y));
    assert_false(value_equal(value_int(a, 1), value_real(a, 1.0)));
    assert_false(value_equal(value_real(a, 0.0), value_real(a, -0.0)));
    assert_true(value_equal(value_real(a, (double)NAN), value_real(a, (double)NAN)));
    assert_false(value_equal(value_bytes(a, "a\0b", 3), value_bytes(a, "a\0c", 3)));
    assert_false(value_equal(value_string(a, "a"), value_string(a, "ab")));
    assert_true(value_equal(NULL, NULL));
    assert_false(value_equal(x, NULL));
}

/* Lists in lists, with nulls: each of them is somebody else, and its copy is itself. */
static void nested_lists_with_nulls(void **state) {
    struct arena *a = *state, other;
    static const char *const texts[] = {
        "[]",
        "[null]",
        "[null,null]",
        "[[null]]",
        "[[]]",
        "[[],null]",
        "[null,[]]",
        "[[null],1]",
        "[1,[null]]",
        "[[1,null],[2]]",
        "[[1],[null,2]]",
        "[[1,[]],2]",
        "[[false]]",
        "[[0]]",
        "[[\"\"]]",
        "[[\"null\"]]",
        "[{\"a\":[null]}]",
        "[{\"a\":[]}]",
        "[{\"a\":null}]",
        "[{}]",
    };
    enum { N = sizeof texts / sizeof texts[0] };
    struct value *values[N];
    struct err err = {0};
    arena_init(&other, BYTES);
    for (int i = 0; i < N; i++) {
        assert_int_equal(json_parse(a, texts[i], strlen(texts[i]), "test", &values[i], &err),
                         STATUS_OK);
        for (int k = 0; k <= i; k++)
            assert_int_equal(value_equal(values[i], values[k]), i == k);
        struct value *copy = value_copy(&other, values[i]);
        struct buf text = BUF_INIT(1 << 12);
        assert_true(value_equal(copy, values[i]));
        assert_int_equal(json_dump(copy, JSON_COMPACT, &text, &err), STATUS_OK);
        assert_string_equal(buf_text(&text), texts[i]);
        buf_release(&text);
    }
    arena_release(&other);
}

static void paths_are_followed(void **state) {
    struct arena *a = *state;
    struct value *v = sample(a);
    assert_string_equal(value_at(v, "list[1].name")->string, "x");
    assert_int_equal(value_at(v, "list[0]")->integer, 1);
    assert_int_equal(value_at(v, "none")->kind, VALUE_NULL);
    static const char *const missing[] = {
        "",       ".",       "list[3]", "list[",
        "list[1", "list[x]", "list.3",  "list[1]x",
        "none.x", "lis",     "list.",   "list[-1]",
        ".list",  "list..x", "[0]",     "list[99999999999999999999]"};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        assert_null(value_at(v, missing[i]));
    assert_null(value_at(NULL, "list"));
}

static void put_makes_maps_on_the_way(void **state) {
    struct arena *a = *state;
    struct value *v = sample(a);
    struct err err;
    assert_int_equal(value_put(a, v, "training.optimizer.lr", value_real(a, 0.1), &err), 0);
    assert_int_equal(value_at(v, "training.optimizer.lr")->kind, VALUE_REAL);
    assert_int_equal(value_put(a, v, "list[1].name", value_string(a, "y"), &err), 0);
    assert_string_equal(value_at(v, "list[1].name")->string, "y");
    assert_int_equal(value_put(a, v, "list[2]", value_int(a, 9), &err), 0);
    assert_int_equal(value_at(v, "list[2]")->integer, 9);
    assert_int_equal(value_put(a, v, "list.2", value_int(a, 8), &err), 0);
    assert_int_equal(value_at(v, "list[2]")->integer, 8);
    assert_int_equal(value_put(a, v, "list.1.name", value_string(a, "z"), &err), 0);
    assert_string_equal(value_at(v, "list.1.name")->string, "z");
    assert_int_equal(value_put(a, v, "none.k", value_int(a, 1), &err), 0);
    assert_int_equal(value_at(v, "none.k")->integer, 1);
    assert_int_equal(value_put(a, v, "list", value_null(a), &err), 0);
    assert_int_equal(value_get(v, "list")->kind, VALUE_NULL);
}

static void put_refuses(void **state) {
    struct arena *a = *state;
    struct value *v = sample(a);
    struct err err;
    assert_int_equal(value_put(a, v, "list[3]", value_int(a, 1), &err), STATUS_INVALID);
    assert_string_equal(err.text, "there is no 'list[3]': the list has items 0 to 2");
    assert_int_equal(value_put(a, v, "list[0].x", value_int(a, 1), &err), STATUS_INVALID);
    assert_string_equal(err.text, "there is no 'list[0].x': 'list[0]' is an integer, not a map");
    assert_int_equal(value_put(a, v, "list.3.x", value_int(a, 1), &err), STATUS_INVALID);
    assert_string_equal(err.text, "there is no 'list.3': the list has items 0 to 2");
    assert_int_equal(value_put(a, v, "list.first", value_int(a, 1), &err), STATUS_INVALID);
    assert_string_equal(err.text,
                        "there is no 'list.first': 'list' is a list; its items are 0 to 2");
    static const char *const wrong[] = {"", "a..b", ".a", "a.", "a[", "[0]", "list[1]name"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(value_put(a, v, wrong[i], value_int(a, 1), &err), STATUS_INVALID);
    char deep[4 * VALUE_DEPTH_MAX + 2] = "a";
    for (int i = 0; i < VALUE_DEPTH_MAX; i++)
        memcpy(deep + 1 + 2 * i, ".a", 3);
    assert_int_equal(value_put(a, v, deep, value_int(a, 1), &err), STATUS_INVALID);
    assert_int_equal(value_put(a, v, "k", NULL, &err), STATUS_NOMEM);
    assert_int_equal(value_put(a, NULL, "k", value_int(a, 1), &err), STATUS_NOMEM);
}

static void kind_names(void **state) {
    (void)state;
    assert_string_equal(value_kind_name(VALUE_INT), "integer");
    assert_string_equal(value_kind_name(VALUE_MAP), "map");
    assert_string_equal(value_kind_name((enum value_kind)77), "unknown");
}

static enum status build_copy_put(void *arg) {
    (void)arg;
    struct arena a, b;
    arena_init(&a, BYTES);
    arena_init(&b, BYTES);
    struct value *list = value_list(&a);
    char big[3000];
    memset(big, 'x', sizeof big);
    for (int i = 0; i < 20; i++) {
        struct value *v = sample(&a);
        value_set(&a, v, "big", value_bytes(&a, big, sizeof big));
        value_push(&a, list, v);
    }
    enum status st = list == NULL || list->broken ? STATUS_NOMEM : STATUS_OK;
    if (st == STATUS_OK && value_copy(&b, list) == NULL)
        st = STATUS_NOMEM;
    if (st == STATUS_OK)
        st = value_put(&a, list, "[0].p.q.r", value_bytes(&a, big, sizeof big), NULL);
    arena_release(&a);
    arena_release(&b);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(build_copy_put, NULL), 8);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(builders_and_readers),
        TEST(order_and_uniqueness),
        TEST(null_input_breaks_the_tree),
        TEST(a_full_arena_breaks_the_tree),
        TEST(copies_are_equal_and_apart),
        TEST(equality),
        TEST(nested_lists_with_nulls),
        TEST(paths_are_followed),
        TEST(put_makes_maps_on_the_way),
        TEST(put_refuses),
        TEST(kind_names),
        TEST(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
