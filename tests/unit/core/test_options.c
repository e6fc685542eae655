/* Command lines, good and bad, and their help. */
#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

struct args {
    int64_t ranks, any;
    bool json, color;
    const char *output;
    struct option_list set;
    const char *device;
};

static const struct option_row rows[] = {
    {"ranks", 'n', OPTION_INT, "N", "number of ranks", 1, 1024, offsetof(struct args, ranks)},
    {"any", 0, OPTION_INT, "N", "any integer", 0, 0, offsetof(struct args, any)},
    {"json", 'j', OPTION_FLAG, NULL, "print JSON", 0, 0, offsetof(struct args, json)},
    {"color", 'c', OPTION_FLAG, NULL, "use colours", 0, 0, offsetof(struct args, color)},
    {"output", 'o', OPTION_STRING, "FILE", "write there", 0, 0, offsetof(struct args, output)},
    {"set", 's', OPTION_LIST, "KEY=V", "override", 0, 0, offsetof(struct args, set)},
    OPTION_ROW_CHOICE(struct args, device, "device", 'd', "auto|cpu|cuda", "compute there"),
    OPTION_END};

static struct args args;
static struct operands operands;
static struct err err;

/* Splits `line` at blanks; the words stay valid until the next call. */
static enum status parse(const char *line) {
    static char text[4096];
    static char *argv[512];
    char *save = NULL;
    int argc = 0;
    snprintf(text, sizeof text, "prog %s", line);
    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    args = (struct args){.ranks = -1, .color = true};
    return options_parse(rows, argc, argv, &args, &operands, &err);
}

static void refused(const char *line, const char *message) {
    assert_int_equal(parse(line), STATUS_INVALID);
    assert_string_equal(err.text, message);
}

static void all_spellings(void **state) {
    (void)state;
    assert_int_equal(parse("--ranks 4 --json --output=x --no-color"), STATUS_OK);
    assert_int_equal(args.ranks, 4);
    assert_true(args.json);
    assert_false(args.color);
    assert_string_equal(args.output, "x");
    assert_int_equal(parse("-n4 -o y"), STATUS_OK);
    assert_int_equal(args.ranks, 4);
    assert_string_equal(args.output, "y");
    assert_int_equal(parse("-jn 8"), STATUS_OK);
    assert_true(args.json);
    assert_int_equal(args.ranks, 8);
    assert_int_equal(parse("--any -5 --output= -c"), STATUS_OK);
    assert_int_equal(args.any, -5);
    assert_string_equal(args.output, "");
    assert_int_equal(parse("--output -"), STATUS_OK);
    assert_string_equal(args.output, "-");
    assert_int_equal(parse(""), STATUS_OK);
    assert_int_equal(args.ranks, -1); /* what is not given stays */
}

static void choices(void **state) {
    (void)state;
    assert_int_equal(parse("-d cpu"), STATUS_OK);
    assert_string_equal(args.device, "cpu");
    assert_int_equal(parse("--device=cuda"), STATUS_OK);
    assert_string_equal(args.device, "cuda");
}

static void lists_and_operands(void **state) {
    (void)state;
    assert_int_equal(parse("a --set k=1 b -s l=2 - -- --json -x"), STATUS_OK);
    assert_int_equal(args.set.count, 2);
    assert_string_equal(args.set.items[0], "k=1");
    assert_string_equal(args.set.items[1], "l=2");
    assert_int_equal(operands.count, 5);
    assert_string_equal(operands.items[1], "b");
    assert_string_equal(operands.items[2], "-");
    assert_string_equal(operands.items[3], "--json");
    assert_false(args.json);
    assert_false(operands.help);
}

static void help_is_always_there(void **state) {
    (void)state;
    assert_int_equal(parse("--help"), STATUS_OK);
    assert_true(operands.help);
    assert_int_equal(parse("-h --wrong"), STATUS_OK);
    assert_true(operands.help);
}

static void refusals(void **state) {
    (void)state;
    refused("--device gpu", "--device must be auto, cpu or cuda, not 'gpu'");
    refused("--device cp", "--device must be auto, cpu or cuda, not 'cp'");
    refused("--device cpu|cuda", "--device must be auto, cpu or cuda, not 'cpu|cuda'");
    refused("--device=", "--device must be auto, cpu or cuda, not ''");
    refused("--rank 4", "unknown option '--rank'; did you mean '--ranks'?");
    refused("--zzzzzzzzzzzz=4", "unknown option '--zzzzzzzzzzzz'; --help lists the options");
    refused("--no-ranks", "unknown option '--no-ranks'; did you mean '--ranks'?");
    refused("-x", "unknown option '-x'; --help lists the options");
    refused("--ranks", "--ranks needs a value: --ranks=N");
    refused("--output --json", "--output needs a value: --output=FILE");
    refused("--json=1", "--json takes no value; --no-json turns it off");
    refused("--ranks 0", "--ranks must be an integer from 1 to 1024, not '0'");
    refused("--ranks 1025", "--ranks must be an integer from 1 to 1024, not '1025'");
    refused("--ranks 4x", "--ranks must be an integer from 1 to 1024, not '4x'");
    refused("--ranks=", "--ranks must be an integer from 1 to 1024, not ''");
    refused("--any 99999999999999999999", "--any must be an integer, not '99999999999999999999'");
}

static void counts_are_bounded(void **state) {
    (void)state;
    char line[2048] = "";
    for (int i = 0; i < OPTION_LIST_MAX + 1; i++)
        snprintf(line + 5 * i, 6, " -s a");
    assert_int_equal(parse(line), STATUS_TOO_LARGE);
    line[0] = '\0';
    for (int i = 0; i < OPERANDS_MAX + 1; i++)
        snprintf(line + 2 * i, 3, " a");
    assert_int_equal(parse(line), STATUS_TOO_LARGE);
}

static void help_text(void **state) {
    (void)state;
    static const struct command_help help = {
        .usage = "prog [options]", .summary = "Does it.", .details = "Exit code 0."};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    options_help(f, &help, rows);
    fclose(f);
    assert_string_equal(text, "usage: prog [options]\n"
                              "\n"
                              "Does it.\n"
                              "\n"
                              "options:\n"
                              "  -n, --ranks N               number of ranks\n"
                              "      --any N                 any integer\n"
                              "  -j, --json                  print JSON\n"
                              "  -c, --color                 use colours\n"
                              "  -o, --output FILE           write there\n"
                              "  -s, --set KEY=V             override\n"
                              "  -d, --device auto|cpu|cuda  compute there\n"
                              "      --help                  show this text\n"
                              "\n"
                              "Exit code 0.\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_spellings),      cmocka_unit_test(choices),
        cmocka_unit_test(lists_and_operands), cmocka_unit_test(help_is_always_there),
        cmocka_unit_test(refusals),           cmocka_unit_test(counts_are_bounded),
        cmocka_unit_test(help_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
