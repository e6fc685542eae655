/* trireme-worker: one rank of a worker group. mpirun or srun starts as many as there are ranks;
 * alone it is a group of one. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/output.h"
#include "core/process.h"
#include "core/version.h"
#include "wire/daemon.h"
#include "worker/group/devices.h"
#include "worker/group/modes.h"

#define CACHE_BYTES_DEFAULT (INT64_C(4) << 30)
#define MEET_MS             3000
#define BUILD_TEXT_MAX      96

static volatile sig_atomic_t terminate;

struct args {
    struct daemon_options common;
    const char *coordinator, *tracker, *plan, *train, *replay;
    const char *weights_out, *best_out, *checkpoint, *exchange, *levels, *device;
    int64_t until, cache_bytes, assume_gpu, assume_ranks, gpu_share;
    bool json, stream_data, eager, devices, need_gpu;
};

static const struct option_row rows[] = {
    OPTION_ROW_STRING(struct args, coordinator, "coordinator", 0, "EP",
                      "join this coordinator's pool"),
    OPTION_ROW_STRING(struct args, tracker, "tracker", 0, "EP", "where metrics and artifacts go"),
    DAEMON_ROW_KEYS(struct args, common),
    DAEMON_ROW_COORDINATOR_KEY(struct args, common),
    DAEMON_ROW_TRACKER_KEY(struct args, common),
    OPTION_ROW_STRING(struct args, replay, "replay", 0, "RUN",
                      "train a run again and compare every step"),
    OPTION_ROW_INT(struct args, until, "until", 0, "STEP", 1, INT64_MAX,
                   "replay: stop after this step (default: the last)"),
    OPTION_ROW_STRING(struct args, train, "train", 0, "FILE",
                      "train a trial configuration (JSON) without any server"),
    OPTION_ROW_STRING(struct args, checkpoint, "checkpoint", 0, "FILE",
                      "train: resume from it, and keep it up to date"),
    OPTION_ROW_STRING(struct args, weights_out, "weights-out", 0, "FILE",
                      "train: write the weights (safetensors)"),
    OPTION_ROW_STRING(struct args, best_out, "best-out", 0, "FILE",
                      "train: write the weights of the best evaluation (safetensors)"),
    OPTION_ROW_STRING(struct args, plan, "plan", 0, "FILE",
                      "print what a trial configuration would do"),
    OPTION_ROW_INT(
        struct args, assume_gpu, "assume-gpu", 0, "GIB", 1, 1 << 20,
        "plan: for a GPU of GIB memory, which need not be here (default: for what is here)"),
    OPTION_ROW_INT(struct args, assume_ranks, "assume-ranks", 0, "N", 1, WORLD_RANKS_MAX,
                   "plan: with --assume-gpu, for N ranks with a GPU each (default 1)"),
    OPTION_ROW_CHOICE(struct args, device, "device", 0, "auto|cpu|cuda",
                      "for trials that do not say (default auto: a GPU where one answers)"),
    OPTION_ROW_INT(struct args, gpu_share, "gpu-share", 0, "N", 1, 64,
                   "use an N-th of a GPU's memory: others share it (default 1)"),
    OPTION_ROW_FLAG(struct args, stream_data, "stream-data", 0,
                    "keep data sets in host memory even where a GPU has room"),
    OPTION_ROW_FLAG(struct args, eager, "eager", 0,
                    "on a GPU, queue every step anew: for debuggers and profilers"),
    OPTION_ROW_CHOICE(struct args, exchange, "exchange", 0, "auto|messages|memory|nccl",
                      "how ranks exchange gradients (default auto)"),
    OPTION_ROW_STRING(struct args, levels, "levels", 0, "A,B",
                      "levels of the exchange, from the inside out"),
    OPTION_ROW_INT(struct args, cache_bytes, "data-cache-bytes", 0, "N", 0, INT64_MAX,
                   "bytes of data sets to keep (default 4 GiB)"),
    OPTION_ROW_FLAG(struct args, devices, "devices", 0, "list what this machine offers, and end"),
    OPTION_ROW_FLAG(struct args, need_gpu, "need-gpu", 0,
                    "devices: a GPU is expected: up to three minutes, and exit code 3 without one"),
    OPTION_ROW_FLAG(struct args, json, "json", 0,
                    "replay, devices: the answer as one JSON object; plan: a refusal too"),
    DAEMON_ROW_VERSION(struct args, common),
    OPTION_END,
};

static const struct command_help help = {
    .usage = "trireme-worker --coordinator EP --tracker EP | --replay RUN --tracker EP | "
             "--train FILE | --plan FILE | --devices",
    .summary = "one rank of a worker group; run it under mpirun -n N or srun for N ranks",
    .details = "exit codes: 0 done (replay: exact), 3 replay diverged, or no GPU where --need-gpu "
               "asks for one, else the error's; replay is "
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
    const char *all = text;
    while (text != NULL && *text != '\0') {
        char *end = NULL;
        long n = strtol(text, &end, 10);
        if (end == text || n < 1 || n > WORLD_RANKS_MAX || w->level_count == EXCHANGE_LEVELS_MAX ||
            (*end != '\0' && *end != ','))
            return err_set(
                err, STATUS_INVALID,
                "--levels must be a list like 4,2 of at most %d group sizes, not '%.40s'",
                EXCHANGE_LEVELS_MAX, all);
        w->levels[w->level_count++] = (int)n;
        text = *end == ',' ? end + 1 : end;
    }
    return STATUS_OK;
}

static enum exchange_choice exchange_of(const char *text) {
    return strcmp(text, "messages") == 0 ? EXCHANGE_MESSAGES
           : strcmp(text, "memory") == 0 ? EXCHANGE_MEMORY
           : strcmp(text, "nccl") == 0   ? EXCHANGE_NCCL
                                         : EXCHANGE_AUTO;
}

static enum status dispatch(struct worker *w, const struct args *a, int *exit_code,
                            struct err *err) {
    if (a->plan != NULL) {
        struct describe_args plan = {
            .file = a->plan, .gpu_gib = a->assume_gpu, .ranks = a->assume_ranks};
        return worker_describe(w, &plan, err);
    }
    if (a->train != NULL) {
        struct train_args train = {.file = a->train,
                                   .weights_out = a->weights_out,
                                   .best_out = a->best_out,
                                   .checkpoint = a->checkpoint};
        return worker_train(w, &train, err);
    }
    if (a->tracker == NULL || (a->replay == NULL && a->coordinator == NULL))
        return err_set(err, STATUS_INVALID,
                       "nothing to do: give --coordinator, --replay, --train, --plan or --devices "
                       "(usage: %s)",
                       help.usage);
    if (a->replay != NULL) {
        struct replay_args replay = {
            .run = a->replay, .tracker = a->tracker, .until = a->until, .json = a->json};
        return worker_replay(w, &replay, exit_code, err);
    }
    struct serve_args group = {.coordinator = a->coordinator, .tracker = a->tracker};
    return worker_serve(w, &group, err);
}

/* What the worker was started for, and which options that takes: one that would be ignored is
 * refused. What is not listed belongs to all that train or plan. */
enum mode { SERVE = 1, REPLAY = 2, TRAIN = 4, PLAN = 8, DEVICES = 16 };

struct belonging {
    const char *option, *to;
    int modes;
    bool given;
};

static enum status check_options(const struct args *a, struct err *err) {
    const struct belonging chosen[] = {{"--devices", "", DEVICES, a->devices},
                                       {"--plan", "", PLAN, a->plan != NULL},
                                       {"--train", "", TRAIN, a->train != NULL},
                                       {"--replay", "", REPLAY, a->replay != NULL},
                                       {"--coordinator", "", SERVE, a->coordinator != NULL}};
    const struct daemon_options *c = &a->common;
    const struct belonging rows_of[] = {
        {"--need-gpu", "--devices", DEVICES, a->need_gpu},
        {"--json", "--replay, --devices and --plan", REPLAY | DEVICES | PLAN, a->json},
        {"--until", "--replay", REPLAY, a->until != 0},
        {"--tracker", "--coordinator and --replay", SERVE | REPLAY, a->tracker != NULL},
        {"--tracker-key", "--coordinator and --replay", SERVE | REPLAY, c->tracker_key != NULL},
        {"--keys", "--coordinator and --replay", SERVE | REPLAY, c->keys != NULL},
        {"--coordinator-key", "--coordinator", SERVE, c->coordinator_key != NULL},
        {"--checkpoint", "--train", TRAIN, a->checkpoint != NULL},
        {"--weights-out", "--train", TRAIN, a->weights_out != NULL},
        {"--best-out", "--train", TRAIN, a->best_out != NULL},
        {"--assume-gpu", "--plan", PLAN, a->assume_gpu != 0},
        {"--assume-ranks", "--plan", PLAN, a->assume_ranks != 0},
    };
    const struct belonging *mode = NULL;
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0]; i++) {
        if (chosen[i].given && mode != NULL)
            return err_set(err, STATUS_INVALID, "%s and %s are two things to do: give one of them",
                           mode->option, chosen[i].option);
        if (chosen[i].given)
            mode = &chosen[i];
    }
    for (size_t i = 0; i < sizeof rows_of / sizeof rows_of[0]; i++)
        if (rows_of[i].given && mode != NULL && (rows_of[i].modes & mode->modes) == 0)
            return err_set(err, STATUS_INVALID, "%s belongs to %s", rows_of[i].option,
                           rows_of[i].to);
    if (a->need_gpu && mode == NULL)
        return err_set(err, STATUS_INVALID, "--need-gpu belongs to --devices");
    if (a->assume_ranks != 0 && a->assume_gpu == 0)
        return err_set(err, STATUS_INVALID, "--assume-ranks belongs to --assume-gpu");
    return STATUS_OK;
}

static enum status run(struct worker *w, const struct args *a, int *exit_code, struct err *err) {
    enum status st = STATUS_OK;
    TRY(parse_levels(a->levels, w, err));
    w->exchange = exchange_of(a->exchange);
    if (world_rank(w->world) == 0)
        st = daemon_keys_load(&a->common, &w->keys, err);
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

/* A refused command line, too, is reported by rank 0 alone: the world is opened for that. */
static enum status open_world(struct worker *w, enum status st, struct err *err) {
    struct err why = {0};
    enum status opened = world_open(&w->world, st == STATUS_OK ? err : &why);
    return st == STATUS_OK ? opened : st;
}

/* Every rank closes the world, or none can: one that is elsewhere would keep the others waiting. */
static void close_world(struct worker *w, int exit_code, const struct err *err) {
    if (w->world != NULL && !world_meet(w->world, MEET_MS)) {
        int rank = world_rank(w->world);
        if (rank != 0 && exit_code != 0)
            (void)fprintf(stderr, "trireme-worker: rank %d: %s\n", rank, err->text);
        world_abort(w->world, exit_code != 0 ? exit_code : status_exit_code(STATUS_INTERNAL));
    }
    world_close(&w->world);
}

int main(int argc, char **argv) {
    process_guard_stdio();
    struct args a = {
        .cache_bytes = CACHE_BYTES_DEFAULT, .device = "auto", .exchange = "auto", .gpu_share = 1};
    struct worker w = {.terminate = &terminate};
    struct err err = {0};
    int exit_code = 0;
    char build[BUILD_TEXT_MAX];
    struct daemon self = {
        .name = "trireme-worker", .room = "worker", .more = build, .rows = rows, .help = &help};
    (void)snprintf(build, sizeof build, "\nbuild %s", trireme_build_id);
    enum status st = daemon_begin(&self, argc, argv, &a.common, &err);
    if (st == STATUS_OK && a.common.done)
        return daemon_end(&self, &a.common, st, &err);
    if (st == STATUS_OK)
        st = check_options(&a, &err);
    if (st == STATUS_OK && a.devices) {
        st = a.need_gpu ? worker_devices_needed(a.json, &exit_code, &err)
                        : worker_devices(a.json, &err);
        if (st == STATUS_OK)
            st = output_finish(&err);
        if (st != STATUS_OK)
            complain(&w, &err);
        return st != STATUS_OK ? status_exit_code(st) : exit_code;
    }
    if (st == STATUS_OK)
        st = log_open(self.room, NULL, &err);
    if (world_is_launched())
        process_follow_parent(); /* without its mpirun a rank would wait for the others for ever */
    st = open_world(&w, st, &err);
    if (st == STATUS_OK) {
        catch_signals();
        st = run(&w, &a, &exit_code, &err);
    }
    if (st == STATUS_OK && exit_code == 0)
        st = output_finish(&err);
    if (st != STATUS_OK) {
        tell_failure(&w, &a, st, &err);
        exit_code = status_exit_code(st);
    }
    worker_close_device(&w);
    close_world(&w, exit_code, &err);
    return exit_code;
}
