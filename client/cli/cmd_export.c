/* trireme export, promote: trireme-export does the work, beside a tracker that we may have to start.
 */
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "core/json.h"
#include "core/process.h"
#include "wire/export_options.h"

/* The line is trireme-export's to obey. We look for two things: where the tracker is, and a SWEEP/TRIAL, whose
 * run only we can find. */

/* "digits/3:best" becomes "01J…:best", of the trial's newest attempt. What is no SWEEP/TRIAL stays as it is. */
static enum status run_of_trial(struct cli *cli, const char **operand, struct err *err) {
    enum status st = STATUS_OK;
    const char *slash = strrchr(*operand, '/');
    size_t digits = slash != NULL ? strspn(slash + 1, "0123456789") : 0;
    const char *rest = digits > 0 ? slash + 1 + digits : NULL;
    struct value *run = NULL;
    if (rest == NULL || (*rest != '\0' && *rest != ':'))
        return STATUS_OK;
    const char *trial = arena_copy(&cli->arena, *operand, (size_t)(rest - *operand));
    if (trial == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(cli_tracker(cli, err));
    TRY(runs_get(cli, trial, &run, err));
    *operand = arena_printf(&cli->arena, "%s%s", value_get_string(run, "run", ""), rest);
out:
    return st;
}

/* Where our words about the tracker end, the line begins. */
static enum status begin_line(struct cli *cli, const struct export_options *given,
                              const char **args, size_t *count, struct err *err) {
    enum status st = STATUS_OK;
    struct cli_place place = {
        .tracker = given->tracker, .keys = given->keys, .tracker_key = given->tracker_key};
    size_t more = 0;
    TRY(cli_set_place(cli, place, err));
    if (place.tracker == NULL) {
        TRY(cli_tracker(cli, err));
        TRY(cli_tracker_args(cli, args + *count, &more, err));
        *count += more;
    }
out:
    return st;
}

static enum status through_export(struct cli *cli, const char *verb, struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX];
    size_t n = 0;
    struct export_options given = {.json = false};
    struct operands operands;
    const char **args =
        arena_array(&cli->arena, (size_t)cli->argc + CLI_TRACKER_ARGS + 3, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    cli->json = cli_asks_for_json(cli);
    TRY(options_parse(export_options_rows(verb != NULL), cli->argc, cli->argv, &given, &operands,
                      err));
    cli->json = given.json;
    TRY(path_join(program, cli->bindir, "trireme-export", err));
    args[n++] = program;
    if (verb != NULL)
        args[n++] = verb;
    if (!operands.help)
        TRY(begin_line(cli, &given, args, &n, err));
    for (int i = 1; i < cli->argc; i++) {
        args[n] = cli->argv[i];
        if (!operands.help && operands.count > 0 && args[n] == operands.items[0])
            TRY(run_of_trial(cli, &args[n], err));
        n++;
    }
    args[n] = NULL;
    TRY(cli_run_sibling(cli, &(struct process_spec){.argv = args}, err));
out:
    return st;
}

static enum status export(struct cli *cli, struct err *err) {
    return through_export(cli, NULL, err);
}

/* "digits version 3": what the answer, JSON or a line, says first of the version. */
static void note_version(struct cli *cli) {
    struct value *answer = NULL;
    const char *version = strstr(cli->passed, " version ");
    size_t line = strcspn(cli->passed, "\n");
    if (json_parse(&cli->arena, cli->passed, line, "answer", &answer, NULL) == STATUS_OK)
        (void)snprintf(cli->done, sizeof cli->done, "%s version %lld was made",
                       value_get_string(answer, "name", "the"),
                       (long long)value_get_int(answer, "version", 0));
    else if (version != NULL)
        (void)snprintf(cli->done, sizeof cli->done, "%.*s was made",
                       (int)(version + 9 + strspn(version + 9, "0123456789") - cli->passed),
                       cli->passed);
}

static enum status promote(struct cli *cli, struct err *err) {
    enum status st = through_export(cli, "promote", err);
    if (st == STATUS_OK && cli->exit_code == 0)
        note_version(cli);
    return st;
}

const struct command command_export = {
    .name = "export",
    .help = {.summary = "write a run's or a model's ONNX, safetensors or Triton files"},
    .kind = OPERANDS_RUN_OR_MODEL,
    .acts = true,
    .run = export};

const struct command command_promote = {
    .name = "promote",
    .help = {.summary = "make a run's model a version of a registered model"},
    .kind = OPERANDS_RUN_THEN_MODEL,
    .acts = true,
    .run = promote};
