/* The end of a sweep: result, ranking, failures, exit code. */
#include "client/cli/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"

struct value *report_result(struct arena *a, const struct value *status) {
    static const char *const kept[] = {"trial",   "run",    "state",         "reason",
                                       "attempt", "units",  "step",          "hyperparameters",
                                       "metrics", "metric", "weights_digest"};
    struct value *out = value_map(a), *list = value_list(a);
    value_set_string(a, out, "sweep", value_get_string(status, "sweep", ""));
    value_set_string(a, out, "name", value_get_string(status, "name", ""));
    value_set_string(a, out, "state", value_get_string(status, "state", ""));
    value_set_string(a, out, "reason", value_get_string(status, "reason", NULL));
    const struct value *trials = value_get(status, "trials");
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        struct value *t = value_map(a);
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
            const struct value *v = value_get(trials->items[i], kept[k]);
            if (v != NULL)
                value_set(a, t, kept[k], value_copy(a, v));
        }
        value_push(a, list, t);
    }
    value_set(a, out, "trials", list);
    const struct value *best = value_get(status, "best");
    value_set(a, out, "best", best != NULL ? value_copy(a, best) : value_null(a));
    return out;
}

static const char *point_text(struct arena *a, const struct value *hyperparameters) {
    struct buf b = BUF_INIT(4096);
    for (size_t i = 0; hyperparameters != NULL && i < hyperparameters->count; i++) {
        const struct value *v = hyperparameters->members[i].value;
        buf_addf(&b, "%s%s=", i > 0 ? " " : "", hyperparameters->members[i].key);
        if (v->kind == VALUE_INT)
            buf_addf(&b, "%lld", (long long)v->integer);
        else if (v->kind == VALUE_REAL)
            buf_addf(&b, "%.4g", v->real);
        else if (v->kind == VALUE_STRING)
            buf_addf(&b, "%s", v->string);
        else
            buf_adds(&b, v->kind == VALUE_BOOL ? (v->boolean ? "true" : "false") : "-");
    }
    const char *text = arena_strdup(a, buf_text(&b));
    buf_release(&b);
    return text != NULL ? text : "";
}

struct ranked {
    const struct value *trial;
    double key; /* smaller first; infinite where the trial has no metric */
};

static int by_key(const void *a, const void *b) {
    double x = ((const struct ranked *)a)->key, y = ((const struct ranked *)b)->key;
    return (x > y) - (x < y);
}

void report_leaderboard(struct cli *cli, const struct value *status, size_t rows, FILE *to) {
    static const char *const titles[] = {"rank",   "trial", "run",
                                         "metric", "state", "hyperparameters"};
    struct arena *a = &cli->arena;
    const struct value *trials = value_get(status, "trials");
    bool smaller = value_get_bool(status, "smaller_is_better", true);
    if (trials == NULL || trials->count == 0)
        return;
    struct ranked *order = arena_array(a, trials->count, sizeof *order);
    struct table *t = table_new(a, titles, 6);
    if (order == NULL || t == NULL)
        return;
    for (size_t i = 0; i < trials->count; i++) {
        double m = value_get_real(trials->items[i], "metric", (double)NAN);
        order[i] = (struct ranked){trials->items[i], isnan(m)  ? (double)INFINITY
                                                     : smaller ? m
                                                               : -m};
    }
    qsort(order, trials->count, sizeof *order, by_key);
    for (size_t i = 0; i < trials->count && i < rows; i++) {
        const struct value *trial = order[i].trial;
        double m = value_get_real(trial, "metric", (double)NAN);
        const char *cells[] = {
            arena_printf(a, "%zu", i + 1),
            arena_printf(a, "%lld", (long long)value_get_int(trial, "trial", 0)),
            value_get_string(trial, "run", "-"),
            isnan(m) ? "-" : arena_printf(a, "%.5g", m),
            value_get_string(trial, "state", "-"),
            point_text(a, value_get(trial, "hyperparameters")),
        };
        table_row(t, cells);
    }
    table_print(t, to, to == stdout ? cli->colour_out : cli->colour_err);
}

int report_exit_code(const struct value *status) {
    const char *state = value_get_string(status, "state", "");
    const struct value *trials = value_get(status, "trials");
    if (strcmp(state, "cancelled") == 0)
        return status_exit_code(STATUS_CANCELLED);
    if (strcmp(state, "failed") == 0)
        return 1;
    for (size_t i = 0; trials != NULL && i < trials->count; i++)
        if (strcmp(value_get_string(trials->items[i], "state", ""), "failed") == 0)
            return 1;
    return 0;
}

void report_failures(const struct value *status) {
    const struct value *trials = value_get(status, "trials");
    const char *reason = value_get_string(status, "reason", NULL);
    if (reason != NULL && reason[0] != '\0')
        (void)fprintf(stderr, "sweep %s: %s\n", value_get_string(status, "state", ""), reason);
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        const struct value *t = trials->items[i];
        if (strcmp(value_get_string(t, "state", ""), "failed") == 0)
            (void)fprintf(stderr, "trial %lld failed: %s\n",
                          (long long)value_get_int(t, "trial", 0),
                          value_get_string(t, "reason", "no reason was given"));
    }
}
