/* Tables and short texts for people. */
#ifndef CLIENT_CLI_TEXT_H
#define CLIENT_CLI_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/value.h"

/* Columns as wide as their widest cell; numbers to the right. */
#define TABLE_COLUMNS_MAX 16
struct table;
struct table *table_new(struct arena *a, const char *const *titles, size_t columns);
void table_row(struct table *t, const char *const *cells); /* copied; NULL: "" */
void table_print(const struct table *t, FILE *to, bool colour);

/* "3m 12s", "1.2 MB", "2026-11-21 13:05" into the arena. */
const char *text_duration(struct arena *a, int64_t ns);
const char *text_bytes(struct arena *a, int64_t bytes);
const char *text_time(struct arena *a, int64_t wall_ns);

/* `text` in an ANSI colour ("1": bold, "32": green) where `on`. */
const char *text_colour(struct arena *a, bool on, const char *code, const char *text);

/* A value in a cell: a string as it is, a number in six digits, "-" for none; text_line writes
 * everything else as compact JSON, text_scalar only its kind. */
const char *text_scalar(struct arena *a, const struct value *v);
const char *text_line(struct arena *a, const struct value *v);

#endif
