/* YAML texts, good and bad, and where each node was. */
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/path.h"
#include "core/yaml.h"
#include "tests/unit/alloc_fail.h"

#define BYTES ((size_t)64 << 20)

static struct arena arena;
static struct err err;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, BYTES);
    err = (struct err){0};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct value *parsed(const char *text) {
    struct value *v = NULL;
    if (yaml_parse(&arena, text, strlen(text), "f.yaml", &v, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return v;
}

static void reads_as(const char *yaml, const char *json) {
    struct buf b = BUF_INIT(BYTES);
    assert_int_equal(json_dump(parsed(yaml), JSON_COMPACT, &b, &err), STATUS_OK);
    assert_string_equal(buf_text(&b), json);
    buf_release(&b);
}

static void refused(const char *text, const char *message) {
    struct value *v = NULL;
    assert_int_equal(yaml_parse(&arena, text, strlen(text), "f.yaml", &v, &err), STATUS_INVALID);
    assert_null(v);
    assert_string_equal(err.text, message);
}

static void the_core_schema(void **state) {
    (void)state;
    reads_as("[null, Null, NULL, ~, '']", "[null,null,null,null,\"\"]");
    reads_as("[true, False, TRUE, yes, on, tRue]", "[true,false,true,\"yes\",\"on\",\"tRue\"]");
    reads_as("[0, -1, +2, 007, 0x1F, 0o17, 0x, 0o8, -0x1, 1_000]",
             "[0,-1,2,7,31,15,\"0x\",\"0o8\",\"-0x1\",\"1_000\"]");
    reads_as("[1.0, -.5, +1., 1e3, 1.5E-2, 1e, e5, ., -, 1.2.3]",
             "[1.0,-0.5,1.0,1000.0,0.015,\"1e\",\"e5\",\".\",\"-\",\"1.2.3\"]");
    reads_as("[9223372036854775807, -9223372036854775808]",
             "[9223372036854775807,-9223372036854775808]");
    reads_as("['1', \"true\", \"a\\tb\"]", "[\"1\",\"true\",\"a\\tb\"]");
    struct value *v = parsed("[.inf, -.Inf, +.INF, .nan, -.nan]");
    assert_true(isinf(v->items[0]->real) && v->items[0]->real > 0);
    assert_true(isinf(v->items[1]->real) && v->items[1]->real < 0);
    assert_true(isinf(v->items[2]->real) && v->items[2]->real > 0);
    assert_true(isnan(v->items[3]->real));
    assert_int_equal(v->items[4]->kind, VALUE_STRING);
}

static void documents(void **state) {
    (void)state;
    reads_as("", "{}");
    reads_as("# only a comment\n", "{}");
    reads_as("---\n...\n", "{}");
    reads_as("--- \na: 1\n...\n", "{\"a\":1}");
    reads_as("a:\nb: |\n  two\n  lines\n", "{\"a\":null,\"b\":\"two\\nlines\\n\"}");
    reads_as("1: x\ntrue: y\n", "{\"1\":\"x\",\"true\":\"y\"}");
    reads_as("model:\n  - {dense: {out: \"${hidden}\"}}\n  - \"${act}\"\n",
             "{\"model\":[{\"dense\":{\"out\":\"${hidden}\"}},\"${act}\"]}");
    reads_as("\xef\xbb\xbf"
             "a: \xc3\xa9\n",
             "{\"a\":\"\xc3\xa9\"}");
}

static void nodes_know_their_place(void **state) {
    (void)state;
    struct value *v = parsed("# first\na: 1\nb:\n  - x\n  - {c: 2.5}\n");
    static const struct {
        const char *path;
        uint32_t line, column;
    } rows[] = {{"a", 2, 4}, {"b", 4, 3}, {"b[0]", 4, 5}, {"b[1]", 5, 5}, {"b[1].c", 5, 9}};
    assert_int_equal(v->line, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(value_at(v, rows[i].path)->line, rows[i].line);
        assert_int_equal(value_at(v, rows[i].path)->column, rows[i].column);
    }
}

static void refusals_name_the_place(void **state) {
    (void)state;
    refused("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: duplicate key 'a'; its first value is at line 1");
    refused("a: &x 1", "f.yaml:1:4: anchors are not supported; write the value out");
    refused("a: &x [1]", "f.yaml:1:4: anchors are not supported; write the value out");
    refused("a: *x", "f.yaml:1:4: aliases are not supported; write the value out");
    refused("a: !!str 1", "f.yaml:1:4: tags are not supported; leave it out");
    refused("a: !t {}", "f.yaml:1:4: tags are not supported; leave it out");
    refused("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document; a file holds one");
    refused("---\n---\n", "f.yaml:2:1: a second document; a file holds one");
    refused("? [1]\n: 2\n", "f.yaml:1:3: a key must be a plain word or a string");
    refused("'': 2", "f.yaml:1:1: a key is missing before ':'");
    refused("a: 9223372036854775808",
            "f.yaml:1:4: the integer does not fit 64 bits (text needs quotes)");
    refused("a: 1e999", "f.yaml:1:4: the number is too large for a double");
    refused("a: 1e-400", "f.yaml:1:4: the number is too small for a double: it would be zero");
    refused("a: -0.001e-400", "f.yaml:1:4: the number is too small for a double: it would be zero");
    refused("\xEF\xBB\xBF"
            "a: 1e999",
            "f.yaml:1:4: the number is too large for a double");
    refused("a: \"x\\0y\"", "f.yaml:1:4: a string holds a NUL");
    refused("a: [1, 2\n",
            "f.yaml:2:1: did not find expected ',' or ']' while parsing a flow sequence");
    refused("a: b: c\n", "f.yaml:1:5: mapping values are not allowed in this context");
    refused("a: \xff\n", "f.yaml: byte 3: invalid leading UTF-8 octet");
    struct value *v;
    assert_int_equal(yaml_parse(&arena, "a: \0b", 5, "f", &v, &err), STATUS_INVALID);
}

static void bounds(void **state) {
    (void)state;
    static char text[YAML_TEXT_MAX + 2];
    struct value *v;
    memset(text, '[', 100000);
    assert_int_equal(yaml_parse(&arena, text, 100000, "f", &v, &err), STATUS_INVALID);
    assert_string_equal(err.text, "f:1:33: nested too deep (32 levels)");
    memset(text, ' ', sizeof text);
    assert_int_equal(yaml_parse(&arena, text, YAML_TEXT_MAX, "f", &v, &err), STATUS_OK);
    assert_int_equal(yaml_parse(&arena, text, YAML_TEXT_MAX + 1, "f", &v, &err), STATUS_TOO_LARGE);
    size_t n = 0;
    for (int i = 0; i < 4097; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "k%d:\n", i);
    assert_int_equal(yaml_parse(&arena, text, n, "f", &v, &err), STATUS_INVALID);
    assert_string_equal(err.text, "f:4097:1: more than 4096 keys in a map");
    struct arena tiny;
    arena_init(&tiny, 200);
    assert_int_equal(yaml_parse(&tiny, "[1,2,3,4,5,6]", 13, "f", &v, &err), STATUS_NOMEM);
    arena_release(&tiny);
}

static char path[] = "/tmp/trireme-test-yaml-XXXXXX";

static void loads_files(void **state) {
    (void)state;
    struct value *v;
    assert_int_equal(path_write(path, "a: 1\nb: [x, y]\n", 15, 0600, &err), STATUS_OK);
    assert_int_equal(yaml_load(&arena, path, &v, &err), STATUS_OK);
    assert_string_equal(value_at(v, "b[1]")->string, "y");
    assert_int_equal(yaml_load(&arena, "/no/such/file.yaml", &v, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "/no/such/file.yaml"));
}

static enum status load(void *arg) {
    struct arena a;
    struct value *v;
    struct err why;
    arena_init(&a, BYTES);
    enum status st = yaml_load(&a, arg, &v, &why);
    arena_release(&a);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    struct buf b = BUF_INIT(BYTES);
    buf_adds(&b, "name: a plain scalar of several words\n"
                 "map: {a: 1, b: [x, {c: 2.5}], d: \"quoted \\u00e9\"}\n"
                 "block: |\n  two\n  lines\n"
                 "folded: >\n  one\n  line\n"
                 "list:\n");
    for (int i = 0; i < 40; i++)
        buf_addf(&b, "  - item: {k: %d, v: 'a quoted string'}\n", i);
    assert_int_equal(path_write(path, b.data, b.len, 0600, &err), STATUS_OK);
    buf_release(&b);
    assert_allocations_failed(alloc_fail_each(load, path), 100);
}

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_core_schema),
        TEST(documents),
        TEST(nodes_know_their_place),
        TEST(refusals_name_the_place),
        TEST(bounds),
        TEST(loads_files),
        TEST(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
