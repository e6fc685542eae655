/* The picture of a sweep on a terminal: one row for each trial that runs, drawn again in its place, cut where it
 * would wrap, and gone in the end. Standard error is a pseudo-terminal here. */
#include "tests/unit/cmocka_all.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/progress.h"
#include "core/json.h"

static struct arena a;
static struct cli cli;
static int terminal = -1, saved = -1;

/* Rows and columns of the terminal that standard error is; false: this machine has none to give. */
static bool open_terminal(unsigned short rows, unsigned short columns) {
    int end = -1;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (openpty(&terminal, &end, NULL, NULL, &size) != 0) {
        (void)printf("skipped: no pseudo-terminal\n");
        return false;
    }
    saved = dup(STDERR_FILENO);
    assert_true(saved >= 0 && dup2(end, STDERR_FILENO) == STDERR_FILENO);
    (void)close(end);
    assert_int_equal(fcntl(terminal, F_SETFL, O_NONBLOCK), 0);
    return true;
}

/* What was drawn since the last call, without the carriage returns that a terminal puts before a newline. */
static const char *drawn(void) {
    static char text[1 << 16];
    size_t len = 0;
    ssize_t n;
    (void)fflush(stderr);
    while ((n = read(terminal, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    for (char *c; (c = strstr(text, "\r\n")) != NULL;)
        memmove(c, c + 1, strlen(c));
    return text;
}

static void close_terminal(void) {
    (void)drawn();
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    (void)close(terminal);
}

static int setup(void **state) {
    (void)state;
    arena_init(&a, (size_t)16 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&a);
    return 0;
}

static const struct value *status_of(const char *trials) {
    const char *text = arena_printf(&a,
                                    "{\"name\":\"digits\",\"planned\":4,\"finished\":1,\"running\":"
                                    "2,\"failed\":0,\"max_time\":10,"
                                    "\"units\":14,\"time_metric\":\"epochs\",\"metric\":\"val_"
                                    "error\",\"smaller_is_better\":true,"
                                    "\"best\":{\"metric\":0.25,\"trial\":1},\"trials\":[%s]}",
                                    trials);
    struct value *v = NULL;
    assert_int_equal(json_parse(&a, text, strlen(text), "status", &v, NULL), STATUS_OK);
    return v;
}

#define ENDED                                                                                      \
    "{\"trial\":1,\"state\":\"completed\",\"units\":10,\"metric\":0.25,\"metrics\":{\"val_"        \
    "error\":0.25}}"
#define RUNNING(n, units)                                                                          \
    "{\"trial\":" n ",\"state\":\"running\",\"units\":" units                                      \
    ",\"step\":9,\"metrics\":{\"lr\":0.1,\"val_loss\":0.5,\"val_error\":0.125},\"best\":{"         \
    "\"metric\":0.0625}}"

static void a_row_for_each_running_trial(void **state) {
    (void)state;
    struct progress p;
    if (!open_terminal(40, 200))
        skip();
    progress_begin(&p, &cli);
    progress_show(&p, status_of(ENDED "," RUNNING("2", "3.25") "," RUNNING("3", "0.5")));
    char first[4096];
    (void)snprintf(first, sizeof first, "%s", drawn());
    progress_show(&p, status_of(ENDED "," RUNNING("3", "1")));
    char second[4096];
    (void)snprintf(second, sizeof second, "%s", drawn());
    progress_end(&p);
    char end[4096];
    (void)snprintf(end, sizeof end, "%s", drawn());
    close_terminal();

    static const char rows[] =
        "\r\033[J"
        "  trial 2: 3.2/10 epochs, val_error 0.125, val_loss 0.5, best 0.0625\n"
        "  trial 3: 0.5/10 epochs, val_error 0.125, val_loss 0.5, best 0.0625\n"
        "digits  1/4 trials, 2 running  best 0.25 (trial 1)  elapsed ";
    assert_memory_equal(first, rows, strlen(rows));
    static const char again[] = "\r\033[2A\033[J" /* up to the first row, the rest erased */
                                "  trial 3: 1.0/10 epochs, val_error 0.125";
    assert_null(strchr(strstr(first, "elapsed"), '\n')); /* the cursor stays in the last row */
    assert_string_equal(end, "\r\033[1A\033[J");
    assert_memory_equal(second, again, strlen(again));
}

/* The longest row of the picture, in bytes. */
static size_t widest(const char *text) {
    size_t most = 0;
    for (const char *row = strstr(text, "\033[J") + 3; row != NULL;) {
        size_t n = strcspn(row, "\n");
        most = n > most ? n : most;
        row = row[n] != '\0' ? row + n + 1 : NULL;
    }
    return most;
}

static void what_is_too_wide_or_too_much_is_cut(void **state) {
    (void)state;
    struct progress p;
    if (!open_terminal(6, 30))
        skip();
    progress_begin(&p, &cli);
    progress_show(&p, status_of(RUNNING("1", "1") "," RUNNING("2", "1") "," RUNNING("3", "1")));
    char text[4096];
    (void)snprintf(text, sizeof text, "%s", drawn());
    close_terminal();
    assert_int_equal(widest(text), 29); /* the last column stays free: a full row would wrap */
    assert_int_equal(p.rows, 3);        /* two trials and the sweep in six rows */
    assert_non_null(strstr(text, "trial 2:"));
    assert_null(strstr(text, "trial 3:"));
}

static void names_do_not_reach_the_terminal_raw(void **state) {
    (void)state;
    struct progress p;
    if (!open_terminal(40, 200))
        skip();
    struct value *status = value_copy(&a, status_of(RUNNING("1", "1")));
    value_set_string(&a, status, "name", "x\033[2Jy");
    progress_begin(&p, &cli);
    progress_show(&p, status);
    char text[4096];
    (void)snprintf(text, sizeof text, "%s", drawn());
    close_terminal();
    assert_null(strstr(text, "\033[2J"));
    assert_non_null(strstr(text, "x\\x1b[2Jy  "));
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_row_for_each_running_trial),
        CASE(what_is_too_wide_or_too_much_is_cut),
        CASE(names_do_not_reach_the_terminal_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
