/* CSV: numbers stay numbers, a column of words becomes one column per word (one-hot, words sorted
 * by their bytes), one column is the label.
 *
 *     x,colour,y          x  blue  red │ label
 *     1.5,red,cat   ──▶  1.5   0    1  │  0 (cat)
 *     2,blue,dog          2    1    0  │  1 (dog)
 *
 * Three passes over the text: which columns are numbers; which words there are; the values. Files
 * that come after the training file use its words: one that it does not have is an error with its
 * line. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/data/csv_text.h"
#include "worker/data/format.h"

#define WORDS_MAX 4096 /* different words in one column */
#define PUMP_ROWS 4096
#define SHOWN_MAX 40 /* characters of a word in a message */

struct words {
    char **word; /* sorted */
    size_t count, cap;
};

struct csv_column {
    char *name;
    bool is_text;
    int64_t first;      /* feature index of its (first) value; -1: the label */
    struct words words; /* of a text column */
};

struct csv_codes {
    struct csv_column *columns;
    size_t count;
    size_t label;
    int64_t features;
};

static void forget(void *learnt) {
    struct csv_codes *c = learnt;
    if (c == NULL)
        return;
    for (size_t i = 0; c->columns != NULL && i < c->count; i++) {
        for (size_t k = 0; k < c->columns[i].words.count; k++)
            free(c->columns[i].words.word[k]);
        free(c->columns[i].words.word);
        free(c->columns[i].name);
    }
    free(c->columns);
    free(c);
}

static struct value *class_names(struct arena *a, const void *learnt) {
    const struct csv_codes *c = learnt;
    if (c == NULL || !c->columns[c->label].is_text)
        return NULL;
    const struct words *w = &c->columns[c->label].words;
    struct value *list = value_list(a);
    for (size_t i = 0; i < w->count; i++)
        value_push(a, list, value_string(a, w->word[i]));
    return list;
}

/* ---- words ---- */

static int compare(const char *word, const struct csv_field *f) {
    size_t len = strlen(word), n = len < f->len ? len : f->len;
    int c = memcmp(word, f->text, n);
    return c != 0 ? c : len < f->len ? -1 : len > f->len;
}

/* Where the word is, or where it belongs. */
static size_t words_find(const struct words *w, const struct csv_field *f, bool *found) {
    size_t low = 0, high = w->count;
    *found = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = compare(w->word[mid], f);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Of a field, for messages. */
struct place {
    const char *path;
    int64_t line;
    const char *column;
};

static enum status words_add(struct words *w, const struct csv_field *f, size_t max,
                             const struct place *at, struct err *err) {
    bool found;
    size_t where = words_find(w, f, &found);
    if (found)
        return STATUS_OK;
    if (f->len == 0 || memchr(f->text, '\0', f->len) != NULL)
        return err_set(err, STATUS_INVALID, "%s:%lld: column %s has no value", at->path,
                       (long long)at->line, at->column);
    if (w->count == max)
        return err_set(err, STATUS_TOO_LARGE,
                       "%s:%lld: column %s has more than %zu different words: too many for a "
                       "category",
                       at->path, (long long)at->line, at->column, max);
    if (w->count == w->cap) {
        size_t cap = w->cap == 0 ? 8 : w->cap * 2;
        char **more = realloc(w->word, cap * sizeof *more);
        if (more == NULL)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", at->path);
        w->word = more;
        w->cap = cap;
    }
    char *copy = strndup(f->text, f->len);
    if (copy == NULL)
        return err_set(err, STATUS_NOMEM, "%s: out of memory", at->path);
    memmove(&w->word[where + 1], &w->word[where], (w->count - where) * sizeof *w->word);
    w->word[where] = copy;
    w->count++;
    return STATUS_OK;
}

/* ---- columns ---- */

struct reader {
    const char *path, *text;
    size_t len;
    const struct spec_source *source;
    const struct pump *pump;
    int64_t rows;
};

/* Calls fn with every row behind the header. */
typedef enum status row_fn(void *arg, const struct reader *r, const struct csv_text *t, int64_t row,
                           struct err *err);

static enum status each_row(struct reader *r, size_t columns, row_fn *fn, void *arg,
                            struct err *err) {
    struct csv_text t;
    csv_text_init(&t, r->path, r->text, r->len);
    enum status st = STATUS_OK;
    bool more, header = r->source->header;
    r->rows = 0;
    for (;;) {
        TRY(csv_text_row(&t, &more, err));
        if (!more)
            break;
        if (t.count != columns) {
            st = err_set(err, STATUS_INVALID, "%s:%lld: %zu fields; the first line has %zu",
                         r->path, (long long)t.row_line, t.count, columns);
            goto out;
        }
        if (header) {
            header = false;
            continue;
        }
        TRY(fn(arg, r, &t, r->rows++, err));
        if (r->rows % PUMP_ROWS == 0)
            pump_now(r->pump);
    }
    if (r->rows == 0)
        st = err_set(err, STATUS_INVALID, "%s: no rows", r->path);
out:
    csv_text_release(&t);
    return st;
}

static enum status name_columns(struct csv_codes *c, const struct csv_text *t, bool header,
                                struct err *err) {
    for (size_t i = 0; i < c->count; i++) {
        struct csv_column *column = &c->columns[i];
        char number[32];
        (void)snprintf(number, sizeof number, "%zu", i);
        column->name = header ? strndup(t->fields[i].text, t->fields[i].len) : strdup(number);
        if (column->name == NULL)
            return err_set(err, STATUS_NOMEM, "%s: out of memory", t->path);
        if (column->name[0] == '\0')
            return err_set(err, STATUS_INVALID, "%s:%lld: column %zu has no name", t->path,
                           (long long)t->row_line, i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->columns[k].name, column->name) == 0)
                return err_set(err, STATUS_INVALID, "%s:%lld: two columns are named '%.*s'",
                               t->path, (long long)t->row_line, SHOWN_MAX, column->name);
    }
    return STATUS_OK;
}

static enum status find_label(struct csv_codes *c, const char *path, const struct value *label,
                              struct err *err) {
    if (label->kind == VALUE_INT) {
        if ((uint64_t)label->integer >= c->count)
            return err_set(err, STATUS_INVALID, "%s: label column %lld; there are columns 0 to %zu",
                           path, (long long)label->integer, c->count - 1);
        c->label = (size_t)label->integer;
        return STATUS_OK;
    }
    for (c->label = 0; c->label < c->count; c->label++)
        if (strcmp(c->columns[c->label].name, label->string) == 0)
            return STATUS_OK;
    return err_set(err, STATUS_NOT_FOUND,
                   "%s: no column '%.*s' for the label; the first is '%.*s', "
                   "the last '%.*s'",
                   path, SHOWN_MAX, label->string, SHOWN_MAX, c->columns[0].name, SHOWN_MAX,
                   c->columns[c->count - 1].name);
}

static enum status read_columns(const struct reader *r, struct csv_codes **out, struct err *err) {
    struct csv_text t;
    csv_text_init(&t, r->path, r->text, r->len);
    struct csv_codes *c = calloc(1, sizeof *c);
    bool more;
    enum status st;
    TRY(csv_text_row(&t, &more, err));
    if (!more) {
        st = err_set(err, STATUS_INVALID, "%s: no lines", r->path);
        goto out;
    }
    if (c != NULL)
        c->columns = calloc(t.count, sizeof *c->columns);
    if (c == NULL || c->columns == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
        goto out;
    }
    c->count = t.count;
    TRY(name_columns(c, &t, r->source->header, err));
    TRY(find_label(c, r->path, r->source->label, err));
    *out = c;
    c = NULL;
out:
    csv_text_release(&t);
    forget(c);
    return st;
}

/* ---- the three passes ---- */

static bool class_number(double v) {
    return v >= 0 && v == floor(v);
}

static enum status mark_text(void *arg, const struct reader *r, const struct csv_text *t,
                             int64_t row, struct err *err) {
    struct csv_codes *c = arg;
    (void)row;
    for (size_t i = 0; i < c->count; i++) {
        double v;
        bool number = csv_text_number(&t->fields[i], &v);
        if (t->fields[i].len == 0)
            return err_set(err, STATUS_INVALID, "%s:%lld: column %.*s has no value", r->path,
                           (long long)t->row_line, SHOWN_MAX, c->columns[i].name);
        if (i == c->label && r->source->task != SPEC_REGRESS)
            number = number && class_number(v);
        c->columns[i].is_text |= !number;
    }
    return STATUS_OK;
}

static enum status collect(void *arg, const struct reader *r, const struct csv_text *t, int64_t row,
                           struct err *err) {
    struct csv_codes *c = arg;
    (void)row;
    for (size_t i = 0; i < c->count; i++) {
        struct csv_column *column = &c->columns[i];
        size_t max = i == c->label ? DATA_CLASSES_MAX : WORDS_MAX;
        if (!column->is_text)
            continue;
        struct place at = {.path = r->path, .line = t->row_line, .column = column->name};
        enum status st = words_add(&column->words, &t->fields[i], max, &at, err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

struct filling {
    const struct csv_codes *codes;
    struct samples *s;
};

static enum status fill_label(const struct filling *f, const struct reader *r,
                              const struct csv_text *t, int64_t row, struct err *err) {
    const struct csv_field *field = &t->fields[f->codes->label];
    const struct csv_column *column = &f->codes->columns[f->codes->label];
    double v = 0;
    bool found = true;
    if (column->is_text)
        v = (double)words_find(&column->words, field, &found);
    else
        found = csv_text_number(field, &v) && (r->source->task == SPEC_REGRESS || class_number(v));
    if (!found)
        return err_set(err, STATUS_INVALID,
                       "%s:%lld: label '%.*s' does not appear in the training data", r->path,
                       (long long)t->row_line,
                       (int)(field->len < SHOWN_MAX ? field->len : SHOWN_MAX), field->text);
    if (r->source->task == SPEC_REGRESS)
        f->s->targets[row] = (float)v;
    else if (v < DATA_CLASSES_MAX)
        f->s->labels[row] = (int32_t)v;
    else
        return err_set(err, STATUS_INVALID, "%s:%lld: label %.0f is out of range (0 to %d)",
                       r->path, (long long)t->row_line, v, DATA_CLASSES_MAX - 1);
    return STATUS_OK;
}

static enum status fill_row(void *arg, const struct reader *r, const struct csv_text *t,
                            int64_t row, struct err *err) {
    const struct filling *f = arg;
    float *x = (float *)f->s->x + row * f->codes->features;
    for (size_t i = 0; i < f->codes->count; i++) {
        const struct csv_column *column = &f->codes->columns[i];
        const struct csv_field *field = &t->fields[i];
        double v;
        bool found = true;
        if (i == f->codes->label)
            continue;
        if (column->is_text)
            x[column->first + (int64_t)words_find(&column->words, field, &found)] = 1.0F;
        else if ((found = csv_text_number(field, &v)))
            x[column->first] = (float)v;
        if (!found)
            return err_set(err, STATUS_INVALID, "%s:%lld: '%.*s' in column %.*s: %s", r->path,
                           (long long)t->row_line,
                           (int)(field->len < SHOWN_MAX ? field->len : SHOWN_MAX), field->text,
                           SHOWN_MAX, column->name,
                           column->is_text ? "this word is not in the training data"
                                           : "a number is needed here");
    }
    return fill_label(f, r, t, row, err);
}

/* ---- the whole ---- */

/* Features in the order of the columns. */
static enum status lay_out(struct csv_codes *c, const struct reader *r, struct err *err) {
    for (size_t i = 0; i < c->count; i++) {
        struct csv_column *column = &c->columns[i];
        column->first = i == c->label ? -1 : c->features;
        if (i != c->label)
            c->features += column->is_text ? (int64_t)column->words.count : 1;
    }
    if (r->source->task == SPEC_REGRESS && c->columns[c->label].is_text)
        return err_set(err, STATUS_INVALID,
                       "%s: the label column %.*s holds words; task: regress needs numbers",
                       r->path, SHOWN_MAX, c->columns[c->label].name);
    if (c->features == 0)
        return err_set(err, STATUS_INVALID, "%s: there is no column but the label", r->path);
    return STATUS_OK;
}

static enum status fill(struct reader *r, const struct csv_codes *c, struct samples **out,
                        struct err *err) {
    struct samples *s = NULL;
    enum status st;
    const struct samples_layout layout = {.type = SAMPLE_F32,
                                          .count = r->rows,
                                          .features = c->features,
                                          .shape = {.rank = 1, .dim = {c->features}}};
    TRY(samples_new(r->path, &layout, &s, err));
    memset(s->x, 0, (size_t)(s->count * s->features) * sizeof(float));
    size_t rows = (size_t)s->count;
    if (r->source->task == SPEC_REGRESS) {
        s->outputs = 1;
        s->targets = malloc(rows * sizeof *s->targets);
    } else {
        s->labels = malloc(rows * sizeof *s->labels);
        if (c->columns[c->label].is_text)
            s->classes = (int64_t)c->columns[c->label].words.count;
    }
    if (s->targets == NULL && s->labels == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
        goto out;
    }
    TRY(each_row(r, c->count, fill_row, &(struct filling){c, s}, err));
    *out = s;
    s = NULL;
out:
    samples_drop(&s);
    return st;
}

static enum status count_row(void *arg, const struct reader *r, const struct csv_text *t,
                             int64_t row, struct err *err) {
    (void)arg, (void)r, (void)t, (void)row, (void)err;
    return STATUS_OK;
}

static enum status same_columns(const struct csv_codes *c, const struct csv_codes *known,
                                const char *path, struct err *err) {
    if (c->count != known->count || c->label != known->label)
        return err_set(
            err, STATUS_INVALID,
            "%s: %zu columns, the label is number %zu; the training data has %zu and %zu", path,
            c->count, c->label, known->count, known->label);
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->columns[i].name, known->columns[i].name) != 0)
            return err_set(err, STATUS_INVALID,
                           "%s: column %zu is '%.*s'; in the training data it is '%.*s'", path, i,
                           SHOWN_MAX, c->columns[i].name, SHOWN_MAX, known->columns[i].name);
    return STATUS_OK;
}

static enum status csv_read(const struct samples_request *request, struct samples **out,
                            struct err *err) {
    const struct samples *known = request->known;
    struct source *source = NULL;
    struct csv_codes *c = NULL;
    struct samples *s = NULL;
    char *text = NULL;
    struct reader r = {
        .path = request->source->file, .source = request->source, .pump = request->pump};
    const struct csv_codes *codes;
    enum status st;
    TRY(source_open(r.path, r.pump, &source, err));
    TRY(source_rest(source, &text, &r.len, err));
    r.text = text;
    TRY(read_columns(&r, &c, err));
    codes = known == NULL ? c : known->format == &csv_format ? known->learnt : NULL;
    if (codes == NULL) {
        st = err_set(err, STATUS_INVALID, "%s: the training data is not CSV", r.path);
        goto out;
    }
    if (known != NULL) {
        TRY(same_columns(c, codes, r.path, err));
        TRY(each_row(&r, c->count, count_row, NULL, err));
    } else {
        TRY(each_row(&r, c->count, mark_text, c, err));
        TRY(each_row(&r, c->count, collect, c, err));
        TRY(lay_out(c, &r, err));
    }
    TRY(fill(&r, codes, &s, err));
    samples_file(s, source);
    if (known == NULL) {
        s->learnt = c;
        c = NULL;
    }
    *out = s;
out:
    forget(c);
    source_close(&source);
    free(text);
    return st;
}

const struct data_format csv_format = {
    .name = "csv", .read = csv_read, .forget = forget, .class_names = class_names};
