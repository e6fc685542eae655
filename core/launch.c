/* Environment of MPI ranks; questions to sibling programs. */
#include "core/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/process.h"

#define GRACE_MS 200

/* ob1 saves 200 ms of start-up; without single copy, messages of 16 KiB to 16 MiB are faster; a
 * machine may have no network but `lo`; oneDNN must not start threads. */
static const char *const settings[LAUNCH_SETTINGS_MAX] = {
    "OMPI_MCA_pml=ob1",
    "OMPI_MCA_btl=self,vader",
    "OMPI_MCA_btl_vader_single_copy_mechanism=none",
    "OMPI_MCA_btl_tcp_if_include=lo",
    "OMPI_ALLOW_RUN_AS_ROOT=1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
    "OMP_NUM_THREADS=1",
};

static bool is_set(const char *entry) {
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
    return getenv(name) != NULL;
}

size_t launch_settings(const char *env[LAUNCH_SETTINGS_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < LAUNCH_SETTINGS_MAX; i++)
        if (!is_set(settings[i]))
            env[n++] = settings[i];
    return n;
}

/* ---- launchers ---- */

static size_t add(const char *argv[], size_t n, const char *const *words, size_t count) {
    memcpy(argv + n, words, count * sizeof *words);
    return n + count;
}

/* With -K1 Slurm ends the step when one rank dies: without it the others spin for ever. --exact
 * leaves the other slots to the other groups; with GPUs --overlap, as the first step would take all
 * of the job's. ipc:// reaches this node only. srun sets CUDA_VISIBLE_DEVICES itself, so that ours
 * is set behind it, by env. */
static size_t srun_argv(const struct launch_plan *p, const char *argv[LAUNCH_ARGV_MAX]) {
    static const char *const first[] = {"srun", "--mpi=pmix", "-K1"};
    static const char *const one_node[] = {"--nodes=1", "--cpus-per-task=1", "--cpu-bind=none"};
    bool gpus = p->gpus != NULL && p->gpus[0] != '\0';
    const char *node = getenv("SLURMD_NODENAME");
    size_t n = add(argv, 0, first, sizeof first / sizeof first[0]);
    if (p->beside) {
        n = add(argv, n, one_node, sizeof one_node / sizeof one_node[0]);
        argv[n++] = gpus ? "--overlap" : "--exact";
    }
    if (p->beside && node != NULL) {
        argv[n++] = "--nodelist";
        argv[n++] = node;
    }
    argv[n++] = "-n";
    argv[n++] = p->ranks;
    if (gpus) {
        argv[n++] = "env";
        argv[n++] = p->gpus;
    }
    return n;
}

size_t launch_argv(const struct launch_plan *p, const char *argv[LAUNCH_ARGV_MAX]) {
    static const char *const crowd[] = {"--oversubscribe", "--bind-to", "none", "-n"};
    if (p->srun)
        return srun_argv(p, argv);
    size_t n = 0;
    argv[n++] = "mpirun";
    if (p->quiet)
        argv[n++] = "--quiet";
    n = add(argv, n, crowd, sizeof crowd / sizeof crowd[0]);
    argv[n++] = p->ranks;
    return n;
}

/* ---- questions ---- */

/* Milliseconds until the deadline; −1: there is none. */
static int left_ms(int64_t deadline_ns) {
    if (deadline_ns == 0)
        return -1;
    int64_t left = deadline_ns - clock_mono_ns(&clock_system);
    return left > 0 ? (int)(left / NS_PER_MS) + 1 : 0;
}

/* All of it, to its end: false when the time was over first. */
static bool read_all(int fd, int64_t deadline_ns, struct buf *text) {
    for (;;) {
        char chunk[4096];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, left_ms(deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return true;
        buf_add(text, chunk, (size_t)n);
    }
}

/* Its standard output has ended; so does it, unless something is wrong with it. */
static bool await_end(pid_t pid, int64_t deadline_ns, int *exit_code) {
    bool ended = false;
    while (process_poll(pid, &ended, exit_code, NULL) == STATUS_OK && !ended) {
        if (left_ms(deadline_ns) == 0)
            return false;
        (void)poll(NULL, 0, 1);
    }
    return ended;
}

enum status launch_ask(const char *const *argv, int timeout_ms, struct arena *a,
                       struct launch_answer *out, struct err *err) {
    enum status st = STATUS_OK;
    int fds[2] = {-1, -1};
    pid_t pid = 0;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    int64_t deadline_ns =
        timeout_ms > 0 ? clock_mono_ns(&clock_system) + timeout_ms * NS_PER_MS : 0;
    *out = (struct launch_answer){.value = NULL};
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_errno(err, errno, "open a pipe to %s", argv[0]);
    struct process_spec spec = {
        .argv = argv, .stdout_fd = fds[1], .die_with_parent = true, .die_at_once = true};
    TRY(process_start(&spec, &pid, err));
    (void)close(fds[1]);
    fds[1] = -1;
    if (!read_all(fds[0], deadline_ns, &text) || !await_end(pid, deadline_ns, &out->exit_code)) {
        st =
            err_set(err, STATUS_TIMEOUT, "%s did not answer in %g s", argv[0], timeout_ms / 1000.0);
        goto out;
    }
    pid = 0;
    TRY(buf_status(&text, argv[0], err));
    st = json_parse(a, buf_text(&text), text.len, argv[0], &out->value, err);
    if (st == STATUS_INVALID && out->exit_code != 0)
        st = STATUS_OK; /* it failed; its words are on standard error */
out:
    if (pid > 0)
        process_stop(pid, false, GRACE_MS);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    buf_release(&text);
    return st;
}

enum status launch_devices(const char *worker, bool need_gpu, struct arena *a, struct value **out,
                           struct err *err) {
    const char *const argv[] = {worker, "--devices", "--json", need_gpu ? "--need-gpu" : NULL,
                                NULL};
    struct launch_answer answer;
    enum status st =
        launch_ask(argv, need_gpu ? LAUNCH_NEED_GPU_MS : LAUNCH_DEVICES_MS, a, &answer, err);
    if (st == STATUS_OK &&
        ((answer.exit_code != 0 && !need_gpu) || value_get(answer.value, "gpus") == NULL))
        st = err_set(err, STATUS_UNAVAILABLE, "%s --devices ended with exit code %d", worker,
                     answer.exit_code);
    *out = answer.value;
    return st;
}
