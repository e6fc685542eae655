/* trireme run, submit, resume, cancel: a sweep's life. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/follow.h"
#include "core/ulid.h"
#include "spec/sweep.h"

struct run_args {
    struct option_list sets;
    bool json, quiet, wait;
    const char *launch, *device;
    int64_t max_slots;
    int64_t slots_per_trial;
    int64_t trial;
    const char *reason;
};

#define SETS_ROW                                                                                   \
    {                                                                                              \
        "set", 's', OPTION_LIST, "KEY=VALUE", "override a key of the sweep file", 0, 0,            \
            offsetof(struct run_args, sets)                                                        \
    }
#define JSON_ROW                                                                                   \
    {                                                                                              \
        "json", 'j', OPTION_FLAG, NULL, "one JSON object on standard output at the end", 0, 0,     \
            offsetof(struct run_args, json)                                                        \
    }
#define QUIET_ROW                                                                                  \
    { "quiet", 'q', OPTION_FLAG, NULL, "no progress", 0, 0, offsetof(struct run_args, quiet) }
#define LAUNCH_ROW                                                                                 \
    {                                                                                              \
        "launch", 0, OPTION_STRING, "mpirun|srun|none", "how worker groups are started", 0, 0,     \
            offsetof(struct run_args, launch)                                                      \
    }
#define SLOTS_ROW                                                                                  \
    {                                                                                              \
        "max-slots", 0, OPTION_INT, "N", "at most N slots (cores or GPUs) for all groups", 1,      \
            4096, offsetof(struct run_args, max_slots)                                             \
    }

#define DEVICE_ROW                                                                                 \
    {                                                                                              \
        "device", 'd', OPTION_STRING, "auto|cpu|cuda", "override the sweep file's device", 0, 0,   \
            offsetof(struct run_args, device)                                                      \
    }

static const char exit_codes[] =
    "Exit codes: 0 the sweep completed; 1 some trials failed; 2 bad input; 11 interrupted or\n"
    "cancelled (resumable); others as in README.md.";

/* ---- submitting ---- */

/* The file with what the command line overrides. */
static enum status load_sweep(struct cli *cli, const char *file, struct run_args *args,
                              struct sweep **out, struct err *err) {
    enum status st = cli_override(cli, &args->sets, args->device, err);
    return st == STATUS_OK
               ? sweep_load(&cli->arena, file, args->sets.items, args->sets.count, out, err)
               : st;
}

static enum status send_sweep(struct cli *cli, const struct sweep *sweep, const char *file,
                              char id[ULID_TEXT], struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    char base[PATH_TEXT_MAX];
    TRY(ulid_new(id, err));
    char *real = realpath(file, NULL);
    snprintf(base, sizeof base, "%s", real != NULL ? real : ".");
    free(real);
    char *slash = strrchr(base, '/');
    if (slash != NULL && slash != base)
        *slash = '\0';
    struct value *request = message_request(a, "sweep.submit", NULL);
    value_set_string(a, request, "sweep", id);
    value_set(a, request, "config", value_copy(a, sweep->root));
    value_set_string(a, request, "base", base);
    TRY(session_call(cli->coordinator, a,
                     &(struct session_ask){.request = request, .timeout_ms = CLI_TIMEOUT_MS}, NULL,
                     err));
out:
    return st;
}

/* What scripts see as the exit code once a sweep is over. */
static int verdict_code(const struct value *status) {
    const char *state = value_get_string(status, "state", "");
    const struct value *trials = value_get(status, "trials");
    if (strcmp(state, "cancelled") == 0)
        return status_exit_code(STATUS_CANCELLED);
    if (strcmp(state, "failed") == 0)
        return 1;
    for (size_t i = 0; trials != NULL && i < trials->count; i++)
        if (strcmp(value_get_string(trials->items[i], "state", ""), "failed") == 0)
            return 1;
    return 0;
}

static void report_failures(const struct value *status) {
    const struct value *trials = value_get(status, "trials");
    const char *reason = value_get_string(status, "reason", NULL);
    if (reason != NULL && reason[0] != '\0')
        fprintf(stderr, "sweep %s: %s\n", value_get_string(status, "state", ""), reason);
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        const struct value *t = trials->items[i];
        if (strcmp(value_get_string(t, "state", ""), "failed") == 0)
            fprintf(stderr, "trial %lld failed: %s\n", (long long)value_get_int(t, "trial", 0),
                    value_get_string(t, "reason", "no reason was given"));
    }
}

/* Follows to the end, prints, sets the exit code. */
static enum status follow_and_report(struct cli *cli, const char *id, const struct run_args *args,
                                     struct err *err) {
    struct value *status = NULL;
    enum status st = follow_sweep(cli, id, args->quiet, &status, err);
    if (status == NULL)
        return st;
    if (!args->json || !args->quiet)
        follow_leaderboard(cli, status, 20, args->json ? stderr : stdout);
    if (args->json) {
        struct err inner;
        enum status printed = cli_print_json(follow_result(&cli->arena, status), &inner);
        if (st == STATUS_OK && printed != STATUS_OK) {
            *err = inner;
            st = printed;
        }
    }
    report_failures(status);
    const struct value *best = value_get(status, "best");
    if (st == STATUS_OK && !args->json && best != NULL && best->kind == VALUE_MAP)
        fprintf(stderr, "best: run %s\nsweep: %s\n", value_get_string(best, "run", "-"), id);
    if (st == STATUS_OK) {
        cli->exit_code = verdict_code(status);
        (void)!follow_others(cli, args->quiet, err);
    }
    return st;
}

/* ---- run ---- */

enum status cmd_run(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {SETS_ROW,   DEVICE_ROW, JSON_ROW,  QUIET_ROW,
                                             LAUNCH_ROW, SLOTS_ROW,  OPTION_END};
    static const struct command_help help = {"trireme run FILE [--set KEY=VALUE]... [options]",
                                             "run a sweep on this machine: starts tracker, "
                                             "coordinator and worker groups, shows progress, "
                                             "ends with a leaderboard and stops what it started",
                                             exit_codes};
    enum status st = STATUS_OK;
    struct run_args args = {.launch = "mpirun"};
    struct operands operands;
    struct sweep *sweep = NULL;
    char id[ULID_TEXT];
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(load_sweep(cli, operands.items[0], &args, &sweep, err));
    follow_catch_signals();
    cli->launch = args.launch;
    cli->max_slots = args.max_slots > 0 ? args.max_slots : sweep->max_slots;
    cli->device = sweep->device;
    cli->slots_per_gpu = sweep->slots_per_gpu;
    TRY(cli_coordinator(cli, true, err));
    TRY(send_sweep(cli, sweep, operands.items[0], id, err));
    if (!args.quiet)
        fprintf(stderr, "sweep %s (%s)\n", id, sweep->name);
    TRY(follow_and_report(cli, id, &args, err));
out:
    return st;
}

/* ---- submit ---- */

enum status cmd_submit(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {SETS_ROW,
                                             DEVICE_ROW,
                                             JSON_ROW,
                                             QUIET_ROW,
                                             {"wait", 'w', OPTION_FLAG, NULL,
                                              "follow it to its end, as run does", 0, 0,
                                              offsetof(struct run_args, wait)},
                                             OPTION_END};
    static const struct command_help help = {
        "trireme submit FILE [--set KEY=VALUE]... [--wait]",
        "hand a sweep to the coordinator that runs for this TRIREME_HOME; prints its id",
        exit_codes};
    enum status st = STATUS_OK;
    struct run_args args = {.wait = false};
    struct operands operands;
    struct sweep *sweep = NULL;
    char id[ULID_TEXT];
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(load_sweep(cli, operands.items[0], &args, &sweep, err));
    TRY(cli_coordinator(cli, false, err));
    TRY(send_sweep(cli, sweep, operands.items[0], id, err));
    if (args.wait) {
        follow_catch_signals();
        TRY(follow_and_report(cli, id, &args, err));
    } else if (args.json) {
        struct value *out = value_map(&cli->arena);
        value_set_string(&cli->arena, out, "sweep", id);
        TRY(cli_print_json(out, err));
    } else {
        printf("%s\n", id);
    }
out:
    return st;
}

/* ---- resume ---- */

enum status cmd_resume(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        JSON_ROW,
        QUIET_ROW,
        LAUNCH_ROW,
        SLOTS_ROW,
        {"slots-per-trial", 0, OPTION_INT, "N",
         "train on another number of ranks: the bits stay the same", 1, 4096,
         offsetof(struct run_args, slots_per_trial)},
        OPTION_END};
    static const struct command_help help = {
        "trireme resume SWEEP [--slots-per-trial N] [options]",
        "take up a sweep that was interrupted, cancelled or failed, from its checkpoints",
        exit_codes};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct run_args args = {.launch = "mpirun"};
    struct operands operands;
    struct value *request, *reply = NULL;
    char id[27];
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "sweep", operands.items[0], id, err));
    request = message_request(a, "sweep.get", NULL);
    value_set_string(a, request, "sweep", id);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *config = value_at(reply, "sweep.config");
    const struct value *resources = value_get(config, "resources");
    int64_t slots =
        value_get_int(resources, "max_slots", value_get_int(resources, "slots_per_trial", 1));
    follow_catch_signals();
    cli->launch = args.launch;
    cli->max_slots = args.max_slots > 0 ? args.max_slots : slots;
    if (cli->max_slots < args.slots_per_trial)
        cli->max_slots = args.slots_per_trial;
    cli->device = value_get_string(config, "device", "auto");
    cli->slots_per_gpu = value_get_int(resources, "slots_per_gpu", 1);
    TRY(cli_coordinator(cli, true, err));
    request = message_request(a, "sweep.resume", NULL);
    value_set_string(a, request, "sweep", id);
    if (args.slots_per_trial > 0)
        value_set_int(a, request, "slots_per_trial", args.slots_per_trial);
    TRY(session_call(cli->coordinator, a,
                     &(struct session_ask){.request = request, .timeout_ms = CLI_TIMEOUT_MS}, NULL,
                     err));
    TRY(follow_and_report(cli, id, &args, err));
out:
    return st;
}

/* ---- cancel ---- */

enum status cmd_cancel(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {{"trial", 't', OPTION_INT, "N", "only this trial", 1,
                                              1000000, offsetof(struct run_args, trial)},
                                             {"reason", 'r', OPTION_STRING, "TEXT",
                                              "recorded with it", 0, 0,
                                              offsetof(struct run_args, reason)},
                                             OPTION_END};
    static const struct command_help help = {"trireme cancel SWEEP [--trial N] [--reason TEXT]",
                                             "cancel a sweep, or one of its trials", NULL};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct run_args args = {.trial = 0};
    struct operands operands;
    char id[27];
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "sweep", operands.items[0], id, err));
    cli->launch = "none"; /* without a coordinator, one that only writes the cancellation */
    TRY(cli_coordinator(cli, true, err));
    struct value *request = message_request(a, "sweep.cancel", NULL);
    value_set_string(a, request, "sweep", id);
    if (args.trial > 0)
        value_set_int(a, request, "trial", args.trial);
    value_set_string(a, request, "reason",
                     args.reason != NULL ? args.reason : "cancelled by the user");
    TRY(session_call(cli->coordinator, a,
                     &(struct session_ask){.request = request, .timeout_ms = CLI_TIMEOUT_MS}, NULL,
                     err));
    fprintf(stderr, "cancelled %s\n", id);
out:
    return st;
}
