/* trireme preview: checks a sweep file, shows the first trials and the plan of the first model. */
#include "client/cli/check.h"
#include "client/cli/commands.h"
#include "client/cli/text.h"

struct preview_args {
    struct option_list sets;
    bool json, no_model;
    const char *device;
    int64_t trials, assume_gpu, assume_ranks;
};

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
            cells[c] = text_scalar(a, value_get(h, titles[c]));
        table_row(t, cells);
    }
    int64_t planned = value_get_int(preview, "planned", 0);
    (void)printf("%s: %s search, %lld trial%s of %g %s, %lld slot%s each, device %s\n\n",
                 text_safe(&cli->arena, sweep->name), sweep->searcher, (long long)planned,
                 planned == 1 ? "" : "s", sweep->max_time, sweep->time_metric,
                 (long long)sweep->slots_per_trial, sweep->slots_per_trial > 1 ? "s" : "",
                 sweep->device);
    table_print(t, stdout, cli->colour_out);
}

/* [1, 28, 28] → "1×28×28" */
static const char *shape_text(struct arena *a, const struct value *dims) {
    const char *text = "";
    for (size_t i = 0; dims != NULL && dims->kind == VALUE_LIST && i < dims->count && text != NULL;
         i++)
        text =
            arena_printf(a, "%s%s%lld", text, i > 0 ? "×" : "", (long long)dims->items[i]->integer);
    return text;
}

#define WORDS_SHOWN   6
#define COLUMNS_SHOWN 60

/* "blue, green, red, … (12)" */
static const char *words_text(struct arena *a, const struct value *words) {
    const char *text = "";
    for (size_t i = 0; words != NULL && i < words->count && i < WORDS_SHOWN && text != NULL; i++)
        text = arena_printf(a, "%s%s%s", text, i > 0 ? ", " : "", text_scalar(a, words->items[i]));
    if (words != NULL && words->count > WORDS_SHOWN && text != NULL)
        text = arena_printf(a, "%s, … (%zu)", text, words->count);
    return text != NULL ? text : "";
}

/* With the digits that tell two seconds since 1970 apart. */
static const char *number_text(struct arena *a, const struct value *v) {
    return arena_printf(a, "%.12g", v->kind == VALUE_INT ? (double)v->integer : v->real);
}

static const char *range_text(struct arena *a, const struct value *column) {
    const struct value *low = value_get(column, "min"), *high = value_get(column, "max");
    if (low == NULL || high == NULL)
        return words_text(a, value_get(column, "words"));
    return arena_printf(a, "%s to %s", number_text(a, low), number_text(a, high));
}

/* The columns that the model sees, then what it answers. */
static void print_columns(struct cli *cli, const struct value *data) {
    static const char *const titles[] = {"column", "kind", "inputs", "words or range", "missing"};
    struct arena *a = &cli->arena;
    const struct value *inputs = value_get(data, "inputs"), *out = value_get(data, "outputs");
    struct table *t = table_new(a, titles, 5);
    for (size_t i = 0; inputs != NULL && i < inputs->count && i < COLUMNS_SHOWN; i++) {
        const struct value *c = inputs->items[i], *fill = value_get(c, "missing");
        const char *cells[] = {text_scalar(a, value_get(c, "name")),
                               value_get_string(c, "kind", ""),
                               text_scalar(a, value_get(c, "count")), range_text(a, c),
                               fill != NULL ? text_scalar(a, fill) : "-"};
        table_row(t, cells);
    }
    if (inputs != NULL && inputs->count > COLUMNS_SHOWN) {
        const char *more[] = {arena_printf(a, "… %zu more", inputs->count - COLUMNS_SHOWN), "", "",
                              "all of them with --json", ""};
        table_row(t, more);
    }
    const char *count = text_scalar(a, value_get(out, "count"));
    const struct value *classes = value_get(out, "classes");
    const char *cells[] = {
        text_scalar(a, value_get(out, "name")),
        arena_printf(a, "label: %s %s", count, value_get_string(out, "kind", "")), "-",
        words_text(a, classes), "-"};
    table_row(t, cells);
    (void)printf("\n%lld training, %lld validation, %lld test samples\n\n",
                 (long long)value_get_int(data, "train", 0),
                 (long long)value_get_int(data, "validation", 0),
                 (long long)value_get_int(data, "test", 0));
    table_print(t, stdout, cli->colour_out);
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
                               text_scalar(a, value_get(l, "params")),
                               text_scalar(a, value_get(l, "flops"))};
        table_row(t, cells);
    }
    (void)printf("\n");
    table_print(t, stdout, cli->colour_out);
    const struct value *model = value_get(plan, "model"), *device = value_get(plan, "device");
    (void)printf("\n%s trainable parameters, %s\n", text_scalar(a, value_get(model, "trainable")),
                 text_bytes(a, value_get_int(model, "bytes", 0)));
    if (device != NULL)
        (void)printf("planned on %s (%s)\n",
                     value_get_string(device, "gpu", value_get_string(device, "cpu", "cpu")),
                     value_get_string(device, "isa", "-"));
}

/* What `trireme-worker --plan --assume-gpu` answers: the memory of the card, in GiB. */
static void print_budget(struct cli *cli, const struct check_trial *trial) {
    static const char *const titles[] = {"memory of a rank", "GiB", "what it is"};
    static const char *const rows[][2] = {
        {"vectors", "weights, gradient"},
        {"optimizer", "optimizer state, this rank's share"},
        {"partials", "sums between groups of shards"},
        {"activations", "outputs and gradients between layers"},
        {"operators", "what layers keep for the backward pass"},
        {"inbox", "sums received from other ranks"},
        {"batch", "a step's samples"},
        {"library", "workspaces of cuBLAS and cuDNN"},
        {"total", "all of the above"},
        {"data", "the data set besides; 0: read from host memory"},
    };
    struct arena *a = &cli->arena;
    const struct value *budget = value_get(trial->plan, "budget");
    struct table *t = table_new(a, titles, 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double gib = (double)value_get_int(budget, rows[i][0], 0) / 1073741824.0;
        const char *cells[] = {rows[i][0], arena_printf(a, "%.3f", gib), rows[i][1]};
        table_row(t, cells);
    }
    const struct value *buckets = value_get(trial->plan, "buckets");
    (void)printf("\non GPUs of %lld GiB, one for each of %lld ranks:\n\n",
                 (long long)trial->assume_gpu, (long long)trial->ranks);
    table_print(t, stdout, cli->colour_out);
    (void)printf("\n%lld shards at a time, %zu buckets of gradient, %s\n",
                 (long long)value_get_int(budget, "walk", 0), buckets != NULL ? buckets->count : 0,
                 value_get_bool(budget, "recorded", false) ? "the step is one recorded graph"
                                                           : "the step is launched by the host");
}

static enum status check_args(struct cli *cli, struct preview_args *args, struct err *err) {
    if (args->assume_gpu > 0 && args->no_model)
        return err_set(err, STATUS_INVALID,
                       "--assume-gpu plans the model, --no-model does not: leave one out");
    if (args->assume_ranks > 0 && args->assume_gpu == 0)
        return err_set(err, STATUS_INVALID, "--assume-ranks needs --assume-gpu GIB");
    return cli_override(cli, &args->sets, args->device, err);
}

static enum status preview(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct preview_args args = {.trials = 10};
    struct operands operands;
    struct check_file file;
    struct check_trial first = {.plan = NULL};
    struct value *listed = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(check_args(cli, &args, err));
    TRY(check_load(cli, operands.items[0], &args.sets, &file, err));
    TRY(check_trials(cli, &file, args.trials, &listed, err));
    if (!args.no_model) {
        TRY(check_first(cli, &file, listed, &first, err));
        first.assume_gpu = args.assume_gpu;
        first.ranks = args.assume_ranks > 0 ? args.assume_ranks : first.ranks;
        TRY(check_plan(cli, &first, err));
        check_warn(cli, &first);
    }
    if (args.json) {
        if (first.plan != NULL)
            value_set(&cli->arena, listed, "plan", first.plan);
        TRY(cli_print_json(listed, err));
        goto out;
    }
    print_trials(cli, file.sweep, listed);
    if (first.plan != NULL) {
        print_columns(cli, value_get(first.plan, "data"));
        print_plan(cli, first.plan);
    }
    if (args.assume_gpu > 0)
        print_budget(cli, &first);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_LIST(struct preview_args, sets, "set", 's', "KEY=VALUE",
                    "override a key of the sweep file; repeatable"),
    OPTION_ROW_INT(struct preview_args, trials, "trials", 'n', "N", 1, 2000,
                   "show the first N trials (default 10)"),
    OPTION_ROW_CHOICE(struct preview_args, device, "device", 'd', "auto|cpu|cuda",
                      "override the sweep file's device (default: as the file says)"),
    OPTION_ROW_INT(
        struct preview_args, assume_gpu, "assume-gpu", 0, "GIB", 1, 1 << 20,
        "plan for a GPU of GIB memory, which need not be here (default: for what is here)"),
    OPTION_ROW_INT(struct preview_args, assume_ranks, "assume-ranks", 0, "N", 1, 4096,
                   "with --assume-gpu: N ranks with a GPU each (default: slots_per_trial)"),
    OPTION_ROW_FLAG(struct preview_args, no_model, "no-model", 0,
                    "do not plan the model; the data need not be there"),
    OPTION_ROW_FLAG(struct preview_args, json, "json", 'j', "print JSON"),
    OPTION_END};

const struct command command_preview = {
    .name = "preview",
    .help = {.usage = "trireme preview FILE [--set KEY=VALUE]... [--trials N] [--assume-gpu GIB]",
             .summary = "check a sweep file; show its first trials and the model's plan",
             .details = "Exit codes: 0 the file is good; 2 it is not; 4 a data file is missing; "
                        "others as in README.md."},
    .options = rows,
    .kind = OPERANDS_SWEEP_FILE,
    .least = 1,
    .most = 1,
    .run = preview};
