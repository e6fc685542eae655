/* Tables and short texts for people. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/text.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/utf8.h"
#include "core/yaml.h"

/* ---- escaping ---- */

/* The length of the character at `s`; 0: the end. *plain: it can be shown as it is. */
static size_t next_character(const char *s, const char *end, bool *plain) {
    size_t n = utf8_length(s, (size_t)(end - s));
    *plain = n > 0 && !utf8_is_control(utf8_code(s, n));
    return s == end ? 0 : n > 0 ? n : 1;
}

static void escape(const char *s, size_t n, struct buf *out) {
    static const char shorts[] = "\n\t\r", letters[] = "ntr";
    const char *found = *s != '\0' ? strchr(shorts, *s) : NULL;
    uint32_t code = n > 1 ? utf8_code(s, n) : (unsigned char)*s;
    if (found != NULL)
        buf_addf(out, "\\%c", letters[found - shorts]);
    else
        buf_addf(out, code < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)code);
}

static void escape_all(const char *text, size_t len, const char *kept, struct buf *out) {
    const char *end = text + len;
    bool plain;
    for (size_t n; (n = next_character(text, end, &plain)) > 0; text += n) {
        if (plain || (*text != '\0' && strchr(kept, *text) != NULL))
            buf_add(out, text, n);
        else
            escape(text, n, out);
    }
}

const char *text_safe(struct arena *a, const char *text) {
    size_t len = text != NULL ? strlen(text) : 0;
    if (text == NULL || utf8_printable(text, len) == len)
        return text;
    struct buf b = BUF_INIT(8 * len + 16);
    escape_all(text, len, "", &b);
    const char *copy = arena_strdup(a, buf_text(&b));
    buf_release(&b);
    return copy != NULL ? copy : "";
}

void text_print_safe(const char *text, FILE *to) {
    struct buf b = BUF_INIT(8 * strlen(text) + 16);
    escape_all(text, strlen(text), "\n", &b);
    (void)fputs(buf_text(&b), to);
    buf_release(&b);
}

void text_print_json(const char *json, size_t len, FILE *to) {
    const char *end = json + len, *from = json;
    bool plain;
    for (size_t n; (n = next_character(json, end, &plain)) > 0; json += n) {
        if (plain || *json == '\n')
            continue;
        (void)fwrite(from, 1, (size_t)(json - from), to);
        (void)fprintf(to, "\\u%04x", (unsigned)utf8_code(json, n));
        from = json + n;
    }
    (void)fwrite(from, 1, (size_t)(end - from), to);
}

/* ---- tables ---- */

struct row {
    const char *cells[TABLE_COLUMNS_MAX];
    struct row *next;
};

struct table {
    struct arena *arena;
    const char *titles[TABLE_COLUMNS_MAX];
    size_t columns;
    size_t width[TABLE_COLUMNS_MAX];
    bool number[TABLE_COLUMNS_MAX];
    struct row *first, *last;
};

/* Characters, not bytes: continuation bytes of UTF-8 take no place. */
static size_t text_width(const char *s) {
    size_t n = 0;
    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static bool looks_like_number(const char *s) {
    if (*s == '\0' || strcmp(s, "-") == 0)
        return true;
    for (; *s != '\0'; s++)
        if (!isdigit((unsigned char)*s) && strchr("+-.eE%", *s) == NULL)
            return false;
    return true;
}

struct table *table_new(struct arena *a, const char *const *titles, size_t columns) {
    struct table *t = arena_take(a, sizeof *t);
    if (t == NULL || columns > TABLE_COLUMNS_MAX)
        return NULL;
    *t = (struct table){.arena = a, .columns = columns};
    for (size_t i = 0; i < columns; i++) {
        t->titles[i] = text_safe(a, titles[i]);
        t->width[i] = text_width(t->titles[i]);
        t->number[i] = true;
    }
    return t;
}

void table_row(struct table *t, const char *const *cells) {
    struct row *r = t != NULL ? arena_take(t->arena, sizeof *r) : NULL;
    if (r == NULL)
        return;
    for (size_t i = 0; i < t->columns; i++) {
        const char *copy =
            cells[i] != NULL ? text_safe(t->arena, arena_strdup(t->arena, cells[i])) : "";
        r->cells[i] = copy != NULL ? copy : "";
        size_t w = text_width(r->cells[i]);
        t->width[i] = w > t->width[i] ? w : t->width[i];
        t->number[i] = t->number[i] && looks_like_number(r->cells[i]);
    }
    r->next = NULL;
    if (t->last != NULL)
        t->last->next = r;
    else
        t->first = r;
    t->last = r;
}

static void print_cells(const struct table *t, const char *const *cells, FILE *to) {
    for (size_t i = 0; i < t->columns; i++) {
        int pad = (int)(t->width[i] - text_width(cells[i]));
        bool last = i + 1 == t->columns;
        if (t->number[i])
            (void)fprintf(to, "%*s%s", pad, "", cells[i]);
        else
            (void)fprintf(to, "%s%*s", cells[i], last ? 0 : pad, "");
        (void)fputs(last ? "\n" : "  ", to);
    }
}

void table_print(const struct table *t, FILE *to, bool colour) {
    if (t == NULL)
        return;
    (void)fputs(colour ? "\033[1m" : "", to);
    print_cells(t, t->titles, to);
    (void)fputs(colour ? "\033[0m" : "", to);
    for (const struct row *r = t->first; r != NULL; r = r->next)
        print_cells(t, r->cells, to);
}

/* ---- texts ---- */

const char *text_duration(struct arena *a, int64_t ns) {
    long long s = (long long)(ns / NS_PER_S);
    const char *text;
    if (s < 60)
        text = arena_printf(a, "%.1fs", (double)ns / 1e9);
    else if (s < 3600)
        text = arena_printf(a, "%lldm %02llds", s / 60, s % 60);
    else
        text = arena_printf(a, "%lldh %02lldm", s / 3600, s / 60 % 60);
    return text != NULL ? text : "";
}

const char *text_bytes(struct arena *a, int64_t bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1000 && u + 1 < sizeof units / sizeof *units; u++)
        v /= 1000;
    const char *text = arena_printf(a, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return text != NULL ? text : "";
}

const char *text_time(struct arena *a, int64_t wall_ns) {
    if (wall_ns <= 0)
        return "-";
    time_t s = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    char out[32] = "";
    if (localtime_r(&s, &tm) != NULL)
        (void)strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S", &tm);
    const char *text = arena_strdup(a, out);
    return text != NULL ? text : "";
}

const char *text_colour(struct arena *a, bool on, const char *code, const char *text) {
    const char *out = on ? arena_printf(a, "\033[%sm%s\033[0m", code, text) : text;
    return out != NULL ? out : text;
}

const char *text_scalar(struct arena *a, const struct value *v) {
    if (v == NULL || v->kind == VALUE_NULL)
        return "-";
    if (v->kind == VALUE_STRING)
        return text_safe(a, v->string);
    if (v->kind == VALUE_REAL)
        return arena_printf(a, "%.6g", v->real);
    if (v->kind == VALUE_INT)
        return arena_printf(a, "%lld", (long long)v->integer);
    return v->kind == VALUE_BOOL ? (v->boolean ? "true" : "false") : value_kind_name(v->kind);
}

/* As many digits as tell it from its neighbours where those are few, four otherwise; never those of an
 * integer. */
static const char *real_text(struct arena *a, double v) {
    char text[40] = "";
    for (int digits = 1; digits <= 7; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
        if (digits == 7)
            (void)snprintf(text, sizeof text, "%.4g", v);
    }
    bool whole = strpbrk(text, ".einIN") == NULL;
    return arena_printf(a, "%s%s", text, whole ? ".0" : "");
}

/* Where YAML would read the text as the string that it is. */
static bool reads_as_string(struct arena *a, const char *text) {
    struct value *v = NULL;
    for (const char *c = text; *c != '\0'; c++)
        if (*c == ' ' || *c == '"' || *c == '=' || *c == ',')
            return false;
    return *text != '\0' && yaml_parse(a, text, strlen(text), "text", &v, NULL) == STATUS_OK &&
           v != NULL && v->kind == VALUE_STRING;
}

const char *text_typed(struct arena *a, const struct value *v) {
    if (v == NULL)
        return "-";
    if (v->kind == VALUE_REAL)
        return real_text(a, v->real);
    if (v->kind == VALUE_STRING && reads_as_string(a, v->string))
        return text_safe(a, v->string);
    struct buf b = BUF_INIT(1 << 20);
    const char *text =
        json_dump(v, JSON_COMPACT, &b, NULL) == STATUS_OK ? arena_strdup(a, buf_text(&b)) : NULL;
    buf_release(&b);
    return text != NULL ? text_safe(a, text) : "-";
}

const char *text_line(struct arena *a, const struct value *v) {
    if (v == NULL)
        return "-";
    if (v->kind == VALUE_STRING)
        return text_safe(a, v->string);
    struct buf b = BUF_INIT(1 << 20);
    const char *text =
        json_dump(v, JSON_COMPACT, &b, NULL) == STATUS_OK ? arena_strdup(a, buf_text(&b)) : NULL;
    buf_release(&b);
    return text != NULL ? text_safe(a, text) : "-";
}
