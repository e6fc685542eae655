/* What the daemons' mains share: the command line, the state directory, endpoints, keys. */
#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/daemon.h"

struct args {
    struct daemon_options common;
    int64_t n;
};

static const struct option_row rows[] = {
    DAEMON_ROWS_PLACE(struct args, common),
    OPTION_ROW_INT(struct args, n, "n", 0, "N", 0, 9, "a number"),
    DAEMON_ROW_TRACKER_KEY(struct args, common),
    DAEMON_ROW_COORDINATOR_KEY(struct args, common),
    DAEMON_ROWS_SERVICE(struct args, common),
    OPTION_END};
static const struct command_help help = {.usage = "trireme-test [options]", .summary = "tests"};
static const struct daemon self = {
    .name = "trireme-test", .room = "test", .rows = rows, .help = &help};

static char dir[64];

static enum status begin(struct args *a, struct err *err, char *one, char *two) {
    char *argv[] = {(char[]){"trireme-test"}, one, two, NULL};
    *a = (struct args){.n = 1};
    return daemon_begin(&self, two != NULL ? 3 : one != NULL ? 2 : 1, argv, &a->common, err);
}

static void a_command_line_fills_both_structs(void **state) {
    (void)state;
    struct args a;
    struct err err;
    char n[] = "--n=7", e[] = "-eipc://here", fd[] = "--ready-fd=5", word[] = "word",
         odd[] = "--odd";
    assert_int_equal(begin(&a, &err, n, e), STATUS_OK);
    assert_int_equal(a.n, 7);
    assert_int_equal(a.common.ready_fd, -1);
    assert_int_equal(a.common.endpoints.count, 1);
    assert_string_equal(a.common.endpoints.items[0], "ipc://here");
    assert_false(a.common.done);
    assert_int_equal(begin(&a, &err, fd, NULL), STATUS_OK);
    assert_int_equal(a.common.ready_fd, 5);
    assert_int_equal(begin(&a, &err, word, NULL), STATUS_INVALID);
    assert_string_equal(err.text, "'word' is not an option; trireme-test takes no operand");
    assert_int_equal(begin(&a, &err, odd, NULL), STATUS_INVALID);
    assert_non_null(strstr(err.text, "--odd"));
}

static void the_home_is_made_for_its_owner_alone(void **state) {
    (void)state;
    struct err err;
    char path[128], home[PATH_TEXT_MAX];
    struct stat about;
    (void)snprintf(path, sizeof path, "%s/a/home", dir);
    struct daemon_options o = {.home = path};
    assert_int_equal(daemon_home(&self, &o, home, &err), STATUS_OK);
    assert_string_equal(home, path);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0700);
}

static void endpoints_have_a_maximum(void **state) {
    (void)state;
    struct err err;
    struct daemon_options o = {.endpoints = {.items = {"a", "b", "c"}, .count = 3}};
    const char *out[3];
    size_t count = 9;
    assert_int_equal(daemon_endpoints(&o, 3, out, &count, &err), STATUS_OK);
    assert_int_equal(count, 3);
    assert_string_equal(out[2], "c");
    assert_int_equal(daemon_endpoints(&o, 2, out, &count, &err), STATUS_INVALID);
    assert_string_equal(err.text, "3 endpoints; at most 2 may be given");
}

static void keys_only_where_they_are_asked_for(void **state) {
    (void)state;
    struct err err;
    struct daemon_keys k;
    char file[128];
    const char *public_key = "0000000000000000000000000000000000000000";
    struct daemon_options o = {.tracker_key = public_key};
    assert_int_equal(daemon_keys_load(&o, &k, &err), STATUS_OK);
    assert_true(k.own == NULL && k.tracker == NULL && k.coordinator == NULL);
    (void)snprintf(file, sizeof file, "%s/us.secret", dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    (void)fprintf(f, "%s\n%s\n", public_key, public_key);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(file, 0600), 0);
    o.keys = file;
    o.allowed = dir;
    assert_int_equal(daemon_keys_load(&o, &k, &err), STATUS_OK);
    assert_string_equal(k.own->allowed_dir, dir);
    assert_null(k.own->server_key);
    assert_string_equal(k.tracker->server_key, public_key);
    assert_null(k.tracker->allowed_dir); /* for those that come to us alone */
    assert_null(k.coordinator);
    assert_int_equal(chmod(file, 0644), 0);
    assert_int_equal(daemon_keys_load(&o, &k, &err), STATUS_DENIED);
}

static void the_last_words_give_the_exit_code(void **state) {
    (void)state;
    struct err err = {.status = STATUS_BUSY, .text = "taken"};
    struct daemon_options o = {0};
    assert_int_equal(daemon_end(&self, &o, STATUS_OK, &err), 0);
    assert_int_equal(daemon_end(&self, &o, STATUS_BUSY, &err), status_exit_code(STATUS_BUSY));
}

int main(void) {
    (void)snprintf(dir, sizeof dir, "/tmp/trireme-daemon-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_line_fills_both_structs),
        cmocka_unit_test(the_home_is_made_for_its_owner_alone),
        cmocka_unit_test(endpoints_have_a_maximum),
        cmocka_unit_test(keys_only_where_they_are_asked_for),
        cmocka_unit_test(the_last_words_give_the_exit_code),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? failed : 1;
}
