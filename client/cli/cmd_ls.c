/* trireme ls: sweeps, or the runs of one. */
#include <math.h>
#include <string.h>

#include "client/cli/cli.h"

struct ls_args {
    bool json, ids, all, runs;
    int64_t limit;
    const char *state;
};

static enum status list_sweeps(struct cli *cli, const struct ls_args *args, struct err *err) {
    static const char *const titles[] = {"sweep",  "name", "state", "created",
                                         "trials", "best", "reason"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "sweep.list", NULL);
    value_set_int(a, request, "limit", args->limit);
    value_set_string(a, request, "state", args->state);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *sweeps = value_get(reply, "sweeps");
    if (args->json) {
        TRY(cli_print_json(sweeps, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 7);
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++) {
        const struct value *s = sweeps->items[i], *summary = value_get(s, "summary");
        if (args->ids) {
            printf("%s\n", value_get_string(s, "sweep", ""));
            continue;
        }
        double best = value_get_real(value_get(summary, "best"), "metric", (double)NAN);
        const char *cells[] = {
            value_get_string(s, "sweep", ""),
            value_get_string(s, "name", ""),
            value_get_string(s, "state", ""),
            text_time(a, value_get_int(s, "created_ns", 0)),
            arena_printf(a, "%lld/%lld", (long long)value_get_int(summary, "finished", 0),
                         (long long)value_get_int(summary, "planned", 0)),
            isnan(best) ? "-" : arena_printf(a, "%.5g", best),
            value_get_string(s, "reason", ""),
        };
        table_row(t, cells);
    }
    if (!args->ids)
        table_print(t, stdout, cli->colour_out);
out:
    return st;
}

static const char *metric_of(struct arena *a, const struct value *run) {
    static const char *const keys[] = {"val_error", "val_loss", "train_loss"};
    const struct value *metrics = value_at(run, "summary.metrics");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double v = value_get_real(metrics, keys[i], (double)NAN);
        if (!isnan(v))
            return arena_printf(a, "%s=%.5g", keys[i], v);
    }
    return "-";
}

static enum status list_runs(struct cli *cli, const char *sweep, const struct ls_args *args,
                             struct err *err) {
    static const char *const titles[] = {"run",   "experiment", "trial",  "attempt",
                                         "state", "created",    "metric", "reason"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.list", NULL);
    value_set_string(a, request, "sweep", sweep);
    value_set_string(a, request, "state", args->state);
    value_set_int(a, request, "limit", args->limit);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *runs = value_get(reply, "runs");
    if (args->json) {
        TRY(cli_print_json(runs, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 8);
    for (size_t i = 0; runs != NULL && i < runs->count; i++) {
        const struct value *r = runs->items[i];
        if (args->ids) {
            printf("%s\n", value_get_string(r, "run", ""));
            continue;
        }
        const char *cells[] = {
            value_get_string(r, "run", ""),
            value_get_string(r, "experiment", ""),
            arena_printf(a, "%lld", (long long)value_get_int(r, "trial", 0)),
            arena_printf(a, "%lld", (long long)value_get_int(r, "attempt", 0)),
            value_get_string(r, "state", ""),
            text_time(a, value_get_int(r, "created_ns", 0)),
            metric_of(a, r),
            value_get_string(r, "reason", ""),
        };
        table_row(t, cells);
    }
    if (!args->ids)
        table_print(t, stdout, cli->colour_out);
    if (value_get_bool(reply, "more", false))
        fprintf(stderr, "there are more; --limit shows them\n");
out:
    return st;
}

enum status cmd_ls(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"runs", 'r', OPTION_FLAG, NULL, "runs of every sweep instead of sweeps", 0, 0,
         offsetof(struct ls_args, runs)},
        {"state", 's', OPTION_STRING, "STATE", "only in this state", 0, 0,
         offsetof(struct ls_args, state)},
        {"limit", 'n', OPTION_INT, "N", "at most N rows, newest first (default 100)", 1, 10000,
         offsetof(struct ls_args, limit)},
        {"ids", 0, OPTION_FLAG, NULL, "ids only, one a line", 0, 0, offsetof(struct ls_args, ids)},
        {"json", 'j', OPTION_FLAG, NULL, "a JSON list", 0, 0, offsetof(struct ls_args, json)},
        OPTION_END};
    static const struct command_help help = {"trireme ls [SWEEP] [--runs] [--state STATE] [--json]",
                                             "list sweeps, or the runs of one", NULL};
    enum status st = STATUS_OK;
    struct ls_args args = {.limit = 100};
    struct operands operands;
    char sweep[27];
    TRY(cli_parse(rows, &help, 0, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    if (operands.count > 0) {
        TRY(cli_resolve(cli, "sweep", operands.items[0], sweep, err));
        TRY(list_runs(cli, sweep, &args, err));
    } else if (args.runs) {
        TRY(list_runs(cli, NULL, &args, err));
    } else {
        TRY(list_sweeps(cli, &args, err));
    }
out:
    return st;
}
