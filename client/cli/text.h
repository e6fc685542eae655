/* Tables and short texts for people. */
#ifndef CLIENT_CLI_TEXT_H
#define CLIENT_CLI_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/value.h"

/* Whatever comes from elsewhere goes through here on its way to a terminal: what a terminal would obey
 * (controls, C1, what turns the direction of text) and bytes that are not UTF-8 are shown as \n, \x1b,
 * \u202e. The text itself where nothing has to be escaped. Tables and the functions below do it
 * themselves. */
const char *text_safe(struct arena *a, const char *text);

/* The same for a message on its way to standard error, which may have several lines of its own. */
void text_print_safe(const char *text, FILE *to);

/* JSON text as json_dump writes it, with what a terminal would obey as \u escapes: the same value. */
void text_print_json(const char *json, size_t len, FILE *to);

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

/* A value that cannot be taken for one of another type: 1, 1.0, true, null, a list or a map as JSON; a
 * string as it is, or in quotes where it would read as something else ("1", "true", "a b", ""). */
const char *text_typed(struct arena *a, const struct value *v);

/* A value in a cell: a string as it is, a number in six digits, "-" for none; text_line writes
 * everything else as compact JSON, text_scalar only its kind. */
const char *text_scalar(struct arena *a, const struct value *v);
const char *text_line(struct arena *a, const struct value *v);

#endif
