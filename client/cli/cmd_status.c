/* trireme status: groups and sweeps of the coordinator that runs. */
#include "client/cli/commands.h"
#include "client/cli/text.h"

struct status_args {
    bool json;
};

static void print_groups(struct cli *cli, const struct value *groups) {
    static const char *const titles[] = {"group", "host",  "ranks", "device",
                                         "state", "trial", "run"};
    struct arena *a = &cli->arena;
    struct table *t = table_new(a, titles, 7);
    for (size_t i = 0; groups != NULL && i < groups->count; i++) {
        const struct value *g = groups->items[i];
        int64_t trial = value_get_int(g, "trial", 0);
        const char *cells[] = {value_get_string(g, "group", ""),
                               value_get_string(g, "host", ""),
                               arena_printf(a, "%lld", (long long)value_get_int(g, "ranks", 0)),
                               value_get_string(g, "device", ""),
                               value_get_string(g, "state", ""),
                               trial > 0 ? arena_printf(a, "%lld", (long long)trial) : "-",
                               value_get_string(g, "run", "-")};
        table_row(t, cells);
    }
    table_print(t, stdout, cli->colour_out);
}

static enum status status(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct status_args args = {.json = false};
    struct operands operands;
    struct value *reply = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_coordinator(cli, false, err));
    TRY(cli_order(cli, message_request(a, "coordinator.status", NULL), &reply, err));
    if (args.json) {
        TRY(cli_print_json(reply, err));
        goto out;
    }
    const struct value *sweeps = value_get(reply, "sweeps");
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++) {
        const struct value *s = sweeps->items[i];
        int64_t planned = value_get_int(s, "planned", 0);
        (void)printf(
            "%s  %s  %s  %lld/%lld trial%s, %lld running\n", value_get_string(s, "sweep", ""),
            text_safe(a, value_get_string(s, "name", "")), value_get_string(s, "state", ""),
            (long long)value_get_int(s, "finished", 0), (long long)planned, planned == 1 ? "" : "s",
            (long long)value_get_int(s, "running", 0));
    }
    print_groups(cli, value_get(reply, "groups"));
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct status_args, json, "json", 'j', "print JSON"), OPTION_END};

const struct command command_status = {
    .name = "status",
    .help = {.usage = "trireme status [--json]",
             .summary = "show the groups and sweeps of the coordinator that runs"},
    .options = rows,
    .run = status};
