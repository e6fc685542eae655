/* Checks against tables: every type, its bounds, the words of each refusal. */
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/schema.h"
#include "core/yaml.h"

static const struct field inner[] = {
    {.name = "lr", .type = FIELD_REAL, .flags = REQUIRED, .min = 0, .max = 1e300, .doc = "rate"},
    {.name = "nesterov", .type = FIELD_BOOL},
    FIELD_END,
};
static const struct field row[] = {
    {.name = "item", .type = FIELD_INT, .min = 1, .max = 9},
    FIELD_END,
};
static const struct field table[] = {
    {.name = "name", .type = FIELD_STRING, .flags = REQUIRED, .min = 1, .max = 8},
    {.name = "max_trials", .type = FIELD_INT, .min = 1, .max = 100},
    {.name = "ratio", .type = FIELD_REAL, .min = -1, .max = 1},
    {.name = "searcher", .type = FIELD_ENUM, .choices = "single|grid|random"},
    {.name = "run", .type = FIELD_ULID},
    {.name = "prefix", .type = FIELD_PREFIX},
    {.name = "digest", .type = FIELD_DIGEST},
    {.name = "sizes", .type = FIELD_LIST, .min = 1, .max = 3, .fields = row},
    {.name = "optimizer", .type = FIELD_MAP, .fields = inner},
    {.name = "tags", .type = FIELD_MAP, .max = 2},
    {.name = "anything", .type = FIELD_ANY},
    {.name = "note", .type = FIELD_STRING, .flags = NULLABLE},
    FIELD_END,
};

static struct arena arena;

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

static enum status check_text(const char *text, struct err *err) {
    struct value *v = NULL;
    assert_int_equal(json_parse(&arena, text, strlen(text), "test", &v, err), STATUS_OK);
    return schema_check(table, v, NULL, "", err);
}

static void good(const char *text) {
    struct err err = {.status = STATUS_OK};
    if (check_text(text, &err) != STATUS_OK)
        fail_msg("%s: %s", text, err.text);
}

static void bad(const char *text, const char *message) {
    struct err err = {.status = STATUS_OK};
    assert_int_equal(check_text(text, &err), STATUS_INVALID);
    assert_string_equal(err.text, message);
}

static void test_good(void **state) {
    (void)state;
    good("{\"name\":\"a\"}");
    good("{\"name\":\"12345678\",\"max_trials\":100,\"ratio\":-1,\"searcher\":\"grid\"}");
    good("{\"name\":\"a\",\"ratio\":0.5,\"run\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"prefix\":"
         "\"01arz\"}");
    good("{\"name\":\"a\",\"digest\":"
         "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8"
         "55\"}");
    good("{\"name\":\"a\",\"sizes\":[1,2,9],\"optimizer\":{\"lr\":0,\"nesterov\":true}}");
    good("{\"name\":\"a\",\"tags\":{\"a\":1,\"b\":[]},\"anything\":{\"x\":[null]},\"note\":null}");
}

static void test_refusals(void **state) {
    (void)state;
    bad("{}", "name is missing");
    bad("{\"name\":\"\"}", "name must be a string of 1 to 8 bytes, not ''");
    bad("{\"name\":\"123456789\"}", "name must be a string of 1 to 8 bytes, not '123456789'");
    bad("{\"name\":null}", "name must be a string of 1 to 8 bytes, not null");
    bad("{\"name\":\"a\",\"max_trials\":0}", "max_trials must be an integer from 1 to 100, not 0");
    bad("{\"name\":\"a\",\"max_trials\":2.0}",
        "max_trials must be an integer from 1 to 100, not 2");
    bad("{\"name\":\"a\",\"ratio\":\"x\"}", "ratio must be a number from -1 to 1, not 'x'");
    bad("{\"name\":\"a\",\"searcher\":\"gird\"}",
        "searcher must be one of single, grid, random, not 'gird'; nearest is 'grid'");
    bad("{\"name\":\"a\",\"searcher\":\"zzzz\"}",
        "searcher must be one of single, grid, random, not 'zzzz'");
    bad("{\"name\":\"a\",\"searcher\":\"single|grid\"}",
        "searcher must be one of single, grid, random, not 'single|grid'; nearest is 'single'");
    bad("{\"name\":\"a\",\"run\":\"01ARZ\"}", "run must be an id of 26 characters, not '01ARZ'");
    bad("{\"name\":\"a\",\"prefix\":\"\"}",
        "prefix must be the first 1 to 26 characters of an id, not ''");
    bad("{\"name\":\"a\",\"digest\":\"00\"}", "digest must be 64 hex digits, not '00'");
    bad("{\"name\":\"a\",\"sizes\":[]}",
        "sizes must be a list of 1 to 3 items, not a list of 0 items");
    bad("{\"name\":\"a\",\"sizes\":[1,2,10]}", "sizes[2] must be an integer from 1 to 9, not 10");
    bad("{\"name\":\"a\",\"optimizer\":3}", "optimizer must be a map, not 3");
    bad("{\"name\":\"a\",\"optimizer\":{}}", "optimizer.lr is missing (rate)");
    bad("{\"name\":\"a\",\"optimizer\":{\"lr\":-1}}",
        "optimizer.lr must be a number of at least 0, not -1");
    bad("{\"name\":\"a\",\"optimizer\":{\"lr\":1,\"nesterov\":1}}",
        "optimizer.nesterov must be true or false, not 1");
    bad("{\"name\":\"a\",\"tags\":{\"a\":1,\"b\":2,\"c\":3}}",
        "tags must be a map of at most 2 keys, not a map of 3 keys");
    bad("{\"name\":\"a\",\"max_trails\":1}",
        "unknown key 'max_trails'; nearest known key is 'max_trials'");
    bad("{\"name\":\"a\",\"qqqqqq\":1}", "unknown key 'qqqqqq'");
    bad("{\"name\":\"a\",\"optimizer\":{\"lr\":1,\"nestorov\":1}}",
        "unknown key 'nestorov' in optimizer; nearest known key is 'nesterov'");
    bad("[]", "the root must be a map of at most 4096 keys, not a list of 0 items");
}

static void test_infinite_reals(void **state) {
    (void)state;
    struct err err;
    static const double reals[] = {NAN, INFINITY, -INFINITY};
    static const struct field free_real[] = {{.name = "x", .type = FIELD_REAL}, FIELD_END};
    for (size_t i = 0; i < 3; i++) {
        struct value *v = value_map(&arena);
        value_set_real(&arena, v, "x", reals[i]);
        assert_int_equal(schema_check(free_real, v, NULL, "", &err), STATUS_INVALID);
    }
}

static void test_places(void **state) {
    (void)state;
    static const char text[] = "name: a\noptimizer:\n  lr: -1\n";
    struct err err;
    struct value *v = NULL;
    assert_int_equal(yaml_parse(&arena, text, strlen(text), "f.yaml", &v, &err), STATUS_OK);
    assert_int_equal(schema_check(table, v, "f.yaml", "", &err), STATUS_INVALID);
    assert_string_equal(err.text,
                        "f.yaml:3:7: optimizer.lr must be a number of at least 0, not -1");
    assert_int_equal(schema_check(inner, value_get(v, "optimizer"), "f.yaml", "opt", &err),
                     STATUS_INVALID);
    assert_string_equal(err.text, "f.yaml:3:7: opt.lr must be a number of at least 0, not -1");

    char place[SCHEMA_PLACE_MAX];
    assert_string_equal(schema_place(NULL, v, place), "");
    assert_string_equal(schema_place("f", NULL, place), "f: ");
}

static void test_built_values(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(schema_check(table, NULL, NULL, "", &err), STATUS_NOMEM);
    struct value *v = value_map(&arena);
    value_set(&arena, v, "name", NULL);
    assert_int_equal(schema_check(table, v, NULL, "", &err), STATUS_NOMEM);
}

/* A table that refers to itself ends at the depth that texts end at. */
static const struct field endless[] = {
    {.name = "x", .type = FIELD_MAP, .fields = endless},
    FIELD_END,
};

static void test_depth(void **state) {
    (void)state;
    struct err err;
    struct value *v = value_map(&arena);
    for (int i = 0; i < 2 * VALUE_DEPTH_MAX; i++)
        v = value_set(&arena, value_map(&arena), "x", v);
    assert_int_equal(schema_check(endless, v, NULL, "", &err), STATUS_TOO_LARGE);
}

static void test_nearest(void **state) {
    (void)state;
    char out[64];
    static const char choices[] = "run|submit|ls|show|metrics|compare|replay";
    assert_string_equal(schema_nearest(choices, "metrcis", out), "metrics");
    assert_string_equal(schema_nearest(choices, "sumbit", out), "submit");
    assert_string_equal(schema_nearest(choices, "sl", out), "ls");
    assert_string_equal(schema_nearest(choices, "run", out), "run");
    assert_null(schema_nearest(choices, "zebra", out));
    assert_string_equal(schema_nearest("const|int|double|log|categorical", "loguniform", out),
                        "log");
    assert_string_equal(schema_nearest("auto|cpu|cuda", "gpu", out), "cuda");
    assert_string_equal(schema_nearest("auto|cpu", "gpu", out), "cpu"); /* only what there is */
    assert_null(schema_nearest(choices, "", out));
    assert_null(schema_nearest("", "run", out));
    char word[300];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(schema_nearest(choices, word, out));
    assert_null(schema_nearest(word, "aaaa", out));
    word[63] = '\0';
    assert_string_equal(schema_nearest(word, word, out), word);
}

static const char *words_of(const char *text) {
    static struct err err;
    (void)check_text(text, &err);
    return err.text;
}

/* Long and hostile texts are cut in messages, not in the message's end. */
static void test_long_words(void **state) {
    (void)state;
    char text[400];
    (void)snprintf(text, sizeof text, "{\"name\":\"a\",\"%0200d\":1}", 0);
    assert_non_null(strstr(words_of(text), "unknown key '0000"));
    (void)snprintf(text, sizeof text, "{\"name\":\"a\",\"searcher\":\"%0200d\"}", 0);
    assert_non_null(strstr(words_of(text), "not a string of 200 bytes"));
}

static const struct field spellings[] = {
    F_INT("kernel", OR_PAIR, 1, 64, "N or [H, W]", DEFAULT("3"), SINCE(2, 1, 1024)),
    F_INT("padding", OR_PAIR, 0, 64, "N, [H, W] or a word", WORDS("same|valid")),
    F_REAL("mean", OR_LIST, -1, 1, "one for all or one for each"),
    F_INT("label", OR_TEXT, 0, 99, "a column"), FIELD_END};

static enum status spelling(const char *text, int language, struct err *err) {
    struct arena a;
    struct value *v = NULL;
    arena_init(&a, 1 << 20);
    assert_int_equal(json_parse(&a, text, strlen(text), "f", &v, err), STATUS_OK);
    enum status st = schema_check_since(
        spellings, v, (struct schema_source){.file = "f", .language = language}, "m", err);
    arena_release(&a);
    return st;
}

static void several_spellings_of_one_key(void **state) {
    (void)state;
    static const char *const good[] = {"{\"kernel\": 3}",         "{\"kernel\": [3, 5]}",
                                       "{\"padding\": \"same\"}", "{\"padding\": [0, 1]}",
                                       "{\"mean\": 0.5}",         "{\"mean\": [0.5, 1, -1]}",
                                       "{\"label\": 3}",          "{\"label\": \"price\"}"};
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"{\"kernel\": [3]}", "f:1:12: m.kernel must be an integer from 1 to 64 or two of them, "
                              "[H, W], not a list of 1 items"},
        {"{\"kernel\": [3, 65]}", "f:1:16: m.kernel must be"},
        {"{\"padding\": \"sane\"}", "or 'same' or 'valid', not 'sane'; nearest is 'same'"},
        {"{\"padding\": [\"same\", 1]}", "f:1:14: m.padding must be"},
        {"{\"mean\": []}", "or a list of them"},
        {"{\"mean\": [0, \"x\"]}", "f:1:14: m.mean"},
        {"{\"label\": -1}", "or a string, not -1"},
    };
    struct err err;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(spelling(good[i], SCHEMA_NEWEST, &err), STATUS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(spelling(bad[i].text, SCHEMA_NEWEST, &err), STATUS_INVALID);
        if (strstr(err.text, bad[i].words) == NULL)
            fail_msg("'%s' is not in '%s'", bad[i].words, err.text);
    }
}

static void bounds_know_since_when_they_hold(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(spelling("{\"kernel\": 65}", 1, &err), STATUS_OK);
    assert_int_equal(spelling("{\"kernel\": [65, 9]}", 1, &err), STATUS_OK);
    assert_int_equal(spelling("{\"kernel\": 65}", 2, &err), STATUS_INVALID);
    assert_int_equal(spelling("{\"kernel\": 65}", SCHEMA_NEWEST, &err), STATUS_INVALID);
    assert_int_equal(spelling("{\"kernel\": 1025}", 1, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "from 1 to 1024"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_infinite_reals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_built_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nearest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_words, setup, teardown),
        cmocka_unit_test(several_spellings_of_one_key),
        cmocka_unit_test(bounds_know_since_when_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
