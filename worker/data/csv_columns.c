/* The columns of a table: their names, the label, which of them are used, and how the columns of a
 * later file stand to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/schema.h"
#include "core/utf8.h"
#include "worker/data/csv_private.h"

#define LISTED_MAX 160 /* bytes of a list of names in a message */

void csv_codes_destroy(void *codes) {
    struct csv_codes *c = codes;
    if (c == NULL)
        return;
    for (size_t i = 0; c->columns != NULL && i < c->count; i++) {
        csv_words_release(&c->columns[i].words);
        free(c->columns[i].name);
    }
    free(c->columns);
    free(c);
}

/* "a, b, c, …" */
static void list_names(const struct csv_codes *c, char out[LISTED_MAX]) {
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < c->count && len < LISTED_MAX - CSV_SHOWN_MAX - 8; i++)
        len += (size_t)snprintf(out + len, LISTED_MAX - len, "%s%.*s", i > 0 ? ", " : "",
                                CSV_SHOWN_MAX, c->columns[i].name);
    if (len >= LISTED_MAX - CSV_SHOWN_MAX - 8)
        (void)snprintf(out + len, LISTED_MAX - len, ", …");
}

/* ---- names ---- */

static enum status check_name(const struct csv_reader *r, const struct csv_text *t, size_t i,
                              struct err *err) {
    const struct csv_field *f = &t->fields[i];
    char at[CSV_PLACE_MAX];
    if (f->len == 0)
        return err_set(err, STATUS_INVALID, "%scolumn %zu has no name", csv_place(r, t, f, at), i);
    for (size_t k = 0; csv_infers(r) && k < f->len;) {
        size_t n = utf8_length(f->text + k, f->len - k);
        if (n == 0 || f->text[k] == '\0')
            return err_set(err, STATUS_INVALID,
                           "%sthe name of column %zu is not UTF-8 (byte 0x%02x); convert the file, "
                           "as with iconv -f latin1 -t utf8",
                           csv_place(r, t, f, at), i, (unsigned char)f->text[k]);
        k += n;
    }
    return STATUS_OK;
}

static enum status name_columns(struct csv_codes *c, const struct csv_reader *r,
                                const struct csv_text *t, struct err *err) {
    for (size_t i = 0; i < c->count; i++) {
        struct csv_column *column = &c->columns[i];
        char number[32], at[CSV_PLACE_MAX];
        (void)snprintf(number, sizeof number, "%zu", i);
        if (r->source->header) {
            enum status st = check_name(r, t, i, err);
            if (st != STATUS_OK)
                return st;
        }
        column->name =
            r->source->header ? strndup(t->fields[i].text, t->fields[i].len) : strdup(number);
        column->used = true;
        if (column->name == NULL)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", t->path);
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->columns[k].name, column->name) == 0)
                return err_set(err, STATUS_INVALID, "%stwo columns are named '%.*s'",
                               csv_place(r, t, &t->fields[i], at), CSV_SHOWN_MAX, column->name);
    }
    return STATUS_OK;
}

/* ---- separator ---- */

/* A first line without the separator, but with one of the others. */
static enum status doubt_separator(const struct csv_reader *r, const struct csv_text *t,
                                   struct err *err) {
    static const char others[] = ";\t|,";
    if (t->count > 1)
        return STATUS_OK;
    for (const char *o = others; *o != '\0'; o++) {
        if (*o == r->source->between || memchr(t->fields[0].text, *o, t->fields[0].len) == NULL)
            continue;
        const char *name = *o == '\t' ? "tab" : NULL, word[2] = {*o, '\0'};
        return err_set(
            err, STATUS_INVALID,
            "%s:%lld: the first line has one column; the separator seems to be '%s': say "
            "so with data.train.separator: \"%s\"",
            r->path, (long long)t->row_line, name != NULL ? name : word,
            name != NULL ? name : word);
    }
    return STATUS_OK;
}

/* ---- which columns ---- */

/* The column that a value names, by name or by number from 0; count: none. */
static size_t find_column(const struct csv_codes *c, const struct value *v) {
    if (v->kind == VALUE_INT)
        return (uint64_t)v->integer < c->count ? (size_t)v->integer : c->count;
    size_t i = 0;
    while (i < c->count && strcmp(c->columns[i].name, v->string) != 0)
        i++;
    return i;
}

static enum status no_column(const struct csv_reader *r, const struct csv_codes *c,
                             const struct value *at, const char *key, struct err *err) {
    char place[SCHEMA_PLACE_MAX], names[LISTED_MAX];
    list_names(c, names);
    (void)schema_place(r->source->sweep, at, place);
    char name[CSV_SHOWN_MAX + 3];
    if (at->kind == VALUE_INT)
        (void)snprintf(name, sizeof name, "%lld", (long long)at->integer);
    else
        (void)snprintf(name, sizeof name, "'%.*s'", CSV_SHOWN_MAX, at->string);
    return err_set(err, STATUS_INVALID, "%s%s: no column %s for the %s; there are %s%s", place,
                   r->path, name, key, at->kind == VALUE_INT ? "those from 0: " : "", names);
}

static enum status choose_listed(struct csv_reader *r, struct csv_codes *c, struct err *err) {
    const struct value *list = r->source->exclude != NULL ? r->source->exclude : r->source->columns;
    bool keep = r->source->columns != NULL;
    for (size_t i = 0; keep && i < c->count; i++)
        c->columns[i].used = i == c->label;
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        size_t k = find_column(c, list->items[i]);
        char place[SCHEMA_PLACE_MAX];
        if (k == c->count)
            return no_column(r, c, list->items[i], keep ? "list of columns" : "list exclude", err);
        if (k == c->label && !keep)
            return err_set(err, STATUS_INVALID, "%sdata.train.exclude: '%.*s' is the label",
                           schema_place(r->source->sweep, list->items[i], place), CSV_SHOWN_MAX,
                           c->columns[k].name);
        c->columns[k].used = keep;
    }
    return STATUS_OK;
}

static enum status declare(struct csv_reader *r, struct csv_codes *c, struct err *err) {
    const struct value *types = r->source->types, *missing = r->source->missing;
    char place[SCHEMA_PLACE_MAX];
    for (size_t i = 0; types != NULL && i < types->count; i++) {
        const struct member *m = &types->members[i];
        struct value name = {
            .kind = VALUE_STRING, .string = m->key, .line = m->line, .column = m->column};
        size_t k = find_column(c, &name);
        if (k == c->count)
            return no_column(r, c, &name, "map types", err);
        if (!c->columns[k].used)
            return err_set(err, STATUS_INVALID, "%sdata.train.types: the column %.*s is left out",
                           schema_place(r->source->sweep, &name, place), CSV_SHOWN_MAX,
                           c->columns[k].name);
        c->columns[k].declared = true;
        c->columns[k].kind = strcmp(m->value->string, "words") == 0 ? CSV_WORDS : CSV_NUMBER;
    }
    c->missing = missing == NULL                        ? CSV_REFUSE
                 : missing->kind != VALUE_STRING        ? CSV_VALUE
                 : strcmp(missing->string, "mean") == 0 ? CSV_MEAN
                 : strcmp(missing->string, "drop") == 0 ? CSV_DROP
                                                        : CSV_REFUSE;
    for (size_t i = 0; c->missing == CSV_VALUE && i < c->count; i++)
        c->columns[i].fill = missing->kind == VALUE_INT ? (double)missing->integer : missing->real;
    return STATUS_OK;
}

enum status csv_columns_read(struct csv_reader *r, struct csv_codes **out, struct err *err) {
    struct csv_text t;
    csv_text_init(&t, r->path, r->text, r->len);
    t.separator = r->source->between;
    struct csv_codes *c = calloc(1, sizeof *c);
    bool more;
    enum status st;
    TRY(csv_text_row(&t, &more, err));
    if (!more) {
        st = err_set(err, STATUS_INVALID, "%s: no lines", r->path);
        goto out;
    }
    TRY(doubt_separator(r, &t, err));
    if (c != NULL)
        c->columns = calloc(t.count, sizeof *c->columns);
    if (c == NULL || c->columns == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
        goto out;
    }
    c->count = r->fields = t.count;
    TRY(name_columns(c, r, &t, err));
    c->label = find_column(c, r->source->label);
    if (c->label == c->count) {
        st = no_column(r, c, r->source->label, "label", err);
        goto out;
    }
    TRY(choose_listed(r, c, err));
    TRY(declare(r, c, err));
    *out = c;
    c = NULL;
out:
    csv_text_release(&t);
    csv_codes_destroy(c);
    return st;
}

/* ---- later files ---- */

/* Up to version 2: the same columns in the same places. */
static enum status same_columns(const struct csv_codes *c, const struct csv_codes *known,
                                const char *path, struct err *err) {
    if (c->count != known->count || c->label != known->label)
        return err_set(
            err, STATUS_INVALID,
            "%s: %zu columns, the label is number %zu; the training data has %zu and %zu", path,
            c->count, c->label, known->count, known->label);
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->columns[i].name, known->columns[i].name) != 0)
            return err_set(
                err, STATUS_INVALID, "%s: column %zu is '%.*s'; in the training data it is '%.*s'",
                path, i, CSV_SHOWN_MAX, c->columns[i].name, CSV_SHOWN_MAX, known->columns[i].name);
    return STATUS_OK;
}

/* Where the columns have names, they are found by them. Columns that the training file has not are
 * refused: it is not known what they are. */
static enum status match_names(const struct csv_codes *own, const struct csv_codes *known,
                               const struct csv_reader *r, size_t *at, struct err *err) {
    for (size_t i = 0; i < known->count; i++) {
        const struct value name = {.kind = VALUE_STRING, .string = known->columns[i].name};
        bool here = i < own->count && strcmp(own->columns[i].name, name.string) == 0;
        at[i] = here ? i : find_column(own, &name);
        if (at[i] == own->count && known->columns[i].used)
            return err_set(err, STATUS_INVALID,
                           "%s:1: no column '%.*s', which the training data has", r->path,
                           CSV_SHOWN_MAX, name.string);
    }
    for (size_t i = 0; i < own->count; i++) {
        const struct value name = {.kind = VALUE_STRING, .string = own->columns[i].name};
        bool here = i < known->count && at[i] == i;
        if (!here && find_column(known, &name) == known->count)
            return err_set(err, STATUS_INVALID,
                           "%s:1: the training data has no column '%.*s'; take it out of this file",
                           r->path, CSV_SHOWN_MAX, name.string);
    }
    if (at[known->label] != own->label)
        return err_set(err, STATUS_INVALID,
                       "%s:1: the label is '%.*s'; in the training data it is '%.*s'", r->path,
                       CSV_SHOWN_MAX, own->columns[own->label].name, CSV_SHOWN_MAX,
                       known->columns[known->label].name);
    return STATUS_OK;
}

enum status csv_columns_match(struct csv_reader *r, const struct csv_codes *own,
                              const struct csv_codes *known, size_t **at, struct err *err) {
    if (!csv_infers(r) || !r->source->header)
        return same_columns(own, known, r->path, err);
    *at = malloc(known->count * sizeof **at);
    if (*at == NULL)
        return err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
    r->at = *at;
    return match_names(own, known, r, *at, err);
}
