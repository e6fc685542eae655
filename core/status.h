/* What a function answers: a status, and an error that says why.
 *
 * Every function that can fail returns `enum status` and takes `struct err *err` last. On failure
 * it fills *err and returns its code; on success it leaves *err alone. A caller that passes a
 * failure on may put its own context in front: "restore run 01J…: read chunk 7: digest does not
 * match".
 *
 * `err` may be NULL where the caller does not need the message. Messages are lower case, without
 * a full stop, and say what was wrong, where, and what to do. They are cut at ERR_TEXT_MAX - 1
 * bytes and are always UTF-8: other bytes become '?'.
 *
 * Threading: a struct err belongs to one thread. No allocation takes place here. */
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#include <stdarg.h>

/* name, the code on the wire, the exit code of a command that ends with it */
#define STATUS_TABLE(X)                                                                            \
    X(OK, "ok", 0)                                                                                 \
    X(INVALID, "invalid", 2)         /* the input is wrong; sending it again will not help */      \
    X(NOT_FOUND, "not_found", 4)     /* no such run, key, model, file */                           \
    X(AMBIGUOUS, "ambiguous", 4)     /* a prefix that several ids share */                         \
    X(EXISTS, "exists", 5)           /* the name is taken */                                       \
    X(CONFLICT, "conflict", 5)       /* the state does not allow it; a fenced lease */             \
    X(CORRUPT, "corrupt", 6)         /* stored bytes fail their digest or their format */          \
    X(TOO_NEW, "too_new", 6)         /* a format or a message of a later version */                \
    X(TOO_LARGE, "too_large", 2)     /* over a named maximum */                                    \
    X(FULL, "full", 7)               /* disk, map, queue */                                        \
    X(BUSY, "busy", 8)               /* store already open, port taken */                          \
    X(TIMEOUT, "timeout", 8)         /* no answer in time */                                       \
    X(UNAVAILABLE, "unavailable", 8) /* peer gone, library or device missing */                    \
    X(DENIED, "denied", 9)           /* not allowed, or refused for safety */                      \
    X(NONFINITE, "nonfinite", 10)    /* NaN or Inf in training */                                  \
    X(CANCELLED, "cancelled", 11)    /* somebody asked it to stop */                               \
    X(IO, "io", 12)                  /* the operating system refused */                            \
    X(NOMEM, "nomem", 13)            /* an allocation failed */                                    \
    X(INTERNAL, "internal", 14)      /* a bug; please report it */

enum status {
#define X(name, wire, exit_code) STATUS_##name,
    STATUS_TABLE(X)
#undef X
        STATUS_COUNT
};

#define ERR_TEXT_MAX 512

struct err {
    enum status status;
    char text[ERR_TEXT_MAX];
};

#define MUST_USE     __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Fills *err and returns `status`, so that a function can say `return err_set(err, …)`. */
enum status err_set(struct err *err, enum status status, const char *format, ...) PRINTF(3, 4);

/* As err_set, with ": <strerror(errnum)>" appended. ENOSPC and EDQUOT give FULL, ENOENT NOT_FOUND,
 * EACCES and EPERM DENIED, ENOMEM NOMEM, any other IO. */
enum status err_errno(struct err *err, int errnum, const char *format, ...) PRINTF(3, 4);

/* Puts "<context>: " in front of the text that *err already holds; returns err->status (or
 * `status` when err is NULL). */
enum status err_wrap(struct err *err, enum status status, const char *format, ...) PRINTF(3, 4);

/* "not_found" and so on; "internal" for a value outside the enum. Static strings. */
const char *status_name(enum status status);

/* The reverse; STATUS_INTERNAL for a name that is not in the table. */
enum status status_from_name(const char *name);

/* The exit code of a program that ends with it. */
int status_exit_code(enum status status);

/* Leave the function through its one `out:` label when `expr` fails. Needs `enum status st`. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != STATUS_OK)                                                                       \
            goto out;                                                                              \
    } while (0)

#endif
