/* trireme-coordinator: options, places, one lock a home; the rest is the shell's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/shell/keeper.h"
#include "coordinator/shell/preview.h"
#include "coordinator/shell/shell.h"
#include "core/launch.h"
#include "core/log.h"
#include "core/process.h"
#include "spec/sweep.h"
#include "wire/daemon.h"

#define LEASE_MS_DEFAULT 15000
#define BEATS_PER_LEASE  10
#define ARENA_MAX        ((size_t)16 << 20)

struct args {
    struct daemon_options common;
    const char *tracker, *launch, *worker, *worker_keys, *preview, *device;
    int64_t max_slots, slots_per_gpu, lease_ms, trials;
};

static const struct option_row rows[] = {
    DAEMON_ROWS_PLACE(struct args, common),
    OPTION_ROW_STRING(struct args, tracker, "tracker", 't', "EP",
                      "the tracker (default: ipc below HOME)"),
    DAEMON_ROW_TRACKER_KEY(struct args, common),
    OPTION_ROW_INT(struct args, max_slots, "max-slots", 0, "N", 0, 1000000,
                   "slots of all sweeps together (default: the cores here, or the GPUs' slots)"),
    OPTION_ROW_CHOICE(struct args, device, "device", 0, "auto|cpu|cuda",
                      "what worker groups compute on (default auto: the GPUs here, if any)"),
    OPTION_ROW_INT(struct args, slots_per_gpu, "slots-per-gpu", 0, "N", 1, SWEEP_SLOTS_PER_GPU_MAX,
                   "ranks that share a GPU, at most (default 1)"),
    OPTION_ROW_CHOICE(struct args, launch, "launch", 0, "mpirun|srun|none",
                      "how to start worker groups; none: wait for them (default mpirun)"),
    OPTION_ROW_STRING(struct args, worker, "worker", 0, "FILE",
                      "the worker to launch (default: beside this program)"),
    OPTION_ROW_STRING(struct args, worker_keys, "worker-keys", 0, "FILE",
                      "the CURVE keys of launched groups, for a tcp tracker (default: --keys)"),
    OPTION_ROW_INT(struct args, lease_ms, "lease-ms", 0, "N", 100, 3600000,
                   "a group that is silent for N ms is lost (default 15000)"),
    OPTION_ROW_STRING(struct args, preview, "preview", 0, "FILE",
                      "list the trials of {config, base} and end"),
    OPTION_ROW_INT(struct args, trials, "trials", 0, "N", 1, PREVIEW_TRIALS_MAX,
                   "preview: at most N trials (default 10)"),
    DAEMON_ROWS_SERVICE(struct args, common),
    OPTION_END};

static const struct command_help help = {
    .usage = "trireme-coordinator [options]",
    .summary =
        "decides which trial runs where; starts worker groups, or takes those that say hello",
    .details =
        "SIGTERM, SIGHUP and coordinator.shutdown interrupt what runs; `trireme resume` goes on.\n"
        "After a crash, start it again: sweeps go on from their event logs.\n"
        "Exit codes: 0 ended as asked, 2 wrong options, 8 another coordinator has this home, the\n"
        "endpoint is taken, the tracker does not answer or --device cuda finds no GPU, 9 refused\n"
        "(network filesystem, tcp without keys)."};

static const struct daemon self = {
    .name = "trireme-coordinator", .room = "coordinator", .rows = rows, .help = &help};

/* What main holds until the end. */
struct program {
    struct args args;
    char home[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX], tracker[PATH_TEXT_MAX];
    char worker[PATH_TEXT_MAX], worker_keys[PATH_TEXT_MAX];
    struct daemon_keys keys;
    struct net_pair worker_pair;
    struct net_keys worker_net;
    int lock;
    struct net *net;
    struct shell *shell;
};

static enum status find_worker(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    char dir[PATH_TEXT_MAX];
    if (strcmp(p->args.launch, "none") == 0)
        return STATUS_OK;
    if (p->args.worker != NULL)
        return path_absolute(p->worker, p->args.worker, err);
    TRY(path_bindir(dir, err));
    TRY(path_join(p->worker, dir, "trireme-worker", err));
out:
    return st;
}

static bool listens_on_ipc(const struct option_list *endpoints) {
    for (size_t i = 0; i < endpoints->count; i++)
        if (strncmp(endpoints->items[i], "ipc://", 6) == 0)
            return true;
    return false;
}

static enum status find_places(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    char run_dir[PATH_TEXT_MAX], lock[PATH_TEXT_MAX];
    struct option_list *endpoints = &p->args.common.endpoints;
    TRY(daemon_home(&self, &p->args.common, p->home, err));
    TRY(path_join(run_dir, p->home, "run", err));
    TRY(path_mkdirs(run_dir, 0700, err));
    TRY(path_join(lock, run_dir, "coordinator.lock", err));
    TRY(process_lock(lock, &p->lock, err));
    /* Our own groups come over ipc, also where tcp is there for others: they have no keys. */
    bool ours = strcmp(p->args.launch, "none") != 0 && !listens_on_ipc(endpoints);
    if ((endpoints->count == 0 || ours) && endpoints->count < OPTION_LIST_MAX) {
        TRY(path_endpoint(p->home, "coordinator", p->endpoint, err));
        endpoints->items[endpoints->count++] = p->endpoint;
    }
    if (p->args.tracker == NULL) {
        TRY(path_endpoint(p->home, "tracker", p->tracker, err));
        p->args.tracker = p->tracker;
    }
    TRY(find_worker(p, err));
out:
    return st;
}

/* The GPUs of an answer of --devices that can be used, by number. */
static size_t usable_gpus(const struct value *answer, int out[PLACEMENT_GPUS_MAX]) {
    const struct value *gpus = value_get(answer, "gpus");
    size_t n = 0;
    for (size_t i = 0; gpus != NULL && i < gpus->count && n < PLACEMENT_GPUS_MAX; i++) {
        const char *error = value_get_string(gpus->items[i], "error", NULL);
        if (error != NULL)
            log_line(LOG_WARN, "gpu", "unusable text=\"%s\"", error);
        else
            out[n++] = (int)value_get_int(gpus->items[i], "index", 0);
    }
    return n;
}

static const char *why_no_gpu(const struct value *answer) {
    const struct value *gpus = value_get(answer, "gpus");
    const char *first =
        gpus != NULL && gpus->count > 0 ? value_get_string(gpus->items[0], "error", NULL) : NULL;
    return first != NULL ? first : value_get_string(answer, "no_gpu", "none was found");
}

/* Asks once what is here. Workers are then told what to take, not to look again: where a driver
 * hangs, it hangs for none of them. */
static enum status find_gpus(struct program *p, struct shell_options *o, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    struct err why = {0};
    struct value *answer = NULL;
    int gpus[PLACEMENT_GPUS_MAX];
    o->device = p->args.device;
    if (o->worker == NULL || strcmp(o->device, "cpu") == 0)
        return STATUS_OK;
    arena_init(&a, ARENA_MAX);
    bool asked = launch_devices(o->worker, false, &a, &answer, &why) == STATUS_OK;
    size_t count = asked ? usable_gpus(answer, gpus) : 0;
    const char *reason = asked ? why_no_gpu(answer) : why.text;
    if (count == 0 && strcmp(o->device, "cuda") == 0)
        st = err_set(err, STATUS_UNAVAILABLE, "device cuda: %s", reason);
    else if (count == 0)
        log_line(LOG_INFO, "no_gpu", "text=\"%s\"", reason);
    o->device = count > 0 ? "cuda" : "cpu";
    placement_init(&o->placement, gpus, count, getenv("CUDA_VISIBLE_DEVICES"),
                   p->args.slots_per_gpu);
    if (count > 0) {
        o->core.gpu_slots = true;
        o->core.machine_slots = placement_slots(&o->placement);
        log_line(LOG_INFO, "gpus", "count=%zu slots=%lld", count, (long long)o->core.machine_slots);
    }
    arena_release(&a);
    return st;
}

/* Groups go to a tcp tracker with keys of their own: what a group may write is less than what we may.
 */
static enum status find_worker_keys(struct program *p, struct shell_options *o, struct err *err) {
    enum status st = STATUS_OK;
    const char *file = p->args.worker_keys != NULL ? p->args.worker_keys : p->args.common.keys;
    o->spool_keys = o->tracker_keys;
    if (p->args.worker_keys != NULL && p->args.common.tracker_key == NULL)
        return err_set(err, STATUS_INVALID,
                       "--worker-keys is for a tcp tracker; give its --tracker-key and our --keys");
    if (o->tracker_keys == NULL || o->worker == NULL || file == NULL)
        return STATUS_OK;
    TRY(path_absolute(p->worker_keys, file, err));
    TRY(net_pair_load(file, &p->worker_pair, err));
    p->worker_net = (struct net_keys){.public_key = p->worker_pair.public_key,
                                      .secret_key = p->worker_pair.secret_key,
                                      .server_key = p->args.common.tracker_key};
    o->spool_keys = &p->worker_net;
    o->worker_keys = p->worker_keys;
    o->tracker_key = p->args.common.tracker_key;
out:
    return st;
}

static enum status open_shell(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct shell_options o = {.clock = &clock_system,
                              .tracker = p->args.tracker,
                              .home = p->home,
                              .lock = p->lock,
                              .worker = p->worker[0] != '\0' ? p->worker : NULL,
                              .srun = strcmp(p->args.launch, "srun") == 0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    o.core = (struct coordinator_options){.lease_ms = p->args.lease_ms,
                                          .beat_ms = p->args.lease_ms / BEATS_PER_LEASE,
                                          .max_slots = p->args.max_slots,
                                          .machine_slots = cores > 0 ? cores : 1};
    TRY(find_gpus(p, &o, err));
    if (o.core.beat_ms > 1000)
        o.core.beat_ms = 1000;
    if (o.core.beat_ms < 10)
        o.core.beat_ms = 10;
    TRY(daemon_keys_load(&p->args.common, &p->keys, err));
    o.keys = p->keys.own;
    o.tracker_keys = p->keys.tracker;
    TRY(find_worker_keys(p, &o, err));
    TRY(daemon_endpoints(&p->args.common, SHELL_ENDPOINTS_MAX, o.endpoints, &o.endpoint_count,
                         err));
    TRY(net_new(&p->net, err));
    TRY(shell_new(p->net, &o, &p->shell, err));
out:
    return st;
}

static enum status run(struct program *p, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    p->args = (struct args){.lease_ms = LEASE_MS_DEFAULT,
                            .launch = "mpirun",
                            .trials = 10,
                            .device = "auto",
                            .slots_per_gpu = 1};
    TRY(daemon_begin(&self, argc, argv, &p->args.common, err));
    if (p->args.common.done)
        goto out;
    if (p->args.preview != NULL)
        return preview_print(p->args.preview, p->args.trials, err);
    TRY(find_places(p, err));
    TRY(daemon_need_descriptors(err));
    TRY(open_shell(p, err));
    TRY(process_say_ready(p->args.common.ready_fd, err));
    TRY(shell_run(p->shell, err));
    log_line(LOG_INFO, "stopped", "%s", "");
out:
    return st;
}

int main(int argc, char **argv) {
    process_guard_stdio();
    if (keeper_is(argc, argv))
        return keeper_main(argc, argv);
    static struct program p = {.lock = -1};
    struct err err = {.status = STATUS_OK};
    enum status st = run(&p, argc, argv, &err);
    int exit_code = daemon_end(&self, &p.args.common, st, &err);
    shell_destroy(&p.shell);
    net_destroy(&p.net);
    return exit_code;
}
