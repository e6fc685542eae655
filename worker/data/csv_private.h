/* What the files of the CSV reader share: columns, words, and the walk over rows.
 *
 *     csv_text.c     rows and fields of a text          csv_words.c    a sorted set of words
 *     csv_rows.c     the walk over rows                 csv_columns.c  names, which are used
 *     csv_infer.c    what each column is                csv.c          cells become numbers */
#ifndef WORKER_DATA_CSV_PRIVATE_H
#define WORKER_DATA_CSV_PRIVATE_H

#include "worker/data/csv_text.h"
#include "worker/data/format.h"

#define CSV_WORDS_MAX 4096 /* different words in one column */
#define CSV_SHOWN_MAX 40   /* bytes of a word in a message */

/* Sorted by their bytes; words that are all whole numbers may be ranked by what they say. */
struct csv_words {
    char **word;
    size_t count, cap;
    int32_t *rank; /* (count): the place of a word among the numbers; NULL: where it is */
};

enum csv_kind { CSV_NUMBER, CSV_WORDS };

struct csv_column {
    char *name;
    enum csv_kind kind;
    bool used;              /* a feature, or the label */
    bool declared;          /* by data.train.types */
    int64_t first;          /* feature index of its (first) value; -1: the label, or not used */
    struct csv_words words; /* of a column of words */
    double low, high;       /* of a column of numbers, where there was one */
    double fill;            /* what a missing number becomes */
    int64_t numbers, missing;
};

/* What a training file teaches: samples.learnt. */
struct csv_codes {
    struct csv_column *columns;
    size_t count, label;
    int64_t features;
    enum { CSV_REFUSE, CSV_MEAN, CSV_DROP, CSV_VALUE } missing;
    bool inexact; /* some number is not a float32 */
};

/* A file being read. */
struct csv_reader {
    const char *path, *text;
    size_t len;
    const struct spec_source *source;
    const struct pump *pump;
    const size_t *at;      /* which field of a row a known column is in; NULL: as they are */
    size_t fields;         /* of a row */
    int64_t rows, dropped; /* of the last walk */
};

static inline bool csv_infers(const struct csv_reader *r) {
    return r->source->language >= 3;
}

/* The field of a column in this row. */
static inline const struct csv_field *csv_field_of(const struct csv_reader *r,
                                                   const struct csv_text *t, size_t column) {
    return &t->fields[r->at != NULL ? r->at[column] : column];
}

/* "path:line:column: ", or "path:line: " as it was before version 3. */
#define CSV_PLACE_MAX (PATH_TEXT_MAX + 64)
const char *csv_place(const struct csv_reader *r, const struct csv_text *t,
                      const struct csv_field *f, char out[CSV_PLACE_MAX]);

/* How tables write that there is nothing: "", NA, ?, … */
bool csv_nothing(const struct csv_field *f);

/* Whether the cell has no value, as a column of its kind sees it: NA may be a word. */
bool csv_missing(const struct csv_column *c, const struct csv_field *f);

/* For "%.*s". */
static inline int csv_shown(const struct csv_field *f) {
    return (int)(f->len < CSV_SHOWN_MAX ? f->len : CSV_SHOWN_MAX);
}

/* Calls fn with every row behind the header; with codes (may be NULL) whose `missing` is CSV_DROP,
 * rows that lack a value in a used column are left out. */
typedef enum status csv_row_fn(void *arg, const struct csv_reader *r, const struct csv_text *t,
                               int64_t row, struct err *err);
enum status csv_each_row(struct csv_reader *r, const struct csv_codes *codes, csv_row_fn *fn,
                         void *arg, struct err *err) MUST_USE;

/* ---- words ---- */

size_t csv_words_find(const struct csv_words *w, const struct csv_field *f, bool *found);
enum status csv_words_add(struct csv_words *w, const struct csv_field *f, struct err *err) MUST_USE;
void csv_words_release(struct csv_words *w);

/* The class or one-hot place of words[i]. */
static inline int64_t csv_words_rank(const struct csv_words *w, size_t i) {
    return w->rank != NULL ? w->rank[i] : (int64_t)i;
}

/* Ranks words that are all whole numbers by what they say; does nothing where one is not. */
enum status csv_words_order(struct csv_words *w, struct err *err) MUST_USE;

/* ---- columns ---- */

/* Names, the label, and which columns are used, from the first row. */
enum status csv_columns_read(struct csv_reader *r, struct csv_codes **out,
                             struct err *err) MUST_USE;
void csv_codes_destroy(void *codes);

/* How a later file's fields stand to the training file's columns; fills r->at (free it). */
enum status csv_columns_match(struct csv_reader *r, const struct csv_codes *own,
                              const struct csv_codes *known, size_t **at, struct err *err) MUST_USE;

/* ---- what each column is ---- */

/* By every cell, up to version 2; by the many since. */
enum status csv_infer(struct csv_reader *r, struct csv_codes *c, struct notes *notes,
                      struct err *err) MUST_USE;

#endif
