/* trireme export, promote: trireme-export does the work, beside a tracker that we may have to start.
 */
#include <string.h>

#include "client/cli/commands.h"
#include "core/process.h"

static enum status through_export(struct cli *cli, const char *verb, struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX];
    bool help = false;
    int n = 0;
    const char **args = arena_array(&cli->arena, (size_t)cli->argc + 5, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(path_join(program, cli->bindir, "trireme-export", err));
    TRY(path_endpoint(cli->home, "tracker", endpoint, err));
    args[n++] = program;
    if (verb != NULL)
        args[n++] = verb;
    for (int i = 1; i < cli->argc; i++) {
        help = help || strcmp(cli->argv[i], "--help") == 0;
        args[n++] = cli->argv[i];
    }
    if (!help) {
        TRY(cli_tracker(cli, err));
        args[n++] = "--tracker";
        args[n++] = endpoint;
    }
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
    .kind = OPERANDS_RUN,
    .run = export};

const struct command command_promote = {
    .name = "promote",
    .help = {.summary = "make a run's model a version of a registered model"},
    .kind = OPERANDS_RUN,
    .run = promote};
