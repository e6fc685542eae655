/* The `trireme` command: what its subcommands share.
 *
 *     main.c ── table of commands ──▶ cmd_*.c
 *                                      │ cli_tracker / cli_coordinator
 *                                      ▼
 *               daemons.c: finds the daemon of this home, or starts one for as long as we live
 *
 * A command gets its own argc/argv (argv[0] is its name), returns a status, and leaves the words in
 * *err; main.c prints "trireme: <words>" and ends with status_exit_code, unless the command set
 * cli->exit_code. Machine output (--json, CSV, ids) goes to standard output, everything else to
 * standard error. Colour only where standard error (or output) is a terminal and NO_COLOR is unset.
 */
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include <sys/types.h>

#include "core/options.h"
#include "core/path.h"
#include "wire/session.h"

struct daemon {
    const char *name;   /* "tracker", "coordinator" */
    pid_t pid;          /* 0: not ours */
    bool launched_here; /* stop it in the end */
    int restarts;
    int64_t log_seen;     /* bytes of its log that were looked at for errors */
    char last_error[256]; /* shown last */
};

struct cli {
    char home[PATH_TEXT_MAX];
    char bindir[PATH_TEXT_MAX];
    struct net *net;
    struct arena arena; /* the command's */
    struct daemon tracker_daemon, coordinator_daemon;
    struct session *tracker, *coordinator;
    bool may_start;        /* a coordinator that is missing may be started */
    const char *launch;    /* how the coordinator starts groups: mpirun | srun | none */
    int64_t max_slots;     /* 0: as the sweep says */
    const char *device;    /* of the coordinator's groups: auto | cpu | cuda; NULL: auto */
    int64_t slots_per_gpu; /* 0: one */
    bool colour_out, colour_err;
    int exit_code; /* ≥ 0: ends with it instead of the status's own */
};

enum { CLI_ARENA_BYTES = 256 << 20, CLI_TIMEOUT_MS = 10000 };

/* Home and context; no daemon yet. */
enum status cli_open(struct cli *cli, struct err *err) MUST_USE;

/* Stops what was started here, closes all. Idempotent. */
void cli_close(struct cli *cli);

/* Connects to the tracker of this home; starts one where none runs. Fills cli->tracker. */
enum status cli_tracker(struct cli *cli, struct err *err) MUST_USE;

/* The same for the coordinator (and the tracker). With `start` false: UNAVAILABLE where none runs.
 */
enum status cli_coordinator(struct cli *cli, bool start, struct err *err) MUST_USE;

/* Starts again what we started and what has died since (kill -9, crash); gives up after
 * DAEMON_RESTARTS_MAX times. Shows the errors that those daemons log (a full disk, no mpirun), each
 * once. Call it in every wait loop. */
#define DAEMON_RESTARTS_MAX 20
enum status cli_supervise(struct cli *cli, struct err *err) MUST_USE;

/* A command's own line: options by the table, `least` to `most` operands. With --help the help is
 * printed and operands->help set: the command ends with OK. */
enum status cli_parse(const struct option_row *rows, const struct command_help *help, size_t least,
                      size_t most, int argc, char **argv, void *args, struct operands *operands,
                      struct err *err) MUST_USE;

/* --device NAME stands for --set device=NAME; NULL: it was not given. */
enum status cli_override(struct cli *cli, struct option_list *sets, const char *device,
                         struct err *err) MUST_USE;

/* Resolves a run's or sweep's unique prefix ("run" | "sweep"). */
enum status cli_resolve(struct cli *cli, const char *kind, const char *prefix, char out[27],
                        struct err *err) MUST_USE;

/* One call to the tracker: `request` as message_request made it; *reply lives in cli->arena. */
enum status cli_ask(struct cli *cli, struct value *request, struct value **reply,
                    struct err *err) MUST_USE;

/* Replaces this process by a sibling executable ("trireme-export"); returns only on failure. */
enum status cli_exec(struct cli *cli, const char *program, int argc, char **argv, struct err *err);

/* Prints a tree as JSON on standard output, with a newline. */
enum status cli_print_json(const struct value *v, struct err *err) MUST_USE;

/* ---- tables and text ---- */
#define TABLE_COLUMNS_MAX 16
struct table; /* columns sized to their widest cell; numbers to the right */
struct table *table_new(struct arena *a, const char *const *titles, size_t columns);
void table_row(struct table *t, const char *const *cells); /* copied; NULL: "" */
void table_print(const struct table *t, FILE *to, bool colour);

/* "3m 12s", "1.2 MB", "2026-11-21 13:05" into the arena. */
const char *text_duration(struct arena *a, int64_t ns);
const char *text_bytes(struct arena *a, int64_t bytes);
const char *text_time(struct arena *a, int64_t wall_ns);
/* Bold, dim, green, red, yellow around text where `on`. */
const char *text_colour(struct arena *a, bool on, const char *code, const char *text);

/* ---- commands ---- */
typedef enum status command_fn(struct cli *cli, int argc, char **argv, struct err *err);

struct command {
    const char *name;
    command_fn *run;     /* NULL: execs trireme-<name> */
    const char *program; /* what it execs, where run is NULL */
    const char *summary;
};
extern const struct command command_table[];

command_fn cmd_run, cmd_submit, cmd_preview, cmd_ls, cmd_show, cmd_metrics, cmd_compare, cmd_replay,
    cmd_resume, cmd_cancel, cmd_models, cmd_audit, cmd_keygen, cmd_version, cmd_wire,
    cmd_completion, cmd_status, cmd_export, cmd_promote;

#endif
