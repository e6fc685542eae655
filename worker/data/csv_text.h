/* The text of a CSV file, row by row (RFC 4180, also with bare LF, blank lines skipped, a byte
 * order mark ignored). A field is what is between two separators; quoted fields may hold separators,
 * line ends and doubled quotes.
 *
 *     a,"b ""c""",  d \r\n   ──▶   fields {a} {b "c"} {  d }
 *
 * Fields point into the text, or into the row's scratch where quotes had to be taken out; both are
 * valid until the next row. */
#ifndef WORKER_DATA_CSV_TEXT_H
#define WORKER_DATA_CSV_TEXT_H

#include "core/buf.h"

#define CSV_COLUMNS_MAX 65536

struct csv_field {
    const char *text;
    size_t len;
    bool quoted;
    const char *at; /* where the file has it, its quote included */
};

/* For messages: "train.csv:32:7". */
struct csv_place {
    int64_t line;
    int column; /* in characters, from 1 */
};

struct csv_text {
    const char *path;
    char separator; /* ',' unless the caller sets another */
    const char *p, *end;
    const char *row;          /* where the row that was read begins */
    int64_t line;             /* where the next row begins, from 1 */
    int64_t row_line;         /* read-only: where the row that was read began */
    struct csv_field *fields; /* read-only */
    size_t count, cap;        /* count: read-only */
    char *scratch;            /* private: as long as the longest row so far */
    size_t scratch_cap;
};

void csv_text_init(struct csv_text *t, const char *path, const char *text, size_t len);
void csv_text_release(struct csv_text *t);

/* *more false at the end. INVALID with path and line for an open quote or text behind a quote. */
enum status csv_text_row(struct csv_text *t, bool *more, struct err *err) MUST_USE;

/* Where a field of the row is. */
struct csv_place csv_text_place(const struct csv_text *t, const struct csv_field *f);

/* A plain decimal number whose sign is `point`, blanks around it allowed; false for words, "nan",
 * "inf", "0x1", "". */
bool csv_text_number(const struct csv_field *f, char point, double *out);

#endif
