/* CSV: numbers stay numbers, a column of words becomes one column per word (one-hot, words sorted
 * by their bytes), one column is the label.
 *
 *     x,colour,y          x  blue  red │ label
 *     1.5,red,cat   ──▶  1.5   0    1  │  0 (cat)
 *     2,blue,dog          2    1    0  │  1 (dog)
 *
 * Several passes over the text: what the columns are (csv_infer.c); the values. Files that come after
 * the training file use its columns and its words: one that it does not have is an error with its
 * line. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "worker/data/csv_private.h"
#include "worker/data/targets.h"

/* ---- describing ---- */

/* Words of a sweep that is older than the check for UTF-8 may be any bytes. */
static struct value *text_value(struct arena *a, const char *text) {
    struct buf b = BUF_INIT((size_t)1 << 20);
    for (const char *p = text; *p != '\0';) {
        size_t n = utf8_length(p, strlen(p));
        if (n == 0)
            buf_addf(&b, "\\x%02x", (unsigned char)*p);
        else
            buf_add(&b, p, n);
        p += n > 0 ? n : 1;
    }
    bool whole = buf_status(&b, "text", NULL) == STATUS_OK;
    struct value *v =
        whole ? value_string(a, buf_text(&b)) : NULL; /* NULL breaks the tree: NOMEM */
    buf_release(&b);
    return v;
}

/* In the order of their classes or inputs. */
static struct value *words_value(struct arena *a, const struct csv_words *w) {
    struct value *list = value_list(a);
    const char **in_order = arena_take(a, (w->count + 1) * sizeof *in_order);
    for (size_t i = 0; in_order != NULL && i < w->count; i++)
        in_order[csv_words_rank(w, i)] = w->word[i];
    for (size_t i = 0; in_order != NULL && i < w->count; i++)
        value_push(a, list, text_value(a, in_order[i]));
    return in_order != NULL ? list : NULL;
}

static struct value *class_names(struct arena *a, const void *learnt) {
    const struct csv_codes *c = learnt;
    const struct csv_column *label = &c->columns[c->label];
    return label->kind == CSV_WORDS ? words_value(a, &label->words) : NULL;
}

static struct value *label_name(struct arena *a, const void *learnt) {
    const struct csv_codes *c = learnt;
    return text_value(a, c->columns[c->label].name);
}

static struct value *inputs(struct arena *a, const void *learnt) {
    const struct csv_codes *c = learnt;
    struct value *list = value_list(a);
    for (size_t i = 0; i < c->count; i++) {
        const struct csv_column *column = &c->columns[i];
        bool words = column->kind == CSV_WORDS, filled = column->missing > 0;
        if (column->first < 0)
            continue;
        struct value *m = value_map(a);
        value_set(a, m, "name", text_value(a, column->name));
        value_set_string(a, m, "kind", words ? "words" : "number");
        value_set_int(a, m, "first", column->first);
        value_set_int(a, m, "count", words ? (int64_t)column->words.count : 1);
        if (words)
            value_set(a, m, "words", words_value(a, &column->words));
        if (!words && column->numbers > 0) {
            value_set_real(a, m, "min", column->low);
            value_set_real(a, m, "max", column->high);
        }
        if (filled || c->missing == CSV_MEAN || c->missing == CSV_VALUE)
            value_set(a, m, "missing",
                      words ? value_string(a, "none of the words") : value_real(a, column->fill));
        value_push(a, list, m);
    }
    return list;
}

static const char *feature_name(const void *learnt, int64_t feature) {
    const struct csv_codes *c = learnt;
    for (size_t i = 0; i < c->count; i++)
        if (c->columns[i].first == feature && c->columns[i].kind == CSV_NUMBER)
            return c->columns[i].name;
    return NULL;
}

/* ---- values ---- */

struct filling {
    const struct csv_codes *codes;
    struct samples *s;
    struct targets_seen *seen; /* in regression */
};

static void put(struct samples *s, int64_t at, double v) {
    if (s->type == SAMPLE_F64)
        ((double *)s->x)[at] = v;
    else
        ((float *)s->x)[at] = (float)v;
}

static enum status refuse_cell(const struct csv_reader *r, const struct csv_text *t,
                               const struct csv_field *f, const struct csv_column *column,
                               struct err *err) {
    char at[CSV_PLACE_MAX], word[CSV_SHOWN_MAX + 1];
    (void)snprintf(word, sizeof word, "%.*s", csv_shown(f), f->text);
    notes_mend(word);
    return err_set(err, STATUS_INVALID, "%s'%s' in column %.*s: %s", csv_place(r, t, f, at), word,
                   CSV_SHOWN_MAX, column->name,
                   column->kind == CSV_WORDS ? "this word is not in the training data"
                   : f->len == 0             ? "a value is needed here"
                                             : "a number is needed here");
}

/* float32 ends at 3.4e38: what lies beyond would be an infinity. */
static enum status check_size(const struct csv_reader *r, const struct csv_text *t,
                              const struct csv_field *f, double v, struct err *err) {
    char at[CSV_PLACE_MAX];
    if (fabs(v) <= (double)FLT_MAX)
        return STATUS_OK;
    return err_set(err, STATUS_INVALID, "%s%.*s is not finite: a float32 holds up to 3.4e38",
                   csv_place(r, t, f, at), csv_shown(f), f->text);
}

static enum status fill_label(const struct filling *f, const struct csv_reader *r,
                              const struct csv_text *t, int64_t row, struct err *err) {
    const struct csv_field *field = csv_field_of(r, t, f->codes->label);
    const struct csv_column *column = &f->codes->columns[f->codes->label];
    bool regress = r->source->task == SPEC_REGRESS, found = true;
    char at[CSV_PLACE_MAX], word[CSV_SHOWN_MAX + 1];
    double v = 0;
    if (column->kind == CSV_WORDS)
        v = (double)csv_words_rank(&column->words, csv_words_find(&column->words, field, &found));
    else
        found =
            csv_text_number(field, r->source->point, &v) && (regress || (v >= 0 && v == floor(v)));
    (void)snprintf(word, sizeof word, "%.*s", csv_shown(field), field->text);
    notes_mend(word);
    if (!found)
        return err_set(err, STATUS_INVALID, "%slabel '%s' does not appear in the training data",
                       csv_place(r, t, field, at), word);
    if (regress) {
        f->s->targets[row] = (float)v;
        targets_see(f->seen, v);
        return check_size(r, t, field, v, err);
    }
    if (v >= DATA_CLASSES_MAX)
        return err_set(err, STATUS_INVALID, "%slabel %.0f is out of range (0 to %d)",
                       csv_place(r, t, field, at), v, DATA_CLASSES_MAX - 1);
    f->s->labels[row] = (int32_t)v;
    return STATUS_OK;
}

static enum status fill_row(void *arg, const struct csv_reader *r, const struct csv_text *t,
                            int64_t row, struct err *err) {
    const struct filling *f = arg;
    const struct csv_codes *codes = f->codes;
    bool filled = codes->missing == CSV_MEAN || codes->missing == CSV_VALUE;
    int64_t begin = row * codes->features;
    for (size_t i = 0; i < codes->count; i++) {
        const struct csv_column *column = &codes->columns[i];
        if (column->first < 0)
            continue;
        const struct csv_field *field = csv_field_of(r, t, i);
        bool missing = filled && csv_missing(column, field), found = true;
        double v = column->fill;
        if (column->kind == CSV_WORDS && !missing) {
            int64_t word =
                csv_words_rank(&column->words, csv_words_find(&column->words, field, &found));
            if (found)
                put(f->s, begin + column->first + word, 1.0);
        } else if (column->kind == CSV_NUMBER) {
            found = missing || csv_text_number(field, r->source->point, &v);
            enum status st = found ? check_size(r, t, field, v, err) : STATUS_OK;
            if (st != STATUS_OK)
                return st;
            put(f->s, begin + column->first, v);
        }
        if (!found)
            return refuse_cell(r, t, field, column, err);
    }
    return fill_label(f, r, t, row, err);
}

/* ---- the whole ---- */

/* Features in the order of the columns. */
static enum status lay_out(struct csv_codes *c, const struct csv_reader *r, struct err *err) {
    for (size_t i = 0; i < c->count; i++) {
        struct csv_column *column = &c->columns[i];
        bool feature = i != c->label && column->used;
        column->first = feature ? c->features : -1;
        if (feature)
            c->features += column->kind == CSV_WORDS ? (int64_t)column->words.count : 1;
    }
    if (r->source->task == SPEC_REGRESS && c->columns[c->label].kind == CSV_WORDS)
        return err_set(err, STATUS_INVALID,
                       "%s: the label column %.*s holds words; task: regress needs numbers",
                       r->path, CSV_SHOWN_MAX, c->columns[c->label].name);
    if (c->features == 0)
        return err_set(err, STATUS_INVALID, "%s: there is no column but the label", r->path);
    return STATUS_OK;
}

/* Numbers keep their digits until they are normalised, where a float32 could not hold them. */
static enum status fill(struct csv_reader *r, const struct csv_codes *c, struct notes *notes,
                        struct samples **out, struct err *err) {
    struct samples *s = NULL;
    struct targets_seen seen = {0};
    enum status st;
    const struct samples_layout layout = {.type =
                                              csv_infers(r) && c->inexact ? SAMPLE_F64 : SAMPLE_F32,
                                          .count = r->rows,
                                          .features = c->features,
                                          .shape = {.rank = 1, .dim = {c->features}}};
    TRY(samples_new(r->path, &layout, &s, err));
    memset(s->x, 0, samples_x_bytes(s));
    size_t rows = (size_t)s->count;
    if (r->source->task == SPEC_REGRESS) {
        s->outputs = 1;
        s->targets = malloc(rows * sizeof *s->targets);
    } else {
        s->labels = malloc(rows * sizeof *s->labels);
        if (c->columns[c->label].kind == CSV_WORDS)
            s->classes = (int64_t)c->columns[c->label].words.count;
    }
    if (s->targets == NULL && s->labels == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
        goto out;
    }
    if (s->targets != NULL)
        TRY(targets_open(&seen, r->path, err));
    TRY(csv_each_row(r, c, fill_row, &(struct filling){c, s, &seen}, err));
    if (s->targets != NULL)
        targets_doubt(&seen, c->columns[c->label].name, 1, notes);
    *out = s;
    s = NULL;
out:
    targets_release(&seen);
    samples_drop(&s);
    return st;
}

static enum status count_row(void *arg, const struct csv_reader *r, const struct csv_text *t,
                             int64_t row, struct err *err) {
    (void)arg, (void)r, (void)t, (void)row, (void)err;
    return STATUS_OK;
}

static enum status read_known(struct csv_reader *r, const struct csv_codes *own,
                              const struct samples *train, size_t **at, struct notes *notes,
                              struct err *err) {
    enum status st;
    if (train->format != &csv_format)
        return err_set(err, STATUS_INVALID, "%s: the training data is not CSV", r->path);
    TRY(csv_columns_match(r, own, train->learnt, at, err));
    TRY(csv_each_row(r, train->learnt, count_row, NULL, err));
    if (r->dropped > 0)
        notes_add(notes, "%s: %lld rows without all their values are left out (missing: drop)",
                  r->path, (long long)r->dropped);
out:
    return st;
}

/* Lines that end with a carriage return alone, as on old Macs, would be one line. In quotes it is text. */
static enum status check_lines(const struct csv_reader *r, struct err *err) {
    const char *p = r->text, *end = r->text + r->len, *at = r->text;
    bool inside = false;
    long long line = 1;
    while (csv_infers(r) && (p = memchr(p, '\r', (size_t)(end - p))) != NULL) {
        if (p + 1 == end || p[1] == '\n') {
            p++;
            continue;
        }
        for (; at < p; at++) {
            inside ^= *at == '"';
            line += *at == '\n';
        }
        if (!inside)
            return err_set(err, STATUS_INVALID,
                           "%s:%lld: a carriage return that no newline follows; if it ends a line, "
                           "convert the file: tr '\\r' '\\n'",
                           r->path, line);
        p++;
    }
    return STATUS_OK;
}

static enum status csv_read(const struct samples_request *request, struct samples **out,
                            struct err *err) {
    const struct samples *known = request->known;
    struct source *source = NULL;
    struct csv_codes *c = NULL;
    struct samples *s = NULL;
    struct notes notes = {.count = 0};
    char *text = NULL;
    size_t *at = NULL;
    struct csv_reader r = {
        .path = request->source->file, .source = request->source, .pump = request->pump};
    enum status st;
    TRY(source_open(r.path, r.pump, &source, err));
    TRY(source_rest(source, &text, &r.len, err));
    r.text = text;
    TRY(check_lines(&r, err));
    TRY(csv_columns_read(&r, &c, err));
    if (known != NULL) {
        TRY(read_known(&r, c, known, &at, &notes, err));
    } else {
        TRY(csv_infer(&r, c, &notes, err));
        TRY(lay_out(c, &r, err));
    }
    TRY(fill(&r, known != NULL ? known->learnt : c, &notes, &s, err));
    samples_file(s, source);
    s->notes = notes;
    if (known == NULL) {
        s->learnt = c;
        c = NULL;
    }
    *out = s;
out:
    csv_codes_destroy(c);
    source_close(&source);
    free(text);
    free(at);
    return st;
}

const struct data_format csv_format = {.name = "csv",
                                       .read = csv_read,
                                       .forget = csv_codes_destroy,
                                       .class_names = class_names,
                                       .label_name = label_name,
                                       .inputs = inputs,
                                       .feature_name = feature_name};
