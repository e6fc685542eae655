/* Homes, endpoints, files written whole. */
#include "tests/unit/cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "tests/unit/alloc_fail.h"

static char root[64];
static struct err err;

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/trireme-test-path-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static const char *below(const char *name) {
    static char path[PATH_TEXT_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static mode_t mode_of(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0 ? sb.st_mode & 0777 : 0;
}

static void joins(void **state) {
    (void)state;
    char out[PATH_TEXT_MAX], big[PATH_TEXT_MAX];
    assert_int_equal(path_join(out, "a", "b", NULL), STATUS_OK);
    assert_string_equal(out, "a/b");
    assert_int_equal(path_join(out, "/", "b", NULL), STATUS_OK);
    assert_string_equal(out, "/b");
    assert_int_equal(path_join(out, "", "b", NULL), STATUS_OK);
    assert_string_equal(out, "b");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(path_join(out, "a", big, &err), STATUS_TOO_LARGE);
}

static void makes_directories(void **state) {
    (void)state;
    char deep[PATH_TEXT_MAX];
    snprintf(deep, sizeof deep, "%s", below("a//b/c/"));
    assert_int_equal(path_mkdirs(deep, 0700, &err), STATUS_OK);
    assert_int_equal(path_mkdirs(deep, 0700, &err), STATUS_OK);
    assert_int_equal(mode_of(below("a/b/c")), 0700);
    assert_int_equal(path_write(below("file"), "x", 1, 0600, &err), STATUS_OK);
    assert_int_equal(path_mkdirs(below("file"), 0700, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "is not a directory"));
    assert_int_not_equal(path_mkdirs(below("file/x"), 0700, &err), STATUS_OK);
    assert_int_equal(path_mkdirs("", 0700, &err), STATUS_INVALID);
    assert_int_equal(path_mkdirs("/", 0700, &err), STATUS_OK);
}

static void home_follows_the_environment(void **state) {
    (void)state;
    char home[PATH_TEXT_MAX], expected[PATH_TEXT_MAX];
    setenv("TRIREME_HOME", below("home/deep"), 1);
    assert_int_equal(path_home(home, &err), STATUS_OK);
    assert_string_equal(home, below("home/deep"));
    assert_int_equal(mode_of(home), 0700);
    assert_int_equal(chdir(root), 0);
    setenv("TRIREME_HOME", "relative", 1);
    assert_int_equal(path_home(home, &err), STATUS_OK);
    assert_string_equal(home, below("relative"));
    setenv("TRIREME_HOME", "", 1);
    setenv("XDG_STATE_HOME", below("xdg"), 1);
    assert_int_equal(path_home(home, &err), STATUS_OK);
    assert_string_equal(home, below("xdg/trireme"));
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", root, 1);
    assert_int_equal(path_home(home, &err), STATUS_OK);
    snprintf(expected, sizeof expected, "%s/.local/state/trireme", root);
    assert_string_equal(home, expected);
    unsetenv("HOME");
    assert_int_equal(path_home(home, &err), STATUS_INVALID);
}

static void endpoints_are_private(void **state) {
    (void)state;
    char out[PATH_TEXT_MAX], expected[PATH_TEXT_MAX], home[PATH_TEXT_MAX];
    assert_int_equal(path_endpoint(root, "tracker", out, &err), STATUS_OK);
    snprintf(expected, sizeof expected, "ipc://%s/run/tracker.sock", root);
    assert_string_equal(out, expected);
    assert_int_equal(mode_of(below("run")), 0700);
    assert_int_equal(chmod(below("run"), 0755), 0);
    assert_int_equal(path_endpoint(root, "tracker", out, &err), STATUS_DENIED);
    assert_int_equal(path_endpoint(root, "../x", out, &err), STATUS_INVALID);
    assert_int_equal(path_endpoint(root, "", out, &err), STATUS_INVALID);

    snprintf(home, sizeof home, "%s/%0100d", root, 1);
    assert_int_equal(path_endpoint(home, "tracker", out, &err), STATUS_OK);
    assert_int_equal(strncmp(out, "ipc:///tmp/trireme-", 19), 0);
    assert_true(strlen(out) - strlen("ipc://") <= 107);
    char again[PATH_TEXT_MAX], other[PATH_TEXT_MAX];
    assert_int_equal(path_endpoint(home, "tracker", again, &err), STATUS_OK);
    assert_string_equal(out, again);
    char *dir = out + strlen("ipc://");
    *strrchr(dir, '/') = '\0';
    assert_int_equal(mode_of(dir), 0700);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(symlink(root, dir), 0); /* somebody was there first */
    assert_int_equal(path_endpoint(home, "tracker", other, &err), STATUS_DENIED);
    assert_int_equal(unlink(dir), 0);
}

static void network_filesystems_are_known(void **state) {
    (void)state;
    assert_string_equal(path_network_name(0x6969), "NFS");
    assert_string_equal(path_network_name(0x0BD00BD0), "Lustre");
    assert_string_equal(path_network_name(0xFF534D42), "CIFS");
    assert_null(path_network_name(0xEF53));     /* ext4 */
    assert_null(path_network_name(0x01021994)); /* tmpfs */
    bool network = true;
    const char *name = "x";
    assert_int_equal(path_is_network("/proc/no/such/thing", &network, &name, &err), STATUS_OK);
    assert_false(network);
    assert_null(name);
    assert_int_equal(path_is_network("also-missing/x", &network, &name, &err), STATUS_OK);
    assert_int_equal(path_is_network("/missing", &network, &name, &err), STATUS_OK);
}

static size_t entries(const char *dir) {
    size_t n = 0;
    DIR *d = opendir(dir);
    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static void files_are_written_whole(void **state) {
    (void)state;
    char dir[PATH_TEXT_MAX], file[PATH_TEXT_MAX], taken[PATH_TEXT_MAX + 8];
    snprintf(dir, sizeof dir, "%s", below("w"));
    assert_int_equal(path_mkdirs(dir, 0700, &err), STATUS_OK);
    assert_int_equal(path_join(file, dir, "f", &err), STATUS_OK);
    struct buf b = BUF_INIT(1 << 20);
    char big[200000];
    memset(big, 'z', sizeof big);
    assert_int_equal(path_write(file, "old", 3, 0644, &err), STATUS_OK);
    assert_int_equal(path_write(file, big, sizeof big, 0640, &err), STATUS_OK);
    assert_int_equal(mode_of(file), 0640);
    assert_int_equal(path_read(file, &b, &err), STATUS_OK);
    assert_int_equal(b.len, sizeof big);
    assert_memory_equal(b.data, big, sizeof big);
    assert_int_equal(entries(dir), 1); /* no temporary is left */
    assert_int_equal(path_write(below("no/such/f"), "x", 1, 0600, &err), STATUS_NOT_FOUND);
    snprintf(taken, sizeof taken, "%s/taken", dir);
    assert_int_equal(mkdir(taken, 0700), 0);
    assert_int_not_equal(path_write(taken, "x", 1, 0600, &err), STATUS_OK);
    assert_int_equal(entries(dir), 2);
    buf_release(&b);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(path_write("here", "x", 1, 0600, &err), STATUS_OK);
}

/* `-o NAME` where NAME is something already: it stays what it is. */
static void writes_through_what_is_no_file(void **state) {
    (void)state;
    char fifo[PATH_TEXT_MAX], link[PATH_TEXT_MAX], target[PATH_TEXT_MAX], got[8];
    struct stat sb;
    snprintf(fifo, sizeof fifo, "%s", below("fifo"));
    snprintf(link, sizeof link, "%s", below("link"));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink("fifo", link), 0);
    int fd = open(fifo, O_RDONLY | O_NONBLOCK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(path_write(i == 0 ? fifo : link, "abc", 3, 0644, &err), STATUS_OK);
        assert_int_equal(read(fd, got, sizeof got), 3);
        assert_memory_equal(got, "abc", 3);
    }
    assert_int_equal(lstat(fifo, &sb), 0);
    assert_true(S_ISFIFO(sb.st_mode));
    assert_int_equal(lstat(link, &sb), 0);
    assert_true(S_ISLNK(sb.st_mode));
    close(fd);

    snprintf(target, sizeof target, "/dev/fd/%d",
             fd = open(below("open"), O_WRONLY | O_CREAT, 0600));
    assert_int_equal(write(fd, "one,", 4), 4);
    assert_int_equal(path_write(target, "two", 3, 0644, &err), STATUS_OK);
    assert_int_equal(fstat(fd, &sb), 0);
    assert_int_equal(sb.st_size, 7);
    assert_int_equal(sb.st_nlink, 1);
    close(fd);
}

static void writes_what_a_link_names(void **state) {
    (void)state;
    char link[PATH_TEXT_MAX];
    struct stat sb;
    assert_int_equal(path_mkdirs(below("d"), 0700, &err), STATUS_OK);
    snprintf(link, sizeof link, "%s", below("d/there"));
    assert_int_equal(symlink("../named", link), 0); /* to nothing yet, then to a file */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(path_write(link, "abc", 3, 0644, &err), STATUS_OK);
        assert_int_equal(lstat(link, &sb), 0);
        assert_true(S_ISLNK(sb.st_mode));
        assert_int_equal(lstat(below("named"), &sb), 0);
        assert_true(S_ISREG(sb.st_mode));
    }
    snprintf(link, sizeof link, "%s", below("d/loop"));
    assert_int_equal(symlink("loop", link), 0);
    assert_int_equal(path_write(link, "abc", 3, 0644, &err), STATUS_IO);
    assert_int_equal(path_write(below("d"), "abc", 3, 0644, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "is a directory"));
}

static void reads_are_bounded(void **state) {
    (void)state;
    const char *file = below("sized");
    char bytes[100] = {0};
    assert_int_equal(path_write(file, bytes, sizeof bytes, 0600, &err), STATUS_OK);
    struct buf exact = BUF_INIT(100), small = BUF_INIT(99);
    assert_int_equal(path_read(file, &exact, &err), STATUS_OK);
    assert_int_equal(exact.len, 100);
    assert_int_equal(path_read(file, &small, &err), STATUS_TOO_LARGE);
    assert_non_null(strstr(err.text, "sized is larger than 99 bytes"));
    assert_int_equal(path_read(below("none"), &small, &err), STATUS_NOT_FOUND);
    buf_release(&exact);
    buf_release(&small);
}

static void finds_its_own_directory(void **state) {
    (void)state;
    char out[PATH_TEXT_MAX];
    assert_int_equal(path_bindir(out, &err), STATUS_OK);
    assert_int_equal(out[0], '/');
    assert_int_equal(access(out, X_OK), 0);
}

static enum status read_it(void *arg) {
    struct buf b = BUF_INIT(1 << 20);
    enum status st = path_read(arg, &b, &err);
    buf_release(&b);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    char file[PATH_TEXT_MAX], bytes[300000] = {0};
    snprintf(file, sizeof file, "%s", below("alloc"));
    assert_int_equal(path_write(file, bytes, sizeof bytes, 0600, &err), STATUS_OK);
    assert_allocations_failed(alloc_fail_each(read_it, file), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins),
        cmocka_unit_test(makes_directories),
        cmocka_unit_test(home_follows_the_environment),
        cmocka_unit_test(endpoints_are_private),
        cmocka_unit_test(network_filesystems_are_known),
        cmocka_unit_test(files_are_written_whole),
        cmocka_unit_test(writes_through_what_is_no_file),
        cmocka_unit_test(writes_what_a_link_names),
        cmocka_unit_test(reads_are_bounded),
        cmocka_unit_test(finds_its_own_directory),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
