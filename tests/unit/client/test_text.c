/* What people see: escaping, typed values, tables, times, and the time that is left. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "core/clock.h"
#include "core/json.h"

static struct arena a;

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)16 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

/* What a function wrote to a stream, as a string of the arena. */
struct capture {
    char *text;
    size_t len;
    FILE *to;
};

static struct capture capture_begin(void) {
    return (struct capture){.to = tmpfile()};
}

static const char *capture_end(struct capture *c) {
    long len = ftell(c->to);
    char *text = arena_take(&a, (size_t)len + 1);
    assert_non_null(text);
    rewind(c->to);
    assert_int_equal(fread(text, 1, (size_t)len, c->to), (size_t)len);
    text[len] = '\0';
    (void)fclose(c->to);
    return text;
}

static const struct {
    const char *text, *shown;
} escapes[] = {
    {"", ""},
    {"plain, \xc3\xa9t\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80", NULL},
    {"\033[31mred\033[0m", "\\x1b[31mred\\x1b[0m"},
    {"a\nb\tc\rd", "a\\nb\\tc\\rd"},
    {"\a\b\x7f", "\\x07\\x08\\x7f"},
    {"\xc2\x9b"
     "31m",
     "\\x9b31m"},                                       /* C1: CSI in one character */
    {"\x9b", "\\x9b"},                                  /* the same as a byte: not UTF-8 */
    {"gpj.\xe2\x80\xae", "gpj.\\u202e"},                /* right to left */
    {"\xe2\x81\xa6x\xe2\x81\xa9", "\\u2066x\\u2069"},   /* isolates */
    {"a\xe2\x80\xa8z", "a\\u2028z"},                    /* a line's end to some */
    {"\xff\xfe", "\\xff\\xfe"},                         /* never in UTF-8 */
    {"\xc3", "\\xc3"},                                  /* cut short */
    {"\xc0\xaf", "\\xc0\\xaf"},                         /* overlong '/' */
    {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                /* a surrogate */
    {"\xe2\x80\xaexyz\xe2\x80", "\\u202exyz\\xe2\\x80"} /* both at once */
};
#define ESCAPES (sizeof escapes / sizeof *escapes)

static void what_a_terminal_would_obey_is_escaped(void **state) {
    (void)state;
    for (size_t i = 0; i < ESCAPES; i++) {
        const char *shown = text_safe(&a, escapes[i].text);
        if (escapes[i].shown == NULL)
            assert_ptr_equal(shown, escapes[i].text); /* nothing to escape: no copy */
        else
            assert_string_equal(shown, escapes[i].shown);
    }
    assert_null(text_safe(&a, NULL));
}

static void messages_keep_their_lines(void **state) {
    (void)state;
    struct capture c = capture_begin();
    text_print_safe("one\ntwo \033[2J\n", c.to);
    assert_string_equal(capture_end(&c), "one\ntwo \\x1b[2J\n");
    for (size_t i = 0; i < ESCAPES; i++) {
        if (strchr(escapes[i].text, '\n') != NULL)
            continue;
        c = capture_begin();
        text_print_safe(escapes[i].text, c.to);
        assert_string_equal(capture_end(&c),
                            escapes[i].shown != NULL ? escapes[i].shown : escapes[i].text);
    }
}

static void json_stays_the_same_value(void **state) {
    (void)state;
    static const char json[] = "{\n\"a\": \"x\xe2\x80\xae\xc2\x9b\xc3\xa9\"\n}\n";
    struct capture c = capture_begin();
    text_print_json(json, strlen(json), c.to);
    const char *shown = capture_end(&c);
    assert_string_equal(shown, "{\n\"a\": \"x\\u202e\\u009b\xc3\xa9\"\n}\n");
    struct value *before = NULL, *after = NULL;
    assert_int_equal(json_parse(&a, json, strlen(json), "text", &before, NULL), STATUS_OK);
    assert_int_equal(json_parse(&a, shown, strlen(shown), "text", &after, NULL), STATUS_OK);
    assert_true(value_equal(before, after));
}

static void typed_values_cannot_be_mistaken(void **state) {
    (void)state;
    static const struct {
        const char *json, *shown;
    } cases[] = {
        {"1", "1"},
        {"1.0", "1.0"},
        {"0.1", "0.1"},
        {"-2.5e-9", "-2.5e-09"},
        {"1e300", "1e+300"},
        {"true", "true"},
        {"null", "null"},
        {"[1, 1.0, \"1\"]", "[1,1.0,\"1\"]"},
        {"{\"a\": null}", "{\"a\":null}"},
        {"\"relu\"", "relu"},
        {"\"1\"", "\"1\""},
        {"\"1.0\"", "\"1.0\""},
        {"\"1e3\"", "\"1e3\""},
        {"\"true\"", "\"true\""},
        {"\"null\"", "\"null\""},
        {"\"~\"", "\"~\""},
        {"\"\"", "\"\""},
        {"\"a b\"", "\"a b\""},
        {"\"a=b\"", "\"a=b\""},
        {"\"a,b\"", "\"a,b\""},
        {"\"[1]\"", "\"[1]\""},
        {"\"\\u202e\"", "\"\\u202e\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct value *v = NULL;
        assert_int_equal(json_parse(&a, cases[i].json, strlen(cases[i].json), "text", &v, NULL),
                         STATUS_OK);
        const char *shown = text_typed(&a, v);
        if (strstr(cases[i].json, "u202e") != NULL)
            assert_null(strstr(shown, "\xe2\x80\xae"));
        else
            assert_string_equal(shown, cases[i].shown);
    }
    assert_string_equal(text_typed(&a, NULL), "-");
}

static void cells_of_other_values(void **state) {
    (void)state;
    assert_string_equal(text_scalar(&a, NULL), "-");
    assert_string_equal(text_scalar(&a, value_real(&a, 0.1234567)), "0.123457");
    assert_string_equal(text_scalar(&a, value_string(&a, "x\033y")), "x\\x1by");
    assert_string_equal(text_scalar(&a, value_list(&a)), "list");
    assert_string_equal(text_line(&a, value_string(&a, "x\ny")), "x\\ny");
}

static const char *table_of(const char *const (*rows)[3], size_t count) {
    static const char *const titles[] = {"name", "n", "note"};
    struct table *t = table_new(&a, titles, 3);
    for (size_t i = 0; i < count; i++)
        table_row(t, rows[i]);
    struct capture c = capture_begin();
    table_print(t, c.to, false);
    return capture_end(&c);
}

static void tables_count_characters_and_align_numbers(void **state) {
    (void)state;
    static const char *const rows[][3] = {
        {"\xc3\xa9t\xc3\xa9", "7", "one"}, {"longer", "1234", "\033x"}, {NULL, "-", NULL}};
    assert_string_equal(table_of(rows, 3), "name       n  note\n"
                                           "\xc3\xa9t\xc3\xa9        7  one\n"
                                           "longer  1234  \\x1bx\n"
                                           "           -  \n");
    static const char *const words[][3] = {{"a", "7", "x"}, {"b", "many", "y"}};
    assert_string_equal(table_of(words, 2), "name  n     note\n"
                                            "a     7     x\n"
                                            "b     many  y\n");
}

static void durations_and_sizes(void **state) {
    (void)state;
    assert_string_equal(text_duration(&a, NS_PER_S / 10 * 15), "1.5s");
    assert_string_equal(text_duration(&a, 192 * NS_PER_S), "3m 12s");
    assert_string_equal(text_duration(&a, 3700 * NS_PER_S), "1h 01m");
    assert_string_equal(text_bytes(&a, 999), "999 B");
    assert_string_equal(text_bytes(&a, 1200000), "1.2 MB");
    assert_string_equal(text_time(&a, 0), "-");
    assert_string_equal(text_colour(&a, false, "1", "x"), "x");
    assert_string_equal(text_colour(&a, true, "1", "x"), "\033[1mx\033[0m");
}

static void time_left_is_said_where_it_is_known(void **state) {
    (void)state;
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, 0.5), "10.0s");
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, 1), "0.0s");
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, 0), "-");
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, -1), "-");
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, 1.5), "-");
    volatile double none = 0; /* all was done when we began to look: nothing of nothing */
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, none / none), "-");
    assert_string_equal(progress_eta(&a, 10 * NS_PER_S, 1 / none), "-");
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_a_terminal_would_obey_is_escaped),
        CASE(messages_keep_their_lines),
        CASE(json_stays_the_same_value),
        CASE(typed_values_cannot_be_mistaken),
        CASE(cells_of_other_values),
        CASE(tables_count_characters_and_align_numbers),
        CASE(durations_and_sizes),
        CASE(time_left_is_said_where_it_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
