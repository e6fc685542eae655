/* trireme seal: a run that a library or another tool records is finished, and changes no more. */
#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "client/cli/text.h"
#include "core/user.h"

struct seal_args {
    struct cli_place place;
    const char *actor, *comment, *state;
    bool json;
};

static void print_sealed(struct cli *cli, const struct value *run) {
    const struct value *sealed = value_get(run, "sealed");
    (void)printf("run %s is %s, sealed by %s at %s\n", value_get_string(run, "run", ""),
                 value_get_string(run, "state", ""),
                 text_safe(&cli->arena, value_get_string(sealed, "actor", "-")),
                 text_time(&cli->arena, value_get_int(sealed, "time_ns", 0)));
}

static enum status seal(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct seal_args args = {.json = false};
    struct operands operands;
    struct value *run = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(runs_get(cli, operands.items[0], &run, err));
    struct value *request = message_request(a, "run.seal", NULL);
    value_set_string(a, request, "run", value_get_string(run, "run", ""));
    value_set_string(a, request, "actor", args.actor != NULL ? args.actor : user_name());
    value_set_string(a, request, "comment", args.comment);
    value_set_string(a, request, "state", args.state);
    TRY(cli_ask(cli, request, NULL, err));
    (void)snprintf(cli->done, sizeof cli->done, "run %s is sealed",
                   value_get_string(run, "run", ""));
    TRY(runs_get(cli, value_get_string(run, "run", ""), &run, err));
    if (args.json)
        TRY(cli_print_json(run, err));
    else
        print_sealed(cli, run);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_STRING(struct seal_args, comment, "comment", 'm', "TEXT",
                      "why, for the audit log (default: none)"),
    OPTION_ROW_STRING(struct seal_args, actor, "actor", 0, "WHO",
                      "for the audit log (default: your user name)"),
    OPTION_ROW_CHOICE(struct seal_args, state, "state", 's',
                      "completed|stopped|failed|cancelled|preempted",
                      "how a run ended that still counts as running (default: leave it)"),
    CLI_TRACKER_ROWS(struct seal_args, place),
    OPTION_ROW_FLAG(struct seal_args, json, "json", 'j', "print the run's record"),
    OPTION_END};

static const char details[] = "Runs that belong to no sweep stay open after their end: points, "
                              "files and a summary may still\n"
                              "come. Sealing closes them, as promotion does; notes and tags stay "
                              "free. The audit log records it.";

const struct command command_seal = {
    .name = "seal",
    .help = {.usage = "trireme seal RUN [--comment TEXT] [--state STATE] [--json]",
             .summary = "close a run that you recorded yourself: it changes no more",
             .details = details},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = 1,
    .acts = true,
    .run = seal};
