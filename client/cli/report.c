/* The end of a sweep: result, ranking, failures, exit code. */
#include "client/cli/report.h"

#include <string.h>

#include "client/cli/ranking.h"
#include "client/cli/text.h"

struct value *report_result(struct arena *a, const struct value *status) {
    static const char *const kept[] = {"trial",   "run",    "state", "reason",
                                       "attempt", "units",  "step",  "hyperparameters",
                                       "metrics", "metric", "best",  "weights_digest"};
    struct value *out = value_map(a), *list = value_list(a);
    value_set_string(a, out, "sweep", value_get_string(status, "sweep", ""));
    value_set_string(a, out, "name", value_get_string(status, "name", ""));
    value_set_string(a, out, "state", value_get_string(status, "state", ""));
    value_set_string(a, out, "reason", value_get_string(status, "reason", NULL));
    if (value_get(status, "code") != NULL)
        value_set_string(a, out, "code", value_get_string(status, "code", NULL));
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

void report_leaderboard(struct cli *cli, const struct value *status, size_t rows, FILE *to) {
    struct ranking ranking;
    ranking_of_status(cli, status, &ranking);
    ranking_print(cli, &ranking, rows, to);
}

/* Coordinators of before sent no code: their launcher's words tell. */
static bool failed_for_room(const struct value *status) {
    const char *code = value_get_string(status, "code", NULL);
    if (code != NULL)
        return status_from_name(code) == STATUS_FULL;
    return strstr(value_get_string(status, "reason", ""), ": no space left on ") != NULL;
}

int report_exit_code(const struct value *status) {
    const char *state = value_get_string(status, "state", "");
    const struct value *trials = value_get(status, "trials");
    if (strcmp(state, "cancelled") == 0)
        return status_exit_code(STATUS_CANCELLED);
    if (strcmp(state, "failed") == 0)
        return failed_for_room(status) ? status_exit_code(STATUS_FULL) : 1;
    bool failed = value_get_int(status, "failed", 0) > 0; /* of all trials, listed here or not */
    for (size_t i = 0; trials != NULL && i < trials->count && !failed; i++)
        failed = strcmp(value_get_string(trials->items[i], "state", ""), "failed") == 0;
    return failed ? 1 : 0;
}

void report_failures(struct arena *a, const struct value *status) {
    const struct value *trials = value_get(status, "trials");
    const char *reason = value_get_string(status, "reason", NULL);
    if (reason != NULL && reason[0] != '\0')
        (void)fprintf(stderr, "sweep %s: %s\n", value_get_string(status, "state", ""),
                      text_safe(a, reason));
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        const struct value *t = trials->items[i];
        if (strcmp(value_get_string(t, "state", ""), "failed") == 0)
            (void)fprintf(stderr, "trial %lld failed: %s\n",
                          (long long)value_get_int(t, "trial", 0),
                          text_safe(a, value_get_string(t, "reason", "no reason was given")));
    }
}
