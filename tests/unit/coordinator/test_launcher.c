/* The launcher, with a shell script in mpirun's place: what is started, what is said of the dead, who
 * is ended. This program is its own keeper. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/shell/keeper.h"
#include "coordinator/shell/launcher.h"
#include "core/process.h"

struct fixture {
    char dir[64], path[PATH_TEXT_MAX];
    struct launcher *l;
    int lost, failed, lock;
    bool known;
    enum status why;
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

static bool is_known(void *arg, const char *token) {
    const struct fixture *f = arg;
    (void)token;
    return f->known;
}

static void on_failed(void *arg, int64_t ranks, enum status why, const char *reason) {
    struct fixture *f = arg;
    f->failed++;
    f->why = why;
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
                                 .keeper = "/proc/self/exe",
                                 .worker = worker,
                                 .coordinator = "ipc://c",
                                 .tracker = "ipc://t",
                                 .device = gpus ? "cuda" : NULL,
                                 .placement = gpus ? &placement : NULL};
    struct launcher_events e = {.lost = on_lost, .failed = on_failed, .known = is_known, .arg = f};
    return launcher_new(&o, &e, &f->l, &f->err);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-launch-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    char run[96], lock[128];
    (void)snprintf(run, sizeof run, "%s/run", f->dir);
    (void)snprintf(lock, sizeof lock, "%s/coordinator.lock", run);
    if (mkdir(run, 0700) != 0 || process_lock(lock, &f->lock, &f->err) != STATUS_OK)
        return -1;
    f->known = true;
    (void)snprintf(f->path, sizeof f->path, "%s:%s", f->dir, getenv("PATH"));
    (void)setenv("PATH", f->path, 1);
    *state = f;
    return make(f, LAUNCH_MPIRUN, false) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    launcher_stop(f->l, 1000);
    launcher_destroy(&f->l);
    if (f->lock >= 0)
        (void)close(f->lock);
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
    for (int i = 0; i < 60000 && f->lost < lost; i++) {
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
    assert_int_equal(f->why, STATUS_NOT_FOUND);
}

/* ---- ends ---- */

/* Until there is no process with this text in its arguments: bounded. */
static void await_none(const char *text) {
    static const struct timespec nap = {.tv_nsec = 20000000};
    char command[256];
    (void)snprintf(command, sizeof command,
                   "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done 2>/dev/null | "
                   "grep -v grep | grep -q '%s'",
                   text);
    int rc = 0;
    for (int i = 0; i < 20000 && rc == 0; i++) {
        rc = system(command);
        if (rc == 0)
            (void)nanosleep(&nap, NULL);
    }
    assert_int_not_equal(rc, 0);
}

/* A name that only this test's processes have; "[x]…" in a pattern does not find itself. */
static void mark(const struct fixture *f, char name[64], char pattern[64]) {
    const char *unique = f->dir + strlen("/tmp/trireme-launch-");
    (void)snprintf(name, 64, "deaf%s", unique);
    (void)snprintf(pattern, 64, "[d]eaf%s", unique);
}

/* A rank that has left its process group, ignores all it can, and makes the file `up`. */
#define RANK "setsid sh -c 'trap \"\" TERM INT HUP; : > %s/up; while :; do sleep 0.1; done' %s &\n"

/* An mpirun that ignores as much. */
static void write_deaf(const struct fixture *f, const char *name) {
    char text[512];
    (void)snprintf(text, sizeof text, "trap '' TERM INT HUP\n" RANK "while :; do sleep 0.1; done",
                   f->dir, name);
    write_script(f, "worker", "true");
    write_script(f, "mpirun", text);
}

static void await_up(const struct fixture *f) {
    static const struct timespec nap = {.tv_nsec = 5000000};
    char up[96];
    (void)snprintf(up, sizeof up, "%s/up", f->dir);
    for (int i = 0; i < 4000 && access(up, F_OK) != 0; i++)
        (void)nanosleep(&nap, NULL);
    assert_int_equal(access(up, F_OK), 0);
}

static void start_deaf(struct fixture *f, char pattern[64]) {
    char name[64];
    mark(f, name, pattern);
    write_deaf(f, name);
    struct demand d = {.ranks = 2, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    assert_int_equal(launcher_alive(f->l), 1);
    await_up(f);
}

static void what_ignores_term_is_killed_with_its_ranks(void **state) {
    struct fixture *f = *state;
    char pattern[64];
    start_deaf(f, pattern);
    launcher_stop(f->l, 10000);
    assert_int_equal(launcher_alive(f->l), 0);
    await_none(pattern);
}

/* As when mpirun is killed: a rank of it is left, in a session of its own. */
static void what_mpirun_leaves_behind_is_killed(void **state) {
    struct fixture *f = *state;
    char name[64], pattern[64], text[512];
    mark(f, name, pattern);
    (void)snprintf(text, sizeof text, RANK "until [ -e %s/up ]; do sleep 0.01; done; kill -KILL $$",
                   f->dir, name, f->dir);
    write_script(f, "worker", "true");
    write_script(f, "mpirun", text);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0); /* the keeper must do it by itself */
    struct demand d = {.ranks = 2, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "exit code 137"));
    await_none(pattern);
}

static pid_t keeper_of(const struct fixture *f, const char *token) {
    char lock[160];
    (void)snprintf(lock, sizeof lock, "%s/run/group-%s.lock", f->dir, token);
    return process_lock_holder(lock);
}

static void token_of_first(char token[64]) {
    (void)snprintf(token, 64, "%ld-1", (long)getpid());
}

/* Killed with all that it had started, whatever session that is in. */
static void a_killed_keeper_leaves_nobody(void **state) {
    struct fixture *f = *state;
    char pattern[64], token[64];
    start_deaf(f, pattern);
    token_of_first(token);
    assert_int_equal(kill(keeper_of(f, token), SIGKILL), 0);
    reap_until(f, 1, 0);
    await_none(pattern);
}

/* Also where there is no coordinator left to whom they would come. */
static void mpirun_dies_with_a_killed_keeper(void **state) {
    struct fixture *f = *state;
    char name[64], pattern[64], text[256], token[64];
    mark(f, name, pattern);
    (void)snprintf(text, sizeof text, "exec sh -c ': > %s/up; while :; do sleep 0.1; done' %s",
                   f->dir, name);
    write_script(f, "worker", "true");
    write_script(f, "mpirun", text);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    struct demand d = {.ranks = 2, .wanted = 1};
    launcher_tick(f->l, &d, 1, 0);
    await_up(f);
    token_of_first(token);
    assert_int_equal(kill(keeper_of(f, token), SIGKILL), 0);
    await_none(pattern);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "exit code 137"));
}

static void a_group_without_coordinators_ends(void **state) {
    struct fixture *f = *state;
    char pattern[64];
    start_deaf(f, pattern);
    (void)close(f->lock); /* as when the coordinator is killed */
    f->lock = -1;
    reap_until(f, 1, 0);
    await_none(pattern);
}

static void a_lost_group_is_ended(void **state) {
    struct fixture *f = *state;
    char pattern[64], token[64];
    start_deaf(f, pattern);
    token_of_first(token);
    assert_true(launcher_hello(f->l, token));
    launcher_watch(f->l, NS_PER_S);
    f->known = false; /* the core has given it up */
    launcher_watch(f->l, 2 * NS_PER_S);
    launcher_watch(f->l, (2000 + LAUNCHER_LOST_MS - 1) * NS_PER_MS);
    launcher_reap(f->l, 0);
    assert_int_equal(f->lost, 0);
    launcher_watch(f->l, (2000 + LAUNCHER_LOST_MS + 1) * NS_PER_MS);
    reap_until(f, 1, 0);
    assert_non_null(strstr(f->reason, "was lost and has been ended"));
    await_none(pattern);
}

static void a_group_that_is_known_again_stays(void **state) {
    struct fixture *f = *state;
    char pattern[64], token[64];
    start_deaf(f, pattern);
    token_of_first(token);
    assert_true(launcher_hello(f->l, token));
    f->known = false;
    launcher_watch(f->l, NS_PER_S);
    f->known = true;
    launcher_watch(f->l, 2 * NS_PER_S);
    f->known = false;
    launcher_watch(f->l, (1000 + LAUNCHER_LOST_MS + 1) * NS_PER_MS); /* lost only since now */
    launcher_reap(f->l, 0);
    assert_int_equal(f->lost, 0);
    assert_int_equal(launcher_alive(f->l), 1);
}

static void silence_before_hello_fails_in_the_end(void **state) {
    struct fixture *f = *state;
    int64_t mono_ns = 0;
    write_script(f, "worker", "true");
    write_script(f, "mpirun", "exec sleep 60");
    struct demand d = {.ranks = 2, .wanted = 1};
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(f->failed, 0);
        launcher_tick(f->l, &d, 1, mono_ns);
        assert_int_equal(launcher_alive(f->l), 1);
        launcher_watch(f->l, mono_ns + LAUNCHER_HELLO_MAX_MS * NS_PER_MS);
        launcher_reap(f->l, mono_ns);
        assert_int_equal(f->lost, i - 1);
        launcher_watch(f->l, mono_ns + (LAUNCHER_HELLO_MAX_MS + 1) * NS_PER_MS);
        mono_ns += 200 * NS_PER_S;
        reap_until(f, i, mono_ns);
        assert_non_null(strstr(f->reason, "did not say hello in time"));
        mono_ns += 10 * NS_PER_S;
    }
    assert_int_equal(f->failed, 1);
    assert_non_null(strstr(f->reason, "/log/group-3.log"));
}

static void the_next_coordinator_adopts(void **state) {
    struct fixture *f = *state;
    char pattern[64], token[64], log[192];
    struct launcher *first = f->l;
    start_deaf(f, pattern);
    token_of_first(token);
    assert_int_equal(make(f, LAUNCH_MPIRUN, false), STATUS_OK);
    launcher_adopt(f->l, 0);
    assert_int_equal(launcher_alive(f->l), 1);
    struct demand d = {.ranks = 2, .wanted = 0};
    launcher_tick(f->l, &d, 1, 0);
    assert_true(launcher_hello(f->l, token));
    launcher_stop(f->l, 10000);
    assert_int_equal(launcher_alive(f->l), 0);
    await_none(pattern);
    (void)snprintf(log, sizeof log, "%s/run/group-%s.lock", f->dir, token);
    assert_int_not_equal(access(log, F_OK), 0);
    launcher_adopt(f->l, 0); /* nobody is left */
    assert_int_equal(launcher_alive(f->l), 0);
    launcher_stop(first, 10000);
    launcher_destroy(&first);
}

static void what_groups_left_lying_is_removed(void **state) {
    struct fixture *f = *state;
    struct keeper_places p;
    char inside[PATH_TEXT_MAX + 16];
    assert_int_equal(keeper_places(f->dir, "4711-9", &p, &f->err), STATUS_OK);
    keeper_prepare(&p);
    (void)snprintf(inside, sizeof inside, "%s/segment", p.shared);
    FILE *file = fopen(inside, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    file = fopen(p.lock, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    launcher_adopt(f->l, 0);
    assert_int_equal(launcher_alive(f->l), 0);
    assert_int_not_equal(access(p.lock, F_OK), 0);
    assert_int_not_equal(access(p.session, F_OK), 0);
    assert_int_not_equal(access(p.shared, F_OK), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv) {
    if (keeper_is(argc, argv))
        return keeper_main(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(starts_what_is_missing),
        CASE(tells_last_words),
        CASE(groups_see_their_gpus),
        CASE(steps_see_their_gpus),
        CASE(full_gpus_make_groups_wait),
        CASE(gives_up_after_five_deaths),
        CASE(hello_forgives_earlier_deaths),
        CASE(a_missing_worker_fails_at_once),
        CASE(a_missing_mpirun_fails_at_once),
        CASE(what_ignores_term_is_killed_with_its_ranks),
        CASE(what_mpirun_leaves_behind_is_killed),
        CASE(a_killed_keeper_leaves_nobody),
        CASE(mpirun_dies_with_a_killed_keeper),
        CASE(a_group_without_coordinators_ends),
        CASE(a_lost_group_is_ended),
        CASE(a_group_that_is_known_again_stays),
        CASE(silence_before_hello_fails_in_the_end),
        CASE(the_next_coordinator_adopts),
        CASE(what_groups_left_lying_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
