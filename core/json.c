/* JSON by jansson: texts to value trees with line and column, trees to texts. */
#include "core/json.h"

#include <assert.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/utf8.h"

/* ---- parsing ---- */

/* jansson 2.14 loses some of its own allocation failures: a byte that could not be saved is
 * dropped, a failed string reads as "invalid token". So its allocations come through here and leave
 * a mark. */
static _Thread_local bool out_of_memory;

static void *marking_malloc(size_t bytes) {
    void *p = malloc(bytes);
    out_of_memory |= p == NULL;
    return p;
}

static void install_allocator(void) {
    json_set_alloc_funcs(marking_malloc, free);
}

/* A walk over the text beside the tree. jansson keeps no positions, but it keeps the order. */
struct cursor {
    const char *p, *end;
    uint32_t line, column; /* of *p; columns count characters */
};

static void step(struct cursor *c) {
    if (*c->p == '\n') {
        c->line++;
        c->column = 1;
    } else if (((unsigned char)*c->p & 0xC0) != 0x80) {
        c->column++;
    }
    c->p++;
}

static void skip_string(struct cursor *c) {
    for (step(c); c->p < c->end && *c->p != '"'; step(c))
        if (*c->p == '\\' && c->p + 1 < c->end)
            step(c);
    if (c->p < c->end)
        step(c);
}

static void skip_any(struct cursor *c, const char *set) {
    while (c->p < c->end && *c->p != '\0' && strchr(set, *c->p) != NULL)
        step(c);
}

static void skip_scalar(struct cursor *c) {
    if (c->p < c->end && *c->p == '"')
        skip_string(c);
    else
        while (c->p < c->end && strchr(",]} \t\r\n", *c->p) == NULL)
            step(c);
}

#define BETWEEN " \t\r\n,:"

/* Refuses depth before jansson recurses into it, and NUL bytes, which it skips behind a number. */
static enum status check_outline(struct cursor c, const char *where, struct err *err) {
    int depth = 0;
    while (c.p < c.end) {
        if (*c.p == '"') {
            skip_string(&c);
            continue;
        }
        if ((*c.p == '{' || *c.p == '[') && ++depth > VALUE_DEPTH_MAX)
            return err_set(err, STATUS_INVALID, "%s:%u:%u: nested deeper than %d levels", where,
                           c.line, c.column, VALUE_DEPTH_MAX);
        if (*c.p == '}' || *c.p == ']')
            depth--;
        if (*c.p == '\0')
            return err_set(err, STATUS_INVALID, "%s:%u:%u: a NUL byte", where, c.line, c.column);
        step(&c);
    }
    return STATUS_OK;
}

static struct value *convert(struct arena *a, json_t *j, struct cursor *c);

static struct value *convert_list(struct arena *a, json_t *j, struct cursor *c) {
    struct value *list = value_list(a);
    step(c);
    for (size_t i = 0; list != NULL && i < json_array_size(j); i++) {
        value_push(a, list, convert(a, json_array_get(j, i), c));
        if (list->broken)
            return NULL;
    }
    skip_any(c, BETWEEN);
    step(c);
    return list;
}

static struct value *convert_map(struct arena *a, json_t *j, struct cursor *c) {
    struct value *map = value_map(a);
    step(c);
    for (void *i = json_object_iter(j); map != NULL && i != NULL; i = json_object_iter_next(j, i)) {
        skip_any(c, BETWEEN);
        struct member like = {.key = json_object_iter_key(i), .line = c->line, .column = c->column};
        skip_string(c);
        value_append_like(a, map, &like, convert(a, json_object_iter_value(i), c));
        if (map->broken)
            return NULL;
    }
    skip_any(c, BETWEEN);
    step(c);
    return map;
}

/* Recursion: check_outline has bounded it. */
static struct value *convert(struct arena *a, json_t *j, struct cursor *c) {
    skip_any(c, BETWEEN);
    uint32_t line = c->line, column = c->column;
    struct value *v = NULL;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        v = convert_map(a, j, c);
        break;
    case JSON_ARRAY:
        v = convert_list(a, j, c);
        break;
    case JSON_STRING:
        v = value_bytes(a, json_string_value(j), json_string_length(j));
        break;
    case JSON_INTEGER:
        v = value_int(a, json_integer_value(j));
        break;
    case JSON_REAL:
        v = value_real(a, json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        v = value_bool(a, json_is_true(j));
        break;
    case JSON_NULL:
        v = value_null(a);
        break;
    }
    if (v == NULL)
        return NULL;
    if (v->kind != VALUE_LIST && v->kind != VALUE_MAP)
        skip_scalar(c);
    v->line = line;
    v->column = column;
    return v;
}

enum status json_parse(struct arena *a, const char *text, size_t len, const char *where,
                       struct value **out, struct err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_allocator);
    if (len > JSON_TEXT_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s: %zu bytes of JSON, the maximum is %zu", where,
                       len, JSON_TEXT_MAX);
    struct cursor c = {.p = text, .end = text + len, .line = 1, .column = 1};
    enum status st = check_outline(c, where, err);
    if (st != STATUS_OK)
        return st;
    json_error_t why;
    out_of_memory = false;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    struct value *v = j != NULL && !out_of_memory ? convert(a, j, &c) : NULL;
    if (v != NULL)
        *out = v;
    else if (j != NULL || out_of_memory)
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", where);
    else
        st = err_set(err, STATUS_INVALID, "%s:%d:%d: %s", where, why.line, why.column, why.text);
    json_decref(j);
    return st;
}

/* ---- dumping ---- */

struct dump {
    struct buf *out;
    enum json_style style;
    struct err *err;
};

static enum status dump_string(struct dump *d, const char *s, size_t len) {
    buf_addc(d->out, '"');
    size_t plain = 0; /* s[plain … i) needs no escape */
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '\0')
            return err_set(d->err, STATUS_INVALID,
                           "a string with a NUL byte cannot be written as JSON");
        if (c >= 0x80) {
            size_t n = utf8_length(s + i, len - i);
            if (n == 0)
                return err_set(d->err, STATUS_INVALID,
                               "a string that is not UTF-8 cannot be written as JSON");
            i += n - 1;
            continue;
        }
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(d->out, s + plain, i - plain);
        plain = i + 1;
        if (c == '"' || c == '\\')
            buf_addf(d->out, "\\%c", c);
        else if (c == '\n')
            buf_adds(d->out, "\\n");
        else if (c == '\t')
            buf_adds(d->out, "\\t");
        else
            buf_addf(d->out, "\\u%04x", (unsigned)c);
    }
    buf_add(d->out, s + plain, len - plain);
    buf_addc(d->out, '"');
    return STATUS_OK;
}

static enum status dump_real(struct dump *d, double v) {
    if (!isfinite(v))
        return err_set(d->err, STATUS_INVALID, "%s cannot be written as JSON",
                       isnan(v) ? "NaN" : "Inf");
    char text[40];
    for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (memcmp(&back, &v, sizeof v) == 0)
            break;
    }
    char *point = strstr(text, localeconv()->decimal_point);
    if (point != NULL && *point != '.') { /* a host program may have set a locale */
        size_t len = strlen(localeconv()->decimal_point);
        *point = '.';
        memmove(point + 1, point + len, strlen(point + len) + 1);
    }
    buf_adds(d->out, text);
    if (strpbrk(text, ".e") == NULL)
        buf_adds(d->out, ".0"); /* so that it comes back as a real */
    return STATUS_OK;
}

static void newline(struct dump *d, int depth) {
    if (d->style == JSON_PRETTY)
        buf_addf(d->out, "\n%*s", 2 * depth, "");
}

static enum status dump_value(struct dump *d, const struct value *v, int depth);

static enum status dump_list(struct dump *d, const struct value *v, int depth) {
    enum status st = STATUS_OK;
    buf_addc(d->out, '[');
    for (size_t i = 0; i < v->count && st == STATUS_OK; i++) {
        if (i > 0)
            buf_addc(d->out, ',');
        newline(d, depth + 1);
        st = dump_value(d, v->items[i], depth + 1);
    }
    if (v->count > 0)
        newline(d, depth);
    buf_addc(d->out, ']');
    return st;
}

static enum status dump_member(struct dump *d, const struct member *m, int depth) {
    enum status st = dump_string(d, m->key, strlen(m->key));
    if (st != STATUS_OK)
        return st;
    buf_adds(d->out, d->style == JSON_PRETTY ? ": " : ":");
    st = dump_value(d, m->value, depth);
    return st == STATUS_INVALID ? err_wrap(d->err, st, "%s", m->key) : st; /* says where */
}

static int by_key(const void *a, const void *b) {
    const struct member *const *x = a;
    const struct member *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static enum status dump_map(struct dump *d, const struct value *v, int depth) {
    enum status st = STATUS_OK;
    const struct member **order = NULL;
    if (d->style == JSON_CANONICAL && v->count > 1) {
        order = calloc(v->count, sizeof *order);
        if (order == NULL)
            return err_set(d->err, STATUS_NOMEM, "sort %zu keys: out of memory", v->count);
        for (size_t i = 0; i < v->count; i++)
            order[i] = &v->members[i];
        qsort(order, v->count, sizeof *order, by_key);
    }
    buf_addc(d->out, '{');
    for (size_t i = 0; i < v->count && st == STATUS_OK; i++) {
        if (i > 0)
            buf_addc(d->out, ',');
        newline(d, depth + 1);
        st = dump_member(d, order != NULL ? order[i] : &v->members[i], depth + 1);
    }
    if (v->count > 0)
        newline(d, depth);
    buf_addc(d->out, '}');
    free(order);
    return st;
}

static enum status dump_container(struct dump *d, const struct value *v, int depth) {
    if (v->broken)
        return err_set(d->err, STATUS_NOMEM, "a %s was built without enough memory",
                       value_kind_name(v->kind));
    if (depth >= VALUE_DEPTH_MAX)
        return err_set(d->err, STATUS_INVALID, "nested deeper than %d levels", VALUE_DEPTH_MAX);
    return v->kind == VALUE_LIST ? dump_list(d, v, depth) : dump_map(d, v, depth);
}

static enum status dump_value(struct dump *d, const struct value *v, int depth) {
    switch (v->kind) {
    case VALUE_NULL:
        buf_adds(d->out, "null");
        return STATUS_OK;
    case VALUE_BOOL:
        buf_adds(d->out, v->boolean ? "true" : "false");
        return STATUS_OK;
    case VALUE_INT:
        buf_addf(d->out, "%lld", (long long)v->integer);
        return STATUS_OK;
    case VALUE_REAL:
        return dump_real(d, v->real);
    case VALUE_STRING:
        return dump_string(d, v->string, v->count);
    case VALUE_LIST:
    case VALUE_MAP:
        return dump_container(d, v, depth);
    }
    return err_set(d->err, STATUS_INTERNAL, "a value of unknown kind");
}

enum status json_dump(const struct value *v, enum json_style style, struct buf *out,
                      struct err *err) {
    if (v == NULL)
        return err_set(err, STATUS_NOMEM, "the tree was built without enough memory");
    struct dump d = {.out = out, .style = style, .err = err};
    enum status st = dump_value(&d, v, 0);
    if (st != STATUS_OK)
        return st;
    if (style == JSON_PRETTY)
        buf_addc(out, '\n');
    return buf_status(out, "JSON", err);
}
