/* The walk over a table's rows: which count, and which cells have no value. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "worker/data/csv_private.h"

#define PUMP_ROWS 4096

const char *csv_place(const struct csv_reader *r, const struct csv_text *t,
                      const struct csv_field *f, char out[CSV_PLACE_MAX]) {
    struct csv_place p = csv_text_place(t, f);
    if (csv_infers(r))
        (void)snprintf(out, CSV_PLACE_MAX, "%s:%lld:%d: ", r->path, (long long)p.line, p.column);
    else
        (void)snprintf(out, CSV_PLACE_MAX, "%s:%lld: ", r->path, (long long)t->row_line);
    return out;
}

/* How tables write that there is nothing. In a column of words these are words, but for "". */
bool csv_nothing(const struct csv_field *f) {
    static const char *const texts[] = {"NA", "N/A", "#N/A", "NaN", "null", "none", "?", "-"};
    if (f->len == 0)
        return true;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (f->len == strlen(texts[i]) && strncasecmp(f->text, texts[i], f->len) == 0)
            return true;
    return false;
}

bool csv_missing(const struct csv_column *c, const struct csv_field *f) {
    return f->len == 0 || (c->kind == CSV_NUMBER && csv_nothing(f));
}

/* A row that is left out: it lacks a value in a column that is used. */
static bool lacks(const struct csv_reader *r, const struct csv_codes *codes,
                  const struct csv_text *t) {
    for (size_t i = 0; i < codes->count; i++)
        if (codes->columns[i].used && csv_missing(&codes->columns[i], csv_field_of(r, t, i)))
            return true;
    return false;
}

enum status csv_each_row(struct csv_reader *r, const struct csv_codes *codes, csv_row_fn *fn,
                         void *arg, struct err *err) {
    struct csv_text t;
    csv_text_init(&t, r->path, r->text, r->len);
    t.separator = r->source->between;
    enum status st = STATUS_OK;
    bool more, header = r->source->header;
    bool drop = codes != NULL && codes->missing == CSV_DROP;
    r->rows = r->dropped = 0;
    for (;;) {
        TRY(csv_text_row(&t, &more, err));
        if (!more)
            break;
        if (t.count != r->fields) {
            st = err_set(err, STATUS_INVALID, "%s:%lld: %zu fields; the first line has %zu",
                         r->path, (long long)t.row_line, t.count, r->fields);
            goto out;
        }
        if (header) {
            header = false;
            continue;
        }
        if ((r->rows + r->dropped) % PUMP_ROWS == 0)
            pump_now(r->pump);
        if (drop && lacks(r, codes, &t))
            r->dropped++;
        else
            TRY(fn(arg, r, &t, r->rows++, err));
    }
    if (r->rows == 0)
        st = err_set(err, STATUS_INVALID,
                     r->dropped > 0 ? "%s: no row has all its values" : "%s: no rows", r->path);
out:
    csv_text_release(&t);
    return st;
}
