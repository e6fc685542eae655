/* trireme show and compare: everything about one run or sweep; several runs side by side. */
#include <math.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/json.h"

struct show_args {
    bool json, all;
};

static enum status get_run(struct cli *cli, const char *prefix, struct value **out,
                           struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.get", NULL);
    char run[27];
    TRY(cli_resolve(cli, "run", prefix, run, err));
    value_set_string(a, request, "run", run);
    TRY(cli_ask(cli, request, &reply, err));
    *out = value_get(reply, "run");
out:
    return st;
}

/* A value on one line: strings bare, the rest as compact JSON. */
static const char *one_line(struct arena *a, const struct value *v) {
    if (v == NULL)
        return "-";
    if (v->kind == VALUE_STRING)
        return v->string;
    struct buf b = BUF_INIT(1 << 20);
    const char *text =
        json_dump(v, JSON_COMPACT, &b, NULL) == STATUS_OK ? arena_strdup(a, buf_text(&b)) : NULL;
    buf_release(&b);
    return text != NULL ? text : "-";
}

static void heading(const struct cli *cli, struct arena *a, const char *text) {
    printf("\n%s\n", text_colour(a, cli->colour_out, "1", text));
}

static void print_map(struct cli *cli, const char *title, const struct value *map) {
    if (map == NULL || map->kind != VALUE_MAP || map->count == 0)
        return;
    heading(cli, &cli->arena, title);
    for (size_t i = 0; i < map->count; i++)
        printf("  %-18s %s\n", map->members[i].key, one_line(&cli->arena, map->members[i].value));
}

static void print_run(struct cli *cli, const struct value *run) {
    static const char *const metric_titles[] = {"  metric", "rank", "points", "last",
                                                "at step",  "min",  "max"};
    static const char *const file_titles[] = {"  artifact", "size", "sha256"};
    struct arena *a = &cli->arena;
    printf("run        %s\n", value_get_string(run, "run", ""));
    printf("experiment %s\n", value_get_string(run, "experiment", ""));
    if (value_get(run, "sweep") != NULL)
        printf("sweep      %s  trial %lld, attempt %lld\n", value_get_string(run, "sweep", "-"),
               (long long)value_get_int(run, "trial", 0),
               (long long)value_get_int(run, "attempt", 0));
    const char *reason = value_get_string(run, "reason", "");
    printf("state      %s%s%s\n", value_get_string(run, "state", ""), reason[0] != '\0' ? ": " : "",
           reason);
    int64_t created = value_get_int(run, "created_ns", 0),
            ended = value_get_int(run, "ended_ns", 0);
    printf("created    %s\n", text_time(a, created));
    if (ended > created)
        printf("took       %s\n", text_duration(a, ended - created));
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
                one_line(a, value_get(m, "rank")),
                one_line(a, value_get(m, "count")),
                arena_printf(a, "%.6g", value_get_real(m, "last", (double)NAN)),
                one_line(a, value_get(m, "last_step")),
                arena_printf(a, "%.6g", value_get_real(m, "min", (double)NAN)),
                arena_printf(a, "%.6g", value_get_real(m, "max", (double)NAN)),
            };
            table_row(t, cells);
        }
        printf("\n");
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
        printf("\n");
        table_print(t, stdout, cli->colour_out);
    }
    print_map(cli, "manifest", value_get(run, "manifest"));
}

enum status cmd_show(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct show_args, json)},
        OPTION_END};
    static const struct command_help help = {
        "trireme show RUN|SWEEP [--json]",
        "all about a run (parameters, summary, metrics, artifacts, manifest) or a sweep", NULL};
    enum status st = STATUS_OK;
    struct show_args args = {.json = false};
    struct operands operands;
    struct value *run = NULL;
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    struct err not_run;
    st = get_run(cli, operands.items[0], &run, &not_run);
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

/* ---- compare ---- */

enum { COMPARE_MAX = TABLE_COLUMNS_MAX - 1, CELL_BYTES_MAX = 64 };

/* Lists and maps may be long: their beginning. */
static const char *cell_text(struct arena *a, const struct value *v) {
    const char *text = one_line(a, v);
    size_t len = strlen(text);
    if (len <= CELL_BYTES_MAX || v == NULL || v->kind == VALUE_STRING)
        return text;
    for (len = CELL_BYTES_MAX; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
        len--; /* never within a character */
    text = arena_printf(a, "%.*s…", (int)len, text);
    return text != NULL ? text : "-";
}

struct comparison {
    struct cli *cli;
    struct table *table;
    struct value *const *runs;
    size_t count;
    bool all; /* also what is the same in all */
};

/* One row for each key of the map at `path` over all runs, maps within it left out. */
static void compare_rows(const struct comparison *c, const char *path, const char *prefix) {
    struct arena *a = &c->cli->arena;
    struct value *seen = value_map(a);
    for (size_t r = 0; r < c->count; r++) {
        const struct value *map = value_at(c->runs[r], path);
        for (size_t i = 0; map != NULL && map->kind == VALUE_MAP && i < map->count; i++) {
            const char *key = map->members[i].key, *cells[TABLE_COLUMNS_MAX];
            if (map->members[i].value->kind == VALUE_MAP || value_get(seen, key) != NULL)
                continue;
            value_set_bool(a, seen, key, true);
            bool differs = false;
            cells[0] = arena_printf(a, "%s%s", prefix, key);
            for (size_t k = 0; k < c->count; k++) {
                cells[k + 1] = cell_text(a, value_get(value_at(c->runs[k], path), key));
                differs = differs || strcmp(cells[k + 1], cells[1]) != 0;
            }
            if (differs || c->all)
                table_row(c->table, cells);
        }
    }
}

/* The manifest and the maps in it. Its configuration is what the parameters made of the sweep. */
static void compare_manifests(const struct comparison *c) {
    static const char *const maps[] = {"data",      "model",       "engine",      "device",
                                       "libraries", "environment", "resumed_from"};
    char path[64], prefix[64];
    compare_rows(c, "manifest", "manifest ");
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        snprintf(path, sizeof path, "manifest.%s", maps[i]);
        snprintf(prefix, sizeof prefix, "manifest %s.", maps[i]);
        compare_rows(c, path, prefix);
    }
}

enum status cmd_compare(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"all", 'a', OPTION_FLAG, NULL, "also what is the same in all", 0, 0,
         offsetof(struct show_args, all)},
        {"json", 'j', OPTION_FLAG, NULL, "the runs as a JSON list", 0, 0,
         offsetof(struct show_args, json)},
        OPTION_END};
    static const struct command_help help = {
        "trireme compare RUN RUN... [--all] [--json]",
        "runs side by side: parameters, metrics and digests that differ", NULL};
    enum status st = STATUS_OK;
    struct show_args args = {.json = false};
    struct operands operands;
    struct value *runs[COMPARE_MAX];
    TRY(cli_parse(rows, &help, 2, COMPARE_MAX, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    const char *titles[TABLE_COLUMNS_MAX] = {""};
    struct value *list = value_list(&cli->arena);
    for (size_t i = 0; i < operands.count; i++) {
        TRY(get_run(cli, operands.items[i], &runs[i], err));
        titles[i + 1] = value_get_string(runs[i], "run", "");
        value_push(&cli->arena, list, runs[i]);
    }
    if (args.json) {
        TRY(cli_print_json(list, err));
        goto out;
    }
    struct table *t = table_new(&cli->arena, titles, operands.count + 1);
    struct comparison c = {cli, t, runs, operands.count, args.all};
    compare_rows(&c, "params", "");
    compare_rows(&c, "summary.metrics", "metric ");
    compare_rows(&c, "summary", "summary ");
    compare_manifests(&c);
    table_print(t, stdout, cli->colour_out);
out:
    return st;
}
