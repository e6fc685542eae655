/* Command lines, from a table: parsing, --help and shell completion say the same thing.
 *
 *     static const struct option_row rows[] = {
 *         {"ranks", 'n', OPTION_INT, "N", "number of ranks", 1, 1024, offsetof(struct args,
 * ranks)}, OPTION_END };
 *
 * "--name value" and "--name=value"; flags may be "--no-name". Operands may stand anywhere; "--"
 * ends options. --help is in every table by itself. */
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

enum option_type {
    OPTION_FLAG,   /* bool */
    OPTION_INT,    /* int64_t in [min, max] */
    OPTION_STRING, /* const char * into argv */
    OPTION_LIST,   /* struct option_list: may be given several times */
};

#define OPTION_LIST_MAX 64
struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
};

struct option_row {
    const char *name; /* NULL ends the table */
    char letter;      /* 0: none */
    enum option_type type;
    const char *value; /* "FILE", "N"; NULL for flags */
    const char *doc;
    int64_t min, max; /* INT */
    size_t offset;    /* into the caller's struct */
};

#define OPTION_END                                                                                 \
    { .name = NULL }

struct command_help {
    const char *usage;   /* "trireme replay RUN [options]" */
    const char *summary; /* one line */
    const char *details; /* further text, may be NULL; examples, exit codes */
};

#define OPERANDS_MAX 64
struct operands {
    const char *items[OPERANDS_MAX];
    size_t count;
    bool help; /* --help was given: the caller prints options_help and ends with 0 */
};

enum status options_parse(const struct option_row *rows, int argc, char **argv, void *out,
                          struct operands *operands, struct err *err) MUST_USE;
void options_help(FILE *to, const struct command_help *help, const struct option_row *rows);

#endif
