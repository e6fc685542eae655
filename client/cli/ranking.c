/* The trials of a sweep as a table, best first. */
#include "client/cli/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/runs.h"
#include "client/cli/text.h"
#include "wire/weights.h"

#define PAGE_RUNS 1000

/* ---- cells ---- */

static const char *points_text(struct arena *a, const struct value *map) {
    struct buf b = BUF_INIT(64 << 10);
    for (size_t i = 0; map != NULL && i < map->count; i++)
        buf_addf(&b, "%s%s=%s", i > 0 ? " " : "", text_safe(a, map->members[i].key),
                 text_typed(a, map->members[i].value));
    const char *text = arena_strdup(a, buf_text(&b));
    buf_release(&b);
    return text != NULL ? text : "";
}

static const char *number_text(struct arena *a, double v) {
    return isnan(v) ? "-" : arena_printf(a, "%.5g", v);
}

/* ---- order ---- */

struct ranked {
    const struct value *trial;
    double key; /* smaller first; infinite where the trial has no metric */
    int64_t number;
};

static int by_key(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->key != y->key)
        return (x->key > y->key) - (x->key < y->key);
    return (x->number > y->number) - (x->number < y->number);
}

static struct ranked *order_of(struct arena *a, const struct ranking *r) {
    struct ranked *order = arena_array(a, r->trials->count, sizeof *order);
    for (size_t i = 0; order != NULL && i < r->trials->count; i++) {
        const struct value *t = r->trials->items[i];
        double m = value_get_real(t, "metric", (double)NAN);
        order[i] = (struct ranked){t,
                                   isnan(m)    ? (double)INFINITY
                                   : r->larger ? -m
                                               : m,
                                   value_get_int(t, "trial", 0)};
    }
    if (order != NULL)
        qsort(order, r->trials->count, sizeof *order, by_key);
    return order;
}

/* ---- columns ---- */

enum { FIXED_COLUMNS = 7 };

/* Which columns there are. */
struct layout {
    const char *titles[TABLE_COLUMNS_MAX];
    size_t count;
    bool best; /* some trial knows its best */
    const struct value
        *names;   /* of the hyperparameters with a column of their own; NULL: one for all */
    size_t first; /* their first column */
};

static void lay_out(struct arena *a, const struct ranking *r, struct layout *out) {
    struct value *names = value_map(a);
    *out = (struct layout){.titles = {"rank", "trial", "run", "state"}, .count = 4};
    for (size_t k = 0; r->order != NULL && r->order->kind == VALUE_MAP && k < r->order->count; k++)
        value_set_bool(a, names, r->order->members[k].key, true);
    for (size_t i = 0; i < r->trials->count; i++) {
        const struct value *t = r->trials->items[i], *h = value_get(t, "hyperparameters");
        out->best = out->best || value_get(value_get(t, "best"), "step") != NULL;
        for (size_t k = 0; h != NULL && k < h->count && names->count <= TABLE_COLUMNS_MAX; k++)
            value_set_bool(a, names, h->members[k].key, true);
    }
    out->titles[out->count++] = r->metric != NULL ? text_safe(a, r->metric) : "metric";
    if (out->best) {
        out->titles[out->count++] = "last";
        out->titles[out->count++] = r->steps_per_epoch > 0 ? "at epoch" : "at step";
    }
    out->first = out->count;
    if (names->count > TABLE_COLUMNS_MAX - FIXED_COLUMNS) {
        out->titles[out->count++] = "hyperparameters";
        return;
    }
    out->names = names;
    for (size_t i = 0; i < names->count; i++)
        out->titles[out->count++] = text_safe(a, names->members[i].key);
}

static const char *when_text(struct arena *a, const struct ranking *r, const struct value *best) {
    int64_t step = value_get_int(best, "step", -1);
    if (step < 0)
        return "-";
    return r->steps_per_epoch > 0 ? arena_printf(a, "%.4g", (double)step / r->steps_per_epoch)
                                  : arena_printf(a, "%lld", (long long)step);
}

static double last_of(const struct ranking *r, const struct value *trial) {
    const struct value *metrics = value_get(trial, "metrics");
    return r->metric != NULL ? value_get_real(metrics, r->metric, (double)NAN) : (double)NAN;
}

static void add_row(struct arena *a, const struct ranking *r, const struct layout *l,
                    struct table *t, size_t rank, const struct value *trial) {
    const struct value *h = value_get(trial, "hyperparameters"), *best = value_get(trial, "best");
    const char *cells[TABLE_COLUMNS_MAX] = {
        arena_printf(a, "%zu", rank),
        arena_printf(a, "%lld", (long long)value_get_int(trial, "trial", 0)),
        value_get_string(trial, "run", "-"),
        value_get_string(trial, "state", "-"),
        number_text(a, value_get_real(trial, "metric", (double)NAN)),
    };
    if (l->best) {
        cells[5] = number_text(a, last_of(r, trial));
        cells[6] = when_text(a, r, best);
    }
    for (size_t i = 0; l->names != NULL && i < l->names->count; i++)
        cells[l->first + i] = text_typed(a, value_get(h, l->names->members[i].key));
    if (l->names == NULL)
        cells[l->first] = points_text(a, h);
    table_row(t, cells);
}

void ranking_print(struct cli *cli, const struct ranking *r, size_t rows, FILE *to) {
    struct arena *a = &cli->arena;
    struct layout layout;
    if (r->trials == NULL || r->trials->count == 0)
        return;
    lay_out(a, r, &layout);
    struct ranked *order = order_of(a, r);
    struct table *t = table_new(a, layout.titles, layout.count);
    if (order == NULL || t == NULL)
        return;
    for (size_t i = 0; i < r->trials->count && i < rows; i++)
        add_row(a, r, &layout, t, i + 1, order[i].trial);
    table_print(t, to, to == stdout ? cli->colour_out : cli->colour_err);
}

/* ---- what a trial's own record says of all ---- */

/* A hyperparameter's batch size makes epochs of different lengths: then steps are shown. */
static double epoch_of(const struct value *run) {
    const struct value *params = value_get(run, "params");
    const struct value *batch = value_at(run, "config.training.global_batch_size");
    const struct value *train = value_at(run, "manifest.data.train");
    const char *time = value_get_string(value_get(run, "config"), "time_metric", "steps");
    if (strcmp(time, "epochs") != 0 || batch == NULL || batch->kind != VALUE_INT || train == NULL ||
        train->kind != VALUE_INT || batch->integer < 1)
        return 0;
    for (size_t i = 0; params != NULL && i < params->count; i++)
        if (strstr(params->members[i].key, "batch") != NULL)
            return 0;
    return (double)(train->integer / batch->integer); /* a last partial batch is dropped */
}

static void learn(struct cli *cli, struct ranking *r, struct value **run) {
    *run = NULL;
    for (size_t i = 0; r->trials != NULL && i < r->trials->count; i++) {
        const char *id = value_get_string(r->trials->items[i], "run", NULL);
        if (id == NULL || runs_get(cli, id, run, NULL) != STATUS_OK)
            continue;
        r->metric = value_get_string(value_get(*run, "config"), "metric", NULL);
        r->larger = !value_get_bool(value_get(*run, "config"), "smaller_is_better", true);
        r->steps_per_epoch = epoch_of(*run);
        r->order = value_at(*run, "config.hyperparameters");
        return;
    }
}

void ranking_of_status(struct cli *cli, const struct value *status, struct ranking *out) {
    struct value *run;
    *out = (struct ranking){.trials = value_get(status, "trials")};
    learn(cli, out, &run);
    out->larger = !value_get_bool(status, "smaller_is_better", true);
}

/* ---- from the tracker ---- */

/* A row of run.list becomes a trial as sweep.status has it. */
static struct value *trial_of(struct arena *a, const struct value *row) {
    static const char *const kept[] = {"trial", "run", "attempt", "state", "reason"};
    struct value *t = value_map(a);
    const struct value *summary = value_get(row, "summary"), *best = value_get(summary, "best");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (value_get(row, kept[i]) != NULL)
            value_set(a, t, kept[i], value_copy(a, value_get(row, kept[i])));
    value_set(a, t, "hyperparameters",
              value_get(row, "params") != NULL ? value_copy(a, value_get(row, "params"))
                                               : value_map(a));
    if (value_get(summary, "metrics") != NULL)
        value_set(a, t, "metrics", value_copy(a, value_get(summary, "metrics")));
    if (value_get(summary, "steps") != NULL)
        value_set(a, t, "step", value_copy(a, value_get(summary, "steps")));
    if (value_get(summary, "weights_digest") != NULL)
        value_set(a, t, "weights_digest", value_copy(a, value_get(summary, "weights_digest")));
    if (best != NULL && best->kind == VALUE_MAP) {
        struct value *b = value_map(a);
        value_set_int(a, b, "step", value_get_int(best, "step", -1));
        value_set_real(a, b, "metric", value_get_real(best, "value", (double)NAN));
        value_set(a, t, "best", b);
    }
    return t;
}

static enum status read_page(struct cli *cli, const char *sweep, struct value *rows,
                             const char **after, struct err *err) {
    enum status st = STATUS_OK;
    struct arena page;
    struct session_reply reply = {.header = NULL};
    arena_init(&page, CLI_ARENA_BYTES);
    struct value *request = message_request(&page, "run.list", NULL);
    value_set_string(&page, request, "sweep", sweep);
    value_set_string(&page, request, "after", *after);
    value_set_int(&page, request, "limit", PAGE_RUNS);
    value_set_bool(&page, request, "newest_first", false);
    TRY(cli_ask_frames(cli, &page, request, &reply, err));
    const struct value *runs = value_get(reply.header, "runs");
    for (size_t i = 0; runs != NULL && i < runs->count; i++)
        value_push(&cli->arena, rows, trial_of(&cli->arena, runs->items[i]));
    bool more = value_get_bool(reply.header, "more", false) && runs != NULL && runs->count > 0;
    *after = more ? arena_strdup(&cli->arena,
                                 value_get_string(runs->items[runs->count - 1], "run", NULL))
                  : NULL;
out:
    session_reply_release(&reply);
    arena_release(&page);
    return st;
}

static int by_attempt(const void *a, const void *b) {
    const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
    int64_t p = value_get_int(x, "trial", 0), q = value_get_int(y, "trial", 0);
    if (p == q) {
        p = value_get_int(x, "attempt", 0);
        q = value_get_int(y, "attempt", 0);
    }
    return (p > q) - (p < q);
}

/* The newest attempt of each trial. */
static struct value *newest_of(struct arena *a, struct value *rows) {
    struct value *list = value_list(a);
    if (rows->count > 0)
        qsort(rows->items, rows->count, sizeof *rows->items, by_attempt);
    for (size_t i = 0; i < rows->count; i++)
        if (i + 1 == rows->count || value_get_int(rows->items[i], "trial", 0) !=
                                        value_get_int(rows->items[i + 1], "trial", 0))
            value_push(a, list, rows->items[i]);
    return list;
}

/* A trial that runs has no summary yet: its series say how far it is. */
static void look_at_running(struct cli *cli, const struct ranking *r, struct value *trial) {
    struct arena *a = &cli->arena;
    struct value *run = NULL, *metrics = value_map(a), *best = value_map(a);
    if (r->metric == NULL || value_get(trial, "metrics") != NULL ||
        strcmp(value_get_string(trial, "state", ""), "running") != 0 ||
        runs_get(cli, value_get_string(trial, "run", ""), &run, NULL) != STATUS_OK)
        return;
    const struct value *series = value_get(run, "metrics");
    for (size_t i = 0; series != NULL && i < series->count; i++) {
        const struct value *m = series->items[i];
        const struct value *last = value_get(m, "last"),
                           *most = value_get(m, r->larger ? "max" : "min");
        if (strcmp(value_get_string(m, "key", ""), r->metric) != 0 ||
            value_get_int(m, "rank", 0) != 0 || last == NULL || most == NULL)
            continue;
        value_set(a, trial, "metrics", value_set(a, metrics, r->metric, value_copy(a, last)));
        value_set(a, trial, "best", value_set(a, best, "metric", value_copy(a, most)));
    }
}

/* The metric that counts, of each. */
static void judge(struct arena *a, const struct ranking *r, const struct value *list, bool best) {
    for (size_t i = 0; i < list->count; i++) {
        struct value *t = list->items[i];
        double m = best ? value_get_real(value_get(t, "best"), "metric", (double)NAN) : (double)NAN;
        m = isnan(m) ? last_of(r, t) : m;
        if (!isnan(m))
            value_set_real(a, t, "metric", m);
    }
}

enum status ranking_of_sweep(struct cli *cli, const char *sweep, struct ranking *out,
                             struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *rows = value_list(a), *run = NULL;
    const char *after = NULL;
    do
        TRY(read_page(cli, sweep, rows, &after, err));
    while (after != NULL);
    struct value *list = newest_of(a, rows);
    *out = (struct ranking){.trials = list};
    learn(cli, out, &run);
    for (size_t i = 0; i < list->count; i++)
        look_at_running(cli, out, list->items[i]);
    judge(a, out, list, run != NULL && weights_metric_of_best(run));
out:
    return st;
}
