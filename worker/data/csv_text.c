/* CSV text: rows and fields (RFC 4180). */
#include "worker/data/csv_text.h"

#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 63 /* characters of a number */

void csv_text_init(struct csv_text *t, const char *path, const char *text, size_t len) {
    *t = (struct csv_text){
        .path = path, .separator = ',', .p = text, .end = text + len, .row = text, .line = 1};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        t->p += 3;
}

void csv_text_release(struct csv_text *t) {
    free(t->fields);
    free(t->scratch);
    t->fields = NULL;
    t->scratch = NULL;
}

static enum status push(struct csv_text *t, struct csv_field f, struct err *err) {
    if (t->count == CSV_COLUMNS_MAX)
        return err_set(err, STATUS_TOO_LARGE, "%s:%lld: more than %d fields", t->path,
                       (long long)t->row_line, CSV_COLUMNS_MAX);
    if (t->count == t->cap) {
        size_t cap = t->cap == 0 ? 16 : t->cap * 2;
        struct csv_field *more = realloc(t->fields, cap * sizeof *more);
        if (more == NULL)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", t->path);
        t->fields = more;
        t->cap = cap;
    }
    t->fields[t->count++] = f;
    return STATUS_OK;
}

/* Where the row's text ends at the latest, to make the scratch long enough before fields point into
 * it: the first line end outside quotes. Also finds the quote that never closes. */
static enum status row_end(struct csv_text *t, const char **out, struct err *err) {
    bool inside = false;
    int64_t line = t->line, opened = 0;
    const char *p = t->p;
    for (; p < t->end && (inside || *p != '\n'); p++) {
        if (*p == '"') {
            inside = !inside;
            opened = inside ? line : opened;
        }
        line += *p == '\n';
    }
    if (inside)
        return err_set(err, STATUS_INVALID, "%s:%lld: a quote that is never closed", t->path,
                       (long long)opened);
    t->line = line + 1;
    *out = p;
    return STATUS_OK;
}

/* A quoted field from its opening quote on; *p is left behind the closing one. */
static struct csv_field unquote(const char **p, const char *end, char **scratch) {
    struct csv_field f = {.text = *scratch, .quoted = true};
    const char *q = *p + 1;
    while (q < end) {
        if (*q == '"' && (q + 1 == end || q[1] != '"'))
            break;
        q += *q == '"';
        *(*scratch)++ = *q++;
    }
    f.len = (size_t)(*scratch - f.text);
    *p = q < end ? q + 1 : q;
    return f;
}

static enum status split(struct csv_text *t, const char *p, const char *end, struct err *err) {
    char *scratch = t->scratch;
    for (;;) {
        struct csv_field f = {.text = p};
        const char *at = p;
        if (p < end && *p == '"') {
            f = unquote(&p, end, &scratch);
            if (p < end && *p != t->separator)
                return err_set(err, STATUS_INVALID,
                               "%s:%lld: text after a closing quote in field %zu", t->path,
                               (long long)t->row_line, t->count + 1);
        } else {
            const char *next = memchr(p, t->separator, (size_t)(end - p));
            p = next != NULL ? next : end;
            f.len = (size_t)(p - f.text);
        }
        f.at = at;
        enum status st = push(t, f, err);
        if (st != STATUS_OK || p == end)
            return st;
        p++;
    }
}

enum status csv_text_row(struct csv_text *t, bool *more, struct err *err) {
    const char *begin = t->p, *end = t->p;
    do {
        *more = t->p < t->end;
        if (!*more)
            return STATUS_OK;
        t->row_line = t->line;
        begin = t->p;
        enum status st = row_end(t, &end, err);
        if (st != STATUS_OK)
            return st;
        t->p = end < t->end ? end + 1 : end;
        if (end > begin && end[-1] == '\r')
            end--;
    } while (end == begin);
    t->count = 0;
    t->row = begin;
    size_t len = (size_t)(end - begin);
    if (len > t->scratch_cap) {
        char *grown = realloc(t->scratch, len * 2);
        if (grown == NULL)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", t->path);
        t->scratch = grown;
        t->scratch_cap = len * 2;
    }
    return split(t, begin, end, err);
}

struct csv_place csv_text_place(const struct csv_text *t, const struct csv_field *f) {
    struct csv_place place = {.line = t->row_line, .column = 1};
    for (const char *p = t->row; p < f->at; p++) {
        bool newline = *p == '\n', inside = ((unsigned char)*p & 0xC0) == 0x80; /* a character */
        place.line += newline;
        place.column = newline ? 1 : place.column + !inside;
    }
    return place;
}

bool csv_text_number(const struct csv_field *f, char point, double *out) {
    const char *p = f->text, *end = p + f->len;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t len = (size_t)(end - p);
    char copy[NUMBER_MAX + 1];
    if (len == 0 || len > NUMBER_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i] != point && (p[i] == '\0' || strchr("0123456789+-eE", p[i]) == NULL))
            return false;
        copy[i] = p[i];
        if (p[i] == point)
            copy[i] = '.';
    }
    copy[len] = '\0';
    char *stop;
    *out = strtod(copy, &stop);
    return *stop == '\0';
}
