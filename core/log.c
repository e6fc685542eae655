/* One logfmt line an event, written at once. */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

#define LINE_MAX_BYTES 2048 /* below PIPE_BUF: a pipe keeps lines whole too */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* The process has one log. Written by log_open before there are threads, read by all of them. */
static struct {
    int fd;
    enum log_level level;
    const char *room;
} the_log = {.fd = STDERR_FILENO, .level = LOG_INFO, .room = "trireme"};

static enum status read_level(enum log_level *out, struct err *err) {
    const char *name = getenv("TRIREME_LOG");
    *out = LOG_INFO;
    if (name == NULL || *name == '\0')
        return STATUS_OK;
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return STATUS_OK;
        }
    }
    return err_set(err, STATUS_INVALID, "TRIREME_LOG must be debug, info, warn or error, not '%s'",
                   name);
}

enum status log_open(const char *room, const char *path, struct err *err) {
    enum log_level level;
    enum status st = read_level(&level, err);
    if (st != STATUS_OK)
        return st;
    int fd = STDERR_FILENO;
    if (path != NULL)
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "open log file %s", path);
    if (the_log.fd != STDERR_FILENO)
        close(the_log.fd);
    the_log.fd = fd;
    the_log.level = level;
    the_log.room = room;
    return STATUS_OK;
}

/* One line is one event, whatever the values hold. */
static void blank_controls(char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
}

void log_line(enum log_level level, const char *event, const char *format, ...) {
    if (level < the_log.level)
        return;
    int saved_errno = errno;
    char ts[CLOCK_TEXT_MAX], line[LINE_MAX_BYTES];
    clock_format(clock_wall_ns(&clock_system), ts);
    int head = snprintf(line, sizeof line, "%s %s %s %s%s", ts, level_names[level], the_log.room,
                        event, *format != '\0' ? " " : "");
    size_t len = head > 0 ? (size_t)head : 0;
    if (len < sizeof line) {
        va_list args;
        va_start(args, format);
        int rest = vsnprintf(line + len, sizeof line - len, format, args);
        va_end(args);
        len += rest > 0 ? (size_t)rest : 0;
    }
    if (len > sizeof line - 1) {
        len = sizeof line - 1;
        memcpy(line + len - 3, "...", 3);
    }
    blank_controls(line, len);
    line[len++] = '\n';
    /* A log that cannot be written is no reason to stop. */
    ssize_t written = write(the_log.fd, line, len);
    (void)written;
    errno = saved_errno;
}

const char *log_quote(const char *text, char out[LOG_QUOTE_MAX]) {
    size_t n = 0;
    out[n++] = '"';
    for (const char *p = text; *p != '\0' && n < LOG_QUOTE_MAX - 3; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\' || c == '\n')
            out[n++] = '\\';
        out[n++] = c == '\n' ? 'n' : c < 0x20 || c == 0x7f ? ' ' : *p;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

void log_err(enum log_level level, const char *event, const struct err *err) {
    char quoted[LOG_QUOTE_MAX];
    log_line(level, event, "code=%s text=%s", status_name(err->status),
             log_quote(err->text, quoted));
}
