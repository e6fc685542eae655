/* YAML by libyaml: one document to a value tree, with line and column. */
#include "core/yaml.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "core/buf.h"
#include "core/path.h"

#define YAML_KEYS_MAX 4096 /* members of one map: duplicates are looked for one by one */

/* A container that is open, and in a map the key whose value comes next. */
struct level {
    struct value *node;
    const char *key; /* NULL: a key comes next */
    yaml_mark_t key_mark;
};

struct load {
    struct arena *arena;
    const char *file; /* NULL: a value, not a document */
    struct err *err;
    struct value *root; /* NULL until the document has one */
    struct level stack[VALUE_DEPTH_MAX];
    int depth;
    bool done;
};

static enum status fail(const struct load *l, const yaml_mark_t *at, const char *what) {
    if (l->file == NULL)
        return err_set(l->err, STATUS_INVALID, "%s (at character %zu)", what, at->column + 1);
    return err_set(l->err, STATUS_INVALID, "%s:%zu:%zu: %s", l->file, at->line + 1, at->column + 1,
                   what);
}

static enum status no_memory(const struct load *l) {
    return err_set(l->err, STATUS_NOMEM, "%s: out of memory", l->file != NULL ? l->file : "value");
}

/* ---- plain scalars: the core schema, YAML 1.2.2, section 10.3.2 ---- */

static bool among(const char *s, const char *const *words) {
    for (; *words != NULL; words++)
        if (strcmp(s, *words) == 0)
            return true;
    return false;
}

static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const trues[] = {"true", "True", "TRUE", NULL};
static const char *const falses[] = {"false", "False", "FALSE", NULL};
static const char *const infs[] = {".inf", ".Inf", ".INF", NULL};
static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};

#define DIGITS "0123456789"

/* The base of an integer, 0 when it is none; *digits is where its digits begin. */
static int integer_base(const char *s, const char **digits) {
    static const struct {
        const char *prefix, *set;
        int base;
    } forms[] = {{"0o", "01234567", 8}, {"0x", DIGITS "abcdefABCDEF", 16}};
    for (size_t i = 0; i < 2; i++) {
        *digits = s + 2;
        if (strncmp(s, forms[i].prefix, 2) == 0 && s[2] != '\0' &&
            s[2 + strspn(s + 2, forms[i].set)] == '\0')
            return forms[i].base;
    }
    *digits = s;
    s += *s == '-' || *s == '+';
    return *s != '\0' && s[strspn(s, DIGITS)] == '\0' ? 10 : 0;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool looks_real(const char *s) {
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, DIGITS);
    s += whole;
    size_t part = 0;
    if (*s == '.') {
        part = strspn(s + 1, DIGITS);
        s += 1 + part;
    }
    if (whole + part == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t exponent = strspn(s, DIGITS);
        if (exponent == 0)
            return false;
        s += exponent;
    }
    return *s == '\0';
}

/* strtod without the locale of a host program. glibc has the C locale built in: newlocale for it
 * neither allocates nor fails. */
static double to_double(const char *s) {
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double v = c != (locale_t)0 ? strtod_l(s, NULL, c) : strtod(s, NULL);
    if (c != (locale_t)0)
        freelocale(c);
    return v;
}

static enum status plain_number(struct load *l, const yaml_event_t *e, const char *s,
                                struct value **out) {
    const char *digits;
    int base = integer_base(s, &digits);
    if (base != 0) {
        errno = 0;
        long long i = strtoll(digits, NULL, base);
        if (errno != 0)
            return fail(l, &e->start_mark, "the integer does not fit 64 bits (text needs quotes)");
        *out = value_int(l->arena, i);
        return STATUS_OK;
    }
    double d = to_double(s);
    if (isinf(d))
        return fail(l, &e->start_mark, "the number is too large for a double");
    size_t mantissa = strcspn(s, "eE");
    if (d == 0 && strcspn(s, "123456789") < mantissa)
        return fail(l, &e->start_mark, "the number is too small for a double: it would be zero");
    *out = value_real(l->arena, d);
    return STATUS_OK;
}

static enum status plain_scalar(struct load *l, const yaml_event_t *e, const char *s,
                                struct value **out) {
    const char *digits;
    const char *behind_sign = s + (*s == '-' || *s == '+');
    if (among(s, nulls))
        *out = value_null(l->arena);
    else if (among(s, trues) || among(s, falses))
        *out = value_bool(l->arena, among(s, trues));
    else if (among(s, nans))
        *out = value_real(l->arena, (double)NAN);
    else if (among(behind_sign, infs))
        *out = value_real(l->arena, *s == '-' ? -(double)INFINITY : (double)INFINITY);
    else if (integer_base(s, &digits) != 0 || looks_real(s))
        return plain_number(l, e, s, out);
    else
        *out = value_string(l->arena, s);
    return STATUS_OK;
}

/* ---- the tree ---- */

static enum status take_key(struct load *l, const yaml_event_t *e, struct level *top) {
    const char *s = (const char *)e->data.scalar.value;
    if (*s == '\0')
        return fail(l, &e->start_mark, "a key is missing before ':'");
    struct value *before = value_get(top->node, s);
    if (before != NULL) {
        char what[160];
        (void)snprintf(what, sizeof what, "duplicate key '%.100s'; its first value is at line %u",
                       s, before->line);
        return fail(l, &e->start_mark, what);
    }
    if (top->node->count == YAML_KEYS_MAX)
        return fail(l, &e->start_mark, "more than 4096 keys in a map");
    top->key = arena_strdup(l->arena, s);
    top->key_mark = e->start_mark;
    return top->key != NULL ? STATUS_OK : no_memory(l);
}

/* Hangs a node where it belongs: below the open container, or as the root. */
static enum status place(struct load *l, const yaml_event_t *e, struct value *v) {
    if (v == NULL)
        return no_memory(l);
    v->line = (uint32_t)e->start_mark.line + 1;
    v->column = (uint32_t)e->start_mark.column + 1;
    if (l->depth == 0) {
        l->root = v;
        return STATUS_OK;
    }
    struct level *top = &l->stack[l->depth - 1];
    if (top->node->kind == VALUE_LIST) {
        value_push(l->arena, top->node, v);
    } else {
        struct member like = {.key = top->key,
                              .line = (uint32_t)top->key_mark.line + 1,
                              .column = (uint32_t)top->key_mark.column + 1};
        value_append_like(l->arena, top->node, &like, v);
        top->key = NULL;
    }
    return top->node->broken ? no_memory(l) : STATUS_OK;
}

static bool wants_key(const struct load *l) {
    return l->depth > 0 && l->stack[l->depth - 1].node->kind == VALUE_MAP &&
           l->stack[l->depth - 1].key == NULL;
}

static enum status on_scalar(struct load *l, const yaml_event_t *e) {
    const char *s = (const char *)e->data.scalar.value;
    if (e->data.scalar.anchor != NULL)
        return fail(l, &e->start_mark, "anchors are not supported; write the value out");
    if (e->data.scalar.tag != NULL)
        return fail(l, &e->start_mark, "tags are not supported; leave it out");
    if (strlen(s) != e->data.scalar.length)
        return fail(l, &e->start_mark, "a string holds a NUL");
    if (wants_key(l))
        return take_key(l, e, &l->stack[l->depth - 1]);
    struct value *v = NULL;
    if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        enum status st = plain_scalar(l, e, s, &v);
        if (st != STATUS_OK)
            return st;
    } else {
        v = value_string(l->arena, s);
    }
    return place(l, e, v);
}

static enum status on_start(struct load *l, const yaml_event_t *e, const void *anchor,
                            const void *tag, struct value *v) {
    if (anchor != NULL)
        return fail(l, &e->start_mark, "anchors are not supported; write the value out");
    if (tag != NULL)
        return fail(l, &e->start_mark, "tags are not supported; leave it out");
    if (wants_key(l))
        return fail(l, &e->start_mark, "a key must be a plain word or a string");
    if (l->depth == VALUE_DEPTH_MAX)
        return fail(l, &e->start_mark, "nested too deep (32 levels)");
    enum status st = place(l, e, v);
    if (st == STATUS_OK)
        l->stack[l->depth++] = (struct level){.node = v};
    return st;
}

static enum status on_event(struct load *l, const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(l, e);
    case YAML_MAPPING_START_EVENT:
        return on_start(l, e, e->data.mapping_start.anchor, e->data.mapping_start.tag,
                        value_map(l->arena));
    case YAML_SEQUENCE_START_EVENT:
        return on_start(l, e, e->data.sequence_start.anchor, e->data.sequence_start.tag,
                        value_list(l->arena));
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        l->depth--;
        return STATUS_OK;
    case YAML_ALIAS_EVENT:
        return fail(l, &e->start_mark, "aliases are not supported; write the value out");
    case YAML_DOCUMENT_START_EVENT:
        return l->root == NULL ? STATUS_OK
                               : fail(l, &e->start_mark, "a second document; a file holds one");
    case YAML_STREAM_END_EVENT:
        l->done = true;
        return STATUS_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return STATUS_OK;
    }
    return STATUS_OK;
}

static enum status parser_failed(const struct load *l, const yaml_parser_t *p) {
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(l);
    if (p->error == YAML_READER_ERROR)
        return err_set(l->err, STATUS_INVALID, "%s%sbyte %zu: %s", l->file != NULL ? l->file : "",
                       l->file != NULL ? ": " : "", p->problem_offset, p->problem);
    char what[256];
    (void)snprintf(what, sizeof what, "%s%s%s", p->problem != NULL ? p->problem : "not YAML",
                   p->context != NULL ? " " : "", p->context != NULL ? p->context : "");
    return fail(l, &p->problem_mark, what);
}

static enum status run(struct load *l, yaml_parser_t *p) {
    enum status st = STATUS_OK;
    while (st == STATUS_OK && !l->done) {
        yaml_event_t e;
        if (!yaml_parser_parse(p, &e))
            return parser_failed(l, p);
        st = on_event(l, &e);
        yaml_event_delete(&e);
    }
    return st;
}

/* An empty document, or one of nothing but comments, is an empty map. */
static enum status finish(struct load *l, struct value **out) {
    struct value *root = l->root;
    if (root == NULL || (root->kind == VALUE_NULL && l->file != NULL)) {
        root = value_map(l->arena);
        if (root == NULL)
            return no_memory(l);
        root->line = root->column = 1;
    }
    *out = root;
    return STATUS_OK;
}

/* What some editors put in front of UTF-8. It is no part of the text. */
static const char bom[] = "\xEF\xBB\xBF";

enum status yaml_parse(struct arena *a, const char *text, size_t len, const char *file,
                       struct value **out, struct err *err) {
    if (len > YAML_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s: %zu bytes of YAML, the maximum is %zu",
                       file != NULL ? file : "value", len, YAML_TEXT_MAX);
    struct load l = {.arena = a, .file = file, .err = err};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return no_memory(&l);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    size_t mark =
        len >= sizeof bom - 1 && memcmp(text, bom, sizeof bom - 1) == 0 ? sizeof bom - 1 : 0;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text + mark, len - mark);
    enum status st = run(&l, &parser);
    yaml_parser_delete(&parser);
    return st == STATUS_OK ? finish(&l, out) : st;
}

enum status yaml_load(struct arena *a, const char *path, struct value **out, struct err *err) {
    struct buf text = BUF_INIT(YAML_TEXT_MAX);
    enum status st = path_read(path, &text, err);
    if (st == STATUS_OK)
        st = yaml_parse(a, buf_text(&text), text.len, path, out, err);
    buf_release(&text);
    return st;
}
