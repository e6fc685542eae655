/* trireme export, promote: trireme-export does the work, beside a tracker that we may have to start.
 */
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/runs.h"
#include "core/json.h"
#include "core/process.h"

/* The line is trireme-export's to parse. We look for two things: where the tracker is, and a SWEEP/TRIAL, whose
 * run only we can find. */

static bool is_one_of(const char *word, const char *const *words) {
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* What follows the option, or its '='; NULL: it is not there. */
static const char *value_of(const struct cli *cli, const char *option) {
    size_t len = strlen(option);
    for (int i = 1; i < cli->argc && strcmp(cli->argv[i], "--") != 0; i++) {
        const char *arg = cli->argv[i];
        if (strcmp(arg, option) == 0)
            return i + 1 < cli->argc ? cli->argv[i + 1] : "";
        if (strncmp(arg, option, len) == 0 && arg[len] == '=')
            return arg + len + 1;
    }
    return NULL;
}

/* The index of the first operand; 0: there is none. */
static int first_operand(const struct cli *cli) {
    static const char *const flags[] = {"--json", "--no-json", "-j", "--help", NULL};
    for (int i = 1; i < cli->argc; i++) {
        const char *arg = cli->argv[i];
        if (strcmp(arg, "--") == 0)
            return i + 1 < cli->argc ? i + 1 : 0;
        if (arg[0] != '-' || arg[1] == '\0')
            return i;
        if (strchr(arg, '=') == NULL && !is_one_of(arg, flags))
            i++; /* over its value */
    }
    return 0;
}

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
static enum status begin_line(struct cli *cli, const char **args, size_t *count, struct err *err) {
    enum status st = STATUS_OK;
    struct cli_place place = {.tracker = value_of(cli, "--tracker"),
                              .keys = value_of(cli, "--keys"),
                              .tracker_key = value_of(cli, "--tracker-key")};
    size_t given = 0;
    cli->json = value_of(cli, "--json") != NULL || value_of(cli, "-j") != NULL;
    if (value_of(cli, "--help") != NULL)
        goto out;
    TRY(cli_set_place(cli, place, err));
    if (place.tracker == NULL) {
        TRY(cli_tracker(cli, err));
        TRY(cli_tracker_args(cli, args + *count, &given, err));
        *count += given;
    }
out:
    return st;
}

static enum status through_export(struct cli *cli, const char *verb, struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX];
    size_t n = 0;
    int operand = first_operand(cli);
    const char **args =
        arena_array(&cli->arena, (size_t)cli->argc + CLI_TRACKER_ARGS + 3, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(path_join(program, cli->bindir, "trireme-export", err));
    args[n++] = program;
    if (verb != NULL)
        args[n++] = verb;
    TRY(begin_line(cli, args, &n, err));
    for (int i = 1; i < cli->argc; i++) {
        args[n] = cli->argv[i];
        if (i == operand && value_of(cli, "--help") == NULL)
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
