/* YAML and JSON texts, whole ones broken byte by byte.
 *
 * Promises: a text gives a tree or a refusal with words, never a crash; a tree is well formed
 * (depth, unique keys, NUL after strings, positions in YAML); a tree that has a JSON form comes
 * back from it the same, in each style, and the canonical form is its own. */
#include <math.h>

#include "core/json.h"
#include "core/yaml.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_CAP  ((size_t)1 << 14)
#define ARENA_CAP ((size_t)8 << 20)

static struct arena arena;
static char text[TEXT_CAP + 1];

static const char *const yaml_seeds[] = {
    "name: fashion\nhyperparameters:\n  lr: {type: log, minval: 1.0e-3, maxval: 1.0}\n"
    "  act: {type: categorical, vals: [relu, gelu]}\nsearcher:\n  name: asha   # comment\n"
    "model:\n  - {dense: {out: \"${hidden}\"}}\n  - \"${act}\"\n  - {dropout: {rate: 0x10}}\n",
    "a: |\n  block\n  text\nb: >-\n  folded\n  text\nc: 'it''s'\nd: \"tab\\t\\u00e9\\x41\"\n"
    "e: [1, -2, 3.5, .inf, -.inf, .nan, ~, null, true, False, 0o17, 1e3]\nf: {}\ng: []\n",
    "- 1\n- - 2\n  - 3\n- ? complex\n  : value\n- !!str tagged\n- &anchor x\n- *anchor\n",
    "---\na: 1\n...\n---\nb: 2\n",
};

static const char *const json_seeds[] = {
    "{\"v\":1,\"id\":\"c1-42\",\"op\":\"run.metrics\",\"points\":500,\"x\":[1,2.5,-3e-7,null,true]"
    "}",
    "[[[[{\"a\":{\"b\":[{}]}}]]],\"\\u00e9\\ud83d\\ude00\\n\\\\\",9223372036854775807,0.1]",
    "{\"a\":-9223372036854775808,\"b\":1.7976931348623157e308,\"c\":5e-324,\"d\":-0.0}",
    "\"text\"",
};

static const char *const words[] = {
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    ",",
    "- ",
    "? ",
    "\n",
    "\n  ",
    "\t",
    "#",
    "&a ",
    "*a",
    "!!int ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "\"",
    "'",
    "\\",
    "%YAML 1.1\n",
    "<<: ",
    "null",
    ".nan",
    ".inf",
    "-.inf",
    "1e400",
    "0x7fffffffffffffff1",
    "1e-320",
    "-0.0",
    "\xef\xbb\xbf",
    "\xff",
    "\x80",
    "\xc3",
    "\\u0000",
    "\\ud800",
    "a: ",
    "[[[[[[[[",
    "{a: {a: {a: {",
    "- - - - - - ",
    "\r",
    "\x01",
};
#define WORD_COUNT (sizeof words / sizeof words[0])
#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))

/* ---- promises ---- */

static void check_tree(struct fuzz *f, const struct value *v, int depth, bool placed) {
    FUZZ_CHECK(f, v != NULL && !v->broken && depth <= VALUE_DEPTH_MAX);
    FUZZ_CHECK(f, !placed || (v->line > 0 && v->column > 0));
    if (v->kind == VALUE_STRING)
        FUZZ_CHECK(f, strlen(v->string) == v->count);
    if (v->kind == VALUE_LIST)
        for (size_t i = 0; i < v->count; i++)
            check_tree(f, v->items[i], depth + 1, placed);
    if (v->kind == VALUE_MAP)
        for (size_t i = 0; i < v->count; i++) {
            FUZZ_CHECK(f, value_get(v, v->members[i].key) == v->members[i].value);
            check_tree(f, v->members[i].value, depth + 1, placed);
        }
}

static bool has_no_json(const struct value *v) {
    if (v->kind == VALUE_REAL)
        return !isfinite(v->real);
    bool found = false;
    for (size_t i = 0; i < v->count && !found; i++) {
        if (v->kind == VALUE_LIST)
            found = has_no_json(v->items[i]);
        else if (v->kind == VALUE_MAP)
            found = has_no_json(v->members[i].value);
    }
    return found;
}

static void check_dump(struct fuzz *f, const struct value *v) {
    static const enum json_style styles[] = {JSON_COMPACT, JSON_PRETTY, JSON_CANONICAL};
    for (size_t i = 0; i < COUNT(styles); i++) {
        struct buf out = BUF_INIT(JSON_TEXT_MAX), again = BUF_INIT(JSON_TEXT_MAX);
        struct err err;
        enum status st = json_dump(v, styles[i], &out, &err);
        if (has_no_json(v)) {
            FUZZ_CHECK(f, st == STATUS_INVALID);
        } else {
            struct value *back = NULL;
            FUZZ_CHECK(f, st == STATUS_OK);
            st = json_parse(&arena, out.data, out.len, "dump", &back, &err);
            FUZZ_CHECK(f, st == STATUS_OK && value_equal(back, v));
            st = json_dump(back, styles[i], &again, &err);
            FUZZ_CHECK(f, st == STATUS_OK && again.len == out.len &&
                              memcmp(again.data, out.data, out.len) == 0);
        }
        buf_release(&out);
        buf_release(&again);
    }
}

static void check_text(struct fuzz *f, size_t len, bool yaml) {
    struct value *v = NULL;
    struct err err = {.status = STATUS_OK};
    f->input = text;
    f->input_len = len;
    /* The exact length on the heap: a sanitizer sees a read past it. */
    char *exact = malloc(len > 0 ? len : 1);
    FUZZ_CHECK(f, exact != NULL);
    memcpy(exact, text, len);
    enum status st = yaml ? yaml_parse(&arena, exact, len, "f.yaml", &v, &err)
                          : json_parse(&arena, exact, len, "text", &v, &err);
    free(exact);
    if (st != STATUS_OK) {
        FUZZ_CHECK(f, st == err.status && err.text[0] != '\0');
        FUZZ_CHECK(f, st == STATUS_INVALID || st == STATUS_TOO_LARGE);
        return;
    }
    check_tree(f, v, 0, yaml && len > 0 && v->count > 0);
    check_dump(f, v);
}

static void one_round(struct fuzz *f) {
    bool yaml = fuzz_chance(f, 2);
    const char *seed = yaml ? yaml_seeds[fuzz_below(f, COUNT(yaml_seeds))]
                            : json_seeds[fuzz_below(f, COUNT(json_seeds))];
    size_t len = strlen(seed);
    memcpy(text, seed, len);
    for (int i = 0; i < 4; i++) {
        check_text(f, len, yaml);
        len = fuzz_mutate(f, text, len, TEXT_CAP, words, WORD_COUNT);
    }
}

int main(void) {
    struct fuzz f = fuzz_start("fuzz_yaml_json");
    arena_init(&arena, ARENA_CAP);
    while (fuzz_go_on(&f)) {
        arena_clear(&arena);
        one_round(&f);
    }
    arena_release(&arena);
    return fuzz_end(&f);
}
