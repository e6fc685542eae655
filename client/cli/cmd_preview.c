/* trireme preview FILE: checks a sweep file, shows the first trials and the plan of the first
 * model. Nothing is started but short-lived siblings: the coordinator's core lists the trials, a
 * worker plans. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "core/json.h"
#include "core/launch.h"
#include "spec/sweep.h"

struct preview_args {
    struct option_list sets;
    bool json, no_model;
    const char *device;
    int64_t trials, assume_gpu, assume_ranks;
};

/* Runs a sibling with one JSON file and further options; *out is what it printed, parsed. Its words
 * on standard error go to ours. */
static enum status ask_sibling(struct cli *cli, const char *program, const char *option,
                               const struct value *input, const char *const extra[2],
                               struct value **out, struct err *err) {
    enum status st = STATUS_OK;
    char path[PATH_TEXT_MAX], file[] = "/tmp/trireme-preview-XXXXXX";
    int fd = -1;
    struct launch_answer answer;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    TRY(path_join(path, cli->bindir, program, err));
    TRY(json_dump(input, JSON_COMPACT, &text, err));
    fd = mkstemp(file);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len) {
        st = err_errno(err, errno, "write %s", file);
        goto out;
    }
    const char *const argv[] = {path, option, file, extra[0], extra[1], NULL};
    TRY(launch_ask(argv, 0, &cli->arena, &answer, err));
    *out = answer.value;
    if (answer.exit_code != 0) {
        cli->exit_code = answer.exit_code;
        st =
            err_set(err, STATUS_INVALID, "%s refused it (exit code %d)", program, answer.exit_code);
    }
out:
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
    printf("%s: %s search, %lld trials of %g %s, %lld slots each, device %s\n\n", sweep->name,
           sweep->searcher, (long long)value_get_int(preview, "planned", 0), sweep->max_time,
           sweep->time_metric, (long long)sweep->slots_per_trial, sweep->device);
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
    const struct value *model = value_get(plan, "model"), *device = value_get(plan, "device");
    printf("\n%s trainable parameters, %s\n", scalar_text(a, value_get(model, "trainable")),
           text_bytes(a, value_get_int(model, "bytes", 0)));
    if (device != NULL)
        printf("planned on %s (%s)\n",
               value_get_string(device, "gpu", value_get_string(device, "cpu", "cpu")),
               value_get_string(device, "isa", "-"));
}

/* What `trireme-worker --plan --assume-gpu` answers: what lies where on the card, in GiB. */
static void print_budget(struct cli *cli, const struct value *plan,
                         const struct preview_args *args) {
    static const char *const titles[] = {"memory of a rank", "GiB", "what it is"};
    static const char *const rows[][2] = {
        {"vectors", "weights, gradient"},
        {"optimizer", "its state, of this rank's part"},
        {"partials", "sums between groups of shards"},
        {"activations", "outputs and gradients between layers"},
        {"operators", "what layers keep beside"},
        {"inbox", "sums of other ranks"},
        {"batch", "a step's samples"},
        {"library", "workspaces of cuBLAS and cuDNN"},
        {"total", "together"},
        {"data", "the data set beside it; 0: read from the host"},
    };
    struct arena *a = &cli->arena;
    const struct value *budget = value_get(plan, "budget");
    struct table *t = table_new(a, titles, 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double gib = (double)value_get_int(budget, rows[i][0], 0) / 1073741824.0;
        const char *cells[] = {rows[i][0], arena_printf(a, "%.3f", gib), rows[i][1]};
        table_row(t, cells);
    }
    const struct value *buckets = value_get(plan, "buckets");
    printf("\non a GPU of %lld GiB, %lld ranks with one each:\n\n", (long long)args->assume_gpu,
           (long long)args->assume_ranks);
    table_print(t, stdout, cli->colour_out);
    printf("\n%lld shards at a time, %zu buckets of gradient, %s\n",
           (long long)value_get_int(budget, "walk", 0), buckets != NULL ? buckets->count : 0,
           value_get_bool(budget, "recorded", false) ? "the step is one recorded graph"
                                                     : "the step waits for the host");
}

static enum status plan_model(struct cli *cli, const struct value *config,
                              const struct preview_args *args, struct value **out,
                              struct err *err) {
    struct arena *a = &cli->arena;
    const char *extra[2] = {NULL, NULL};
    if (args->assume_gpu > 0) {
        extra[0] = arena_printf(a, "--assume-gpu=%lld", (long long)args->assume_gpu);
        extra[1] = arena_printf(a, "--assume-ranks=%lld", (long long)args->assume_ranks);
    }
    return ask_sibling(cli, "trireme-worker", "--plan", config, extra, out, err);
}

static enum status check_args(struct cli *cli, struct preview_args *args, struct err *err) {
    if (args->assume_gpu > 0 && args->no_model)
        return err_set(err, STATUS_INVALID,
                       "--assume-gpu plans the model, --no-model does not: "
                       "leave one out");
    if (args->assume_ranks > 0 && args->assume_gpu == 0)
        return err_set(err, STATUS_INVALID, "--assume-ranks needs --assume-gpu GIB");
    return cli_override(cli, &args->sets, args->device, err);
}

enum status cmd_preview(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"set", 's', OPTION_LIST, "KEY=VALUE", "override a key of the sweep file", 0, 0,
         offsetof(struct preview_args, sets)},
        {"trials", 'n', OPTION_INT, "N", "show the first N trials (default 10)", 1, 2000,
         offsetof(struct preview_args, trials)},
        {"device", 'd', OPTION_STRING, "auto|cpu|cuda", "override the sweep file's device", 0, 0,
         offsetof(struct preview_args, device)},
        {"assume-gpu", 0, OPTION_INT, "GIB",
         "plan for a GPU of so much memory, which need not be here", 1, 1 << 20,
         offsetof(struct preview_args, assume_gpu)},
        {"assume-ranks", 0, OPTION_INT, "N",
         "with --assume-gpu: so many ranks with a GPU each (default: slots_per_trial)", 1, 4096,
         offsetof(struct preview_args, assume_ranks)},
        {"no-model", 0, OPTION_FLAG, NULL, "do not plan the model (the data need not be there)", 0,
         0, offsetof(struct preview_args, no_model)},
        {"json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct preview_args, json)},
        OPTION_END};
    static const struct command_help help = {
        "trireme preview FILE [--set KEY=VALUE]... [--trials N] [--assume-gpu GIB]",
        "check a sweep file; show its first trials and the model's plan", NULL};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct preview_args args = {.trials = 10};
    struct operands operands;
    struct sweep *sweep = NULL;
    struct value *preview = NULL, *plan = NULL;
    const char *count[2] = {NULL, NULL};
    TRY(cli_parse(rows, &help, 1, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(check_args(cli, &args, err));
    TRY(sweep_load(a, operands.items[0], args.sets.items, args.sets.count, &sweep, err));
    if (args.assume_ranks == 0)
        args.assume_ranks = sweep->slots_per_trial;
    char base[PATH_TEXT_MAX];
    char *real = realpath(operands.items[0], NULL);
    snprintf(base, sizeof base, "%s", real != NULL ? real : "./x");
    free(real);
    *strrchr(base, '/') = '\0';
    struct value *input = value_map(a);
    value_set(a, input, "config", value_copy(a, sweep->root));
    value_set_string(a, input, "base", base);
    count[0] = arena_printf(a, "--trials=%lld", (long long)args.trials);
    TRY(ask_sibling(cli, "trireme-coordinator", "--preview", input, count, &preview, err));
    const struct value *trials = value_get(preview, "trials");
    if (!args.no_model && trials != NULL && trials->count > 0)
        TRY(plan_model(cli, value_get(trials->items[0], "config"), &args, &plan, err));
    if (args.json) {
        if (plan != NULL)
            value_set(a, preview, "plan", plan);
        TRY(cli_print_json(preview, err));
    } else {
        print_trials(cli, sweep, preview);
        if (plan != NULL)
            print_plan(cli, plan);
        if (plan != NULL && args.assume_gpu > 0)
            print_budget(cli, plan, &args);
    }
out:
    return st;
}
