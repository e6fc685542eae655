/* trireme: finds the command, runs it, turns its status into an exit code. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/schema.h"
#include "core/version.h"

const struct command command_table[] = {
    {"run", cmd_run, NULL,
     "run a sweep here: start what is needed, show progress, rank the results"},
    {"submit", cmd_submit, NULL, "hand a sweep to a coordinator that runs"},
    {"preview", cmd_preview, NULL,
     "check a sweep file; show its first trials and the model's plan"},
    {"ls", cmd_ls, NULL, "list sweeps, or the runs of one"},
    {"show", cmd_show, NULL, "all about a run or a sweep, with the manifest"},
    {"metrics", cmd_metrics, NULL, "draw a metric's curve, or print it as CSV"},
    {"compare", cmd_compare, NULL, "runs side by side: what differs, and what came of it"},
    {"replay", cmd_replay, NULL, "train a run again and compare every bit"},
    {"resume", cmd_resume, NULL, "take up a sweep that was interrupted, cancelled or failed"},
    {"cancel", cmd_cancel, NULL, "cancel a sweep or a trial"},
    {"status", cmd_status, NULL, "groups and sweeps of the coordinator that runs"},
    {"export", cmd_export, NULL, "write a run's or a model's ONNX, safetensors or Triton files"},
    {"promote", cmd_promote, NULL, "make a run's model a version of a registered model"},
    {"models", cmd_models, NULL, "registered models, their versions and aliases"},
    {"audit", cmd_audit, NULL, "who promoted what, and when; checks the chain"},
    {"keygen", cmd_keygen, NULL, "make a CURVE key pair for TCP endpoints"},
    {"tracker", NULL, "trireme-tracker", "run the tracker daemon"},
    {"coordinator", NULL, "trireme-coordinator", "run the coordinator daemon"},
    {"worker", NULL, "trireme-worker", "run a worker group's rank (under mpirun or srun)"},
    {"wire", cmd_wire, NULL, "print the reference of the ZeroMQ API"},
    {"completion", cmd_completion, NULL,
     "print shell completion: source <(trireme completion bash)"},
    {"version", cmd_version, NULL,
     "versions of Trireme, its libraries, and what this machine offers"},
    {.name = NULL},
};

static void print_help(FILE *to) {
    fprintf(to, "usage: trireme COMMAND [options]\n\n"
                "Hyperparameter sweeps on data-parallel worker groups; every run repeatable to the "
                "bit.\n\n");
    for (const struct command *c = command_table; c->name != NULL; c++)
        fprintf(to, "  %-12s %s\n", c->name, c->summary);
    fprintf(
        to,
        "\n`trireme COMMAND --help` tells more. State lives in $TRIREME_HOME\n"
        "(default: ~/.local/state/trireme). Begin with: trireme run configs/digits-quick.yaml\n");
}

static const struct command *find_command(const char *name) {
    for (const struct command *c = command_table; c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static enum status unknown_command(const char *name, struct err *err) {
    char names[512] = "", near[64];
    for (const struct command *c = command_table; c->name != NULL; c++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? "|" : "", c->name);
    }
    if (schema_nearest(names, name, near) != NULL)
        return err_set(err, STATUS_INVALID, "unknown command '%.40s'; did you mean '%s'?", name,
                       near);
    return err_set(err, STATUS_INVALID, "unknown command '%.40s'; see trireme --help", name);
}

static enum status dispatch(struct cli *cli, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    const struct command *c = find_command(argv[1]);
    if (c == NULL)
        return unknown_command(argv[1], err);
    TRY(cli_open(cli, err));
    st = c->run != NULL ? c->run(cli, argc - 1, argv + 1, err)
                        : cli_exec(cli, c->program, argc - 1, argv + 1, err);
out:
    return st;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? status_exit_code(STATUS_INVALID) : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("trireme %s\n", TRIREME_VERSION);
        return 0;
    }
    struct cli cli = {.exit_code = -1};
    struct err err = {.status = STATUS_OK};
    enum status st = dispatch(&cli, argc, argv, &err);
    if (st != STATUS_OK && err.text[0] != '\0')
        fprintf(stderr, "trireme: %s\n", err.text);
    int code = cli.exit_code >= 0 ? cli.exit_code : status_exit_code(st);
    cli_close(&cli);
    return code;
}
