/* The launcher, with a shell script in mpirun's place: what is started, what is said of the dead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/shell/launcher.h"

struct fixture {
    char dir[64], path[PATH_TEXT_MAX];
    struct launcher *l;
    int lost, failed;
    int64_t ranks;
    char reason[4096], token[80];
    struct err err;
};

static void on_lost(void *arg, const char *token, const char *reason) {
    struct fixture *f = arg;
    f->lost++;
    (void)snprintf(f->token, sizeof f->token, "%s", token);
    (void)snprintf(f->reason, sizeof f->reason, "%s", reason);
}

static void on_failed(void *arg, int64_t ranks, const char *reason) {
    struct fixture *f = arg;
    f->failed++;
    f->ranks = ranks;
    (void)snprintf(f->reason, sizeof f->reason, "%s", reason);
}

static void write_script(const struct fixture *f, const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "#!/bin/sh\n%s\n", text);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

/* Three GPUs, two slots each, counted under a CUDA_VISIBLE_DEVICES of the coordinator's own. */
static enum status make(struct fixture *f, enum launch_with with, bool gpus) {
    static const int numbers[] = {0, 1, 2};
    struct placement placement;
    char worker[128];
    (void)snprintf(worker, sizeof worker, "%s/worker", f->dir);
    placement_init(&placement, numbers, 3, "4,5,6", 2);
    struct launcher_options o = {.with = with,
                                 .home = f->dir,
                                 .worker = worker,
                                 .coordinator = "ipc://c",
                                 .tracker = "ipc://t",
                                 .device = gpus ? "cuda" : NULL,
                                 .placement = gpus ? &placement : NULL};
    struct launcher_events e = {.lost = on_lost, .failed = on_failed, .arg = f};
    return launcher_new(&o, &e, &f->l, &f->err);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-launch-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s:%s", f->dir, getenv("PATH"));
    (void)setenv("PATH", f->path, 1);
    *state = f;
    return make(f, LAUNCH_MPIRUN, false) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    launcher_stop(f->l, 1000);
    launcher_destroy(&f->l);
    char *old = strchr(f->path, ':') + 1;
    (void)setenv("PATH", old, 1);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    int rc = system(command);
    free(f);
    return rc;
}

/* Until `count` children have been collected: bounded, and woken by nothing but time. */
static void reap_until(struct fixture *f, int lost, int64_t mono_ns) {
    static const struct timespec nap = {.tv_nsec = 2000000};
    for (int i = 0; i < 5000 && f->lost < lost; i++) {
        launcher_reap(f->l, mono_ns);
        if (f->lost < lost)
            (void)nanosleep(&nap, NULL);
    }
    assert_int_equal(f->lost, lost);
}

static void starts_what_is_missing(void **state) {
    struct fixture *f = *state;
    write_script(f, "worker", "true");
    write_script(f, "mpirun", "exec sleep 60");
    struct demand d = {.ranks = 2, .wanted = 3, .have = 1};
    launcher_tick(f->l, &d, 1, 0);
    assert_int_equal(launcher_alive(f->l), 2);
    launcher_tick(f->l, &d, 1, 0); /* they are on their way */
    assert_int_equal(launcher_alive(f->l), 2);
    launcher_stop(f->l, 1000);
    assert_int_equal(launcher_alive(f->l), 0);
}

static void tells_last_words(void **state) {
    struct fixture *f = *state;
    write_script(f, "worker", "true");
    write_script(f, "mpirun",
                 "echo args \"$@\"; echo \"token $TRIREME_LAUNCH\"; echo it broke >&2; exit 9");
    struct demand d = {.ranks = 4, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "exit code 9"));
    assert_non_null(strstr(f->reason, "-n 4"));
    assert_non_null(strstr(f->reason, "--coordinator ipc://c --tracker ipc://t"));
    assert_non_null(strstr(f->reason, "it broke"));
    assert_non_null(strstr(f->reason, f->token));
    assert_int_equal(f->failed, 0);
}

static void with_gpus(struct fixture *f, enum launch_with with) {
    launcher_destroy(&f->l);
    assert_int_equal(make(f, with, true), STATUS_OK);
    write_script(f, "worker", "true");
}

static void groups_see_their_gpus(void **state) {
    struct fixture *f = *state;
    with_gpus(f, LAUNCH_MPIRUN);
    write_script(f, "mpirun", "echo \"[$*] sees $CUDA_VISIBLE_DEVICES\"; exit 9");
    struct demand d = {.ranks = 2, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "--device cuda --gpu-share 2] sees 4,5"));
    launcher_tick(f->l, &d, 1, 10 * NS_PER_S); /* the first one gave its place back */
    reap_until(f, 2, 10 * NS_PER_S);
    assert_non_null(strstr(f->reason, "sees 4,5"));
}

/* srun sets the variable for each step: ours comes behind it. */
static void steps_see_their_gpus(void **state) {
    struct fixture *f = *state;
    with_gpus(f, LAUNCH_SRUN);
    write_script(f, "srun", "echo \"[$*]\"; exit 9");
    struct demand d = {.ranks = 1, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "--overlap"));
    assert_null(strstr(f->reason, "--exact"));
    assert_non_null(strstr(f->reason, "env CUDA_VISIBLE_DEVICES=4 "));
}

static void full_gpus_make_groups_wait(void **state) {
    struct fixture *f = *state;
    with_gpus(f, LAUNCH_MPIRUN);
    write_script(f, "mpirun", "exec sleep 60");
    struct demand d = {.ranks = 2, .wanted = 9};
    launcher_tick(f->l, &d, 1, 0);
    assert_int_equal(launcher_alive(f->l), 3); /* six slots */
    launcher_stop(f->l, 1000);
    launcher_tick(f->l, &d, 1, 0);
    assert_int_equal(launcher_alive(f->l), 3);
    assert_int_equal(f->failed, 0);
}

static void gives_up_after_five_deaths(void **state) {
    struct fixture *f = *state;
    write_script(f, "worker", "true");
    write_script(f, "mpirun", "exit 1");
    struct demand d = {.ranks = 1, .wanted = 1};
    int64_t mono_ns = 0;
    for (int i = 1; i <= LAUNCHER_DEATHS_MAX; i++) {
        assert_int_equal(f->failed, 0);
        launcher_tick(f->l, &d, 1, mono_ns);
        assert_int_equal(launcher_alive(f->l), 1);
        reap_until(f, i, mono_ns);
        launcher_tick(f->l, &d, 1, mono_ns + 100 * NS_PER_MS); /* too early */
        assert_int_equal(launcher_alive(f->l), 0);
        mono_ns += 10 * NS_PER_S;
    }
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->ranks, 1);
}

static void hello_forgives_earlier_deaths(void **state) {
    struct fixture *f = *state;
    write_script(f, "worker", "true");
    write_script(f, "mpirun", "exit 1");
    struct demand d = {.ranks = 1, .wanted = 1};
    int64_t mono_ns = 0;
    for (int i = 1; i <= 2 * LAUNCHER_DEATHS_MAX; i++) {
        char token[64];
        launcher_tick(f->l, &d, 1, mono_ns);
        (void)snprintf(token, sizeof token, "%ld-%d", (long)getpid(), i);
        assert_true(launcher_hello(f->l, token));
        reap_until(f, i, mono_ns);
        assert_string_equal(f->token, token);
        assert_false(launcher_hello(f->l, token)); /* an orphan */
        mono_ns += 10 * NS_PER_S;
    }
    assert_int_equal(f->failed, 0);
    assert_true(launcher_hello(f->l, "1-1")); /* of an earlier coordinator */
}

static void a_missing_worker_fails_at_once(void **state) {
    struct fixture *f = *state;
    struct demand d = {.ranks = 1, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    assert_int_equal(f->failed, 1);
    assert_non_null(strstr(f->reason, "/worker"));
    assert_null(strstr(f->reason, "openmpi-bin"));
}

static void a_missing_mpirun_fails_at_once(void **state) {
    struct fixture *f = *state;
    write_script(f, "worker", "true");
    (void)setenv("PATH", f->dir, 1);
    struct demand d = {.ranks = 1, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    (void)setenv("PATH", f->path, 1);
    assert_int_equal(f->failed, 1);
    assert_non_null(strstr(f->reason, "mpirun"));
    assert_non_null(strstr(f->reason, "openmpi-bin"));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(starts_what_is_missing),         CASE(tells_last_words),
        CASE(groups_see_their_gpus),          CASE(steps_see_their_gpus),
        CASE(full_gpus_make_groups_wait),     CASE(gives_up_after_five_deaths),
        CASE(hello_forgives_earlier_deaths),  CASE(a_missing_worker_fails_at_once),
        CASE(a_missing_mpirun_fails_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
