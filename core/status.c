/* Statuses by name and exit code; messages, cut to whole characters. */
#include "core/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

static const struct {
    const char *name;
    int exit_code;
} rows[STATUS_COUNT] = {
#define X(name, wire, exit_code) [STATUS_##name] = {wire, exit_code},
    STATUS_TABLE(X)
#undef X
};

/* Texts go into JSON replies, so they are UTF-8 even where they quote input that is not, or were
 * cut inside a character. */
static void make_utf8(char *text) {
    for (size_t len = strlen(text); len > 0;) {
        size_t n = utf8_length(text, len);
        if (n == 0) {
            *text = '?';
            n = 1;
        }
        text += n;
        len -= n;
    }
}

/* Formats beside *err first: the arguments may point into err->text. */
static void fill(struct err *err, enum status status, const char *format, va_list args)
    PRINTF(3, 0);

static void fill(struct err *err, enum status status, const char *format, va_list args) {
    char text[ERR_TEXT_MAX];
    if (vsnprintf(text, sizeof text, format, args) < 0)
        text[0] = '\0';
    make_utf8(text);
    err->status = status;
    memcpy(err->text, text, sizeof text);
}

static void append(struct err *err, const char *text) {
    size_t len = strlen(err->text);
    (void)snprintf(err->text + len, sizeof err->text - len, ": %s", text);
    make_utf8(err->text + len);
}

enum status err_set(struct err *err, enum status status, const char *format, ...) {
    if (err == NULL)
        return status;
    va_list args;
    va_start(args, format);
    fill(err, status, format, args);
    va_end(args);
    return status;
}

static enum status status_from_errno(int errnum) {
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return STATUS_FULL;
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    case ENOMEM:
        return STATUS_NOMEM;
    default:
        return STATUS_IO;
    }
}

enum status err_errno(struct err *err, int errnum, const char *format, ...) {
    enum status status = status_from_errno(errnum);
    if (err == NULL)
        return status;
    va_list args;
    va_start(args, format);
    fill(err, status, format, args);
    va_end(args);
    const char *words = strerrordesc_np(errnum); /* static and untranslated */
    append(err, words != NULL ? words : "unknown error");
    return status;
}

enum status err_wrap(struct err *err, enum status status, const char *format, ...) {
    if (err == NULL)
        return status;
    char inner[ERR_TEXT_MAX];
    memcpy(inner, err->text, sizeof inner);
    inner[sizeof inner - 1] = '\0';
    va_list args;
    va_start(args, format);
    fill(err, err->status != STATUS_OK ? err->status : status, format, args);
    va_end(args);
    append(err, inner);
    return err->status;
}

const char *status_name(enum status status) {
    return (unsigned)status < STATUS_COUNT ? rows[status].name : rows[STATUS_INTERNAL].name;
}

enum status status_from_name(const char *name) {
    for (int i = 0; name != NULL && i < STATUS_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (enum status)i;
    return STATUS_INTERNAL;
}

int status_exit_code(enum status status) {
    return (unsigned)status < STATUS_COUNT ? rows[status].exit_code
                                           : rows[STATUS_INTERNAL].exit_code;
}
