/* trireme-worker: one rank of a worker group. mpirun or srun starts as many as there are ranks;
 * alone it is a group of one. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/options.h"
#include "core/version.h"
#include "worker/group/devices.h"
#include "worker/group/modes.h"

#define CACHE_BYTES_DEFAULT (INT64_C(4) << 30)
#define MEET_MS             3000

static volatile sig_atomic_t terminate;

struct args {
    const char *coordinator, *tracker, *plan, *train, *replay;
    const char *keys, *coordinator_key, *tracker_key;
    const char *weights_out, *checkpoint, *exchange, *levels, *device;
    int64_t until, cache_bytes, assume_gpu, assume_ranks, gpu_share;
    bool json, version, stream_data, eager, devices;
};

static const struct option_row rows[] = {
    {"coordinator", 0, OPTION_STRING, "EP", "join this coordinator's pool", 0, 0,
     offsetof(struct args, coordinator)},
    {"tracker", 0, OPTION_STRING, "EP", "where metrics and artifacts go", 0, 0,
     offsetof(struct args, tracker)},
    {"keys", 0, OPTION_STRING, "FILE", "our CURVE keys for tcp: NAME.secret of `trireme keygen`", 0,
     0, offsetof(struct args, keys)},
    {"coordinator-key", 0, OPTION_STRING, "KEY", "the public key of a tcp coordinator", 0, 0,
     offsetof(struct args, coordinator_key)},
    {"tracker-key", 0, OPTION_STRING, "KEY", "the public key of a tcp tracker", 0, 0,
     offsetof(struct args, tracker_key)},
    {"replay", 0, OPTION_STRING, "RUN", "train a run again and compare every step", 0, 0,
     offsetof(struct args, replay)},
    {"until", 0, OPTION_INT, "STEP", "replay: stop after this step", 0, INT64_MAX,
     offsetof(struct args, until)},
    {"train", 0, OPTION_STRING, "FILE", "train a trial configuration (JSON) without any server", 0,
     0, offsetof(struct args, train)},
    {"checkpoint", 0, OPTION_STRING, "FILE", "train: resume from it, and keep it up to date", 0, 0,
     offsetof(struct args, checkpoint)},
    {"weights-out", 0, OPTION_STRING, "FILE", "train: write the weights (safetensors)", 0, 0,
     offsetof(struct args, weights_out)},
    {"plan", 0, OPTION_STRING, "FILE", "print what a trial configuration would do", 0, 0,
     offsetof(struct args, plan)},
    {"assume-gpu", 0, OPTION_INT, "GIB",
     "plan: for a GPU of so much memory, which need not be here", 0, 1 << 20,
     offsetof(struct args, assume_gpu)},
    {"assume-ranks", 0, OPTION_INT, "N", "plan: for so many ranks, with a GPU each", 0,
     WORLD_RANKS_MAX, offsetof(struct args, assume_ranks)},
    {"device", 0, OPTION_STRING, "NAME",
     "auto, cpu or cuda: for trials that do not say (default auto: a GPU where one answers)", 0, 0,
     offsetof(struct args, device)},
    {"gpu-share", 0, OPTION_INT, "N", "plan with an N-th of a GPU's memory: others share it", 1, 64,
     offsetof(struct args, gpu_share)},
    {"stream-data", 0, OPTION_FLAG, NULL, "keep data sets in host memory even where a GPU has room",
     0, 0, offsetof(struct args, stream_data)},
    {"eager", 0, OPTION_FLAG, NULL, "on a GPU, queue every step anew: for debuggers and profilers",
     0, 0, offsetof(struct args, eager)},
    {"exchange", 0, OPTION_STRING, "HOW", "auto, messages, memory or nccl (default auto)", 0, 0,
     offsetof(struct args, exchange)},
    {"levels", 0, OPTION_STRING, "A,B", "levels of the exchange, from inside out", 0, 0,
     offsetof(struct args, levels)},
    {"data-cache-bytes", 0, OPTION_INT, "N", "bytes of data sets to keep (default 4 GiB)", 0,
     INT64_MAX, offsetof(struct args, cache_bytes)},
    {"devices", 0, OPTION_FLAG, NULL, "list what this machine offers, and end", 0, 0,
     offsetof(struct args, devices)},
    {"json", 0, OPTION_FLAG, NULL,
     "replay, devices: the answer as one JSON object; plan: a refusal too", 0, 0,
     offsetof(struct args, json)},
    {"version", 0, OPTION_FLAG, NULL, "print version and build", 0, 0,
     offsetof(struct args, version)},
    OPTION_END,
};

static const struct command_help help = {
    .usage = "trireme-worker --coordinator EP --tracker EP | --replay RUN --tracker EP | "
             "--train FILE | --plan FILE | --devices",
    .summary = "one rank of a worker group; run it under mpirun -n N or srun for N ranks",
    .details = "exit codes: 0 done (replay: exact), 3 replay diverged, else the error's; replay is "
               "refused with 5 when\nthe data files have changed since",
};

static void on_signal(int signo) {
    (void)signo;
    terminate = 1;
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
}

static enum status parse_levels(const char *text, struct worker *w, struct err *err) {
    while (text != NULL && *text != '\0') {
        char *end = NULL;
        long n = strtol(text, &end, 10);
        if (end == text || n < 1 || n > WORLD_RANKS_MAX || w->level_count == EXCHANGE_LEVELS_MAX ||
            (*end != '\0' && *end != ','))
            return err_set(err, STATUS_INVALID, "--levels is a list like 4,2 (at most %d)",
                           EXCHANGE_LEVELS_MAX);
        w->levels[w->level_count++] = (int)n;
        text = *end == ',' ? end + 1 : end;
    }
    return STATUS_OK;
}

static enum status parse_exchange(const char *text, struct worker *w, struct err *err) {
    if (text == NULL || strcmp(text, "auto") == 0)
        w->exchange = EXCHANGE_AUTO;
    else if (strcmp(text, "messages") == 0)
        w->exchange = EXCHANGE_MESSAGES;
    else if (strcmp(text, "memory") == 0)
        w->exchange = EXCHANGE_MEMORY;
    else if (strcmp(text, "nccl") == 0)
        w->exchange = EXCHANGE_NCCL;
    else
        return err_set(err, STATUS_INVALID,
                       "--exchange is auto, messages, memory or nccl, not '%.40s'", text);
    return STATUS_OK;
}

static enum status dispatch(struct worker *w, const struct args *a, int *exit_code,
                            struct err *err) {
    if (a->plan != NULL) {
        struct describe_args plan = {
            .file = a->plan, .gpu_gib = a->assume_gpu, .ranks = a->assume_ranks};
        return worker_describe(w, &plan, err);
    }
    if (a->train != NULL) {
        struct train_args train = {
            .file = a->train, .weights_out = a->weights_out, .checkpoint = a->checkpoint};
        return worker_train(w, &train, err);
    }
    if (a->tracker == NULL || (a->replay == NULL && a->coordinator == NULL))
        return err_set(err, STATUS_INVALID, "say what to do: %s", help.usage);
    if (a->replay != NULL) {
        struct replay_args replay = {
            .run = a->replay, .tracker = a->tracker, .until = a->until, .json = a->json};
        return worker_replay(w, &replay, exit_code, err);
    }
    struct serve_args group = {.coordinator = a->coordinator, .tracker = a->tracker};
    return worker_serve(w, &group, err);
}

static enum status run(struct worker *w, const struct args *a, int *exit_code, struct err *err) {
    enum status st = STATUS_OK;
    TRY(parse_levels(a->levels, w, err));
    TRY(parse_exchange(a->exchange, w, err));
    if (a->keys != NULL && world_rank(w->world) == 0)
        st = worker_read_keys(w, a->keys, a->coordinator_key, a->tracker_key, err);
    TRY(world_agree(w->world, st, err));
    w->device_name = a->device;
    w->cache_bytes = (size_t)a->cache_bytes;
    w->gpu_share = (int)a->gpu_share;
    w->stream_data = a->stream_data;
    w->eager = a->eager;
    TRY(dispatch(w, a, exit_code, err));
out:
    return st;
}

/* What every rank says, rank 0 prints. */
static void complain(const struct worker *w, const struct err *err) {
    if (w->world == NULL || world_rank(w->world) == 0)
        (void)fprintf(stderr, "trireme-worker: %s\n", err->text);
}

/* With --plan --json a refusal is an answer. */
static void tell_failure(const struct worker *w, const struct args *a, enum status st,
                         const struct err *err) {
    if (a->plan == NULL || !a->json)
        complain(w, err);
    else if (w->world == NULL || world_rank(w->world) == 0)
        worker_describe_refused(w, st, err);
}

int main(int argc, char **argv) {
    struct args a = {.cache_bytes = CACHE_BYTES_DEFAULT, .device = "auto", .gpu_share = 1};
    struct operands operands = {0};
    struct worker w = {.terminate = &terminate};
    struct err err = {0};
    int exit_code = 0;
    enum status st = options_parse(rows, argc, argv, &a, &operands, &err);
    if (st == STATUS_OK && operands.count > 0)
        st = err_set(&err, STATUS_INVALID, "'%.80s' is no option", operands.items[0]);
    if (st == STATUS_OK && operands.help) {
        options_help(stdout, &help, rows);
        return 0;
    }
    if (st == STATUS_OK && a.version) {
        (void)printf("trireme-worker %s\nbuild %s\n", TRIREME_VERSION, trireme_build_id);
        return 0;
    }
    if (st == STATUS_OK && a.devices) {
        st = worker_devices(a.json, &err);
        if (st != STATUS_OK)
            complain(&w, &err);
        return status_exit_code(st);
    }
    if (st == STATUS_OK)
        st = log_open("worker", NULL, &err);
    if (st == STATUS_OK)
        st = world_open(&w.world, &err);
    if (st == STATUS_OK) {
        catch_signals();
        st = run(&w, &a, &exit_code, &err);
    }
    if (st != STATUS_OK) {
        tell_failure(&w, &a, st, &err);
        exit_code = status_exit_code(st);
    }
    worker_close_device(&w);
    if (w.world != NULL && !world_meet(w.world, MEET_MS)) {
        if (world_rank(w.world) != 0 && st != STATUS_OK)
            (void)fprintf(stderr, "trireme-worker: rank %d: %s\n", world_rank(w.world), err.text);
        world_abort(w.world, exit_code != 0 ? exit_code : status_exit_code(STATUS_INTERNAL));
    }
    world_close(&w.world);
    return exit_code;
}
