/* What the mains of all daemons begin and end with: the options that they have in common, their
 * place on this machine, their keys, the last line of their logs.
 *
 *     daemon_begin ─▶ daemon_home ─▶ daemon_keys_load ─▶ … serve … ─▶ daemon_end
 *      options        log, HOME       CURVE                           message, exit code
 *
 * A daemon's options are one table: rows of its own beside the common ones.
 *
 *     struct args { struct daemon_options common; const char *store; };
 *     static const struct option_row rows[] = {
 *         DAEMON_ROWS_PLACE(struct args, common),
 *         OPTION_ROW_STRING(struct args, store, "store", 0, "DIR", "…"),
 *         DAEMON_ROWS_SERVICE(struct args, common), OPTION_END};
 *
 * Threading: main's thread. */
#ifndef WIRE_DAEMON_H
#define WIRE_DAEMON_H

#include "core/options.h"
#include "core/path.h"
#include "wire/net.h"

/* First in the caller's struct of options. */
struct daemon_options {
    const char *home, *log, *keys, *allowed;
    const char *tracker_key, *coordinator_key;
    struct option_list endpoints;
    int64_t ready_fd; /* -1 before parsing */
    bool version;
    bool done; /* written by daemon_begin: help or version was printed, main ends */
};

/* Of those that listen: where they are… */
#define DAEMON_ROWS_PLACE(args, common)                                                            \
    OPTION_ROW_STRING(args, common.home, "home", 0, "DIR",                                         \
                      "state directory (default: $TRIREME_HOME)"),                                 \
        OPTION_ROW_LIST(args, common.endpoints, "endpoint", 'e', "EP",                             \
                        "where to listen (default: ipc below HOME); repeatable")

/* …and who may come, who waits for them, where they log. */
#define DAEMON_ROWS_SERVICE(args, common)                                                          \
    DAEMON_ROW_KEYS(args, common),                                                                 \
        OPTION_ROW_STRING(args, common.allowed, "allowed", 0, "DIR",                               \
                          "the public keys that may come in, one file each"),                      \
        OPTION_ROW_INT(args, common.ready_fd, "ready-fd", 0, "N", 0, 65535,                        \
                       "write a byte to this descriptor when all is ready"),                       \
        OPTION_ROW_STRING(args, common.log, "log", 0, "FILE",                                      \
                          "append the log here (default: standard error)"),                        \
        DAEMON_ROW_VERSION(args, common)

#define DAEMON_ROW_KEYS(args, common)                                                              \
    OPTION_ROW_STRING(args, common.keys, "keys", 0, "FILE",                                        \
                      "our CURVE keys for tcp: NAME.secret of `trireme keygen`")
#define DAEMON_ROW_TRACKER_KEY(args, common)                                                       \
    OPTION_ROW_STRING(args, common.tracker_key, "tracker-key", 0, "KEY",                           \
                      "the public key of a tcp tracker")
#define DAEMON_ROW_COORDINATOR_KEY(args, common)                                                   \
    OPTION_ROW_STRING(args, common.coordinator_key, "coordinator-key", 0, "KEY",                   \
                      "the public key of a tcp coordinator")
#define DAEMON_ROW_VERSION(args, common)                                                           \
    OPTION_ROW_FLAG(args, common.version, "version", 0, "print the version")

struct daemon {
    const char *name; /* "trireme-tracker" */
    const char *room; /* "tracker": in its log */
    const char *more; /* printed behind the version */
    const struct option_row *rows;
    const struct command_help *help;
};

/* Parses the command line into *options and what follows it; prints help or the version where that
 * was asked for. INVALID for an unknown option, or an operand: a daemon takes none. */
enum status daemon_begin(const struct daemon *d, int argc, char **argv,
                         struct daemon_options *options, struct err *err) MUST_USE;

/* Opens the log, and makes the state directory (mode 0700) where it is not there yet. */
enum status daemon_home(const struct daemon *d, const struct daemon_options *options,
                        char home[PATH_TEXT_MAX], struct err *err) MUST_USE;

/* Raises a limit of open descriptors that is too low for us and our children: ZeroMQ ends the process
 * where they run out, mpirun hangs. DENIED, with the limit, where it cannot be raised. */
#define DAEMON_DESCRIPTORS_LEAST 64
enum status daemon_need_descriptors(struct err *err) MUST_USE;

/* Where to listen: at most `max`. */
enum status daemon_endpoints(const struct daemon_options *options, size_t max, const char **out,
                             size_t *count, struct err *err) MUST_USE;

/* The keys that --keys, --allowed, --tracker-key and --coordinator-key ask for. NULL: ipc alone.
 * They point into the struct, which must stay where it is. */
struct daemon_keys {
    const struct net_keys *own; /* for what we bind */
    const struct net_keys *tracker, *coordinator;
    struct net_pair pair;    /* private */
    struct net_keys keys[3]; /* private */
};
enum status daemon_keys_load(const struct daemon_options *options, struct daemon_keys *out,
                             struct err *err) MUST_USE;

/* The last words of a daemon that failed, in its log and, where that is a file, on standard error
 * too; also where what it printed on standard output did not arrive. Returns the exit code. */
int daemon_end(const struct daemon *d, const struct daemon_options *options, enum status st,
               const struct err *err);

#endif
