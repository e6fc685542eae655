/* trireme-coordinator: options, places, one lock a home; the rest is the shell's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/shell/preview.h"
#include "coordinator/shell/shell.h"
#include "core/launch.h"
#include "core/log.h"
#include "core/options.h"
#include "core/path.h"
#include "core/process.h"
#include "core/version.h"
#include "spec/sweep.h"

#define LEASE_MS_DEFAULT 15000
#define BEATS_PER_LEASE  10
#define ARENA_MAX        ((size_t)16 << 20)

struct args {
    const char *home, *tracker, *launch, *log, *keys, *allowed, *tracker_key, *worker;
    const char *preview, *device;
    struct option_list endpoints;
    int64_t max_slots, slots_per_gpu, ready_fd, lease_ms, trials;
    bool version;
};

static const struct option_row rows[] = {
    {"home", 0, OPTION_STRING, "DIR", "state directory (default: $TRIREME_HOME)", 0, 0,
     offsetof(struct args, home)},
    {"endpoint", 'e', OPTION_LIST, "EP", "where to listen (default: ipc below HOME); repeatable", 0,
     0, offsetof(struct args, endpoints)},
    {"tracker", 't', OPTION_STRING, "EP", "the tracker (default: ipc below HOME)", 0, 0,
     offsetof(struct args, tracker)},
    {"max-slots", 0, OPTION_INT, "N",
     "slots of all sweeps together (default: the cores here, or the GPUs' slots)", 0, 1000000,
     offsetof(struct args, max_slots)},
    {"device", 0, OPTION_STRING, "auto|cpu|cuda",
     "what worker groups compute on (default auto: the GPUs here, if any)", 0, 0,
     offsetof(struct args, device)},
    {"slots-per-gpu", 0, OPTION_INT, "N", "ranks that share a GPU, at most (default 1)", 1,
     SWEEP_SLOTS_PER_GPU_MAX, offsetof(struct args, slots_per_gpu)},
    {"launch", 0, OPTION_STRING, "HOW", "mpirun or srun: start worker groups; none: wait for them",
     0, 0, offsetof(struct args, launch)},
    {"worker", 0, OPTION_STRING, "FILE", "the worker to launch (default: beside this program)", 0,
     0, offsetof(struct args, worker)},
    {"lease-ms", 0, OPTION_INT, "N", "a group that is silent for so long is lost", 100, 3600000,
     offsetof(struct args, lease_ms)},
    {"keys", 0, OPTION_STRING, "FILE", "our CURVE keys for tcp: NAME.secret of `trireme keygen`", 0,
     0, offsetof(struct args, keys)},
    {"allowed", 0, OPTION_STRING, "DIR", "the public keys that may come in, one file each", 0, 0,
     offsetof(struct args, allowed)},
    {"tracker-key", 0, OPTION_STRING, "KEY", "the public key of a tcp tracker", 0, 0,
     offsetof(struct args, tracker_key)},
    {"ready-fd", 0, OPTION_INT, "N", "write a byte to this descriptor when all is ready", 0, 65535,
     offsetof(struct args, ready_fd)},
    {"log", 0, OPTION_STRING, "FILE", "append the log here (default: standard error)", 0, 0,
     offsetof(struct args, log)},
    {"preview", 0, OPTION_STRING, "FILE", "list the trials of {config, base} and end", 0, 0,
     offsetof(struct args, preview)},
    {"trials", 0, OPTION_INT, "N", "preview: at most N trials (default 10)", 1, PREVIEW_TRIALS_MAX,
     offsetof(struct args, trials)},
    {"version", 0, OPTION_FLAG, NULL, "print the version", 0, 0, offsetof(struct args, version)},
    OPTION_END};

static const struct command_help help = {
    "trireme-coordinator [options]",
    "decides which trial runs where; starts worker groups, or takes those that say hello",
    "SIGTERM and coordinator.shutdown interrupt what runs; `trireme resume` goes on with it.\n"
    "After a crash, start it again: sweeps go on from their event logs.\n"
    "Exit codes: 0 ended as asked, 2 wrong options, 8 another coordinator has this home, the\n"
    "endpoint is taken, the tracker does not answer or --device cuda finds no GPU, 9 refused\n"
    "(network filesystem, tcp without keys)."};

/* What main holds until the end. */
struct program {
    struct args args;
    char home[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX], tracker[PATH_TEXT_MAX];
    char worker[PATH_TEXT_MAX];
    struct net_pair pair;
    struct net_keys keys, tracker_keys;
    int lock;
    struct net *net;
    struct shell *shell;
};

static enum status check_device(const char *device, struct err *err) {
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0 || strcmp(device, "cuda") == 0)
        return STATUS_OK;
    return err_set(err, STATUS_INVALID, "--device must be auto, cpu or cuda, not '%.40s'", device);
}

static enum status find_worker(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    char dir[PATH_TEXT_MAX];
    TRY(check_device(p->args.device, err));
    if (strcmp(p->args.launch, "none") == 0)
        return STATUS_OK;
    if (strcmp(p->args.launch, "mpirun") != 0 && strcmp(p->args.launch, "srun") != 0)
        return err_set(err, STATUS_INVALID, "--launch must be mpirun, srun or none, not '%.40s'",
                       p->args.launch);
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
    if (p->args.home == NULL)
        TRY(path_home(p->home, err));
    else
        TRY(path_absolute(p->home, p->args.home, err));
    TRY(path_mkdirs(p->home, 0700, err));
    TRY(path_join(run_dir, p->home, "run", err));
    TRY(path_mkdirs(run_dir, 0700, err));
    TRY(path_join(lock, run_dir, "coordinator.lock", err));
    TRY(process_lock(lock, &p->lock, err));
    /* Our own groups come over ipc, also where tcp is there for others: they have no keys. */
    bool ours = strcmp(p->args.launch, "none") != 0 && !listens_on_ipc(&p->args.endpoints);
    if ((p->args.endpoints.count == 0 || ours) && p->args.endpoints.count < OPTION_LIST_MAX) {
        TRY(path_endpoint(p->home, "coordinator", p->endpoint, err));
        p->args.endpoints.items[p->args.endpoints.count++] = p->endpoint;
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
    bool asked = launch_devices(o->worker, &a, &answer, &why) == STATUS_OK;
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

static enum status open_shell(struct program *p, struct err *err) {
    enum status st = STATUS_OK;
    struct shell_options o = {.clock = &clock_system,
                              .tracker = p->args.tracker,
                              .home = p->home,
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
    if (p->args.keys != NULL) {
        TRY(net_pair_load(p->args.keys, &p->pair, err));
        p->keys = p->tracker_keys =
            (struct net_keys){.public_key = p->pair.public_key, .secret_key = p->pair.secret_key};
        p->keys.allowed_dir = p->args.allowed;
        p->tracker_keys.server_key = p->args.tracker_key;
        o.keys = &p->keys;
        o.tracker_keys = p->args.tracker_key != NULL ? &p->tracker_keys : NULL;
    }
    if (p->args.endpoints.count > SHELL_ENDPOINTS_MAX)
        return err_set(err, STATUS_INVALID, "at most %d endpoints", SHELL_ENDPOINTS_MAX);
    for (size_t i = 0; i < p->args.endpoints.count; i++)
        o.endpoints[o.endpoint_count++] = p->args.endpoints.items[i];
    TRY(net_new(&p->net, err));
    TRY(shell_new(p->net, &o, &p->shell, err));
out:
    return st;
}

static enum status run(struct program *p, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    struct operands operands;
    p->args = (struct args){.ready_fd = -1,
                            .lease_ms = LEASE_MS_DEFAULT,
                            .launch = "mpirun",
                            .trials = 10,
                            .device = "auto",
                            .slots_per_gpu = 1};
    TRY(options_parse(rows, argc, argv, &p->args, &operands, err));
    if (operands.help) {
        options_help(stdout, &help, rows);
        goto out;
    }
    if (p->args.version) {
        printf("trireme-coordinator %s\n", TRIREME_VERSION);
        goto out;
    }
    if (operands.count > 0)
        return err_set(err, STATUS_INVALID, "trireme-coordinator takes no operand: '%.80s'",
                       operands.items[0]);
    if (p->args.preview != NULL)
        return preview_print(p->args.preview, p->args.trials, err);
    TRY(log_open("coordinator", p->args.log, err));
    TRY(find_places(p, err));
    TRY(open_shell(p, err));
    TRY(process_say_ready(p->args.ready_fd, err));
    TRY(shell_run(p->shell, err));
    log_line(LOG_INFO, "stopped", "%s", "");
out:
    return st;
}

int main(int argc, char **argv) {
    static struct program p = {.lock = -1};
    struct err err = {.status = STATUS_OK};
    enum status st = run(&p, argc, argv, &err);
    if (st != STATUS_OK) {
        log_err(LOG_ERROR, "failed", &err);
        if (p.args.log != NULL)
            (void)fprintf(stderr, "trireme-coordinator: %s\n", err.text);
    }
    shell_destroy(&p.shell);
    net_destroy(&p.net);
    return status_exit_code(st);
}
