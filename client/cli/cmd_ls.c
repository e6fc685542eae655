/* trireme ls: sweeps, or the runs of one. */
#include <math.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "client/cli/text.h"

struct ls_args {
    struct cli_place place;
    bool json, ids, all, runs;
    int64_t limit;
    const char *state;
};

/* Of sweeps and of runs; the tracker refuses one that is not of what is listed. */
#define STATES "active|paused|queued|running|completed|stopped|failed|cancelled|preempted"

static bool is_active(const struct value *sweep) {
    return strcmp(value_get_string(sweep, "state", ""), "active") == 0;
}

/* What the tracker has of an active sweep is from its beginning: the coordinator knows how far it is. Where
 * none answers, the counts are taken out: nobody knows them. */
static void add_counts(struct cli *cli, const struct value *sweeps) {
    static const char *const kept[] = {"planned", "finished", "running"};
    struct arena *a = &cli->arena;
    struct value *reply = NULL;
    bool active = false;
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++)
        active = active || is_active(sweeps->items[i]);
    if (active && cli_coordinator(cli, false, NULL) == STATUS_OK &&
        cli_order(cli, message_request(a, "coordinator.status", NULL), &reply, NULL) != STATUS_OK)
        reply = NULL;
    const struct value *known = value_get(reply, "sweeps");
    for (size_t i = 0; active && i < sweeps->count; i++) {
        struct value *sweep = sweeps->items[i], *summary = value_get(sweep, "summary");
        if (!is_active(sweep))
            continue;
        if (summary == NULL || summary->kind != VALUE_MAP)
            value_set(a, sweep, "summary", summary = value_map(a));
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
            value_remove(summary, kept[k]);
        const char *id = value_get_string(sweep, "sweep", "");
        for (size_t j = 0; known != NULL && j < known->count; j++)
            for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
                if (strcmp(value_get_string(known->items[j], "sweep", ""), id) == 0)
                    value_set_int(a, summary, kept[k], value_get_int(known->items[j], kept[k], 0));
        if (value_get(summary, "planned") == NULL &&
            value_get_string(sweep, "reason", "")[0] == '\0')
            value_set_string(a, sweep, "reason", "no coordinator runs; `trireme resume` goes on");
    }
}

static const char *count_text(struct arena *a, const struct value *summary) {
    if (value_get(summary, "planned") == NULL)
        return "-";
    return arena_printf(a, "%lld/%lld", (long long)value_get_int(summary, "finished", 0),
                        (long long)value_get_int(summary, "planned", 0));
}

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
    if (!args->ids)
        add_counts(cli, sweeps);
    if (args->json) {
        TRY(cli_print_json(sweeps, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 7);
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++) {
        const struct value *s = sweeps->items[i], *summary = value_get(s, "summary");
        if (args->ids) {
            (void)printf("%s\n", value_get_string(s, "sweep", ""));
            continue;
        }
        double best = value_get_real(value_get(summary, "best"), "metric", (double)NAN);
        const char *cells[] = {
            value_get_string(s, "sweep", ""),
            value_get_string(s, "name", ""),
            value_get_string(s, "state", ""),
            text_time(a, value_get_int(s, "created_ns", 0)),
            count_text(a, summary),
            isnan(best) ? "-" : arena_printf(a, "%.5g", best),
            value_get_string(s, "reason", ""),
        };
        table_row(t, cells);
    }
    if (!args->ids)
        table_print(t, stdout, cli->colour_out);
    if (sweeps != NULL && (int64_t)sweeps->count == args->limit)
        (void)fprintf(stderr, "there may be more: raise --limit\n");
out:
    return st;
}

/* What ranks the trials of a sweep, as `show SWEEP` does: one record of each sweep says it. */
static const struct value *rule_of(struct cli *cli, struct value *rules, const struct value *run) {
    struct arena *a = &cli->arena;
    const char *sweep = value_get_string(run, "sweep", NULL);
    struct value *record = NULL;
    if (sweep == NULL || value_get(rules, sweep) != NULL)
        return sweep != NULL ? value_get(rules, sweep) : NULL;
    struct value *rule = value_map(a);
    if (runs_get(cli, value_get_string(run, "run", ""), &record, NULL) == STATUS_OK) {
        value_set_string(a, rule, "metric",
                         value_get_string(value_get(record, "config"), "metric", NULL));
        value_set_bool(a, rule, "best", weights_metric_of_best(record));
    }
    value_set(a, rules, sweep, rule);
    return rule;
}

static const char *metric_text(struct arena *a, const struct value *run, const struct value *rule) {
    static const char *const keys[] = {"val_error", "val_loss", "train_loss"};
    const struct value *metrics = value_at(run, "summary.metrics");
    const char *ranks = value_get_string(rule, "metric", NULL);
    if (ranks != NULL) {
        double last = value_get_real(metrics, ranks, (double)NAN), v = last;
        if (value_get_bool(rule, "best", false))
            v = value_get_real(value_at(run, "summary.best"), "value", last);
        return isnan(v) ? "-" : arena_printf(a, "%s=%.5g", ranks, v);
    }
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
    struct value *rules = value_map(a);
    if (args->json) {
        TRY(cli_print_json(runs, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 8);
    for (size_t i = 0; runs != NULL && i < runs->count; i++) {
        const struct value *r = runs->items[i];
        if (args->ids) {
            (void)printf("%s\n", value_get_string(r, "run", ""));
            continue;
        }
        const char *cells[] = {
            value_get_string(r, "run", ""),
            value_get_string(r, "experiment", ""),
            arena_printf(a, "%lld", (long long)value_get_int(r, "trial", 0)),
            arena_printf(a, "%lld", (long long)value_get_int(r, "attempt", 0)),
            value_get_string(r, "state", ""),
            text_time(a, value_get_int(r, "created_ns", 0)),
            metric_text(a, r, rule_of(cli, rules, r)),
            value_get_string(r, "reason", ""),
        };
        table_row(t, cells);
    }
    if (!args->ids)
        table_print(t, stdout, cli->colour_out);
    if (value_get_bool(reply, "more", false))
        (void)fprintf(stderr, "there are more: raise --limit\n");
out:
    return st;
}

static enum status ls(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct ls_args args = {.limit = 100};
    struct operands operands;
    char sweep[27];
    TRY(cli_parse(cli, &args, &operands, err));
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

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct ls_args, runs, "runs", 'r',
                    "list the runs of all sweeps, not the sweeps"),
    OPTION_ROW_CHOICE(struct ls_args, state, "state", 's', STATES,
                      "only those in this state (default: any)"),
    OPTION_ROW_INT(struct ls_args, limit, "limit", 'n', "N", 1, 10000,
                   "at most N rows, newest first (default 100)"),
    OPTION_ROW_FLAG(struct ls_args, ids, "ids", 0, "print ids only, one per line"),
    CLI_TRACKER_ROWS(struct ls_args, place),
    OPTION_ROW_FLAG(struct ls_args, json, "json", 'j', "print a JSON list"),
    OPTION_END};

const struct command command_ls = {
    .name = "ls",
    .help = {.usage = "trireme ls [SWEEP] [--runs] [--state STATE] [--json]",
             .summary = "list sweeps, or the runs of one"},
    .options = rows,
    .kind = OPERANDS_SWEEP,
    .most = 1,
    .run = ls};
