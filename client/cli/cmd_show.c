/* trireme show: everything about one run, or about a sweep. */
#include <math.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "client/cli/text.h"

struct show_args {
    bool json;
};

static void heading(const struct cli *cli, struct arena *a, const char *text) {
    (void)printf("\n%s\n", text_colour(a, cli->colour_out, "1", text));
}

static void print_map(struct cli *cli, const char *title, const struct value *map) {
    if (map == NULL || map->kind != VALUE_MAP || map->count == 0)
        return;
    heading(cli, &cli->arena, title);
    for (size_t i = 0; i < map->count; i++)
        (void)printf("  %-18s %s\n", map->members[i].key,
                     text_line(&cli->arena, map->members[i].value));
}

static void print_run(struct cli *cli, const struct value *run) {
    static const char *const metric_titles[] = {"  metric", "rank", "points", "last",
                                                "at step",  "min",  "max"};
    static const char *const file_titles[] = {"  artifact", "size", "sha256"};
    struct arena *a = &cli->arena;
    (void)printf("run        %s\n", value_get_string(run, "run", ""));
    (void)printf("experiment %s\n", value_get_string(run, "experiment", ""));
    if (value_get(run, "sweep") != NULL)
        (void)printf("sweep      %s  trial %lld, attempt %lld\n",
                     value_get_string(run, "sweep", "-"), (long long)value_get_int(run, "trial", 0),
                     (long long)value_get_int(run, "attempt", 0));
    const char *reason = value_get_string(run, "reason", "");
    (void)printf("state      %s%s%s\n", value_get_string(run, "state", ""),
                 reason[0] != '\0' ? ": " : "", reason);
    int64_t created = value_get_int(run, "created_ns", 0),
            ended = value_get_int(run, "ended_ns", 0);
    (void)printf("created    %s\n", text_time(a, created));
    if (ended > created)
        (void)printf("took       %s\n", text_duration(a, ended - created));
    print_map(cli, "parameters", value_get(run, "params"));
    print_map(cli, "tags", value_get(run, "tags"));
    print_map(cli, "summary", value_get(run, "summary"));
    const struct value *metrics = value_get(run, "metrics");
    if (metrics != NULL && metrics->count > 0) {
        struct table *t = table_new(a, metric_titles, 7);
        for (size_t i = 0; i < metrics->count; i++) {
            const struct value *m = metrics->items[i];
            const char *cells[] = {
                arena_printf(a, "  %s", value_get_string(m, "key", "")),
                text_line(a, value_get(m, "rank")),
                text_line(a, value_get(m, "count")),
                arena_printf(a, "%.6g", value_get_real(m, "last", (double)NAN)),
                text_line(a, value_get(m, "last_step")),
                arena_printf(a, "%.6g", value_get_real(m, "min", (double)NAN)),
                arena_printf(a, "%.6g", value_get_real(m, "max", (double)NAN)),
            };
            table_row(t, cells);
        }
        (void)printf("\n");
        table_print(t, stdout, cli->colour_out);
    }
    const struct value *files = value_get(run, "artifacts");
    if (files != NULL && files->count > 0) {
        struct table *t = table_new(a, file_titles, 3);
        for (size_t i = 0; i < files->count; i++) {
            const char *cells[] = {
                arena_printf(a, "  %s", value_get_string(files->items[i], "path", "")),
                text_bytes(a, value_get_int(files->items[i], "size", 0)),
                value_get_string(files->items[i], "digest", ""),
            };
            table_row(t, cells);
        }
        (void)printf("\n");
        table_print(t, stdout, cli->colour_out);
    }
    print_map(cli, "manifest", value_get(run, "manifest"));
}

static enum status show(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct show_args args = {.json = false};
    struct operands operands;
    struct value *run = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    struct err not_run;
    st = runs_get(cli, operands.items[0], &run, &not_run);
    if (st == STATUS_OK) {
        if (args.json)
            TRY(cli_print_json(run, err));
        else
            print_run(cli, run);
        goto out;
    }
    *err = not_run;
    if (st == STATUS_NOT_FOUND) { /* then perhaps a sweep */
        struct value *reply = NULL, *request = message_request(&cli->arena, "sweep.get", NULL);
        char sweep[27];
        if (cli_resolve(cli, "sweep", operands.items[0], sweep, NULL) != STATUS_OK)
            goto out;
        value_set_string(&cli->arena, request, "sweep", sweep);
        TRY(cli_ask(cli, request, &reply, err));
        TRY(cli_print_json(value_get(reply, "sweep"), err));
    }
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct show_args, json, "json", 'j', "print JSON (a sweep always is)"),
    OPTION_END};

const struct command command_show = {
    .name = "show",
    .help = {.usage = "trireme show RUN|SWEEP [--json]",
             .summary = "show all about a run or a sweep, with its manifest"},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = 1,
    .run = show};
