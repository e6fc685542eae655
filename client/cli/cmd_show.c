/* trireme show: everything about one run, or about a sweep. */
#include <math.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/curve.h"
#include "client/cli/ranking.h"
#include "client/cli/text.h"
#include "core/ulid.h"
#include "wire/weights.h"

struct show_args {
    struct cli_place place;
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
        (void)printf("  %-18s %s\n", text_safe(&cli->arena, map->members[i].key),
                     text_line(&cli->arena, map->members[i].value));
}

/* ---- which weights ---- */

static bool has_file(const struct value *run, const char *path) {
    const struct value *files = value_get(run, "artifacts");
    for (size_t i = 0; files != NULL && i < files->count; i++)
        if (strcmp(value_get_string(files->items[i], "path", ""), path) == 0)
            return true;
    return false;
}

/* "best       of step 30 (val_error 0.125), in best.safetensors" */
static void print_weights(struct arena *a, const struct value *run, enum weights_which which) {
    struct weights_ref ref = {.which = which};
    struct weights w;
    const struct value *best = value_at(run, "summary.best");
    bool found = weights_choose(a, &ref, run, &w, NULL) == STATUS_OK && has_file(run, w.path);
    if (found)
        (void)printf("%-10s %s, in %s\n", which == WEIGHTS_BEST ? "best" : "last",
                     text_safe(a, weights_describe(a, run, &w)), w.path);
    else if (which == WEIGHTS_BEST && best != NULL)
        (void)printf("best       of step %lld (%s %.6g); those weights were not kept\n",
                     (long long)value_get_int(best, "step", 0),
                     text_safe(a, value_get_string(best, "metric", "metric")),
                     value_get_real(best, "value", (double)NAN));
}

/* What RUN:which stands for, or what a bare RUN would be. */
static void print_chosen(struct arena *a, const struct value *run, const struct weights *w) {
    print_weights(a, run, WEIGHTS_BEST);
    print_weights(a, run, WEIGHTS_LAST);
    if (has_file(run, w->path))
        (void)printf("weights    %s, in %s%s%s\n", text_safe(a, weights_describe(a, run, w)),
                     w->path, w->digest != NULL ? ", digest " : "",
                     w->digest != NULL ? w->digest : "");
}

static void set_chosen(struct arena *a, struct value *run, const struct weights *w) {
    struct value *v = value_map(a);
    value_set_string(a, v, "which", w->which);
    value_set(a, v, "step", w->step >= 0 ? value_int(a, w->step) : value_null(a));
    value_set_string(a, v, "path", w->path);
    value_set(a, v, "digest", w->digest != NULL ? value_string(a, w->digest) : value_null(a));
    value_set(a, run, "weights", has_file(run, w->path) ? v : value_null(a));
}

/* ---- the attempts at a trial, as one run ---- */

/* As run.get describes a series. */
static struct value *describe_curve(struct arena *a, const char *key, const struct curve *c) {
    struct value *m = value_map(a);
    double min = (double)NAN, max = (double)NAN;
    for (size_t i = 0; i < c->count; i++) {
        min = isnan(min) || c->values[i] < min ? c->values[i] : min;
        max = isnan(max) || c->values[i] > max ? c->values[i] : max;
    }
    value_set_string(a, m, "key", key);
    value_set_int(a, m, "rank", 0);
    value_set_int(a, m, "count", (int64_t)c->count);
    value_set_real(a, m, "last", c->values[c->count - 1]);
    value_set_int(a, m, "last_step", c->steps[c->count - 1]);
    value_set_real(a, m, "min", min);
    value_set_real(a, m, "max", max);
    return m;
}

/* The newest attempt's record, with the metrics of all, and a list of them. */
static enum status join_attempts(struct cli *cli, const struct runs_attempts *of, struct value *run,
                                 struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *list = value_list(a), *metrics = value_list(a);
    const struct value *series = value_get(run, "metrics");
    for (size_t i = 0; i < of->count; i++) {
        struct value *m = value_map(a);
        const struct value *r = of->runs[i];
        value_set_int(a, m, "attempt", value_get_int(r, "attempt", 0));
        value_set_string(a, m, "run", value_get_string(r, "run", ""));
        value_set_string(a, m, "state", value_get_string(r, "state", ""));
        value_set_int(a, m, "first_step", runs_first_step(r));
        value_set_string(a, m, "reason", value_get_string(r, "reason", ""));
        value_push(a, list, m);
    }
    value_set(a, run, "attempts", list);
    for (size_t i = 0; of->count > 1 && series != NULL && i < series->count; i++) {
        struct curve c = {.count = 0};
        struct curve_ask ask = {.of = of, .key = value_get_string(series->items[i], "key", "")};
        if (value_get_int(series->items[i], "rank", 0) != 0)
            continue;
        TRY(curve_fetch(cli, &ask, &c, err));
        if (c.count > 0)
            value_push(a, metrics, describe_curve(a, ask.key, &c));
        curve_release(&c);
    }
    if (of->count > 1)
        value_set(a, run, "metrics", metrics);
out:
    return st;
}

static void print_attempts(struct cli *cli, const struct value *list) {
    static const char *const titles[] = {"  attempt", "run", "state", "from step", "reason"};
    struct arena *a = &cli->arena;
    if (list == NULL || list->count < 2)
        return;
    struct table *t = table_new(a, titles, 5);
    for (size_t i = 0; i < list->count; i++) {
        const struct value *m = list->items[i];
        table_row(t, (const char *[]){
                         arena_printf(a, "  %lld", (long long)value_get_int(m, "attempt", 0)),
                         value_get_string(m, "run", ""), value_get_string(m, "state", ""),
                         arena_printf(a, "%lld", (long long)value_get_int(m, "first_step", 0)),
                         value_get_string(m, "reason", "")});
    }
    (void)printf("\n");
    table_print(t, stdout, cli->colour_out);
}

/* ---- a run ---- */

static void print_head(struct arena *a, const struct value *run) {
    const char *reason = value_get_string(run, "reason", "");
    int64_t created = value_get_int(run, "created_ns", 0),
            ended = value_get_int(run, "ended_ns", 0);
    (void)printf("run        %s\n", value_get_string(run, "run", ""));
    (void)printf("experiment %s\n", text_safe(a, value_get_string(run, "experiment", "")));
    if (value_get(run, "sweep") != NULL)
        (void)printf("sweep      %s  trial %lld, attempt %lld\n",
                     value_get_string(run, "sweep", "-"), (long long)value_get_int(run, "trial", 0),
                     (long long)value_get_int(run, "attempt", 0));
    (void)printf("state      %s%s%s%s\n", value_get_string(run, "state", ""),
                 value_get_bool(run, "lost", false) ? " (lost)" : "", reason[0] != '\0' ? ": " : "",
                 text_safe(a, reason));
    const struct value *sealed = value_get(run, "sealed");
    if (sealed != NULL && sealed->kind == VALUE_MAP)
        (void)printf("sealed     %s by %s%s%s\n", text_time(a, value_get_int(sealed, "time_ns", 0)),
                     text_safe(a, value_get_string(sealed, "actor", "-")),
                     value_get_string(sealed, "comment", NULL) != NULL ? ": " : "",
                     text_safe(a, value_get_string(sealed, "comment", "")));
    (void)printf("created    %s\n", text_time(a, created));
    if (ended > created)
        (void)printf("took       %s\n", text_duration(a, ended - created));
}

static void print_metrics(struct cli *cli, const struct value *metrics) {
    static const char *const titles[] = {"  metric", "rank", "points", "last",
                                         "at step",  "min",  "max"};
    struct arena *a = &cli->arena;
    if (metrics == NULL || metrics->count == 0)
        return;
    struct table *t = table_new(a, titles, 7);
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

static void print_files(struct cli *cli, const struct value *files) {
    static const char *const titles[] = {"  artifact", "size", "sha256"};
    struct arena *a = &cli->arena;
    if (files == NULL || files->count == 0)
        return;
    struct table *t = table_new(a, titles, 3);
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

static void print_run(struct cli *cli, const struct value *run, const struct weights *w) {
    print_head(&cli->arena, run);
    print_chosen(&cli->arena, run, w);
    print_attempts(cli, value_get(run, "attempts"));
    print_map(cli, "parameters", value_get(run, "params"));
    print_map(cli, "tags", value_get(run, "tags"));
    print_map(cli, "summary", value_get(run, "summary"));
    print_metrics(cli, value_get(run, "metrics"));
    print_files(cli, value_get(run, "artifacts"));
    print_map(cli, "manifest", value_get(run, "manifest"));
}

static enum status show_run(struct cli *cli, const struct weights_ref *ref, bool json,
                            struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct runs_attempts of;
    struct weights weights;
    TRY(runs_get_attempts(cli, ref->run, &of, err));
    struct value *run = of.runs[of.count - 1];
    TRY(runs_find_weights(cli, ref, &run, &weights, err));
    if (of.whole)
        TRY(join_attempts(cli, &of, run, err));
    if (json) {
        set_chosen(a, run, &weights);
        TRY(cli_print_json(run, err));
        goto out;
    }
    print_run(cli, run, &weights);
    if (!of.whole)
        runs_say_resumed(run, "show");
out:
    return st;
}

/* ---- a sweep ---- */

static void print_sweep(struct cli *cli, const struct value *sweep, const struct ranking *ranking) {
    struct arena *a = &cli->arena;
    const struct value *summary = value_get(sweep, "summary");
    const char *reason = value_get_string(sweep, "reason", "");
    const char *searcher = value_get_string(value_at(sweep, "config.searcher"), "name", "-");
    int64_t created = value_get_int(sweep, "created_ns", 0),
            ended = value_get_int(sweep, "ended_ns", 0);
    (void)printf("sweep      %s\n", value_get_string(sweep, "sweep", ""));
    (void)printf("name       %s\n", text_safe(a, value_get_string(sweep, "name", "")));
    (void)printf("state      %s%s%s\n", value_get_string(sweep, "state", ""),
                 reason[0] != '\0' ? ": " : "", text_safe(a, reason));
    (void)printf("created    %s\n", text_time(a, created));
    if (ended > created)
        (void)printf("took       %s\n", text_duration(a, ended - created));
    (void)printf("searcher   %s\n", text_safe(a, searcher));
    (void)printf("trials     %lld planned, %lld finished\n",
                 (long long)value_get_int(summary, "planned", 0),
                 (long long)value_get_int(summary, "finished", 0));
    if (ranking->trials->count > 0)
        (void)printf("\n");
    ranking_print(cli, ranking, SIZE_MAX, stdout);
}

static enum status show_sweep(struct cli *cli, const char *text, bool json, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "sweep.get", NULL);
    struct ranking ranking;
    char sweep[27];
    TRY(cli_resolve(cli, "sweep", text, sweep, err));
    value_set_string(a, request, "sweep", sweep);
    TRY(cli_ask(cli, request, &reply, err));
    struct value *record = value_get(reply, "sweep");
    TRY(ranking_of_sweep(cli, sweep, &ranking, err));
    if (json) {
        value_set(a, record, "trials", value_copy(a, ranking.trials));
        TRY(cli_print_json(record, err));
    } else {
        print_sweep(cli, record, &ranking);
    }
out:
    return st;
}

/* ---- which of them ---- */

static enum status show(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct show_args args = {.json = false};
    struct operands operands;
    struct weights_ref ref;
    struct err not_run, not_sweep;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    const char *text = operands.items[0], *colon = strrchr(text, ':');
    if (colon != NULL && !ulid_valid(text, (size_t)(colon - text), false) &&
        strchr(text, '/') == NULL)
        ref = (struct weights_ref){.run = text}; /* a sweep's name may have one, too */
    else
        TRY(weights_parse(&cli->arena, text, &ref, err));
    st = show_run(cli, &ref, args.json, &not_run);
    if (st == STATUS_NOT_FOUND && ref.which == WEIGHTS_ANY && strchr(text, '/') == NULL) {
        enum status sweep = show_sweep(cli, text, args.json, &not_sweep);
        if (sweep == STATUS_OK)
            return STATUS_OK;
        if (sweep != STATUS_NOT_FOUND && sweep != STATUS_INVALID) {
            *err = not_sweep;
            return sweep;
        }
        return err_set(err, STATUS_NOT_FOUND, "there is no run and no sweep '%.100s'", text);
    }
    if (st != STATUS_OK)
        *err = not_run;
out:
    return st;
}

static const struct option_row rows[] = {
    CLI_TRACKER_ROWS(struct show_args, place),
    OPTION_ROW_FLAG(struct show_args, json, "json", 'j', "print JSON"), OPTION_END};

static const char details[] =
    "A RUN may be RUN:best, RUN:last or RUN:STEP: which of its weights are meant is then said.\n"
    "SWEEP/TRIAL is the trial's newest attempt with the curves of all. A SWEEP's trials are "
    "ranked.";

const struct command command_show = {
    .name = "show",
    .help = {.usage = "trireme show RUN|SWEEP/TRIAL|SWEEP [--json]",
             .summary = "show all about a run, with its manifest, or rank the trials of a sweep",
             .details = details},
    .options = rows,
    .kind = OPERANDS_RUN_OR_SWEEP,
    .least = 1,
    .most = 1,
    .run = show};
