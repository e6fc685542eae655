/* The `trireme` command: what its subcommands share.
 *
 *     main.c ──▶ commands.c: the table ──▶ cmd_*.c, a file for a family of commands
 *                                             │ cli_parse, cli_tracker, cli_coordinator, cli_ask
 *                                             ▼
 *               cli.c, daemons.c: find the daemon of this home, or start one for as long as we live
 *
 * A command returns a status and leaves the message in *err; main.c prints "trireme: <message>" and
 * ends with status_exit_code, unless the command set cli->exit_code. Machine output (--json, CSV,
 * ids) goes to standard output, everything else to standard error. Colour appears only where that
 * stream is a terminal and NO_COLOR is unset. */
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include <sys/types.h>

#include "core/options.h"
#include "core/path.h"
#include "wire/session.h"

struct cli;

/* What a command's operands name: for shell completion. */
enum command_operands {
    OPERANDS_OTHER,
    OPERANDS_SWEEP_FILE,
    OPERANDS_RUN,
    OPERANDS_RUN_THEN_METRICS,
    OPERANDS_RUN_THEN_PATH,
    OPERANDS_RUN_THEN_MODEL,
    OPERANDS_RUN_OR_SWEEP,
    OPERANDS_RUN_OR_MODEL,
    OPERANDS_SWEEP,
    OPERANDS_MODEL
};

/* A subcommand, all of it: its line in `trireme --help`, its own --help, what it does. */
struct command {
    const char *name;
    struct command_help help;         /* usage, summary (one line), details */
    const struct option_row *options; /* NULL: parses its own line */
    enum command_operands kind;
    size_t least, most; /* operands */
    enum status (*run)(struct cli *cli, struct err *err);
    bool acts; /* and then prints: refused before it acts where standard output is closed */
    const char *program; /* executed in our place, where run is NULL: "trireme-tracker" */
};

struct daemon {
    const char *name;   /* "tracker", "coordinator" */
    pid_t pid;          /* 0: not ours */
    bool launched_here; /* stop it in the end */
    int restarts;
    int killed_by;        /* the signal that ended it before it was ready, or 0 */
    int64_t log_seen;     /* bytes of its log that were searched for errors */
    char last_error[256]; /* the last one shown */
    int64_t full_ns;      /* when it last said that something did not fit; 0: never */
};

/* Where the tracker is; NULL fields: that of this home, over ipc. Every command that asks a tracker has
 * a member of this type in its struct of options, and CLI_TRACKER_ROWS for it in its table: cli_parse finds
 * the rows by their names, and cli_tracker does what they say. */
struct cli_place {
    const char *tracker, *keys, *tracker_key;
};
#define CLI_TRACKER_ROWS(args, member)                                                             \
    OPTION_ROW_STRING(args, member.tracker, "tracker", 0, "ENDPOINT",                              \
                      "the tracker (default: the one of this TRIREME_HOME)"),                      \
        OPTION_ROW_STRING(                                                                         \
            args, member.keys, "keys", 0, "FILE",                                                  \
            "our CURVE keys for a tcp tracker, as `trireme keygen` wrote them (default: none)"),   \
        OPTION_ROW_STRING(args, member.tracker_key, "tracker-key", 0, "KEY",                       \
                          "the public key of a tcp tracker (default: none)")

struct cli {
    const struct command *command; /* the one that runs, and its line; argv[0] is its name */
    int argc;
    char **argv;
    char home[PATH_TEXT_MAX];
    char bindir[PATH_TEXT_MAX];
    struct net *net;
    struct arena arena; /* the command's */
    struct daemon tracker_daemon, coordinator_daemon;
    struct session *tracker, *coordinator;
    struct cli_place place; /* of the tracker, as the command line says */
    struct net_pair pair;   /* --keys */
    struct net_keys keys;   /* into it; unused without --keys */
    bool may_start;         /* a missing coordinator may be started */
    const char *launch;     /* how the coordinator starts groups: mpirun | srun | none */
    int64_t max_slots;      /* 0: as the sweep says */
    const char *device;     /* of the coordinator's groups: auto | cpu | cuda; NULL: auto */
    int64_t slots_per_gpu;  /* 0: one */
    bool colour_out, colour_err;
    bool json;                 /* --json: a refusal, too, is one object on standard output */
    bool answered;             /* something was printed that a refusal must not follow */
    bool (*interrupted)(void); /* asked while a sibling works; NULL: a signal ends us */
    char done[256];   /* what was done, for when standard output does not take the answer */
    char passed[512]; /* how a sibling's answer begins */
    int exit_code;    /* ≥ 0: ends with it instead of the status's own */
};

enum { CLI_ARENA_BYTES = 256 << 20, CLI_TIMEOUT_MS = 30000 };

/* Home and context; no daemon yet. */
enum status cli_open(struct cli *cli, struct err *err) MUST_USE;

/* Stops what was started here and closes everything. Idempotent. */
void cli_close(struct cli *cli);

/* Whether the daemon ("tracker", "coordinator") of this home runs. */
bool cli_runs(const struct cli *cli, const char *name);

/* Ends the coordinator that was started here, in order, and starts none again: what the tracker says after
 * this is how it left its sweeps. */
void cli_stop_coordinator(struct cli *cli);

/* The process of that daemon; 0: none runs. */
pid_t cli_pid(const struct cli *cli, const char *name);

/* Connects to the tracker: to the one that --tracker names, or to that of this home, which is started
 * where none runs. Fills cli->tracker. UNAVAILABLE: the one that was named does not answer. */
enum status cli_tracker(struct cli *cli, struct err *err) MUST_USE;

/* The options that tell a sibling program where the tracker is: "--tracker", its endpoint, and what
 * --keys and --tracker-key were. Writes at most CLI_TRACKER_ARGS to argv and returns how many; they live
 * as long as `cli`. */
#define CLI_TRACKER_ARGS 6
enum status cli_tracker_args(struct cli *cli, const char **argv, size_t *count,
                             struct err *err) MUST_USE;

/* Runs a sibling to its end while the daemons are kept alive, passes on what it prints on standard
 * output (so that a failure to write is seen here) and sets the exit code to its own. */
struct process_spec;
enum status cli_run_sibling(struct cli *cli, const struct process_spec *spec,
                            struct err *err) MUST_USE;

/* The same for the coordinator (and the tracker, where one may have to be started). With `start` false:
 * UNAVAILABLE where none runs. DENIED, for both: we may not look into the home. */
enum status cli_coordinator(struct cli *cli, bool start, struct err *err) MUST_USE;

/* Restarts what we started and what has died since (kill -9, a crash); gives up after
 * DAEMON_RESTARTS_MAX times. Shows the errors that those daemons log (a full disk, no mpirun), each
 * once. Call it in every wait loop. */
#define DAEMON_RESTARTS_MAX 20
enum status cli_supervise(struct cli *cli, struct err *err) MUST_USE;

/* The command's line: options into `args` (its struct), the rest into `operands`, as many as the
 * command takes. With --help the help is printed and operands->help set: return OK. */
enum status cli_parse(struct cli *cli, void *args, struct operands *operands,
                      struct err *err) MUST_USE;

/* Before its table is known to hold: a line that cannot be parsed is refused as JSON, too. */
bool cli_asks_for_json(const struct cli *cli);

/* What cli_parse does with the rows of the tracker's place; for commands whose line a sibling parses.
 * INVALID: keys without tcp, one without the other. */
enum status cli_set_place(struct cli *cli, struct cli_place place, struct err *err) MUST_USE;

/* Makes --device NAME the same as --set device=NAME; NULL: it was not given. */
enum status cli_override(struct cli *cli, struct option_list *sets, const char *device,
                         struct err *err) MUST_USE;

/* Resolves a unique prefix of an id of this kind ("run" | "sweep"), or a sweep's name. NOT_FOUND,
 * AMBIGUOUS: the message names the ids. */
enum status cli_resolve(struct cli *cli, const char *kind, const char *prefix, char out[27],
                        struct err *err) MUST_USE;

/* One call to the tracker: `request` as message_request made it; *reply lives in cli->arena. */
enum status cli_ask(struct cli *cli, struct value *request, struct value **reply,
                    struct err *err) MUST_USE;

/* The same into an arena of the caller's, and with the frames of the answer: session_reply_release when
 * done. */
enum status cli_ask_frames(struct cli *cli, struct arena *a, const struct value *request,
                           struct session_reply *answer, struct err *err) MUST_USE;

/* The same to the coordinator, which must be connected; `reply` may be NULL. */
enum status cli_order(struct cli *cli, const struct value *request, struct value **reply,
                      struct err *err) MUST_USE;

/* Replaces this process by a sibling executable, with our arguments; returns only on failure. */
enum status cli_exec(struct cli *cli, const char *program, struct err *err);

/* Prints a tree as JSON on standard output, with a newline. Whether it arrived is seen at the end
 * (core/output.h). */
enum status cli_print_json(const struct value *v, struct err *err) MUST_USE;

/* With --json, where nothing was printed: {"error": {code, message, file, line, column}}. */
void cli_print_refusal(struct cli *cli, enum status st, const struct err *err);

#endif
