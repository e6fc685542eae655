/* trireme export, promote: trireme-export does the work, beside a tracker that we may have to start.
 */
#include <string.h>

#include "client/cli/commands.h"
#include "core/process.h"

/* The line is trireme-export's to parse; we only want to know whether a tracker of ours is needed. */
static bool says(const struct cli *cli, const char *option) {
    size_t len = strlen(option);
    for (int i = 1; i < cli->argc && strcmp(cli->argv[i], "--") != 0; i++)
        if (strncmp(cli->argv[i], option, len) == 0 &&
            (cli->argv[i][len] == '\0' || cli->argv[i][len] == '='))
            return true;
    return false;
}

static enum status through_export(struct cli *cli, const char *verb, struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX];
    size_t n = 0, given = 0;
    const char **args =
        arena_array(&cli->arena, (size_t)cli->argc + CLI_TRACKER_ARGS + 3, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(path_join(program, cli->bindir, "trireme-export", err));
    args[n++] = program;
    if (verb != NULL)
        args[n++] = verb;
    if (!says(cli, "--help") && !says(cli, "--tracker")) {
        TRY(cli_tracker(cli, err));
        TRY(cli_tracker_args(cli, args + n, &given, err));
        n += given;
    }
    for (int i = 1; i < cli->argc; i++)
        args[n++] = cli->argv[i];
    TRY(cli_run_sibling(cli, &(struct process_spec){.argv = args}, err));
out:
    return st;
}

static enum status export(struct cli *cli, struct err *err) {
    return through_export(cli, NULL, err);
}

static enum status promote(struct cli *cli, struct err *err) {
    return through_export(cli, "promote", err);
}

const struct command command_export = {
    .name = "export",
    .help = {.summary = "write a run's or a model's ONNX, safetensors or Triton files"},
    .kind = OPERANDS_RUN_OR_MODEL,
    .run = export};

const struct command command_promote = {
    .name = "promote",
    .help = {.summary = "make a run's model a version of a registered model"},
    .kind = OPERANDS_RUN,
    .run = promote};
