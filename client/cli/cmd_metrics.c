/* trireme metrics: a curve in the terminal, or CSV with every bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/commands.h"
#include "client/cli/text.h"
#include "core/bytes.h"

struct metrics_args {
    struct cli_place place;
    bool csv, json;
    int64_t rank, points;
};

struct curve {
    size_t count;
    const uint8_t *steps, *times, *values; /* little-endian columns */
};

static int64_t step_at(const struct curve *c, size_t i) {
    return (int64_t)bytes_get_u64(c->steps + 8 * i);
}
static double value_at_point(const struct curve *c, size_t i) {
    return bytes_get_f64(c->values + 8 * i);
}

/* Which points of which series. */
struct series {
    const char *run, *key;
    int64_t rank, points; /* points 0: all */
};

/* *out points into the reply. */
static enum status fetch(struct cli *cli, const struct series *series, struct session_reply *reply,
                         struct curve *out, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *request = message_request(a, "run.metrics", NULL);
    value_set_string(a, request, "run", series->run);
    value_set_string(a, request, "key", series->key);
    value_set_int(a, request, "rank", series->rank);
    if (series->points > 0)
        value_set_int(a, request, "points", series->points);
    TRY(session_call(cli->tracker, a,
                     &(struct session_ask){.request = request, .timeout_ms = CLI_TIMEOUT_MS}, reply,
                     err));
    out->count = (size_t)value_get_int(reply->header, "count", 0);
    const struct net_message *m = &reply->message;
    if (m->frame_count < 3 || m->frames[0].len < out->count * 8 ||
        m->frames[1].len < out->count * 8 || m->frames[2].len < out->count * 8)
        return err_set(err, STATUS_CORRUPT,
                       "the tracker sent %zu columns, too short for %zu points", m->frame_count,
                       out->count);
    out->steps = m->frames[0].data;
    out->times = m->frames[1].data;
    out->values = m->frames[2].data;
out:
    return st;
}

static void print_csv(const char *key, const struct curve *c, bool title) {
    if (title)
        (void)printf("key,step,time_ns,value\n");
    for (size_t i = 0; i < c->count; i++)
        (void)printf("%s,%lld,%lld,%.17g\n", key, (long long)step_at(c, i),
                     (long long)(int64_t)bytes_get_u64(c->times + 8 * i), value_at_point(c, i));
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
        double v = value_at_point(c, i);
        if (isfinite(v)) {
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    if (c->count == 0 || low > high) {
        (void)printf("%s: no finite points\n", key);
        return;
    }
    double first = (double)step_at(c, 0), span = (double)step_at(c, c->count - 1) - first;
    double range = high > low ? high - low : 1;
    int last_x = -1, last_y = -1;
    for (size_t i = 0; i < c->count; i++) {
        double v = value_at_point(c, i);
        if (!isfinite(v)) {
            last_x = -1; /* a gap in the curve */
            continue;
        }
        double share = ((double)step_at(c, i) - first) / (span > 0 ? span : 1);
        int x = (int)(share * (2 * canvas.columns - 1));
        int y = (int)((high - v) / range * (4 * ROWS - 1));
        draw_line(&canvas, last_x < 0 ? x : last_x, last_x < 0 ? y : last_y, x, y);
        last_x = x;
        last_y = y;
    }
    (void)printf("%s  last %.6g at step %lld, min %.6g, max %.6g\n",
                 text_colour(&cli->arena, cli->colour_out, "1", key),
                 value_at_point(c, c->count - 1), (long long)step_at(c, c->count - 1), low, high);
    for (int r = 0; r < ROWS; r++) {
        (void)printf("%11.4g ", high - range * r / (ROWS - 1));
        for (int x = 0; x < canvas.columns; x++)
            print_cell(canvas.dots[r][x]);
        (void)printf("\n");
    }
    (void)printf("%11s %-*lld%*lld\n", "step", canvas.columns / 2, (long long)step_at(c, 0),
                 canvas.columns - canvas.columns / 2, (long long)step_at(c, c->count - 1));
}

static struct value *keys_given(struct arena *a, const struct operands *operands) {
    struct value *keys = value_list(a);
    for (size_t i = 1; i < operands->count; i++)
        value_push(a, keys, value_string(a, operands->items[i]));
    return keys;
}

/* The keys that the run has: all, or those of losses and errors. */
static enum status keys_of_run(struct cli *cli, const char *run, bool all, struct value **keys,
                               struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "run.get", NULL);
    *keys = value_list(a);
    value_set_string(a, request, "run", run);
    TRY(cli_ask(cli, request, &reply, err));
    const struct value *metrics = value_at(reply, "run.metrics");
    for (size_t i = 0; metrics != NULL && i < metrics->count; i++) {
        const char *key = value_get_string(metrics->items[i], "key", "");
        bool curve = strstr(key, "loss") != NULL || strstr(key, "error") != NULL;
        if ((all || curve) && value_get_int(metrics->items[i], "rank", 0) == 0)
            value_push(a, *keys, value_string(a, key));
    }
    if ((*keys)->count == 0)
        st = err_set(err, STATUS_NOT_FOUND, "run %s has no metrics yet", run);
out:
    return st;
}

static enum status metrics(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct metrics_args args = {.points = 0};
    struct operands operands;
    struct value *keys = NULL, *json = value_map(a);
    struct session_reply reply = {.header = NULL};
    char run[27];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "run", operands.items[0], run, err));
    if (operands.count > 1)
        keys = keys_given(a, &operands);
    else
        TRY(keys_of_run(cli, run, args.csv || args.json, &keys, err));
    int64_t points = args.points > 0 || args.csv || args.json ? args.points : 600;
    for (size_t k = 0; k < keys->count; k++) {
        struct curve c = {.count = 0};
        const char *key = keys->items[k]->string;
        struct series series = {.run = run, .key = key, .rank = args.rank, .points = points};
        TRY(fetch(cli, &series, &reply, &c, err));
        if (args.csv) {
            print_csv(key, &c, k == 0);
        } else if (args.json) {
            struct value *one = value_map(a), *steps = value_list(a), *values = value_list(a);
            for (size_t i = 0; i < c.count; i++) {
                double v = value_at_point(&c, i);
                value_push(a, steps, value_int(a, step_at(&c, i)));
                value_push(a, values, isfinite(v) ? value_real(a, v) : value_null(a));
            }
            value_set(a, one, "steps", steps);
            value_set(a, one, "values", values);
            value_set(a, json, key, one);
        } else {
            print_curve(cli, key, &c);
        }
        session_reply_release(&reply);
    }
    if (args.json)
        TRY(cli_print_json(json, err));
out:
    session_reply_release(&reply);
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
    .help = {.usage = "trireme metrics RUN [KEY]... [--csv|--json]",
             .summary = "draw a metric's curve, or print it",
             .details = "Without KEY: every loss and error; with --csv or --json every metric."},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = OPERANDS_MAX,
    .run = metrics};
