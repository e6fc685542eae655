/* JSON texts, good and bad; dumps that read back. */
#include "tests/unit/cmocka_all.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/json.h"
#include "core/philox.h"
#include "tests/unit/alloc_fail.h"

#define BYTES ((size_t)64 << 20)

static struct arena arena;
static struct buf out;
static struct err err;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, BYTES);
    buf_init(&out, BYTES);
    err = (struct err){0};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    buf_release(&out);
    return 0;
}

static struct value *parsed(const char *text) {
    struct value *v = NULL;
    if (json_parse(&arena, text, strlen(text), "test", &v, &err) != STATUS_OK)
        fail_msg("%s: %s", text, err.text);
    return v;
}

static const char *dumped(const struct value *v, enum json_style style) {
    buf_clear(&out);
    if (json_dump(v, style, &out, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return buf_text(&out);
}

static void refused(const char *text, size_t len, const char *message) {
    struct value *v = NULL;
    assert_int_equal(json_parse(&arena, text, len, "test", &v, &err), STATUS_INVALID);
    assert_null(v);
    assert_string_equal(err.text, message);
}

static void texts_come_back(void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "-9223372036854775808",
        "9223372036854775807",
        "0.1",
        "-0.0",
        "1.0",
        "\"\"",
        "\"a\\\"b\\\\c\\nd\\te\\u0001\"",
        "\"\xc3\xa9\xf0\x9f\x9a\xa3\"",
        "[]",
        "{}",
        "[1,[2,[3]],{}]",
        "{\"b\":1,\"a\":{\"x\":[null,false]},\"\":2}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_string_equal(dumped(parsed(texts[i]), JSON_COMPACT), texts[i]);
}

static void kinds(void **state) {
    (void)state;
    assert_int_equal(parsed("1")->kind, VALUE_INT);
    assert_int_equal(parsed("1.0")->kind, VALUE_REAL);
    assert_int_equal(parsed("1e2")->kind, VALUE_REAL);
    assert_int_equal(parsed(" \"\\u00e9\" ")->count, 2);
}

static void styles(void **state) {
    (void)state;
    struct value *v = parsed("{\"b\":[1,{}],\"a\":{\"d\":1,\"c\":[]}}");
    assert_string_equal(dumped(v, JSON_CANONICAL), "{\"a\":{\"c\":[],\"d\":1},\"b\":[1,{}]}");
    assert_string_equal(dumped(v, JSON_PRETTY), "{\n"
                                                "  \"b\": [\n"
                                                "    1,\n"
                                                "    {}\n"
                                                "  ],\n"
                                                "  \"a\": {\n"
                                                "    \"d\": 1,\n"
                                                "    \"c\": []\n"
                                                "  }\n"
                                                "}\n");
}

static void nodes_know_their_place(void **state) {
    (void)state;
    struct value *v =
        parsed("{\"\xc3\xa9,\\\"}\": [1,\n   \"a]\" , {\"k\":2.5}],\n \"z\":{}, \"y\": -3}");
    static const struct {
        const char *path;
        uint32_t line, column;
    } rows[] = {{"\xc3\xa9,\"}", 1, 11},
                {"\xc3\xa9,\"}[0]", 1, 12},
                {"\xc3\xa9,\"}[1]", 2, 4},
                {"\xc3\xa9,\"}[2]", 2, 11},
                {"\xc3\xa9,\"}[2].k", 2, 16},
                {"z", 3, 6},
                {"y", 3, 15}};
    assert_int_equal(v->line, 1);
    assert_int_equal(v->column, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct value *n = value_at(v, rows[i].path);
        assert_non_null(n);
        assert_int_equal(n->line, rows[i].line);
        assert_int_equal(n->column, rows[i].column);
    }
}

static void doubles_keep_their_bits(void **state) {
    (void)state;
    static const double edges[] = {DBL_MAX,
                                   DBL_MIN,
                                   5e-324,
                                   -5e-324,
                                   0.1,
                                   1e22,
                                   1e23,
                                   1.0 / 3.0,
                                   9007199254740993.0,
                                   -0.0,
                                   2.2250738585072011e-308};
    for (uint64_t i = 0; i < 20000; i++) {
        struct philox4 r = philox(1, 0, i);
        uint64_t bits = (uint64_t)r.v[0] << 32 | r.v[1];
        double d;
        memcpy(&d, &bits, 8);
        if (i < sizeof edges / sizeof edges[0])
            d = edges[i];
        if (!isfinite(d))
            continue;
        struct value *v = parsed(dumped(value_real(&arena, d), JSON_COMPACT));
        assert_int_equal(v->kind, VALUE_REAL);
        assert_memory_equal(&v->real, &d, 8);
    }
}

static void short_doubles_stay_short(void **state) {
    (void)state;
    assert_string_equal(dumped(value_real(&arena, 0.1), JSON_COMPACT), "0.1");
    assert_string_equal(dumped(value_real(&arena, 100.0), JSON_COMPACT), "100.0");
    assert_string_equal(dumped(value_real(&arena, 1e300), JSON_COMPACT), "1e+300");
    assert_string_equal(dumped(value_real(&arena, 0.1 + 0.2), JSON_COMPACT), "0.30000000000000004");
}

static void bad_texts_are_refused(void **state) {
    (void)state;
#define REFUSED(text, message) refused(text, sizeof(text) - 1, message)
    REFUSED("{\"a\":1,\"a\":2}", "test:1:10: duplicate object key near '\"a\"'");
    REFUSED("{} x", "test:1:4: end of file expected near 'x'");
    REFUSED("9223372036854775808", "test:1:19: too big integer near '9223372036854775808'");
    REFUSED("-9223372036854775809", "test:1:20: too big negative integer near "
                                    "'-9223372036854775809'");
    REFUSED("1e999", "test:1:5: real number overflow near '1e999'");
    struct value *v;
    static const struct {
        const char *text;
        size_t len;
    } rows[] = {{"", 0},
                {"[1,]", 4},
                {"{\"a\"}", 5},
                {"\"\xff\"", 3},
                {"\"\xc0\x80\"", 4},
                {"\"\\ud800\"", 8},
                {"\"a\0b\"", 5},
                {"[1\0]", 4},
                {"\"\\u0000\"", 8},
                {"{\"\\u0000\":1}", 12},
                {"NaN", 3},
                {"Infinity", 8},
                {"01", 2},
                {"+1", 2},
                {"[", 1},
                {"\"", 1},
                {"\"\\", 2},
                {"{\"a\":\"\\", 7},
                {"]", 1},
                {"]]]]", 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(json_parse(&arena, rows[i].text, rows[i].len, "t", &v, &err),
                         STATUS_INVALID);
}

static void depth_is_bounded(void **state) {
    (void)state;
    char text[100001];
    memset(text, '[', VALUE_DEPTH_MAX);
    memset(text + VALUE_DEPTH_MAX, ']', VALUE_DEPTH_MAX);
    text[2 * VALUE_DEPTH_MAX] = '\0';
    assert_int_equal(strlen(dumped(parsed(text), JSON_COMPACT)), 2 * VALUE_DEPTH_MAX);
    memset(text, '[', sizeof text - 1);
    refused(text, sizeof text - 1, "test:1:33: nested deeper than 32 levels");
    struct value *v = value_list(&arena);
    for (int i = 0; i < VALUE_DEPTH_MAX; i++)
        v = value_push(&arena, value_list(&arena), v);
    buf_clear(&out);
    assert_int_equal(json_dump(v, JSON_COMPACT, &out, &err), STATUS_INVALID);
    assert_string_equal(err.text, "nested deeper than 32 levels");
}

static void size_is_bounded(void **state) {
    (void)state;
    struct value *v;
    assert_int_equal(json_parse(&arena, "", JSON_TEXT_MAX + 1, "test", &v, &err), STATUS_TOO_LARGE);
    struct buf small = BUF_INIT(10);
    assert_int_equal(json_dump(parsed("[1,2,3,4,5,6]"), JSON_COMPACT, &small, &err),
                     STATUS_TOO_LARGE);
    buf_release(&small);
    struct arena tiny;
    arena_init(&tiny, 200);
    assert_int_equal(json_parse(&tiny, "[1,2,3,4,5,6]", 13, "test", &v, &err), STATUS_NOMEM);
    arena_release(&tiny);
}

static void values_without_json(void **state) {
    (void)state;
    static const double wrong[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(json_dump(value_real(&arena, wrong[i]), JSON_COMPACT, &out, &err),
                         STATUS_INVALID);
    assert_int_equal(json_dump(value_bytes(&arena, "a\0", 2), JSON_COMPACT, &out, &err),
                     STATUS_INVALID);
    assert_int_equal(json_dump(value_string(&arena, "a\xff"), JSON_COMPACT, &out, &err),
                     STATUS_INVALID);
    struct value *m = value_map(&arena), *root = value_map(&arena);
    value_set(&arena, root, "m", m);
    value_set_real(&arena, m, "loss", (double)NAN);
    assert_int_equal(json_dump(root, JSON_COMPACT, &out, &err), STATUS_INVALID);
    assert_string_equal(err.text, "m: loss: NaN cannot be written as JSON");
    value_set(&arena, m, "k", NULL); /* broken after it was hung below root */
    assert_int_equal(json_dump(root, JSON_COMPACT, &out, &err), STATUS_NOMEM);
    assert_int_equal(json_dump(NULL, JSON_COMPACT, &out, &err), STATUS_NOMEM);
}

static void a_locale_changes_nothing(void **state) {
    (void)state;
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL) {
        puts("skipped: no locale de_DE.UTF-8");
        skip();
    }
    assert_string_equal(dumped(parsed("[0.5]"), JSON_COMPACT), "[0.5]");
    setlocale(LC_NUMERIC, "C");
}

#define BIG_TEXT                                                                                   \
    "{\"name\":\"a fairly long string, \\u00e9scaped, that does not fit the first buffer of the "  \
    "lexer at all\",\"list\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20],"                \
    "\"real\":0.1,\"map\":{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,"       \
    "\"i\":[[[true,false,null]]],\"j\":{}}}"

static enum status parse_and_dump(void *arg) {
    (void)arg;
    static const char text[] = BIG_TEXT;
    struct arena a;
    struct buf b = BUF_INIT(BYTES);
    struct value *v;
    struct err why;
    arena_init(&a, BYTES);
    enum status st = json_parse(&a, text, sizeof text - 1, "test", &v, &why);
    if (st == STATUS_OK)
        st = json_dump(v, JSON_PRETTY, &b, &why);
    buf_clear(&b);
    if (st == STATUS_OK)
        st = json_dump(v, JSON_CANONICAL, &b, &why);
    if (st == STATUS_OK && strstr(buf_text(&b), "scaped, that") == NULL)
        st = STATUS_CORRUPT;
    arena_release(&a);
    buf_release(&b);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(parse_and_dump, NULL), 40);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(texts_come_back),
        TEST(kinds),
        TEST(styles),
        TEST(nodes_know_their_place),
        TEST(doubles_keep_their_bits),
        TEST(short_doubles_stay_short),
        TEST(bad_texts_are_refused),
        TEST(depth_is_bounded),
        TEST(size_is_bounded),
        TEST(values_without_json),
        TEST(a_locale_changes_nothing),
        TEST(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
