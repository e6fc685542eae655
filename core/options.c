/* Command lines from a table of rows. */
#include "core/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/schema.h"

struct parse {
    const struct option_row *rows;
    int argc, next; /* argv[next] is read next */
    char **argv;
    void *out;
    struct operands *operands;
    struct err *err;
};

static const struct option_row *by_name(const struct option_row *rows, const char *name,
                                        size_t len) {
    for (; rows->name != NULL; rows++)
        if (strncmp(rows->name, name, len) == 0 && rows->name[len] == '\0')
            return rows;
    return NULL;
}

static const struct option_row *by_letter(const struct option_row *rows, char letter) {
    for (; rows->name != NULL; rows++)
        if (rows->letter == letter)
            return rows;
    return NULL;
}

/* The caller's field; `offset` came from offsetof of a member of the row's type. */
static void *field(const struct parse *p, const struct option_row *row) {
    return (char *)p->out + row->offset;
}

static enum status set_flag(struct parse *p, const struct option_row *row, bool on) {
    *(bool *)field(p, row) = on;
    return STATUS_OK;
}

static enum status store_int(struct parse *p, const struct option_row *row, const char *text) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool bounded = row->min < row->max;
    bool number = errno == 0 && end != text && *end == '\0' && text[0] != ' ';
    if (!number && !bounded)
        return err_set(p->err, STATUS_INVALID, "--%s must be an integer, not '%.80s'", row->name,
                       text);
    if (!number || (bounded && (v < row->min || v > row->max)))
        return err_set(p->err, STATUS_INVALID,
                       "--%s must be an integer from %lld to %lld, not '%.80s'", row->name,
                       (long long)row->min, (long long)row->max, text);
    *(int64_t *)field(p, row) = v;
    return STATUS_OK;
}

static bool is_choice(const char *choices, const char *word) {
    for (size_t len; *choices != '\0'; choices += len + (choices[len] == '|')) {
        len = strcspn(choices, "|");
        if (strlen(word) == len && strncmp(choices, word, len) == 0)
            return true;
    }
    return false;
}

/* "auto|cpu|cuda" → "auto, cpu or cuda" */
static void spell_choices(const char *choices, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t len; *choices != '\0' && used < size; choices += len + (choices[len] == '|')) {
        len = strcspn(choices, "|");
        const char *more = choices + len;
        const char *joint = *more == '\0' ? "" : strchr(more + 1, '|') != NULL ? ", " : " or ";
        int n = snprintf(out + used, size - used, "%.*s%s", (int)len, choices, joint);
        used += n > 0 ? (size_t)n : size;
    }
}

static enum status store_choice(struct parse *p, const struct option_row *row, const char *text) {
    char words[256];
    if (is_choice(row->value, text)) {
        *(const char **)field(p, row) = text;
        return STATUS_OK;
    }
    spell_choices(row->value, words, sizeof words);
    return err_set(p->err, STATUS_INVALID, "--%s must be %s, not '%.40s'", row->name, words, text);
}

static enum status store(struct parse *p, const struct option_row *row, const char *text) {
    struct option_list *list;
    switch (row->type) {
    case OPTION_INT:
        return store_int(p, row, text);
    case OPTION_STRING:
        *(const char **)field(p, row) = text;
        return STATUS_OK;
    case OPTION_CHOICE:
        return store_choice(p, row, text);
    case OPTION_LIST:
        list = field(p, row);
        if (list->count == OPTION_LIST_MAX)
            return err_set(p->err, STATUS_TOO_LARGE, "--%s is given more than %d times", row->name,
                           OPTION_LIST_MAX);
        list->items[list->count++] = text;
        return STATUS_OK;
    case OPTION_FLAG:
        break;
    }
    return err_set(p->err, STATUS_INTERNAL, "--%s has no type that takes a value", row->name);
}

/* The argument after the option. One that starts with "--" more likely means a forgotten value. */
static enum status store_next(struct parse *p, const struct option_row *row) {
    const char *text = p->next < p->argc ? p->argv[p->next] : NULL;
    if (text == NULL || strncmp(text, "--", 2) == 0)
        return err_set(p->err, STATUS_INVALID, "--%s needs a value: --%s=%s", row->name, row->name,
                       row->value != NULL ? row->value : "VALUE");
    p->next++;
    return store(p, row, text);
}

static enum status unknown(struct parse *p, const char *name, size_t len) {
    char choices[2048] = "help", word[64], near[64];
    size_t used = strlen(choices);
    for (const struct option_row *r = p->rows; r->name != NULL; r++) {
        int n = snprintf(choices + used, sizeof choices - used, "|%s", r->name);
        if (n < 0 || (size_t)n >= sizeof choices - used)
            break; /* the hint may miss the last of very many */
        used += (size_t)n;
    }
    choices[used] = '\0';
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < 63 ? len : 63), name);
    const char *hint = schema_nearest(choices, word, near);
    if (hint != NULL)
        return err_set(p->err, STATUS_INVALID, "unknown option '--%s'; did you mean '--%s'?", word,
                       hint);
    return err_set(p->err, STATUS_INVALID, "unknown option '--%s'; --help lists the options", word);
}

static enum status parse_long(struct parse *p, const char *name) {
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct option_row *row = by_name(p->rows, name, len);
    if (row == NULL && len == 4 && strncmp(name, "help", len) == 0) {
        p->operands->help = true;
        return STATUS_OK;
    }
    if (row == NULL && len > 3 && strncmp(name, "no-", 3) == 0 && value == NULL) {
        row = by_name(p->rows, name + 3, len - 3);
        if (row != NULL && row->type == OPTION_FLAG)
            return set_flag(p, row, false);
        row = NULL;
    }
    if (row == NULL)
        return unknown(p, name, len);
    if (row->type == OPTION_FLAG && value != NULL)
        return err_set(p->err, STATUS_INVALID, "--%s takes no value; --no-%s turns it off",
                       row->name, row->name);
    if (row->type == OPTION_FLAG)
        return set_flag(p, row, true);
    return value != NULL ? store(p, row, value) : store_next(p, row);
}

/* "-n4", "-n 4", and flags together: "-qv". */
static enum status parse_letters(struct parse *p, const char *letters) {
    for (; *letters != '\0'; letters++) {
        const struct option_row *row = by_letter(p->rows, *letters);
        if (row == NULL && *letters == 'h') {
            p->operands->help = true;
            return STATUS_OK;
        }
        if (row == NULL)
            return err_set(p->err, STATUS_INVALID, "unknown option '-%c'; --help lists the options",
                           *letters);
        if (row->type != OPTION_FLAG)
            return letters[1] != '\0' ? store(p, row, letters + 1) : store_next(p, row);
        (void)set_flag(p, row, true);
    }
    return STATUS_OK;
}

static enum status add_operand(struct parse *p, const char *text) {
    if (p->operands->count == OPERANDS_MAX)
        return err_set(p->err, STATUS_TOO_LARGE, "more than %d operands", OPERANDS_MAX);
    p->operands->items[p->operands->count++] = text;
    return STATUS_OK;
}

enum status options_parse(const struct option_row *rows, int argc, char **argv, void *out,
                          struct operands *operands, struct err *err) {
    struct parse p = {.rows = rows,
                      .argc = argc,
                      .next = 1,
                      .argv = argv,
                      .out = out,
                      .operands = operands,
                      .err = err};
    *operands = (struct operands){.count = 0};
    bool only_operands = false;
    while (p.next < argc && !operands->help) {
        const char *arg = argv[p.next++];
        enum status st;
        if (only_operands || arg[0] != '-' || arg[1] == '\0')
            st = add_operand(&p, arg);
        else if (arg[1] != '-')
            st = parse_letters(&p, arg + 1);
        else if (arg[2] != '\0')
            st = parse_long(&p, arg + 2);
        else
            st = (only_operands = true, STATUS_OK);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* "-n, --ranks N" */
static int head(char *out, size_t size, const struct option_row *row) {
    char letter[8] = "    ";
    if (row->letter != 0)
        (void)snprintf(letter, sizeof letter, "-%c, ", row->letter);
    int n = snprintf(out, size, "%s--%s%s%s", letter, row->name, row->value != NULL ? " " : "",
                     row->value != NULL ? row->value : "");
    return n < (int)size ? n : (int)size - 1;
}

void options_help(FILE *to, const struct command_help *help, const struct option_row *rows) {
    static const struct option_row help_row = {.name = "help", .doc = "show this text"};
    char text[80];
    int width = head(text, sizeof text, &help_row);
    for (const struct option_row *r = rows; r->name != NULL; r++) {
        int n = head(text, sizeof text, r);
        width = n > width ? n : width;
    }
    (void)fprintf(to, "usage: %s\n\n%s\n\noptions:\n", help->usage, help->summary);
    for (const struct option_row *r = rows; r->name != NULL; r++) {
        head(text, sizeof text, r);
        (void)fprintf(to, "  %-*s  %s\n", width, text, r->doc != NULL ? r->doc : "");
    }
    head(text, sizeof text, &help_row);
    (void)fprintf(to, "  %-*s  %s\n", width, text, help_row.doc);
    if (help->details != NULL)
        (void)fprintf(to, "\n%s\n", help->details);
}
