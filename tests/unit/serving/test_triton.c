/* Publishing into a Triton repository: numbers, crashes, what readers see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/path.h"
#include "core/process.h"
#include "serving/export/triton.h"

static char base[64];

static const char *at(const char *leaf) {
    static char path[8][256];
    static int next;
    char *p = path[next++ % 8];
    (void)snprintf(p, sizeof path[0], "%s/%s", base, leaf);
    return p;
}

static bool is_there(const char *leaf) {
    return access(at(leaf), F_OK) == 0;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *f) {
    (void)s, (void)flag, (void)f;
    return remove(path);
}

static int setup(void **state) {
    (void)state;
    (void)snprintf(base, sizeof base, "/tmp/trireme-triton-XXXXXX");
    return mkdtemp(base) == NULL;
}

static int teardown(void **state) {
    (void)state;
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static enum status publish(const char *bytes, int64_t wanted, int64_t *got, struct err *err) {
    struct triton_version t = {.repository = at("repo"),
                               .model = "m",
                               .version = wanted,
                               .onnx = bytes,
                               .onnx_len = strlen(bytes),
                               .run = "01J"};
    return triton_publish(&t, got, err);
}

static void published(const char *bytes, int64_t wanted, int64_t expected) {
    int64_t got = 0;
    struct err err = {0};
    if (publish(bytes, wanted, &got, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(got, expected);
    char leaf[64], pin[64];
    struct buf text = BUF_INIT(1 << 16);
    (void)snprintf(leaf, sizeof leaf, "repo/m/%lld/model.onnx", (long long)expected);
    assert_int_equal(path_read(at(leaf), &text, &err), STATUS_OK);
    assert_string_equal(buf_text(&text), bytes);
    buf_clear(&text);
    assert_int_equal(path_read(at("repo/m/config.pbtxt"), &text, &err), STATUS_OK);
    (void)snprintf(pin, sizeof pin, "versions: [ %lld ]", (long long)expected);
    assert_non_null(strstr(buf_text(&text), pin));
    buf_release(&text);
    assert_false(is_there(".repo.trireme/stage"));
}

static void refused(const char *bytes, int64_t wanted, enum status expected) {
    int64_t got = 0;
    struct err err = {0};
    assert_int_equal(publish(bytes, wanted, &got, &err), expected);
}

static void numbers_rise(void **state) {
    (void)state;
    published("one", 0, 1);
    published("two", 0, 2);
    published("seven", 7, 7);
    published("eight", 0, 8);
    published("three", 3, 3); /* older, but never used: allowed, and it serves now */
    published("nine", 0, 9);
}

static void a_used_number_keeps_its_bytes(void **state) {
    (void)state;
    published("one", 1, 1);
    published("one", 1, 1);
    refused("other", 1, STATUS_CONFLICT);
    assert_int_equal(unlink(at("repo/m/1/model.onnx")), 0);
    assert_int_equal(rmdir(at("repo/m/1")), 0);
    refused("other", 1, STATUS_CONFLICT);
    published("other", 0, 2);
    published("one", 1, 1); /* the same bytes may come back */
}

static void a_foreign_version_is_left_alone(void **state) {
    (void)state;
    assert_int_equal(path_mkdirs(at("repo/m/5"), 0755, NULL), STATUS_OK);
    refused("mine", 5, STATUS_CONFLICT);
    published("mine", 0, 6);
}

/* The number was entered, the rename never came. */
static void a_crash_before_the_rename_is_taken_up(void **state) {
    (void)state;
    published("one", 1, 1);
    published("two", 2, 2);
    assert_int_equal(rename(at("repo/m/2"), at("gone")), 0);
    published("two", 2, 2);
    assert_int_equal(path_mkdirs(at(".repo.trireme/stage/model/9"), 0755, NULL), STATUS_OK);
    assert_int_equal(
        path_write(at(".repo.trireme/stage/model/9/model.onnx"), "half", 4, 0644, NULL), STATUS_OK);
    published("three", 0, 3); /* and the stage of a dead export is cleared */
}

static void one_writer_at_a_time(void **state) {
    (void)state;
    published("one", 0, 1);
    int fd = -1;
    struct err err;
    assert_int_equal(process_lock(at(".repo.trireme/lock"), &fd, &err), STATUS_OK);
    refused("two", 0, STATUS_BUSY);
    close(fd);
    published("two", 0, 2);
}

static void damaged_state_is_refused(void **state) {
    (void)state;
    published("one", 0, 1);
    assert_int_equal(path_write(at(".repo.trireme/m.json"), "{\"highest\":1}", 13, 0644, NULL),
                     STATUS_OK);
    refused("two", 0, STATUS_CORRUPT);
    assert_int_equal(path_write(at(".repo.trireme/m.json"), "{", 1, 0644, NULL), STATUS_OK);
    refused("two", 0, STATUS_INVALID);
    assert_false(is_there("repo/m/2"));
}

static void a_new_configuration_is_always_later(void **state) {
    (void)state;
    published("one", 0, 1);
    struct timespec future[2] = {{.tv_sec = 4000000000}, {.tv_sec = 4000000000}};
    assert_int_equal(utimensat(AT_FDCWD, at("repo/m/config.pbtxt"), future, 0), 0);
    published("two", 0, 2);
    struct stat about;
    assert_int_equal(stat(at("repo/m/config.pbtxt"), &about), 0);
    assert_true(about.st_mtim.tv_sec > 4000000000);
}

static void names_are_checked(void **state) {
    (void)state;
    struct triton_version t = {
        .repository = at("repo"), .model = "../m", .onnx = "x", .onnx_len = 1, .run = "r"};
    int64_t got;
    assert_int_equal(triton_publish(&t, &got, NULL), STATUS_INVALID);
    assert_false(is_there("repo"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_rise, setup, teardown),
        cmocka_unit_test_setup_teardown(a_used_number_keeps_its_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_foreign_version_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crash_before_the_rename_is_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(one_writer_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_state_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_configuration_is_always_later, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
