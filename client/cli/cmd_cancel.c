/* trireme cancel: ends a sweep, or one of its trials. */
#include "client/cli/commands.h"

struct cancel_args {
    int64_t trial;
    const char *reason;
    struct cli_place place;
};

static enum status cancel(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct cancel_args args = {.reason = "cancelled by the user"};
    struct operands operands;
    char id[27];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "sweep", operands.items[0], id, err));
    cli->launch = "none"; /* without a coordinator, one that only records the cancellation */
    TRY(cli_coordinator(cli, true, err));
    struct value *request = message_request(a, "sweep.cancel", NULL);
    value_set_string(a, request, "sweep", id);
    if (args.trial > 0)
        value_set_int(a, request, "trial", args.trial);
    value_set_string(a, request, "reason", args.reason);
    TRY(cli_order(cli, request, NULL, err));
    (void)fprintf(stderr, "cancelled %s\n", id);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_INT(struct cancel_args, trial, "trial", 't', "N", 1, 1000000,
                   "cancel only trial N (default: the whole sweep)"),
    OPTION_ROW_STRING(struct cancel_args, reason, "reason", 'r', "TEXT",
                      "why, for the record (default: cancelled by the user)"),
    CLI_TRACKER_ROWS(struct cancel_args, place), OPTION_END};

const struct command command_cancel = {
    .name = "cancel",
    .help = {.usage = "trireme cancel SWEEP [--trial N] [--reason TEXT]",
             .summary = "cancel a sweep, or one of its trials"},
    .options = rows,
    .kind = OPERANDS_SWEEP,
    .least = 1,
    .most = 1,
    .run = cancel};
