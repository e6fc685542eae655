/* Positions that travel beside a tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/places.h"
#include "core/yaml.h"

static struct arena arena;
static struct err err;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)1 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct value *yaml(const char *text) {
    struct value *v = NULL;
    assert_int_equal(yaml_parse(&arena, text, strlen(text), "t", &v, &err), STATUS_OK);
    return v;
}

/* As JSON, and read again: another text, other positions. */
static struct value *travelled(const struct value *v) {
    struct buf text = BUF_INIT(1 << 16);
    struct value *out = NULL;
    assert_int_equal(json_dump(v, JSON_COMPACT, &text, &err), STATUS_OK);
    assert_int_equal(json_parse(&arena, buf_text(&text), text.len, "t", &out, &err), STATUS_OK);
    buf_release(&text);
    return out;
}

static void assert_place(const struct value *root, const char *path, unsigned line,
                         unsigned column) {
    const struct value *v = value_at(root, path);
    assert_non_null(v);
    assert_int_equal(v->line, line);
    assert_int_equal(v->column, column);
}

static void come_back(void **state) {
    (void)state;
    struct value *v = yaml("a: 1\nmodel:\n  - {dense: {out: 3}}\n  - relu\nz: [x]\n");
    struct value *places = travelled(places_collect(&arena, v)), *w = travelled(v);
    places_apply(w, places);
    assert_place(w, "a", 1, 4);
    assert_place(w, "model[0].dense.out", 3, 19);
    assert_place(w, "model[1]", 4, 5);
    assert_place(w, "z[0]", 5, 5);
    assert_int_equal(w->members[2].line, 5); /* a key has a place of its own */
    assert_int_equal(w->members[2].column, 1);
}

static void what_is_missing_gives_none(void **state) {
    (void)state;
    struct value *v = travelled(yaml("a: 1\nb: 2\n"));
    places_apply(v, yaml("[1, 1, 7, 1, 7, 4, x]"));
    assert_place(v, "a", 7, 4);
    assert_int_equal(v->members[0].line, 7);
    assert_int_equal(v->members[0].column, 1);
    assert_place(v, "b", 0, 0);
    places_apply(v, yaml("[1, 1, 1, 1, -7, 99999999999]"));
    assert_place(v, "a", 0, 0);
    places_apply(v, NULL);
    places_apply(NULL, NULL);
    assert_place(v, "b", 0, 0);
    places_apply(v, yaml("{1: 2}"));
    assert_place(v, "b", 0, 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {CASE(come_back), CASE(what_is_missing_gives_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
