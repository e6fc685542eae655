/* trireme replay: trains a run again, on as many ranks as asked, and says whether every bit agrees.
 * The work is done by `trireme-worker --replay` in an MPI world of its own; this starts it and passes
 * on its answer and its exit code. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/cli/commands.h"
#include "client/cli/follow.h"
#include "client/cli/runs.h"
#include "core/launch.h"
#include "core/process.h"

struct replay_args {
    int64_t ranks, until;
    bool json;
    const char *launch;
    struct cli_place place;
};

#define RANK_BYTES (24 << 20) /* of one that has just started */
#define RANK_FILES 4          /* mpirun's pipes to it */

static const char replay_details[] =
    "Compares every step's loss bits and every digest of weights and optimizer state. RUN:best "
    "and\n"
    "RUN:STEP stop where those weights were kept and compare their bits, too.\n"
    "Exit codes: 0 exact; 3 diverged; refused: 4 the run or a file is missing, 5 a data file has\n"
    "changed; 11 interrupted; others as in README.md.";

static enum status run_replay(struct cli *cli, const char *run, const struct replay_args *args,
                              struct err *err) {
    enum status st = STATUS_OK;
    char worker[PATH_TEXT_MAX], keeper[PATH_TEXT_MAX], ranks[24], until[24], token[40];
    const char *argv[LAUNCH_ARGV_MAX + 17] = {LAUNCH_KEEPER, cli->home, token};
    size_t given = 0, n = 3;
    TRY(path_join(worker, cli->bindir, "trireme-worker", err));
    TRY(path_join(keeper, cli->bindir, "trireme-coordinator", err));
    (void)snprintf(token, sizeof token, LAUNCH_ALONE "%ld", (long)getpid());
    (void)snprintf(ranks, sizeof ranks, "%lld", (long long)args->ranks);
    (void)snprintf(until, sizeof until, "%lld", (long long)args->until);
    struct launch_plan plan = {
        .srun = strcmp(args->launch, "srun") == 0, .quiet = true, .ranks = ranks};
    n += launch_argv(&plan, argv + n);
    argv[n++] = worker;
    argv[n++] = "--replay";
    argv[n++] = run;
    TRY(cli_tracker_args(cli, argv + n, &given, err));
    n += given;
    if (args->until > 0) {
        argv[n++] = "--until";
        argv[n++] = until;
    }
    if (args->json)
        argv[n++] = "--json";
    argv[n] = NULL;
    const char *env[LAUNCH_SETTINGS_MAX + 1];
    env[launch_settings(env)] = NULL;
    struct process_spec spec = {.program = keeper, .argv = argv, .env = env, .own_group = true};
    TRY(cli_run_sibling(cli, &spec, err));
out:
    return st;
}

/* What can be known before a rank starts: P divides V, and the machine can hold P processes at all. */
static enum status check_ranks(const struct value *run, const struct replay_args *args,
                               struct err *err) {
    const struct value *config = value_at(run, "manifest.config");
    if (config == NULL)
        config = value_get(run, "config");
    long long ranks = args->ranks, shards = value_get_int(config, "virtual_shards", 8);
    if (shards % ranks != 0)
        return err_set(
            err, STATUS_INVALID,
            "--ranks %lld does not divide the run's virtual_shards (%lld): use 1, 2, 4 … "
            "up to %lld ranks",
            ranks, shards, shards);
    if (strcmp(args->launch, "mpirun") != 0)
        return STATUS_OK; /* Slurm knows its machines */
    struct rlimit files;
    long long memory = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (memory > 0 && ranks > memory / RANK_BYTES)
        return err_set(err, STATUS_TOO_LARGE,
                       "--ranks %lld: a rank takes at least %d MiB, and this machine has %lld MiB; "
                       "use fewer (the bits are the same)",
                       ranks, RANK_BYTES >> 20, memory >> 20);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY &&
        (unsigned long long)ranks * RANK_FILES > files.rlim_cur)
        return err_set(
            err, STATUS_TOO_LARGE,
            "--ranks %lld: mpirun needs about %d descriptors for each rank, and %llu may "
            "be open (ulimit -n); use fewer ranks (the bits are the same), or raise it",
            ranks, RANK_FILES, (unsigned long long)files.rlim_cur);
    return STATUS_OK;
}

/* RUN:best and RUN:STEP end where those weights were; RUN and RUN:last train all of it, the best on the way. */
static enum status choose_end(struct cli *cli, const struct weights_ref *ref, struct value **run,
                              struct replay_args *args, struct err *err) {
    struct weights w;
    if (ref->which != WEIGHTS_BEST && ref->which != WEIGHTS_STEP)
        return STATUS_OK;
    if (args->until > 0)
        return err_set(err, STATUS_INVALID, "--until and ':%s' both say where to stop; give one",
                       ref->which == WEIGHTS_BEST ? "best" : "STEP");
    enum status st = runs_find_weights(cli, ref, run, &w, err);
    if (st != STATUS_OK)
        return st;
    if (w.step < 1)
        return err_set(err, STATUS_NOT_FOUND,
                       "run %s has not recorded the step of its best weights yet",
                       value_get_string(*run, "run", ""));
    if (strcmp(w.path, WEIGHTS_LAST_PATH) != 0)
        args->until = w.step;
    return STATUS_OK;
}

static enum status replay(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct replay_args args = {.launch = "mpirun"};
    struct operands operands;
    struct weights_ref ref;
    struct value *run = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(weights_parse(&cli->arena, operands.items[0], &ref, err));
    TRY(runs_get(cli, ref.run, &run, err));
    TRY(choose_end(cli, &ref, &run, &args, err));
    if (args.ranks == 0)
        args.ranks = value_get_int(value_get(run, "manifest"), "ranks", 1);
    TRY(check_ranks(run, &args, err));
    follow_catch_signals();
    cli->interrupted = follow_interrupted;
    TRY(run_replay(cli, value_get_string(run, "run", ""), &args, err));
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_INT(struct replay_args, ranks, "ranks", 'n', "N", 1, 4096,
                   "train on N ranks (default: as many as the run had)"),
    OPTION_ROW_INT(struct replay_args, until, "until", 'u', "STEP", 1, INT64_MAX,
                   "stop after this step (default: the last)"),
    OPTION_ROW_CHOICE(struct replay_args, launch, "launch", 0, "mpirun|srun",
                      "how the ranks are started (default mpirun)"),
    CLI_TRACKER_ROWS(struct replay_args, place),
    OPTION_ROW_FLAG(struct replay_args, json, "json", 'j', "print the verdict as one JSON object"),
    OPTION_END};

const struct command command_replay = {
    .name = "replay",
    .help = {.usage = "trireme replay RUN[:best|:STEP] [--ranks N] [--until STEP] [--json]",
             .summary = "train a run again and compare every bit",
             .details = replay_details},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = 1,
    .acts = true,
    .run = replay};
