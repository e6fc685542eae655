/* trireme metrics: a curve in the terminal, or CSV with every bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/commands.h"
#include "client/cli/curve.h"
#include "client/cli/text.h"

struct metrics_args {
    struct cli_place place;
    bool csv, json;
    int64_t rank, points;
};

/* A field of CSV, RFC 4180: in quotes where it has a comma, a quote or a line's end. */
static const char *csv_field(struct arena *a, const char *text) {
    struct buf b = BUF_INIT(64 << 10);
    if (strpbrk(text, ",\"\r\n") == NULL)
        return text;
    buf_addc(&b, '"');
    for (const char *c = text; *c != '\0'; c++)
        buf_addf(&b, *c == '"' ? "\"%c" : "%c", *c);
    buf_addc(&b, '"');
    const char *field = arena_strdup(a, buf_text(&b));
    buf_release(&b);
    return field != NULL ? field : text;
}

static void print_csv(struct arena *a, const char *name, const struct curve *c, bool title) {
    const char *key = csv_field(a, name);
    if (title)
        (void)printf("key,step,time_ns,value\n");
    for (size_t i = 0; i < c->count; i++)
        (void)printf("%s,%lld,%lld,%.17g\n", key, (long long)c->steps[i], (long long)c->times[i],
                     c->values[i]);
}

/* ---- the drawing: braille cells of 2 × 4 dots a character ---- */

enum { ROWS = 10, COLUMNS_MAX = 200 };

struct canvas {
    int columns;
    uint8_t dots[ROWS][COLUMNS_MAX];
};

static void set_dot(struct canvas *v, int x, int y) {
    static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    v->dots[y / 4][x / 2] |= bit[y % 4][x % 2];
}

/* A straight line in whole dots. */
static void draw_line(struct canvas *v, int x0, int y0, int x1, int y1) {
    int dx = abs(x1 - x0), dy = abs(y1 - y0), n = dx > dy ? dx : dy;
    for (int i = 0; i <= n; i++)
        set_dot(v, x0 + (n > 0 ? (x1 - x0) * i / n : 0), y0 + (n > 0 ? (y1 - y0) * i / n : 0));
}

static void print_cell(uint8_t dots) {
    unsigned code = 0x2800u + dots; /* in UTF-8 */
    (void)printf("%c%c%c", 0xE0 | (int)(code >> 12), 0x80 | (int)((code >> 6) & 0x3F),
                 0x80 | (int)(code & 0x3F));
}

static int terminal_columns(void) {
    struct winsize w = {.ws_col = 0};
    if (isatty(STDOUT_FILENO) != 1 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col < 31)
        return 66;
    return w.ws_col - 14 > COLUMNS_MAX ? COLUMNS_MAX : w.ws_col - 14;
}

static void print_curve(struct cli *cli, const char *key, const struct curve *c) {
    struct canvas canvas = {.columns = terminal_columns()};
    double low = (double)INFINITY, high = (double)-INFINITY;
    for (size_t i = 0; i < c->count; i++) {
        double v = c->values[i];
        if (isfinite(v)) {
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    if (c->count == 0 || low > high) {
        (void)printf("%s: no finite points\n", text_safe(&cli->arena, key));
        return;
    }
    double first = (double)c->steps[0], span = (double)c->steps[c->count - 1] - first;
    double range = high > low ? high - low : 1;
    int last_x = -1, last_y = -1;
    for (size_t i = 0; i < c->count; i++) {
        double v = c->values[i];
        if (!isfinite(v)) {
            last_x = -1; /* a gap in the curve */
            continue;
        }
        double share = ((double)c->steps[i] - first) / (span > 0 ? span : 1);
        int x = (int)(share * (2 * canvas.columns - 1));
        int y = (int)((high - v) / range * (4 * ROWS - 1));
        draw_line(&canvas, last_x < 0 ? x : last_x, last_x < 0 ? y : last_y, x, y);
        last_x = x;
        last_y = y;
    }
    (void)printf("%s  last %.6g at step %lld, min %.6g, max %.6g\n",
                 text_colour(&cli->arena, cli->colour_out, "1", text_safe(&cli->arena, key)),
                 c->values[c->count - 1], (long long)c->steps[c->count - 1], low, high);
    for (int r = 0; r < ROWS; r++) {
        (void)printf("%11.4g ", high - range * r / (ROWS - 1));
        for (int x = 0; x < canvas.columns; x++)
            print_cell(canvas.dots[r][x]);
        (void)printf("\n");
    }
    (void)printf("%11s %-*lld%*lld\n", "step", canvas.columns / 2, (long long)c->steps[0],
                 canvas.columns - canvas.columns / 2, (long long)c->steps[c->count - 1]);
}

static struct value *keys_given(struct arena *a, const struct operands *operands) {
    struct value *keys = value_list(a);
    for (size_t i = 1; i < operands->count; i++)
        value_push(a, keys, value_string(a, operands->items[i]));
    return keys;
}

static bool has_key(const struct value *keys, const char *key) {
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->items[i]->string, key) == 0)
            return true;
    return false;
}

/* The keys that the runs have: all, or those of losses and errors. */
static enum status keys_of_runs(struct arena *a, const struct runs_attempts *of, bool all,
                                struct value **keys, struct err *err) {
    *keys = value_list(a);
    for (size_t r = 0; r < of->count; r++) {
        const struct value *metrics = value_get(of->runs[r], "metrics");
        for (size_t i = 0; metrics != NULL && i < metrics->count; i++) {
            const char *key = value_get_string(metrics->items[i], "key", "");
            bool curve = strstr(key, "loss") != NULL || strstr(key, "error") != NULL;
            if ((all || curve) && value_get_int(metrics->items[i], "rank", 0) == 0 &&
                !has_key(*keys, key))
                value_push(a, *keys, value_string(a, key));
        }
    }
    if ((*keys)->count > 0)
        return STATUS_OK;
    return err_set(err, STATUS_NOT_FOUND, "run %s has no metrics yet",
                   value_get_string(of->runs[of->count - 1], "run", ""));
}

static struct value *curve_as_json(struct arena *a, const struct curve *c) {
    struct value *one = value_map(a), *steps = value_list(a), *values = value_list(a);
    for (size_t i = 0; i < c->count; i++) {
        value_push(a, steps, value_int(a, c->steps[i]));
        value_push(a, values, isfinite(c->values[i]) ? value_real(a, c->values[i]) : value_null(a));
    }
    value_set(a, one, "steps", steps);
    return value_set(a, one, "values", values);
}

static enum status metrics(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct metrics_args args = {.points = 0};
    struct operands operands;
    struct runs_attempts of;
    struct value *keys = NULL, *json = value_map(a);
    struct curve c = {.count = 0};
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    if (args.csv && args.json)
        return err_set(err, STATUS_INVALID, "--csv and --json exclude each other; give one");
    TRY(runs_get_attempts(cli, operands.items[0], &of, err));
    if (!of.whole)
        runs_say_resumed(of.runs[0], "metrics");
    if (operands.count > 1)
        keys = keys_given(a, &operands);
    else
        TRY(keys_of_runs(a, &of, args.csv || args.json, &keys, err));
    struct curve_ask ask = {.of = &of, .rank = args.rank};
    ask.points = args.points > 0 || args.csv || args.json ? args.points : 600;
    for (size_t k = 0; k < keys->count; k++) {
        ask.key = keys->items[k]->string;
        TRY(curve_fetch(cli, &ask, &c, err));
        if (args.csv)
            print_csv(&cli->arena, ask.key, &c, k == 0);
        else if (args.json)
            value_set(a, json, ask.key, curve_as_json(a, &c));
        else
            print_curve(cli, ask.key, &c);
        curve_release(&c);
    }
    if (args.json)
        TRY(cli_print_json(json, err));
out:
    curve_release(&c);
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct metrics_args, csv, "csv", 'c',
                    "print key,step,time_ns,value with 17 digits: every bit"),
    OPTION_ROW_INT(struct metrics_args, points, "points", 'n', "N", 1, 1000000,
                   "at most N points (default: all; 600 for a curve)"),
    OPTION_ROW_INT(struct metrics_args, rank, "rank", 0, "R", 0, 65535,
                   "what rank R recorded (default 0)"),
    CLI_TRACKER_ROWS(struct metrics_args, place),
    OPTION_ROW_FLAG(struct metrics_args, json, "json", 'j',
                    "print {key: {steps, values}}; NaN and Inf as null"),
    OPTION_END};

const struct command command_metrics = {
    .name = "metrics",
    .help = {.usage = "trireme metrics RUN|SWEEP/TRIAL [KEY]... [--csv|--json]",
             .summary = "draw a metric's curve, or print it",
             .details = "Without KEY: every loss and error; with --csv or --json every metric.\n"
                        "SWEEP/TRIAL joins the attempts at a trial that was resumed."},
    .options = rows,
    .kind = OPERANDS_RUN_THEN_METRICS,
    .least = 1,
    .most = OPERANDS_MAX,
    .run = metrics};
