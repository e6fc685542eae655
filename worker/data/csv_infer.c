/* What each column of a table is: numbers or words, and which words.
 *
 *     survey    every cell is looked at: how many numbers, words, nothing; where the first of each is
 *     decide    what most cells of a column are, the column is; the others are refused by their place
 *     collect   words, range and mean of the rows that remain
 *
 * A column of dates, or of words that hardly ever repeat, is refused too: it would become hundreds of
 * inputs that mean nothing for a row that was not seen. What data.train.types declares is not judged.
 * Up to version 2 of the language one cell that was not a number made the column one of words. */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "worker/data/csv_private.h"

#define MANY_ROWS  20  /* words that hardly repeat in fewer rows say nothing */
#define MANY_WORDS 100 /* inputs of one column that are worth a note */
#define FEW        10  /* one in so many label cells may be a stray */

/* ---- cells ---- */

/* 2026-11-28, 28.11.2026, 11/28/26, with a time of day or without. */
static bool date(const struct csv_field *f) {
    size_t digits[3] = {0}, part = 0, i = 0;
    char sign = '\0';
    for (; i < f->len && part < 3; i++) {
        char c = f->text[i];
        if (isdigit((unsigned char)c)) {
            digits[part]++;
        } else if (part < 2 && digits[part] > 0 && (sign == '\0' || c == sign) &&
                   (c == '-' || c == '/' || c == '.')) {
            sign = c;
            part++;
        } else {
            break;
        }
    }
    bool three = part == 2 && digits[2] > 0 && (i == f->len || strchr("Tt ,", f->text[i]) != NULL);
    return three && digits[0] <= 4 && digits[1] <= 2 && digits[2] <= 4 &&
           digits[0] + digits[2] >= 4;
}

/* 1,234 and 1.234.567,8 and 1'234: digits in threes. */
static bool grouped(const struct csv_field *f) {
    size_t i = f->len > 0 && strchr("+-", f->text[0]) != NULL, digits = 0, groups = 0;
    char between = '\0';
    for (; i < f->len && (isdigit((unsigned char)f->text[i]) || groups == 0 || digits == 3); i++) {
        char c = f->text[i];
        if (isdigit((unsigned char)c)) {
            digits++;
            continue;
        }
        bool first = between == '\0' && digits > 0 && digits <= 3 && strchr(",.' _", c) != NULL;
        if (c == '\0' || (!first && c != between))
            break;
        between = c;
        groups++;
        digits = 0;
    }
    bool fraction = i < f->len && strchr(",.", f->text[i]) != NULL;
    return groups > 0 && digits == 3 && (i == f->len || fraction);
}

static bool class_number(double v) {
    return v >= 0 && v == floor(v);
}

/* ---- survey ---- */

/* The first cell of a sort. */
struct sighting {
    struct csv_place place;
    char text[CSV_SHOWN_MAX + 1];
};

enum sort { NUMBER, WORD, NOTHING, EMPTY, SORTS };

struct column_survey {
    int64_t count[SORTS];
    struct sighting first[SORTS];
    int64_t whole, classes;   /* numbers without a fraction; those from 0 */
    struct sighting no_class; /* the first number that is none */
    int64_t dates;
    bool comma;             /* a word is a number with a decimal comma */
    int64_t grouped;        /* words that are numbers with separators of thousands */
    struct csv_words words; /* all different cells that are not numbers, up to CSV_WORDS_MAX + 1 */
};

struct survey {
    const struct csv_codes *codes;
    struct column_survey *of; /* (columns) */
};

static void sight(struct sighting *s, const struct csv_text *t, const struct csv_field *f) {
    s->place = csv_text_place(t, f);
    (void)snprintf(s->text, sizeof s->text, "%.*s", csv_shown(f), f->text);
    notes_mend(s->text);
}

static enum status survey_word(struct column_survey *c, const struct csv_reader *r,
                               const struct csv_field *f, struct err *err) {
    double v;
    char other = r->source->point == '.' ? ',' : '.';
    c->dates += date(f);
    c->grouped += grouped(f);
    c->comma |= csv_text_number(f, other, &v);
    if (c->words.count > CSV_WORDS_MAX)
        return STATUS_OK;
    return csv_words_add(&c->words, f, err);
}

static enum status survey_row(void *arg, const struct csv_reader *r, const struct csv_text *t,
                              int64_t row, struct err *err) {
    struct survey *s = arg;
    (void)row;
    for (size_t i = 0; i < s->codes->count; i++) {
        struct column_survey *c = &s->of[i];
        const struct csv_field *f = &t->fields[i];
        double v = 0;
        if (!s->codes->columns[i].used)
            continue;
        enum sort sort = f->len == 0                                ? EMPTY
                         : csv_text_number(f, r->source->point, &v) ? NUMBER
                         : csv_nothing(f)                           ? NOTHING
                                                                    : WORD;
        if (c->count[sort]++ == 0)
            sight(&c->first[sort], t, f);
        if (sort == NUMBER) {
            c->whole += v == floor(v);
            if (!class_number(v) && c->classes == c->count[NUMBER] - 1)
                sight(&c->no_class, t, f);
            c->classes += class_number(v);
        }
        enum status st = sort == WORD ? survey_word(c, r, f, err) : STATUS_OK;
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* ---- decisions ---- */

/* One column on trial. */
struct matter {
    const struct csv_reader *r;
    struct csv_codes *codes;
    struct csv_column *column;
    const struct column_survey *seen;
    bool label, classes; /* classes: a label whose task is to classify */
};

static enum status at_fault(const struct matter *m, const struct sighting *s, struct err *err,
                            const char *format, ...) PRINTF(4, 5);

static enum status at_fault(const struct matter *m, const struct sighting *s, struct err *err,
                            const char *format, ...) {
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(err, STATUS_INVALID, "%s:%lld:%d: '%s' in column %.*s %s", m->r->path,
                   (long long)s->place.line, s->place.column, s->text, CSV_SHOWN_MAX,
                   m->column->name, text);
}

/* Words that would be numbers if they were written otherwise. */
static enum status settle_spelling(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    char other = m->r->source->point == '.' ? ',' : '.';
    if (s->grouped > 0 && s->grouped == s->count[WORD])
        return at_fault(m, &s->first[WORD], err,
                        "seems to be a number with a separator of thousands; write it without, or "
                        "say what it is: data.train.types: {%.*s: words}%s",
                        CSV_SHOWN_MAX, m->column->name, s->comma ? ", or data.train.decimal" : "");
    if (s->comma)
        return at_fault(m, &s->first[WORD], err,
                        "is not a number; the decimal sign seems to be '%c': data.train.decimal",
                        other);
    return STATUS_OK;
}

/* A column of numbers: its words are at fault. */
static enum status settle_numbers(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    const char *name = m->column->name;
    long long numbers = (long long)s->count[NUMBER];
    if (numbers == 0 && s->count[WORD] == 0)
        return at_fault(m, &s->first[NOTHING], err, "is not a number, nor is any other cell");
    enum status st = s->count[WORD] > 0 ? settle_spelling(m, err) : STATUS_OK;
    if (st != STATUS_OK)
        return st;
    if (s->count[WORD] > 0 && m->column->declared)
        return at_fault(m, &s->first[WORD], err, "is not a number, as types declares the column");
    if (s->count[WORD] > 0)
        return at_fault(m, &s->first[WORD], err,
                        "is not a number, as %lld other cells of the column are; mend the cell, or "
                        "say what the column is: data.train.types: {%.*s: words}",
                        numbers, CSV_SHOWN_MAX, name);
    return STATUS_OK;
}

/* A column of words: its numbers are at fault, as are dates and names that hardly repeat. */
static enum status settle_words(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    const char *name = m->column->name;
    int64_t words = s->count[WORD] + s->count[NOTHING];
    if (m->column->declared || words == 0)
        return STATUS_OK;
    enum status st = settle_spelling(m, err);
    if (st != STATUS_OK)
        return st;
    if (s->count[NUMBER] > 0)
        return at_fault(m, &s->first[NUMBER], err,
                        "is a number, %lld other cells of the column are words; mend the cell, or "
                        "say what the column is: data.train.types: {%.*s: words}",
                        (long long)words, CSV_SHOWN_MAX, name);
    if (s->dates * FEW >= words * (FEW - 1))
        return at_fault(m, &s->first[WORD], err,
                        "is a date, which is not an input; leave the column out with "
                        "data.train.exclude: [%.*s], or turn it into numbers beforehand",
                        CSV_SHOWN_MAX, name);
    if (words >= MANY_ROWS && (int64_t)s->words.count * 2 > words)
        return at_fault(
            m, &s->first[WORD], err,
            "is one of %s%zu different words in %lld rows, and each would become %s: an "
            "id or a text? Leave it out with data.train.exclude: [%.*s], or keep it "
            "with data.train.types: {%.*s: words}",
            s->words.count > CSV_WORDS_MAX ? "more than " : "",
            s->words.count > CSV_WORDS_MAX ? (size_t)CSV_WORDS_MAX : s->words.count,
            (long long)words, m->label ? "a class" : "an input", CSV_SHOWN_MAX, name, CSV_SHOWN_MAX,
            name);
    return STATUS_OK;
}

/* Class labels that are numbers: classes count from 0, or whole numbers in their order are names. */
static enum status settle_classes(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    int64_t numbers = s->count[NUMBER], odd = numbers - s->classes;
    const char *name = m->column->name;
    enum status st = settle_numbers(m, err);
    if (st != STATUS_OK || odd == 0)
        return st;
    if (odd * FEW <= numbers || m->column->declared)
        return at_fault(m, &s->no_class, err,
                        "is not a class, which are whole numbers from 0; mend the cell, or make "
                        "every label a name: data.train.types: {%.*s: words}",
                        CSV_SHOWN_MAX, name);
    if (s->whole < numbers)
        return at_fault(m, &s->no_class, err,
                        "is not a class, nor are %lld others; predict numbers with task: regress, "
                        "or make every label a name: data.train.types: {%.*s: words}",
                        (long long)odd - 1, CSV_SHOWN_MAX, name);
    m->column->kind = CSV_WORDS;
    return STATUS_OK;
}

static enum status settle_missing(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    bool words = m->column->kind == CSV_WORDS;
    int64_t lacking = s->count[EMPTY] + (words ? 0 : s->count[NOTHING]);
    bool filled = !m->label && m->codes->missing != CSV_REFUSE;
    const struct sighting *e = &s->first[EMPTY], *n = &s->first[NOTHING];
    bool empty_first =
        s->count[EMPTY] > 0 && (words || s->count[NOTHING] == 0 || e->place.line <= n->place.line);
    const struct sighting *where = empty_first ? e : n;
    if (lacking == 0 || filled || m->codes->missing == CSV_DROP)
        return STATUS_OK;
    return err_set(err, STATUS_INVALID, "%s:%lld:%d: column %.*s has no value%s%s%s; %s",
                   m->r->path, (long long)where->place.line, where->place.column, CSV_SHOWN_MAX,
                   m->column->name, empty_first ? "" : " ('", empty_first ? "" : where->text,
                   empty_first ? "" : "')",
                   m->label ? "a row without its label can be dropped: data.train.missing: drop"
                            : "fill it, or say what such a cell becomes: data.train.missing: mean, "
                              "drop or a number");
}

static enum status settle(const struct matter *m, struct err *err) {
    const struct column_survey *s = m->seen;
    struct csv_column *c = m->column;
    bool regress = m->label && !m->classes;
    enum status st;
    if (s->count[NUMBER] + s->count[WORD] + s->count[NOTHING] == 0)
        return m->label ? settle_missing(m, err)
                        : err_set(err, STATUS_INVALID,
                                  "%s: column %.*s has no value in any row; leave it out with "
                                  "data.train.exclude: [%.*s]",
                                  m->r->path, CSV_SHOWN_MAX, c->name, CSV_SHOWN_MAX, c->name);
    if (!c->declared)
        c->kind =
            s->count[WORD] > s->count[NUMBER] || s->count[NUMBER] == 0 ? CSV_WORDS : CSV_NUMBER;
    if (regress && c->kind == CSV_WORDS)
        return at_fault(m,
                        &s->first[s->count[WORD] > 0     ? WORD
                                  : s->count[NUMBER] > 0 ? NUMBER
                                                         : NOTHING],
                        err, "is a word; task: regress needs numbers");
    TRY(c->kind == CSV_WORDS ? settle_words(m, err)
        : m->classes         ? settle_classes(m, err)
                             : settle_numbers(m, err));
    TRY(settle_missing(m, err));
out:
    return st;
}

static enum status look(struct csv_reader *r, struct csv_codes *c, struct err *err) {
    struct survey s = {.codes = c, .of = calloc(c->count, sizeof *s.of)};
    enum status st;
    if (s.of == NULL) {
        st = err_set(err, STATUS_NOMEM, "%s: out of memory", r->path);
        goto out;
    }
    TRY(csv_each_row(r, NULL, survey_row, &s, err));
    for (size_t i = 0; i < c->count; i++) {
        bool label = i == c->label;
        struct matter m = {.r = r,
                           .codes = c,
                           .column = &c->columns[i],
                           .seen = &s.of[i],
                           .label = label,
                           .classes = label && r->source->task != SPEC_REGRESS};
        if (c->columns[i].used)
            TRY(settle(&m, err));
    }
out:
    for (size_t i = 0; s.of != NULL && i < c->count; i++)
        csv_words_release(&s.of[i].words);
    free(s.of);
    return st;
}

/* ---- up to version 2: by every cell ---- */

static enum status mark_words(void *arg, const struct csv_reader *r, const struct csv_text *t,
                              int64_t row, struct err *err) {
    struct csv_codes *c = arg;
    (void)row;
    for (size_t i = 0; i < c->count; i++) {
        double v;
        bool number = csv_text_number(&t->fields[i], '.', &v);
        char at[CSV_PLACE_MAX];
        if (t->fields[i].len == 0)
            return err_set(err, STATUS_INVALID, "%scolumn %.*s has no value",
                           csv_place(r, t, &t->fields[i], at), CSV_SHOWN_MAX, c->columns[i].name);
        if (i == c->label && r->source->task != SPEC_REGRESS)
            number = number && class_number(v);
        if (!number)
            c->columns[i].kind = CSV_WORDS;
    }
    return STATUS_OK;
}

/* ---- collect ---- */

/* Text that would not survive in a manifest cannot name a class or an input. */
static enum status check_text(const struct csv_reader *r, const struct csv_text *t,
                              const struct csv_field *f, const char *name, struct err *err) {
    char at[CSV_PLACE_MAX];
    for (size_t k = 0; k < f->len;) {
        size_t n = utf8_length(f->text + k, f->len - k);
        if (f->text[k] == '\0')
            return err_set(err, STATUS_INVALID, "%scolumn %.*s has no value but a NUL byte",
                           csv_place(r, t, f, at), CSV_SHOWN_MAX, name);
        if (n == 0 && csv_infers(r))
            return err_set(err, STATUS_INVALID,
                           "%sa word in column %.*s is not UTF-8 (byte 0x%02x after '%.*s'); "
                           "convert the file, as with iconv -f latin1 -t utf8",
                           csv_place(r, t, f, at), CSV_SHOWN_MAX, name, (unsigned char)f->text[k],
                           (int)(k < CSV_SHOWN_MAX ? k : CSV_SHOWN_MAX), f->text);
        k += n > 0 ? n : 1;
    }
    return STATUS_OK;
}

static enum status collect_word(struct csv_codes *c, size_t i, const struct csv_reader *r,
                                const struct csv_text *t, struct err *err) {
    struct csv_column *column = &c->columns[i];
    const struct csv_field *f = &t->fields[i];
    size_t max = i == c->label ? DATA_CLASSES_MAX : CSV_WORDS_MAX, before = column->words.count;
    char at[CSV_PLACE_MAX];
    if (csv_missing(column, f)) {
        column->missing++;
        return STATUS_OK;
    }
    enum status st = csv_words_add(&column->words, f, err);
    if (st != STATUS_OK || column->words.count == before)
        return st;
    if (before == max)
        return err_set(err, STATUS_TOO_LARGE,
                       "%scolumn %.*s has more than %zu different words: too many for a category%s",
                       csv_place(r, t, f, at), CSV_SHOWN_MAX, column->name, max,
                       csv_infers(r) ? "; leave it out with data.train.exclude" : "");
    return check_text(r, t, f, column->name, err);
}

/* `fill` is the sum on the way to a mean. */
static void collect_number(struct csv_codes *c, struct csv_column *column, double v) {
    bool label = column == &c->columns[c->label];
    bool first = column->numbers++ == 0;
    column->low = first || v < column->low ? v : column->low;
    column->high = first || v > column->high ? v : column->high;
    if (c->missing == CSV_MEAN)
        column->fill += v;
    c->inexact |= !label && (double)(float)v != v;
}

static enum status collect_row(void *arg, const struct csv_reader *r, const struct csv_text *t,
                               int64_t row, struct err *err) {
    struct csv_codes *c = arg;
    enum status st = STATUS_OK;
    (void)row;
    for (size_t i = 0; i < c->count && st == STATUS_OK; i++) {
        struct csv_column *column = &c->columns[i];
        double v;
        if (!column->used)
            continue;
        if (column->kind == CSV_WORDS)
            st = collect_word(c, i, r, t, err);
        else if (csv_text_number(&t->fields[i], r->source->point, &v))
            collect_number(c, column, v);
        else
            column->missing++;
    }
    return st;
}

/* ---- words that look alike ---- */

static struct csv_field trimmed(const char *word) {
    struct csv_field f = {.text = word, .len = strlen(word)};
    for (; f.len > 0 && strchr(" \t", f.text[0]) != NULL; f.len--)
        f.text++;
    while (f.len > 0 && strchr(" \t", f.text[f.len - 1]) != NULL)
        f.len--;
    return f;
}

/* Where a word stands first. */
struct wanted {
    size_t column;
    const char *word;
    char at[CSV_PLACE_MAX]; /* "": not seen yet */
};

static enum status look_for(void *arg, const struct csv_reader *r, const struct csv_text *t,
                            int64_t row, struct err *err) {
    struct wanted *w = arg;
    const struct csv_field *f = &t->fields[w->column];
    (void)row, (void)err;
    if (w->at[0] == '\0' && f->len == strlen(w->word) && memcmp(f->text, w->word, f->len) == 0)
        (void)csv_place(r, t, f, w->at);
    return STATUS_OK;
}

/* The next word from words[i] on with blanks around it and the same as another without; NULL: none. */
static const char *next_blank(const struct csv_words *w, size_t *i, bool *twin) {
    for (; *i < w->count; ++*i) {
        struct csv_field f = trimmed(w->word[*i]);
        if (f.len == strlen(w->word[*i]))
            continue;
        *twin = false;
        for (size_t k = 0; k < w->count && !*twin; k++) {
            struct csv_field other = trimmed(w->word[k]);
            *twin = k != *i && other.len == f.len && memcmp(other.text, f.text, f.len) == 0;
        }
        return w->word[(*i)++];
    }
    return NULL;
}

/* "yes" and "yes " would be two classes, or two inputs. */
static enum status check_blanks(struct csv_reader *r, struct csv_codes *c, struct notes *notes,
                                struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; i < c->count && st == STATUS_OK; i++) {
        const struct csv_column *column = &c->columns[i];
        struct wanted w = {.column = i};
        size_t at = 0;
        bool twin = false, said = false;
        while (st == STATUS_OK && column->used && column->kind == CSV_WORDS &&
               (w.word = next_blank(&column->words, &at, &twin)) != NULL) {
            if (twin && !column->declared) {
                TRY(csv_each_row(r, NULL, look_for, &w, err));
                st = err_set(err, STATUS_INVALID,
                             "%s'%.*s' in column %.*s differs from another word of the column by "
                             "blanks alone; mend the cell, or keep both as they are: "
                             "data.train.types: {%.*s: words}",
                             w.at, CSV_SHOWN_MAX, w.word, CSV_SHOWN_MAX, column->name,
                             CSV_SHOWN_MAX, column->name);
            } else if (!said) {
                notes_add(
                    notes,
                    "column %.*s: words have blanks around them, which belong to them: '%.*s'",
                    CSV_SHOWN_MAX, column->name, CSV_SHOWN_MAX, w.word);
                said = true;
            }
        }
    }
out:
    return st;
}

static enum status conclude(struct csv_codes *c, const struct csv_reader *r, struct notes *notes,
                            struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; i < c->count && st == STATUS_OK; i++) {
        struct csv_column *column = &c->columns[i];
        bool words = column->used && column->kind == CSV_WORDS;
        if (c->missing == CSV_MEAN && column->numbers > 0)
            column->fill /= (double)column->numbers;
        if (column->missing > 0 && !words)
            c->inexact |= (double)(float)column->fill != column->fill;
        if (words && i == c->label && csv_infers(r))
            st = csv_words_order(&column->words, err);
        if (column->missing > 0)
            notes_add(notes, "column %.*s: %lld cells without a value become %s", CSV_SHOWN_MAX,
                      column->name, (long long)column->missing,
                      words                    ? "none of its words"
                      : c->missing == CSV_MEAN ? "the mean of the others"
                                               : "the given number");
        if (words && i != c->label && column->words.count > MANY_WORDS && csv_infers(r))
            notes_add(notes, "column %.*s becomes %zu inputs, one for each of its words",
                      CSV_SHOWN_MAX, column->name, column->words.count);
    }
    if (r->dropped > 0)
        notes_add(notes, "%lld rows without all their values are left out (missing: drop)",
                  (long long)r->dropped);
    return st;
}

enum status csv_infer(struct csv_reader *r, struct csv_codes *c, struct notes *notes,
                      struct err *err) {
    enum status st;
    TRY(csv_infers(r) ? look(r, c, err) : csv_each_row(r, NULL, mark_words, c, err));
    TRY(csv_each_row(r, c, collect_row, c, err));
    if (csv_infers(r))
        TRY(check_blanks(r, c, notes, err));
    TRY(conclude(c, r, notes, err));
out:
    return st;
}
