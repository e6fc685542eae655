/* trireme compare: runs side by side. */
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "client/cli/text.h"

struct compare_args {
    struct cli_place place;
    bool json, all;
};

enum { COMPARE_MAX = TABLE_COLUMNS_MAX - 1, CELL_BYTES_MAX = 64 };

/* Lists and maps may be long: their beginning. */
static const char *cell_text(struct arena *a, const struct value *v, bool typed) {
    const char *text = typed ? text_typed(a, v) : text_line(a, v);
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
            bool differs = false, typed = strcmp(path, "params") == 0;
            cells[0] = arena_printf(a, "%s%s", prefix, key);
            for (size_t k = 0; k < c->count; k++) {
                cells[k + 1] = cell_text(a, value_get(value_at(c->runs[k], path), key), typed);
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
        (void)snprintf(path, sizeof path, "manifest.%s", maps[i]);
        (void)snprintf(prefix, sizeof prefix, "manifest %s.", maps[i]);
        compare_rows(c, path, prefix);
    }
}

static enum status compare(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct compare_args args = {.json = false};
    struct operands operands;
    struct value *runs[COMPARE_MAX];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    const char *titles[TABLE_COLUMNS_MAX] = {""};
    struct value *list = value_list(&cli->arena);
    for (size_t i = 0; i < operands.count; i++) {
        TRY(runs_get(cli, operands.items[i], &runs[i], err));
        if (strchr(operands.items[i], '/') == NULL)
            runs_say_resumed(runs[i], "show");
        titles[i + 1] = value_get_string(runs[i], "run", "");
        value_push(&cli->arena, list, runs[i]);
    }
    if (args.json) {
        TRY(cli_print_json(list, err));
        goto out;
    }
    struct table *t = table_new(&cli->arena, titles, operands.count + 1);
    struct comparison c = {
        .cli = cli, .table = t, .runs = runs, .count = operands.count, .all = args.all};
    compare_rows(&c, "params", "");
    compare_rows(&c, "summary.metrics", "metric ");
    compare_rows(&c, "summary.best", "best ");
    compare_rows(&c, "summary", "summary ");
    compare_manifests(&c);
    table_print(t, stdout, cli->colour_out);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct compare_args, all, "all", 'a', "also show what is the same in all"),
    CLI_TRACKER_ROWS(struct compare_args, place),
    OPTION_ROW_FLAG(struct compare_args, json, "json", 'j', "print the runs as a JSON list"),
    OPTION_END};

const struct command command_compare = {
    .name = "compare",
    .help = {.usage = "trireme compare RUN RUN... [--all] [--json]",
             .summary = "show runs side by side: parameters, metrics, digests",
             .details = "A RUN may also be SWEEP/TRIAL: the trial's newest attempt."},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 2,
    .most = COMPARE_MAX,
    .run = compare};
