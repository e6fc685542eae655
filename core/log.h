/* One line per event, in logfmt, on standard error (or the file given to log_open):
 *
 *     2026-11-21T13:05:09.123Z info tracker commit requests=12 ms=3
 *
 * A library returns errors; a daemon logs them once, where it decides. Each line is one write(2), so
 * that processes may share a file; it is cut at 2047 bytes, and control bytes become spaces. Values
 * that may contain spaces, quotes or '=' go through log_quote, errors through log_err.
 *
 * Threading: log_line may be called from any thread after log_open. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/status.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `room` names the process ("tracker") and is a static string. `path` NULL: standard error.
 * The level comes from TRIREME_LOG (debug|info|warn|error), default info. */
enum status log_open(const char *room, const char *path, struct err *err) MUST_USE;

/* `event` is one word; the format adds "key=value" pairs. */
void log_line(enum log_level level, const char *event, const char *format, ...) PRINTF(3, 4);

/* log_line(level, event, "… code=<status> text=\"<err->text>\"") */
void log_err(enum log_level level, const char *event, const struct err *err);

/* `text` in double quotes, with ", \ and newlines escaped; cut to fit. Returns `out`. */
#define LOG_QUOTE_MAX 1024
const char *log_quote(const char *text, char out[LOG_QUOTE_MAX]);

#endif
