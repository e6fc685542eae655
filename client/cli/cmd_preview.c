/* trireme preview FILE: checks a sweep file, shows the first trials and the plan of the first
 * model. Nothing is started but short-lived siblings: the coordinator's core lists the trials, a
 * worker plans. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/sweep.h"
#include "core/json.h"
#include "core/process.h"

struct preview_args {
    struct option_list sets;
    bool json, no_model;
    int64_t trials;
};

/* Runs a sibling with one JSON file as its argument; *out is what it printed, parsed. Its words on
 * standard error go to ours. */
static enum status ask_sibling(struct cli *cli, const char *program, const char *option,
                               const struct value *input, const char *extra, struct value **out,
                               struct err *err) {
    enum status st = STATUS_OK;
    char path[PATH_TEXT_MAX], file[] = "/tmp/trireme-preview-XXXXXX";
    int fds[2] = {-1, -1}, fd = -1, code = 0;
    bool ended = false;
    pid_t pid = 0;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    TRY(path_join(path, cli->bindir, program, err));
    TRY(json_dump(input, JSON_COMPACT, &text, err));
    fd = mkstemp(file);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len ||
        pipe2(fds, O_CLOEXEC) != 0) {
        st = err_errno(err, errno, "write %s", file);
        goto out;
    }
    const char *argv[] = {path, option, file, extra, NULL};
    struct process_spec spec = {.argv = argv, .stdout_fd = fds[1], .die_with_parent = true};
    TRY(process_start(&spec, &pid, err));
    close(fds[1]);
    fds[1] = -1;
    buf_clear(&text);
    for (;;) {
        char chunk[4096];
        ssize_t n = read(fds[0], chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_add(&text, chunk, (size_t)n);
    }
    while (!ended) {
        TRY(process_poll(pid, &ended, &code, err));
        if (!ended)
            usleep(1000);
    }
    if (code != 0) {
        cli->exit_code = code;
        st = err_set(err, STATUS_INVALID, "%s refused it (exit code %d)", program, code);
        goto out;
    }
    TRY(buf_status(&text, program, err));
    TRY(json_parse(&cli->arena, buf_text(&text), text.len, program, out, err));
out:
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (fd >= 0) {
        close(fd);
        unlink(file);
    }
    buf_release(&text);
    return st;
}

static const char *scalar_text(struct arena *a, const struct value *v) {
    if (v == NULL || v->kind == VALUE_NULL)
        return "-";
    if (v->kind == VALUE_STRING)
        return v->string;
    if (v->kind == VALUE_REAL)
        return arena_printf(a, "%.6g", v->real);
    if (v->kind == VALUE_INT)
        return arena_printf(a, "%lld", (long long)v->integer);
    return v->kind == VALUE_BOOL ? (v->boolean ? "true" : "false") : value_kind_name(v->kind);
}

static void print_trials(struct cli *cli, const struct sweep *sweep, const struct value *preview) {
    struct arena *a = &cli->arena;
    const char *titles[TABLE_COLUMNS_MAX] = {"trial"};
    size_t columns = 1;
    for (int i = 0; i < sweep->param_count && columns < TABLE_COLUMNS_MAX; i++)
        titles[columns++] = sweep->params[i].name;
    struct table *t = table_new(a, titles, columns);
    const struct value *trials = value_get(preview, "trials");
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        const char *cells[TABLE_COLUMNS_MAX];
        cells[0] = arena_printf(a, "%lld", (long long)value_get_int(trials->items[i], "trial", 0));
        const struct value *h = value_get(trials->items[i], "hyperparameters");
        for (size_t c = 1; c < columns; c++)
            cells[c] = scalar_text(a, value_get(h, titles[c]));
        table_row(t, cells);
    }
    printf("%s: %s search, %lld trials of %g %s, %lld slots each\n\n", sweep->name, sweep->searcher,
           (long long)value_get_int(preview, "planned", 0), sweep->max_time, sweep->time_metric,
           (long long)sweep->slots_per_trial);
    table_print(t, stdout, cli->colour_out);
}

/* (1, 28, 28) */
static const char *shape_text(struct arena *a, const struct value *dims) {
    const char *text = "";
    for (size_t i = 0; dims != NULL && dims->kind == VALUE_LIST && i < dims->count && text != NULL;
         i++)
        text =
            arena_printf(a, "%s%s%lld", text, i > 0 ? "×" : "", (long long)dims->items[i]->integer);
    return text;
}

static void print_plan(struct cli *cli, const struct value *plan) {
    static const char *const titles[] = {"layer", "in", "out", "parameters", "flops"};
    struct arena *a = &cli->arena;
    const struct value *layers = value_at(plan, "model.layers");
    struct table *t = table_new(a, titles, 5);
    for (size_t i = 0; layers != NULL && i < layers->count; i++) {
        const struct value *l = layers->items[i];
        const char *cells[] = {value_get_string(l, "name", ""), shape_text(a, value_get(l, "in")),
                               shape_text(a, value_get(l, "out")),
                               scalar_text(a, value_get(l, "params")),
                               scalar_text(a, value_get(l, "flops"))};
        table_row(t, cells);
    }
    printf("\n");
    table_print(t, stdout, cli->colour_out);
    const struct value *model = value_get(plan, "model");
    printf("\n%s trainable parameters, %s\n", scalar_text(a, value_get(model, "trainable")),
           text_bytes(a, value_get_int(model, "bytes", 0)));
}

enum status cmd_preview(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"set", 's', OPTION_LIST, "KEY=VALUE", "override a key of the sweep file", 0, 0,
         offsetof(struct preview_args, sets)},
        {"trials", 'n', OPTION_INT, "N", "show the first N trials (default 10)", 1, 2000,
         offsetof(struct preview_args, trials)},
        {"no-model", 0, OPTION_FLAG, NULL, "do not plan the model (the data need not be there)", 0,
         0, offsetof(struct preview_args, no_model)},
        {"json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct preview_args, json)},
        OPTION_END};
    static const struct command_help help = {
        "trireme preview FILE [--set KEY=VALUE]... [--trials N]",
        "check a sweep file; show its first trials and the model's plan", NULL};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct preview_args args = {.trials = 10};
    struct operands operands;
    struct sweep *sweep = NULL;
    struct value *preview = NULL, *plan = NULL;
    char count[32];
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(sweep_load(a, operands.items[0], args.sets.items, args.sets.count, &sweep, err));
    char base[PATH_TEXT_MAX];
    char *real = realpath(operands.items[0], NULL);
    snprintf(base, sizeof base, "%s", real != NULL ? real : "./x");
    free(real);
    *strrchr(base, '/') = '\0';
    struct value *input = value_map(a);
    value_set(a, input, "config", value_copy(a, sweep->root));
    value_set_string(a, input, "base", base);
    snprintf(count, sizeof count, "--trials=%lld", (long long)args.trials);
    TRY(ask_sibling(cli, "trireme-coordinator", "--preview", input, count, &preview, err));
    const struct value *trials = value_get(preview, "trials");
    if (!args.no_model && trials != NULL && trials->count > 0)
        TRY(ask_sibling(cli, "trireme-worker", "--plan", value_get(trials->items[0], "config"),
                        NULL, &plan, err));
    if (args.json) {
        if (plan != NULL)
            value_set(a, preview, "plan", plan);
        TRY(cli_print_json(preview, err));
    } else {
        print_trials(cli, sweep, preview);
        if (plan != NULL)
            print_plan(cli, plan);
    }
out:
    return st;
}
