/* Child processes that do not outlive us by accident, and pid files that say who is running. */
#ifndef CORE_PROCESS_H
#define CORE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/status.h"

/* The first statement of every main. Opens /dev/null where 0, 1 or 2 is closed: otherwise the next file
 * that is opened (a store, a spool) gets that number, and a message to a standard stream is written over
 * it. What was closed stays unusable, so that a program that prints to a closed standard output fails as
 * it should. SIGPIPE is ignored: a reader that leaves is an error of the write. */
void process_guard_stdio(void);

struct process_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH unless it has '/' */
    const char *program;     /* what is executed under that name; NULL: argv[0] */
    const char *const *env;  /* NULL-terminated "KEY=value" added to ours; may be NULL */
    const char *log_path;    /* stdout and stderr appended here; NULL: inherited */
    const char *workdir;     /* NULL: inherited */
    int stdout_fd;           /* its standard output; 0: inherited (or the log) */
    bool own_group;          /* its own process group: Ctrl-C does not reach it */
    bool die_with_parent;    /* SIGHUP when the *thread* that started it ends */
    bool die_at_once;        /* then SIGKILL, for children that have nothing to put in order */
};

/* Forks and executes. A failed exec is reported here, by name, not as a child that died. The child
 * starts with default signal handlers and an empty signal mask; its stdin is /dev/null where it has
 * its own group or a log. */
enum status process_start(const struct process_spec *spec, pid_t *out, struct err *err) MUST_USE;

/* Asks for SIGKILL when our parent ends, whatever it ends by. */
void process_follow_parent(void);

/* Tells whoever waits at the other end of a pipe (--ready-fd) that the daemon answers, and closes the
 * pipe. A negative fd: nobody waits. */
enum status process_say_ready(int64_t fd, struct err *err) MUST_USE;

/* Does not wait: *ended is false while it runs. exit_code is 128 + signal if it was killed. */
enum status process_poll(pid_t pid, bool *ended, int *exit_code, struct err *err) MUST_USE;

/* TERM, wait up to grace_ms, then KILL; to the whole group when it has its own. Reaps. Only for our
 * own children: a pid that is not (or was reaped before) is left alone, as it may be another
 * process by now; what is left of its group is ended all the same. */
void process_stop(pid_t pid, bool whole_group, int grace_ms);

/* An exclusive lock on a file that holds our pid: BUSY, with the holder's pid in the message, when
 * somebody else has it. The lock ends with the process; *fd stays open while it is held. */
enum status process_lock(const char *path, int *fd, struct err *err) MUST_USE;

/* The pid that holds the lock, or 0. */
pid_t process_lock_holder(const char *path);

/* The holder says that it is on its way out: whoever needs what it does waits for the lock, and does
 * not ask it any more. */
void process_lock_leaving(int fd);
bool process_lock_is_leaving(const char *path);

#endif
