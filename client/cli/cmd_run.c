/* trireme run, submit: from a sweep file to a sweep that a coordinator has. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/check.h"
#include "client/cli/commands.h"
#include "client/cli/follow.h"
#include "client/cli/text.h"
#include "core/ulid.h"

struct run_args {
    struct option_list sets;
    bool json, quiet, wait, no_check;
    const char *launch, *device;
    int64_t max_slots;
    struct cli_place place;
};

#define SETS_ROW                                                                                   \
    OPTION_ROW_LIST(struct run_args, sets, "set", 's', "KEY=VALUE",                                \
                    "override a key of the sweep file; repeatable")
#define DEVICE_ROW                                                                                 \
    OPTION_ROW_CHOICE(struct run_args, device, "device", 'd', "auto|cpu|cuda",                     \
                      "override the sweep file's device (default: as the file says)")
#define CHECK_ROW                                                                                  \
    OPTION_ROW_FLAG(struct run_args, no_check, "no-check", 0,                                      \
                    "start without planning the first trial and reading its data")
#define QUIET_ROW OPTION_ROW_FLAG(struct run_args, quiet, "quiet", 'q', "show no progress")

static const char exit_codes[] =
    "Exit codes: 0 every trial completed; 1 some trials failed; 2 bad input; 4 a file is missing;\n"
    "7 no space left on the disk (resumable); 11 interrupted, paused, cancelled or detached\n"
    "(resumable); others as in README.md.";

/* ---- a sweep file on its way ---- */

static enum status load(struct cli *cli, const char *path, struct run_args *args,
                        struct check_file *out, struct err *err) {
    enum status st = cli_override(cli, &args->sets, args->device, err);
    return st == STATUS_OK ? check_load(cli, path, &args->sets, out, err) : st;
}

static enum status look_at_first(struct cli *cli, const struct check_file *file, bool here,
                                 struct err *err) {
    enum status st = STATUS_OK;
    struct value *listed = NULL;
    struct check_trial trial;
    TRY(check_trials(cli, file, 1, &listed, err));
    TRY(check_first(cli, file, listed, &trial, err));
    TRY(check_before(cli, &trial, here, err));
out:
    return st;
}

static enum status send_sweep(struct cli *cli, const struct check_file *f, char id[ULID_TEXT],
                              struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    TRY(ulid_new(id, err));
    struct value *request = message_request(a, "sweep.submit", NULL);
    value_set_string(a, request, "sweep", id);
    value_set(a, request, "config", value_copy(a, f->sweep->root));
    value_set_string(a, request, "base", f->base);
    value_set_int(a, request, "language", f->sweep->source.language);
    TRY(cli_order(cli, request, NULL, err));
out:
    return st;
}

/* ---- run ---- */

static enum status run(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct run_args args = {.launch = NULL};
    struct operands operands;
    struct check_file file;
    char id[ULID_TEXT];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(load(cli, operands.items[0], &args, &file, err));
    if (!args.no_check)
        TRY(look_at_first(cli, &file, args.launch == NULL || strcmp(args.launch, "mpirun") == 0,
                          err));
    follow_catch_signals();
    cli->launch = args.launch;
    cli->max_slots = args.max_slots > 0 ? args.max_slots : file.sweep->max_slots;
    cli->device = file.sweep->device;
    cli->slots_per_gpu = file.sweep->slots_per_gpu;
    TRY(cli_coordinator(cli, true, err));
    TRY(follow_use_others(cli, (struct follow_wishes){args.launch, args.max_slots}, args.quiet,
                          err));
    TRY(send_sweep(cli, &file, id, err));
    if (!args.quiet)
        (void)fprintf(stderr, "sweep %s (%s)\n", id, text_safe(&cli->arena, file.sweep->name));
    struct follow_options follow = {.json = args.json, .quiet = args.quiet};
    TRY(follow_to_end(cli, id, follow, err));
out:
    return st;
}

static const struct option_row run_rows[] = {
    SETS_ROW,
    DEVICE_ROW,
    OPTION_ROW_CHOICE(struct run_args, launch, "launch", 0, "mpirun|srun|none",
                      "how worker groups are started (default mpirun)"),
    OPTION_ROW_INT(
        struct run_args, max_slots, "max-slots", 0, "N", 1, 4096,
        "at most N slots (cores or GPUs) for all groups (default: max_slots of the file)"),
    CHECK_ROW,
    QUIET_ROW,
    CLI_TRACKER_ROWS(struct run_args, place),
    OPTION_ROW_FLAG(struct run_args, json, "json", 'j',
                    "print one JSON object on standard output at the end"),
    OPTION_END};

const struct command command_run = {
    .name = "run",
    .help = {.usage = "trireme run FILE [--set KEY=VALUE]... [options]",
             .summary = "run a sweep here: start what is needed, show progress, rank the results",
             .details = exit_codes},
    .options = run_rows,
    .kind = OPERANDS_SWEEP_FILE,
    .least = 1,
    .most = 1,
    .acts = true,
    .run = run};

/* ---- submit ---- */

static enum status submit(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct run_args args = {.wait = false};
    struct operands operands;
    struct check_file file;
    char id[ULID_TEXT];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(load(cli, operands.items[0], &args, &file, err));
    if (!args.no_check)
        TRY(look_at_first(cli, &file, false, err));
    TRY(cli_coordinator(cli, false, err));
    TRY(send_sweep(cli, &file, id, err));
    (void)snprintf(cli->done, sizeof cli->done, "sweep %s was submitted", id);
    if (args.wait) {
        struct follow_options follow = {.json = args.json, .quiet = args.quiet};
        follow_catch_signals();
        TRY(follow_to_end(cli, id, follow, err));
    } else if (args.json) {
        struct value *out = value_map(&cli->arena);
        value_set_string(&cli->arena, out, "sweep", id);
        TRY(cli_print_json(out, err));
    } else {
        (void)printf("%s\n", id);
    }
out:
    return st;
}

static const struct option_row submit_rows[] = {
    SETS_ROW,
    DEVICE_ROW,
    OPTION_ROW_FLAG(struct run_args, wait, "wait", 'w', "follow the sweep to its end, as run does"),
    CHECK_ROW,
    QUIET_ROW,
    CLI_TRACKER_ROWS(struct run_args, place),
    OPTION_ROW_FLAG(struct run_args, json, "json", 'j',
                    "print JSON: the sweep's id, or with --wait what run prints"),
    OPTION_END};

const struct command command_submit = {
    .name = "submit",
    .help = {.usage = "trireme submit FILE [--set KEY=VALUE]... [--wait]",
             .summary = "hand a sweep to the coordinator that runs for this TRIREME_HOME",
             .details = exit_codes},
    .options = submit_rows,
    .kind = OPERANDS_SWEEP_FILE,
    .least = 1,
    .most = 1,
    .acts = true,
    .run = submit};
