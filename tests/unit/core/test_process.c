/* Children: starting, failing to start, stopping; locks. */
#include "tests/unit/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/path.h"
#include "core/process.h"
#include "tests/unit/alloc_fail.h"

static char root[64];
static struct err err;

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/trireme-test-process-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static const char *log_path(void) {
    static char path[PATH_TEXT_MAX];
    snprintf(path, sizeof path, "%s/log", root);
    return path;
}

/* Blocks until the child has ended, leaving it for process_poll to reap. */
static int exit_code_of(pid_t pid) {
    siginfo_t info;
    bool ended = false;
    int code = -1;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(process_poll(pid, &ended, &code, &err), STATUS_OK);
    assert_true(ended);
    return code;
}

static pid_t started(const struct process_spec *spec) {
    pid_t pid = 0;
    if (process_start(spec, &pid, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return pid;
}

static pid_t shell(const char *script, bool own_group) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct process_spec spec = {.argv = argv, .log_path = log_path(), .own_group = own_group};
    unlink(log_path());
    return started(&spec);
}

static const char *log_text(void) {
    static struct buf b = {.bytes_max = 1 << 16};
    buf_clear(&b);
    if (path_read(log_path(), &b, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return buf_text(&b);
}

static void exit_codes(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(shell("exit 7", false)), 7);
    assert_int_equal(exit_code_of(shell("kill -9 $$", false)), 128 + SIGKILL);
    bool ended;
    int code;
    assert_int_equal(process_poll(getppid(), &ended, &code, &err), STATUS_NOT_FOUND);
}

static void poll_does_not_wait(void **state) {
    (void)state;
    pid_t pid = shell("exec sleep 100", false);
    bool ended = true;
    int code;
    assert_int_equal(process_poll(pid, &ended, &code, &err), STATUS_OK);
    assert_false(ended);
    process_stop(pid, false, 0);
    assert_int_equal(process_poll(pid, &ended, &code, &err), STATUS_NOT_FOUND); /* reaped */
}

static void a_failed_exec_is_reported(void **state) {
    (void)state;
    const char *const missing[] = {"/no/such/program", NULL};
    const char *const nowhere[] = {"no-such-program-in-path", NULL};
    const char *const forbidden[] = {"/dev/null", NULL};
    pid_t pid;
    struct process_spec spec = {.argv = missing};
    assert_int_equal(process_start(&spec, &pid, &err), STATUS_NOT_FOUND);
    assert_string_equal(err.text, "start /no/such/program: execute: No such file or directory");
    spec.argv = nowhere;
    assert_int_equal(process_start(&spec, &pid, &err), STATUS_NOT_FOUND);
    spec.argv = forbidden;
    assert_int_equal(process_start(&spec, &pid, &err), STATUS_DENIED);
    spec.workdir = "/no/such/dir";
    assert_int_equal(process_start(&spec, &pid, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "change directory"));
    spec.log_path = "/no/such/dir/log";
    assert_int_equal(process_start(&spec, &pid, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "open /no/such/dir/log"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void environment_output_and_workdir(void **state) {
    (void)state;
    setenv("TEST_ONE", "ours", 1);
    setenv("TEST_TWO", "ours", 1);
    const char *const argv[] = {
        "sh", "-c", "echo $TEST_ONE $TEST_TWO $TEST_NEW; pwd; echo bad >&2; wc -c", NULL};
    const char *const env[] = {"TEST_TWO=theirs", "TEST_NEW=new", NULL};
    struct process_spec spec = {
        .argv = argv, .env = env, .log_path = log_path(), .workdir = "/", .die_with_parent = true};
    unlink(log_path());
    assert_int_equal(exit_code_of(started(&spec)), 0);
    assert_string_equal(log_text(), "ours theirs new\n/\nbad\n0\n");
}

static void stdout_goes_where_it_is_told(void **state) {
    (void)state;
    int fds[2];
    char text[8] = "";
    const char *const argv[] = {"sh", "-c", "echo out; echo err >&2", NULL};
    assert_int_equal(pipe(fds), 0);
    struct process_spec spec = {.argv = argv, .log_path = log_path(), .stdout_fd = fds[1]};
    unlink(log_path());
    assert_int_equal(exit_code_of(started(&spec)), 0);
    assert_int_equal(read(fds[0], text, sizeof text - 1), 4);
    assert_string_equal(text, "out\n");
    assert_string_equal(log_text(), "err\n");
    close(fds[0]);
    close(fds[1]);
}

static void signals_start_afresh(void **state) {
    (void)state;
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, &before);
    signal(SIGINT, SIG_IGN);
    assert_int_equal(exit_code_of(shell("kill -TERM $$; exit 3", false)), 128 + SIGTERM);
    assert_int_equal(exit_code_of(shell("kill -INT $$; exit 3", false)), 128 + SIGINT);
    signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* A child that tells through a fifo that it runs (no sleeping until it does), then waits for ever
 * without a child of its own. */
static pid_t ready_shell(const char *trap, bool own_group) {
    char ready[PATH_TEXT_MAX], never[PATH_TEXT_MAX], script[4 * PATH_TEXT_MAX], line[8] = "";
    snprintf(ready, sizeof ready, "%s/ready", root);
    snprintf(never, sizeof never, "%s/never", root);
    unlink(ready);
    unlink(never);
    assert_int_equal(mkfifo(ready, 0600), 0);
    assert_int_equal(mkfifo(never, 0600), 0);
    snprintf(script, sizeof script, "%s; exec 3<>%s; echo > %s; while :; do read x <&3; done", trap,
             never, ready);
    pid_t pid = shell(script, own_group);
    FILE *f = fopen(ready, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    return pid;
}

static void stop_asks_then_kills(void **state) {
    (void)state;
    int64_t t0 = clock_mono_ns(&clock_system);
    process_stop(ready_shell("trap 'echo bye; exit 0' TERM", true), true, 60000);
    assert_string_equal(log_text(), "bye\n");
    assert_true(clock_mono_ns(&clock_system) - t0 < 50 * NS_PER_S);
    pid_t deaf = ready_shell("trap '' TERM", true);
    process_stop(deaf, true, 50);
    assert_int_equal(kill(deaf, 0), -1);
    process_stop(deaf, true, 50); /* it is gone: no harm */
    process_stop(0, true, 0);
    process_stop(-1, false, 0);
}

static void own_group_is_a_group(void **state) {
    (void)state;
    pid_t pid = ready_shell(":", true);
    assert_int_equal(getpgid(pid), pid);
    process_stop(pid, true, 0);
    pid = ready_shell(":", false);
    assert_int_equal(getpgid(pid), getpgrp());
    process_stop(pid, false, 0);
}

static void locks_exclude(void **state) {
    (void)state;
    char path[PATH_TEXT_MAX], expected[PATH_TEXT_MAX + 64];
    int fd = -1, other = -1;
    snprintf(path, sizeof path, "%s/pid", root);
    assert_int_equal(process_lock_holder(path), 0);
    assert_int_equal(process_lock(path, &fd, &err), STATUS_OK);
    assert_int_equal(process_lock_holder(path), getpid());
    assert_int_equal(process_lock(path, &other, &err), STATUS_BUSY);
    snprintf(expected, sizeof expected, "%s is held by process %ld", path, (long)getpid());
    assert_string_equal(err.text, expected);
    assert_int_equal(process_lock_holder(path), getpid()); /* asking did not break it */
    close(fd);
    assert_int_equal(process_lock_holder(path), 0);
    assert_int_equal(process_lock(path, &fd, &err), STATUS_OK);
    close(fd);
    assert_int_equal(process_lock("/no/such/dir/pid", &fd, &err), STATUS_NOT_FOUND);
}

static void a_lock_dies_with_its_process(void **state) {
    (void)state;
    char path[PATH_TEXT_MAX];
    int fds[2], fd;
    char c;
    snprintf(path, sizeof path, "%s/pid2", root);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool ok = process_lock(path, &fd, NULL) == STATUS_OK && write(fds[1], "x", 1) == 1;
        while (ok)
            pause();
        _exit(1);
    }
    assert_int_equal(read(fds[0], &c, 1), 1);
    assert_int_equal(process_lock_holder(path), pid);
    assert_int_equal(process_lock(path, &fd, &err), STATUS_BUSY);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(process_lock(path, &fd, &err), STATUS_OK);
    close(fd);
    close(fds[0]);
    close(fds[1]);
}

static enum status start_and_wait(void *arg) {
    (void)arg;
    static const char *const argv[] = {"true", NULL};
    struct process_spec spec = {.argv = argv};
    pid_t pid;
    enum status st = process_start(&spec, &pid, NULL);
    if (st == STATUS_OK)
        waitpid(pid, NULL, 0);
    return st;
}

static void survives_failed_allocations(void **state) {
    (void)state;
    assert_allocations_failed(alloc_fail_each(start_and_wait, NULL), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(poll_does_not_wait),
        cmocka_unit_test(a_failed_exec_is_reported),
        cmocka_unit_test(environment_output_and_workdir),
        cmocka_unit_test(stdout_goes_where_it_is_told),
        cmocka_unit_test(signals_start_afresh),
        cmocka_unit_test(stop_asks_then_kills),
        cmocka_unit_test(own_group_is_a_group),
        cmocka_unit_test(locks_exclude),
        cmocka_unit_test(a_lock_dies_with_its_process),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
