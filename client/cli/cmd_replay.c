/* trireme replay: trains a run again, on as many ranks as asked, and says whether every bit agrees.
 * The work is done by `trireme-worker --replay` in an MPI world of its own; this starts it and passes
 * on its answer and its exit code. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/commands.h"
#include "core/launch.h"
#include "core/process.h"

struct replay_args {
    int64_t ranks, until;
    bool json;
    const char *launch;
    struct cli_place place;
};

static const char replay_details[] =
    "Compares every step's loss bits and every digest of weights and optimizer state.\n"
    "Exit codes: 0 exact; 3 diverged; refused: 4 the run or a file is missing, 5 a data file has\n"
    "changed; others as in README.md.";

static enum status run_replay(struct cli *cli, const char *run, const struct replay_args *args,
                              struct err *err) {
    enum status st = STATUS_OK;
    char worker[PATH_TEXT_MAX], ranks[24], until[24];
    const char *argv[LAUNCH_ARGV_MAX + 14];
    size_t given = 0;
    TRY(path_join(worker, cli->bindir, "trireme-worker", err));
    (void)snprintf(ranks, sizeof ranks, "%lld", (long long)args->ranks);
    (void)snprintf(until, sizeof until, "%lld", (long long)args->until);
    struct launch_plan plan = {
        .srun = strcmp(args->launch, "srun") == 0, .quiet = true, .ranks = ranks};
    size_t n = launch_argv(&plan, argv);
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
    TRY(cli_run_sibling(cli, &(struct process_spec){.argv = argv, .env = env}, err));
out:
    return st;
}

static enum status replay(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct replay_args args = {.launch = "mpirun"};
    struct operands operands;
    struct value *reply = NULL;
    char run[27];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_resolve(cli, "run", operands.items[0], run, err));
    struct value *request = message_request(a, "run.get", NULL);
    value_set_string(a, request, "run", run);
    TRY(cli_ask(cli, request, &reply, err));
    if (args.ranks == 0)
        args.ranks = value_get_int(value_at(reply, "run.manifest"), "ranks", 1);
    TRY(run_replay(cli, run, &args, err));
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
    .help = {.usage = "trireme replay RUN [--ranks N] [--until STEP] [--json]",
             .summary = "train a run again and compare every bit",
             .details = replay_details},
    .options = rows,
    .kind = OPERANDS_RUN,
    .least = 1,
    .most = 1,
    .run = replay};
