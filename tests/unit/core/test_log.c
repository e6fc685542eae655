/* Log lines: form, escapes, one write each. */
#include "tests/unit/cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/log.h"
#include "core/path.h"
#include "tests/unit/alloc_fail.h"

static char path[] = "/tmp/trireme-test-log-XXXXXX";
static struct err err;
static struct buf text = {.bytes_max = 16 << 20};

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    buf_release(&text);
    return unlink(path);
}

static const char *lines(void) {
    buf_clear(&text);
    assert_int_equal(path_read(path, &text, &err), STATUS_OK);
    return buf_text(&text);
}

static void begin(const char *level) {
    assert_int_equal(truncate(path, 0), 0);
    setenv("TRIREME_LOG", level, 1);
    assert_int_equal(log_open("room", path, &err), STATUS_OK);
}

static void lines_have_their_form(void **state) {
    (void)state;
    begin("");
    log_line(LOG_INFO, "commit", "requests=%d ms=%d", 12, 3);
    log_line(LOG_WARN, "alone", "%s", "");
    log_line(LOG_DEBUG, "unseen", "k=%d", 1);
    const char *s = lines();
    assert_int_equal(s[4], '-');
    assert_int_equal(s[23], 'Z');
    char *end = strchr(s, '\n');
    assert_non_null(end);
    *end = '\0';
    assert_string_equal(s + 24, " info room commit requests=12 ms=3");
    assert_int_equal(strncmp(end + 25, " warn room alone", 16), 0);
    assert_null(strstr(end + 1, "unseen"));
}

static void levels(void **state) {
    (void)state;
    begin("error");
    log_line(LOG_WARN, "unseen", "k=%d", 1);
    log_line(LOG_ERROR, "seen", "k=%d", 1);
    assert_null(strstr(lines(), "unseen"));
    assert_non_null(strstr(lines(), "seen k=1"));
    begin("debug");
    log_line(LOG_DEBUG, "seen", "k=%d", 1);
    assert_non_null(strstr(lines(), " debug room seen k=1"));
    setenv("TRIREME_LOG", "loud", 1);
    assert_int_equal(log_open("room", path, &err), STATUS_INVALID);
    assert_string_equal(err.text, "TRIREME_LOG must be debug, info, warn or error, not 'loud'");
    unsetenv("TRIREME_LOG");
    assert_int_equal(log_open("room", "/no/such/dir/log", &err), STATUS_NOT_FOUND);
}

static void one_event_is_one_line(void **state) {
    (void)state;
    char big[5000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    begin("");
    log_line(LOG_INFO, "attack", "name=%s", "a\n2026 info room forged\r\x1b[1m");
    log_line(LOG_INFO, "long", "text=%s", big);
    (void)err_set(&err, STATUS_IO, "say \"no\\\"\nplease");
    log_err(LOG_ERROR, "failed", &err);
    const char *s = lines();
    size_t count = 0;
    for (const char *p = s; *p != '\0'; p++)
        count += *p == '\n';
    assert_int_equal(count, 3);
    assert_non_null(strstr(s, "xxx...\n"));
    assert_non_null(strstr(s, " error room failed code=io text=\"say \\\"no\\\\\\\"\\nplease\"\n"));
}

static void quotes_fit(void **state) {
    (void)state;
    char out[LOG_QUOTE_MAX], big[3000];
    assert_string_equal(log_quote("", out), "\"\"");
    memset(big, '"', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    log_quote(big, out);
    assert_true(strlen(out) < LOG_QUOTE_MAX);
    assert_int_equal(out[strlen(out) - 1], '"');
    assert_int_equal(out[strlen(out) - 2], '"');
    assert_int_equal(out[strlen(out) - 3], '\\');
}

#define THREADS 4
#define EACH    500

static void *writer(void *arg) {
    for (int i = 0; i < EACH; i++)
        log_line(LOG_INFO, "thread", "who=%d padding=%0200d end", *(int *)arg, i);
    return NULL;
}

static void threads_do_not_mix(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    int who[THREADS];
    begin("");
    for (int i = 0; i < THREADS; i++) {
        who[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, writer, &who[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    size_t count = 0;
    const char *s = lines();
    for (const char *end; (end = strchr(s, '\n')) != NULL; s = end + 1, count++)
        assert_memory_equal(end - 4, " end", 4);
    assert_int_equal(count, THREADS * EACH);
}

static enum status write_lines(void *arg) {
    (void)arg;
    enum status st = log_open("room", path, NULL);
    log_line(LOG_INFO, "event", "k=%d real=%.17g", 1, 0.1);
    log_err(LOG_ERROR, "failed", &err);
    return st;
}

static void nothing_is_allocated(void **state) {
    (void)state;
    assert_int_equal(alloc_fail_each(write_lines, NULL), 0);
    assert_int_equal(log_open("room", NULL, &err), STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_their_form), cmocka_unit_test(levels),
        cmocka_unit_test(one_event_is_one_line), cmocka_unit_test(quotes_fit),
        cmocka_unit_test(threads_do_not_mix),    cmocka_unit_test(nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
