/* Command lines, from a table: parsing, --help and shell completion say the same thing.
 *
 *     static const struct option_row rows[] = {
 *         OPTION_ROW_INT(struct args, ranks, "ranks", 'n', "N", 1, 1024, "number of ranks"),
 *         OPTION_END};
 *
 * "--name value" and "--name=value"; a flag is switched off by "--no-name". Operands may come
 * anywhere; "--" ends the options. Every table has --help. */
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
    OPTION_CHOICE, /* the same; one of the words of `value`, "a|b|c" */
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

/* Rows: the caller's struct and its member, name and letter ('\0': none), then what the type needs.
 */
#define OPTION_ROW_FLAG(args, member, name_, letter_, doc_)                                        \
    {                                                                                              \
        .name = name_, .letter = letter_, .type = OPTION_FLAG, .doc = doc_,                        \
        .offset = offsetof(args, member)                                                           \
    }
#define OPTION_ROW_INT(args, member, name_, letter_, value_, min_, max_, doc_)                     \
    {                                                                                              \
        .name = name_, .letter = letter_, .type = OPTION_INT, .value = value_, .min = min_,        \
        .max = max_, .doc = doc_, .offset = offsetof(args, member)                                 \
    }
#define OPTION_ROW_STRING(args, member, name_, letter_, value_, doc_)                              \
    {                                                                                              \
        .name = name_, .letter = letter_, .type = OPTION_STRING, .value = value_, .doc = doc_,     \
        .offset = offsetof(args, member)                                                           \
    }
#define OPTION_ROW_CHOICE(args, member, name_, letter_, value_, doc_)                              \
    {                                                                                              \
        .name = name_, .letter = letter_, .type = OPTION_CHOICE, .value = value_, .doc = doc_,     \
        .offset = offsetof(args, member)                                                           \
    }
#define OPTION_ROW_LIST(args, member, name_, letter_, value_, doc_)                                \
    {                                                                                              \
        .name = name_, .letter = letter_, .type = OPTION_LIST, .value = value_, .doc = doc_,       \
        .offset = offsetof(args, member)                                                           \
    }
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
