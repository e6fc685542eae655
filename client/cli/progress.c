/* What a sweep is doing, drawn again and again. */
#include "client/cli/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/text.h"
#include "core/utf8.h"

enum { PLAIN_EVERY_MS = 5000, ROWS_MAX = 16, COLUMNS_PLAIN = 119, PLAIN_TRIALS_MAX = 2 };

void progress_begin(struct progress *p, const struct cli *cli) {
    *p = (struct progress){.terminal = isatty(STDERR_FILENO) == 1,
                           .colour = cli->colour_err,
                           .started_ns = clock_mono_ns(&clock_system),
                           .finished = -1,
                           .units_first = -1};
}

/* ---- what a status holds ---- */

static bool is_running(const struct value *trial) {
    const char *state = value_get_string(trial, "state", "");
    return strcmp(state, "running") == 0 || strcmp(state, "assigned") == 0;
}

/* The best metric so far, of a trial that has ended or of one that goes on. */
struct best {
    double metric; /* NaN: none */
    int64_t trial;
};

static struct best best_of(const struct value *status) {
    const struct value *known = value_get(status, "best"), *trials = value_get(status, "trials");
    bool smaller = value_get_bool(status, "smaller_is_better", true);
    struct best best = {.metric = value_get_real(known, "metric", (double)NAN),
                        .trial = value_get_int(known, "trial", 0)};
    for (size_t i = 0; trials != NULL && i < trials->count; i++) {
        double m = value_get_real(trials->items[i], "metric", (double)NAN);
        if (isfinite(m) && (isnan(best.metric) || (smaller ? m < best.metric : m > best.metric)))
            best = (struct best){.metric = m, .trial = value_get_int(trials->items[i], "trial", 0)};
    }
    return best;
}

/* "3.2/10 epochs" */
static const char *place_text(struct arena *a, const struct value *status,
                              const struct value *trial) {
    const char *unit = value_get_string(status, "time_metric", "epochs");
    double units = value_get_real(trial, "units", 0), all = value_get_real(status, "max_time", 0);
    int digits = strcmp(unit, "epochs") == 0 && units < 1000 ? 1 : 0;
    return arena_printf(a, "%.*f/%.9g %s", digits, units, all, unit);
}

/* "val_error 0.1234, val_loss 0.5678": what the sweep looks at first, then the losses. */
static const char *metrics_text(struct arena *a, const struct value *status,
                                const struct value *trial) {
    const char *first = value_get_string(status, "metric", "");
    const struct value *metrics = value_get(trial, "metrics");
    const char *text = "";
    for (size_t i = 0; metrics != NULL && metrics->kind == VALUE_MAP && i < metrics->count; i++) {
        const char *key = metrics->members[i].key;
        double v = value_get_real(metrics, key, (double)NAN);
        if (isnan(v) || (strcmp(key, first) != 0 && strstr(key, "loss") == NULL))
            continue;
        const char *one = arena_printf(a, "%s %.5g", key, v);
        bool in_front = strcmp(key, first) == 0;
        const char *joint = text[0] != '\0' ? ", " : "";
        text = in_front ? arena_printf(a, "%s%s%s", one, joint, text)
                        : arena_printf(a, "%s%s%s", text, joint, one);
        if (text == NULL)
            return "";
    }
    return text;
}

/* "trial 3: 3.2/10 epochs, val_error 0.12, best 0.11" */
static const char *trial_text(struct arena *a, const struct value *status,
                              const struct value *trial) {
    const char *place = place_text(a, status, trial), *metrics = metrics_text(a, status, trial);
    double best = value_get_real(value_get(trial, "best"), "metric", (double)NAN);
    const char *tail = isnan(best) ? "" : arena_printf(a, ", best %.5g", best);
    const char *text =
        arena_printf(a, "trial %lld: %s%s%s%s", (long long)value_get_int(trial, "trial", 0), place,
                     metrics[0] != '\0' ? ", " : "", metrics, tail);
    return text != NULL ? text : "";
}

const char *progress_eta(struct arena *a, int64_t elapsed_ns, double done) {
    if (!(done > 0.01 && done <= 1)) /* also NaN: 0/0 where all was done when we began to look */
        return "-";
    return text_duration(a, (int64_t)((double)elapsed_ns * (1 - done) / done));
}

static const char *sweep_text(struct arena *a, const struct progress *p,
                              const struct value *status) {
    int64_t planned = value_get_int(status, "planned", 0),
            failed = value_get_int(status, "failed", 0);
    int64_t elapsed = clock_mono_ns(&clock_system) - p->started_ns;
    double all = value_get_real(status, "max_time", 0) * (double)planned - p->units_first;
    double done = value_get_real(status, "units", 0) - p->units_first;
    struct best best = best_of(status);
    const char *best_text = isnan(best.metric) ? "-"
                                               : arena_printf(a, "%.5g (trial %lld)", best.metric,
                                                              (long long)best.trial);
    const char *text = arena_printf(
        a, "%s  %lld/%lld trial%s, %lld running%s  best %s  elapsed %s  eta %s",
        text_safe(a, value_get_string(status, "name", "sweep")),
        (long long)value_get_int(status, "finished", 0), (long long)planned,
        planned == 1 ? "" : "s", (long long)value_get_int(status, "running", 0),
        failed > 0 ? arena_printf(a, ", %lld failed", (long long)failed) : "", best_text,
        text_duration(a, elapsed), progress_eta(a, elapsed, all > 0 ? done / all : 0));
    return text != NULL ? text : "";
}

/* ---- drawing ---- */

/* At most `columns` characters: what is too wide would wrap, and the picture would climb. */
static void print_cut(const char *text, int columns) {
    for (int n = 0; *text != '\0' && n < columns; n++) {
        size_t len = utf8_length(text, strlen(text));
        (void)fwrite(text, 1, len > 0 ? len : 1, stderr);
        text += len > 0 ? len : 1;
    }
}

static void erase(struct progress *p) {
    (void)fputs("\r", stderr);
    if (p->rows > 1)
        (void)fprintf(stderr, "\033[%dA", p->rows - 1);
    (void)fputs("\033[J", stderr);
    p->rows = 0;
}

/* A row for each running trial, as far as the screen has room, and the sweep's. */
static void draw(struct progress *p, struct arena *a, const struct value *status) {
    struct winsize w = {.ws_col = 0};
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0;
    int columns = known ? w.ws_col - 1 : COLUMNS_PLAIN;
    int room = known && w.ws_row > 4 ? w.ws_row - 4 : 0;
    const struct value *trials = value_get(status, "trials");
    room = room < ROWS_MAX ? room : ROWS_MAX;
    erase(p);
    for (size_t i = 0; trials != NULL && i < trials->count && p->rows < room; i++) {
        if (!is_running(trials->items[i]))
            continue;
        (void)fputs("  ", stderr);
        print_cut(trial_text(a, status, trials->items[i]), columns - 2);
        (void)fputs("\n", stderr);
        p->rows++;
    }
    (void)fputs(p->colour ? "\033[36m" : "", stderr);
    print_cut(sweep_text(a, p, status), columns);
    (void)fputs(p->colour ? "\033[0m" : "", stderr);
    (void)fflush(stderr);
    p->rows++;
}

/* The sweep's line, and how far the first trials are that run. */
static void print_plain(struct progress *p, struct arena *a, const struct value *status) {
    int64_t now = clock_mono_ns(&clock_system), finished = value_get_int(status, "finished", 0);
    const struct value *trials = value_get(status, "trials");
    bool due = now - p->plain_ns > PLAIN_EVERY_MS * NS_PER_MS;
    if (!due && finished == p->finished)
        return;
    (void)fputs(sweep_text(a, p, status), stderr);
    size_t shown = 0;
    for (size_t i = 0; trials != NULL && i < trials->count && shown < PLAIN_TRIALS_MAX; i++) {
        bool has_begun = value_get_int(trials->items[i], "step", 0) > 0;
        if (is_running(trials->items[i]) && has_begun)
            (void)fprintf(stderr, "%s%s", shown++ == 0 ? "  " : "; ",
                          trial_text(a, status, trials->items[i]));
    }
    (void)fputs("\n", stderr);
    p->plain_ns = now;
    p->finished = finished;
}

void progress_show(struct progress *p, const struct value *status) {
    struct arena a;
    arena_init(&a, (size_t)1 << 20);
    if (p->units_first < 0)
        p->units_first = value_get_real(status, "units", 0);
    if (p->terminal)
        draw(p, &a, status);
    else
        print_plain(p, &a, status);
    arena_release(&a);
}

void progress_end(struct progress *p) {
    if (p->terminal && p->rows > 0)
        erase(p);
}
